"""A model whose step takes about 60 ms on two cores, and what surrounds it in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig
from torch.optim import Optimizer

import lab
from lab.config import build, construct
from lab.data.module import DataModule
from lab.data.store import prepare
from lab.optim.groups import parameter_groups

OVERRIDES = [
    "preset=llm_2024",
    *("model.dim=128", "model.layers=3", "model.heads=4", "model.inner=384", "model.context=128"),
    *("tokenizer.vocab_size=2048", "split.max_bytes=50000", "trainer.validations=1", "schedule=constant"),
]


@dataclass(frozen=True)
class Workload:
    """The model, optimizer and data that `lab.train` would make from a configuration."""

    model: Any
    optimizer: Optimizer
    data: DataModule
    clip: float


def composed(*overrides: str) -> DictConfig:
    """The configuration of the workload."""
    return lab.compose(*OVERRIDES, *overrides)


def make(config: DictConfig) -> Workload:
    """Build what the configuration describes."""
    prepared = prepare(construct(config, "data"), construct(config, "tokenizer"), config.split)
    data = DataModule(
        prepared,
        construct(config, "packing"),
        context=config.model.context,
        rows=config.batch.rows,
        accumulate=1,
        seed=config.seed,
    )
    model = build(config, vocab_size=prepared.tokenizer.vocab_size)
    optimizer = construct(config, "optimizer")(parameter_groups(model))
    return Workload(model, optimizer, data, config.trainer.clip)
