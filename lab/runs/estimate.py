"""How long runs will take, before they start."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from omegaconf import DictConfig

from lab.config import build, construct, identity, trusted
from lab.runs.budget import Budget

BYTES_PER_TOKEN = 3.0
"""Rough, for the share of validation."""


def estimate_seconds(configs: Sequence[DictConfig], measured: Mapping[str, float]) -> float:
    """Seconds for all runs: measured ones as measured, others by their FLOPs at the speed of a few steps made now.

    Models that have no loss of their own, without an objective and data, add nothing until one was measured.

    Args:
        configs: one for each run.
        measured: seconds of finished runs, by the identity of their configuration.
    """
    total, rate = 0.0, None
    work: dict[str, float] = {}
    for config in configs:
        name = identity(config)
        if name in measured:
            total += measured[name]
            continue
        if config.budget.minutes is not None:
            total += 60 * config.budget.minutes
            continue
        if not hasattr(trusted("model.build._target_", config.model.build._target_), "loss"):
            continue
        rate = rate or _flops_per_second(config)
        if name not in work:
            work[name] = _flops(config)
        total += work[name] / rate
    return total


def _flops(config: DictConfig) -> float:
    """Of training and validation together."""
    import torch

    budget, context = Budget.of(config), config.model.context
    with torch.device("meta"):
        model = construct(config, "model.build", vocab_size=int(config.tokenizer.vocab_size))
    forward = float(model.flops(np.array([context]))[0]) / context
    tokens = {
        "tokens": budget.amount,
        "steps": budget.amount * config.batch.rows * context,
        "flops": budget.amount / (3 * forward),
    }[budget.unit]
    validated = (config.split.max_bytes or 0) / BYTES_PER_TOKEN  # all held-out text is not known yet
    return 3 * forward * tokens + forward * config.trainer.validations * validated


def _flops_per_second(config: DictConfig) -> float:
    """Of forward and backward passes on this machine, on tokens drawn at random."""
    import torch

    from lab.runs import machine

    machine.keep_buffers()
    machine.use_threads(config.trainer.threads, config.trainer.devices)
    model: Any = build(config)
    rows = max(config.batch.rows // config.batch.accumulate, 1)
    tokens = torch.randint(model.vocab_size, (rows, config.model.context))
    seconds = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        model.loss(tokens, tokens).backward()
        seconds = min(seconds, time.perf_counter() - began)
    return 3 * float(model.flops(np.full(rows, config.model.context)).sum()) / seconds
