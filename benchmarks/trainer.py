"""The Trainer's own time: `lab.train` as it comes, beside a bare loop over the same model and batches.

The two take turns: when the run reports a measurement, an observer holds it and trains the bare loop for
as many steps. So the run's turns hold its data, Lightning, the measurement, its progress bar,
`metrics.csv` and W&B; the bare loop's batches are made beforehand. Both train the same model from the same
start: that their losses agree is checked.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import lab
from benchmarks import workload
from benchmarks.measure import Finding, Pairs, finding, main
from lab.runs.bar import Bar

BLOCK = 10
TURNS = 40
WARM_UP = 3


class BareLoop:
    """An observer: at each measurement of a run, the same steps without a Trainer."""

    def __init__(self, work: workload.Workload, lr: float) -> None:
        self.work, self.lr = work, lr
        self.step = 0
        self.measured = Pairs([], [])
        self.losses: list[tuple[float, float]] = []
        self.resumed: float | None = None

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Note how long the run took since it was let go, and take the bare loop's turn."""
        held = time.perf_counter()
        batches = [self.work.data.training_batch(self.step + i) for i in range(BLOCK)]
        began = time.perf_counter()
        losses = [self._train(batch) for batch in batches]
        ended = time.perf_counter()
        self.step += BLOCK
        if self.resumed is not None and self.step > WARM_UP * BLOCK and "val/loss" not in row:
            self.measured.ours.append((held - self.resumed) / BLOCK)
            self.measured.theirs.append((ended - began) / BLOCK)
        self.losses.append((row["train/loss"], float(torch.stack(losses).mean())))
        self.resumed = time.perf_counter()

    def _train(self, batch: Any) -> torch.Tensor:
        model, optimizer = self.work.model, self.work.optimizer
        loss = model.loss(batch.tokens, batch.targets, batch.layout)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), self.work.clip)
        for group in optimizer.param_groups:
            group["lr"] = self.lr
        optimizer.step()
        return loss.detach()


def run() -> list[Finding]:
    """The run's time a step over the bare loop's."""
    config = workload.composed(f"trainer.log_every={BLOCK}", f"budget.steps={BLOCK * TURNS}", "logger.mode=offline")
    bare = BareLoop(workload.make(config), config.optimizer.lr)
    with tempfile.TemporaryDirectory() as folder, Bar() as bar:
        lab.train(config, Path(folder) / "run", observers=[bare, bar])
    for theirs, ours in bare.losses:
        assert abs(theirs - ours) < 1e-2 * ours, (
            f"the run's loss is {theirs}, the bare loop's {ours}: not the same work"
        )
    overhead = [ours / theirs - 1 for ours, theirs in zip(bare.measured.ours, bare.measured.theirs, strict=True)]
    detail = bare.measured.words("lab.train", "bare step")
    return [finding("trainer", "the Trainer's own time / a bare step", overhead, at_most=0.1, detail=detail)]


if __name__ == "__main__":
    main(run)
