"""What making a batch costs, beside the step that trains on it."""

from __future__ import annotations

import itertools

import torch

from benchmarks import workload
from benchmarks.measure import Finding, finding, main, take_turns

PAIRS, WARM_UP = 40, 5


def run() -> list[Finding]:
    """The time of a batch over the time of its step."""
    work = workload.make(workload.composed())
    numbers = itertools.count()
    batches = iter([work.data.training_batch(number) for number in range(PAIRS + WARM_UP)])

    def make_batch() -> None:
        work.data.training_batch(next(numbers))

    def step() -> None:
        batch = next(batches)  # a new one each time: a layout keeps what was derived from it
        work.optimizer.zero_grad()
        work.model.loss(batch.tokens, batch.targets, batch.layout).backward()
        torch.nn.utils.clip_grad_norm_(work.model.parameters(), work.clip)
        work.optimizer.step()

    turns = take_turns(make_batch, step, PAIRS, WARM_UP)
    shares = [1 / ratio for ratio in turns.ratios]
    return [finding("data", "making a batch / its step", shares, at_most=0.02, detail=turns.words("batch", "step"))]


if __name__ == "__main__":
    main(run)
