"""How long runs will take, before they start."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from omegaconf import DictConfig

from lab.config import build, construct, identity, meta_model
from lab.data.module import TEXT, Batches, kind
from lab.runs import machine
from lab.runs.budget import Budget
from lab.runs.start import make_objective
from lab.runs.train import data_module
from lab.runs.trainer import accelerator

BYTES_PER_TOKEN = 3.0
"""Rough, for the share of validation."""

STEPS = 3
"""Looked at, or timed."""

TIMES = 3
"""What a step needs at least, in sizes of the weights in float32."""

TIMED = 5
"""Of configurations that differ, at most."""


def estimate_seconds(configs: Sequence[DictConfig], measured: Mapping[str, float]) -> float | None:
    """Seconds for all runs: measured ones as measured, others by their FLOPs at the speed of a few steps that
    some of them make now.

    Args:
        configs: one for each run.
        measured: seconds of finished runs, by the identity of their configuration.

    Returns:
        Seconds; none where no step can be made here.
    """
    total = 0.0
    to_time: list[tuple[str, DictConfig]] = []
    for config in configs:
        name = identity(config)
        if name in measured:
            total += measured[name]
        elif config.budget.minutes is not None:
            total += 60 * config.budget.minutes
        else:
            to_time.append((name, config))
    work = {name: _flops(config) for name, config in dict(to_time).items()}
    rates = _rates({name: config for name, config in to_time if work[name]}, work)
    if rates is None:
        return None
    return total + sum(work[name] / rates[name] for name, _ in to_time if work[name])


def _rates(configs: Mapping[str, DictConfig], work: Mapping[str, float]) -> dict[str, float] | None:
    """FLOPs per second of each: small ones reach less of a machine than large ones, so some of every size are timed, and the
    others go as fast as the next.
    """
    order = sorted(configs, key=work.__getitem__)
    places = sorted({round(place) for place in np.linspace(0, len(order) - 1, min(TIMED, len(order)))})
    found = {place: _flops_per_second(configs[order[place]]) for place in places}
    timed = {place: rate for place, rate in found.items() if rate is not None}
    if order and not timed:
        return None
    return {name: timed[min(timed, key=lambda other: abs(other - place))] for place, name in enumerate(order)}


def _flops(config: DictConfig) -> float:
    """Of training and validation together; 0 where nothing is trained."""
    budget = Budget.of(config)
    if not budget.amount:
        return 0.0
    forward, tokens = _step(config)
    of_step = {"tokens": tokens, "steps": 1.0, "flops": 3 * forward}[budget.unit]
    if not of_step:
        return 0.0
    steps = budget.amount / of_step
    validated = (config.split.max_bytes or 0) / BYTES_PER_TOKEN  # all held-out text is not known yet
    return 3 * forward * steps + forward / tokens * config.trainer.validations * validated


def _step(config: DictConfig) -> tuple[float, float]:
    """Forward FLOPs and tokens of an optimizer step. Rows of text are full; how long examples are, they tell themselves."""
    rows = np.full(config.batch.rows, config.model.context)
    whole = float(meta_model(config).flops(rows).sum())
    if whole and kind(construct(config, "data")) == TEXT:
        return whole, float(rows.sum())
    data = data_module(config)
    model = meta_model(config, data.prepared.tokenizer.vocab_size)
    objective = make_objective(config, model, data.prepared, None)
    batches = [data.training_batch(number) for number in range(STEPS * data.accumulate)]
    tokens = sum(batch.read for batch in batches) / data.accumulate
    return sum(map(objective.flops, batches)) / STEPS, tokens / STEPS


def _flops_per_second(config: DictConfig) -> float | None:
    """Of forward and backward passes of the objective where the run will compute; none where there is no room for it, or a
    pass fails, which the run itself will say.
    """
    data, room = data_module(config), machine.memory()
    if room is not None and TIMES * 4 * meta_model(config).parameters_total > room:
        return None
    try:
        return _timed(config, data)
    except Exception:  # a component of one's own may raise anything, and its run will say so
        return None


def _timed(config: DictConfig, data: Batches) -> float:
    machine.keep_buffers()
    machine.use_threads(config.trainer.threads, config.trainer.devices)
    device = torch.device(accelerator(config))
    model = build(config, vocab_size=data.prepared.tokenizer.vocab_size)
    objective = make_objective(config, model, data.prepared, None).to(device)
    batch, seconds = data.training_batch(0).to(device), float("inf")
    for _ in range(STEPS):
        began = time.perf_counter()
        objective.nats(batch).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = min(seconds, time.perf_counter() - began)
    return 3 * objective.flops(batch) / seconds
