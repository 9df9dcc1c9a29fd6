"""The course of a training run: its budget, learning rate, measurements, checkpoints and end."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from lab.runs.budget import Budget, Spent

if TYPE_CHECKING:
    from lab.data.module import Batches
    from lab.data.packing import Batch

Observer = Callable[[Mapping[str, Any]], None]
"""Called with each measurement: `step`, `progress` from 0 to 1, what was spent, and what was measured."""


MOST_NATS = 2.0**24
"""A loss per target from which on float32 can't tell two a nat apart: what stands there is rounding."""


def is_lost(loss: float) -> bool:
    """Whether a loss per target says that a run has diverged: it is no number, or too large to mean anything."""
    return not abs(loss) < MOST_NATS


class Pruned(Exception):
    """What an observer raises to end a run before its budget is spent."""


class Pace(pl.Callback):
    """Follows a run from step to step.

    Between two optimizer steps, never within one, it measures, validates, saves, and ends the run: when the budget is
    spent, when `stop_requested` says so (status stopped), when an observer raises `Pruned` (status pruned) or when the loss
    is not finite or over `MOST_NATS` (status diverged).

    Args:
        budget: how long to train.
        schedule: share of the peak learning rate at a progress.
        data: where batches come from; told how many were consumed.
        text_bytes: bytes of the validated text.
        lossless: the tokens stand for every byte of it.
        checkpoint: file that a stopped run continues from.
        validations, log_every, checkpoint_minutes: how often.
        observers: told of every measurement, on the first rank.
        stop_requested: asked after each step.
        began: when this session of the run did, by `time.perf_counter`.
    """

    def __init__(
        self,
        budget: Budget,
        schedule: Callable[[float], float],
        data: Batches,
        text_bytes: int,
        lossless: bool,
        checkpoint: Path,
        validations: int,
        log_every: int,
        checkpoint_minutes: float,
        observers: Iterable[Observer],
        stop_requested: Callable[[], bool],
        began: float,
    ) -> None:
        self.budget, self.schedule, self.data = budget, schedule, data
        self.text_bytes, self.lossless = text_bytes, lossless
        self.checkpoint = checkpoint
        self.validations, self.log_every, self.checkpoint_minutes = validations, log_every, checkpoint_minutes
        self.observers, self.stop_requested = list(observers), stop_requested
        self.began, self.before = began, 0.0
        self.spent = Spent()
        self.latest: dict[str, Any] = {}
        self.unreported = (0.0, 0)
        self.status = "finished"
        self.lost: float | None = None
        self.pruned = False
        self.validated = 0
        self.micro = 0
        self.flops = 0.0
        self.random_states: list[dict[str, Tensor]] = []

    @property
    def seconds(self) -> float:
        """That the run has taken, with the sessions before this one."""
        return self.before + time.perf_counter() - self.began

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run continues with, the state of every rank's random numbers included."""
        return {
            "spent": asdict(self.spent),
            "seconds": self.seconds,
            "validated": self.validated,
            "latest": self.latest,
            "unreported": self.unreported,
            "random": self.random_states,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue."""
        self.spent = Spent(**state_dict["spent"])
        self.before = state_dict["seconds"]
        self.validated = state_dict["validated"]
        self.latest = dict(state_dict["latest"])
        self.unreported = state_dict["unreported"]
        self.random_states = state_dict["random"]

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Begin to count time; restore the random numbers as late as possible."""
        if _rank() == 0:
            module.nats_seen, module.targets_seen = torch.tensor(self.unreported[0]), self.unreported[1]
        self.clock = self.logged_at = self.saved_at = time.perf_counter()
        self.logged_tokens = self.spent.tokens
        if self.budget.over(self.spent):  # nothing to train
            self._tell({"progress": 1.0, **self._validate(trainer, module)})
            trainer.should_stop = True
            return
        self.peak_rates = [group["initial_lr"] for group in self._remember_rates(trainer.optimizers[0])]
        if self.random_states:
            _restore_random_state(self.random_states[_rank()])

    @staticmethod
    def _remember_rates(optimizer: Optimizer) -> list[dict]:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        return optimizer.param_groups

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Batch, index: int) -> None:
        """Count what the batch costs: forward once, backward twice that."""
        self.flops += 3 * module.flops(batch)
        self.step_tokens = batch.read

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Optimizer) -> None:
        """Set the learning rate of this step."""
        share = self.schedule(self.budget.progress_after(self.spent, self._under_way(module.device)))
        for group, peak in zip(optimizer.param_groups, self.peak_rates, strict=True):
            group["lr"] = peak * share

    def _under_way(self, device: torch.device) -> Spent:
        """What the step costs, its time as far as the gradients: of what one rank alone can't know, if the budget asks."""
        mine = torch.tensor([self.flops, (time.perf_counter() - self.clock) / 60], dtype=torch.float64)
        flops, minutes = (mine if self.budget.counted else _over_ranks(mine, device)).tolist()
        return Spent(1, self.step_tokens, flops, minutes / _world())

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, index: int
    ) -> None:
        """After an optimizer step: measure what is due, and see whether to go on."""
        self.data.consumed += 1
        self.micro += 1
        if self.micro % trainer.accumulate_grad_batches:
            return
        stop, pruned = self._account(module)
        progress, over = self.budget.progress(self.spent), self.budget.over(self.spent)
        measured: dict[str, Any] = {}
        if over or self.spent.steps % self.log_every == 0:
            measured |= self._measure(module, trainer.optimizers[0])
        if self.status != "diverged" and (over or progress * self.validations >= self.validated + 1):
            measured |= self._validate(trainer, module)
            self.validated = math.floor(min(progress, 1.0) * self.validations)
        if measured:
            self._tell({"progress": 1.0 if over else min(progress, 1.0), **measured})
        if (stop or pruned) and not over and self.status != "diverged":
            self.status = "pruned" if pruned else "stopped"
        if self.status == "stopped" or time.perf_counter() - self.saved_at > 60 * self.checkpoint_minutes:
            self._save(trainer, module)
        if over or self.status != "finished":
            trainer.should_stop = True

    def _account(self, module: pl.LightningModule) -> tuple[bool, bool]:
        """Add the step to what is spent; whether any rank was asked to stop, and whether the run was pruned."""
        now = time.perf_counter()
        asked = [float(self.stop_requested()), float(self.pruned)]
        local = torch.tensor([*asked, now - self.clock, self.flops], dtype=torch.float64)
        self.clock, self.flops = now, 0.0
        stop, pruned, seconds, flops = _over_ranks(local, module.device).tolist()
        self.spent.steps += 1
        self.spent.tokens += self.step_tokens
        self.spent.flops += flops
        self.spent.minutes += seconds / _world() / 60
        return stop > 0, pruned > 0

    def _measure(self, module: Any, optimizer: Optimizer) -> dict[str, Any]:
        nats, targets = module.take_loss()
        together = _over_ranks(_pair(nats, targets), module.device)
        loss = (together[0] / together[1].clamp_min(1)).item()
        self._see(loss)
        now = time.perf_counter()
        rate = (self.spent.tokens - self.logged_tokens) / (now - self.logged_at)
        self.logged_at, self.logged_tokens = now, self.spent.tokens
        measured = {
            "train/loss": loss,
            "lr": optimizer.param_groups[0]["lr"],
            "grad_norm": float(module.gradient_norm),
            "tokens_per_second": rate,
        }
        for layer in module.model.expert_layers:
            for name, value in layer.balance.figures().items():
                measured[f"experts/layer{layer.layer}/{name}"] = value
        return measured

    def _validate(self, trainer: pl.Trainer, module: Any) -> dict[str, Any]:
        """Score the whole validation text. Its time does not count as training."""
        began = time.perf_counter()
        module.eval()
        batches = enumerate(self.data.val_dataloader())
        with torch.no_grad():
            parts: list[Any] = [
                trainer.strategy.validation_step(batch.to(module.device), index) for index, batch in batches
            ]
        module.train()
        sums = _over_ranks(torch.stack([sums for sums, _ in parts]).double().sum(0).cpu(), module.device)
        outputs = _gathered([output for _, some in parts for output in some])
        self._see((sums[0] / sums[1].clamp_min(1)).item())
        measured = module.scores(sums, self.text_bytes if self.lossless else None) | module.judge(outputs)
        lost = time.perf_counter() - began
        self.clock += lost
        self.logged_at += lost
        return measured

    def _see(self, loss: float) -> None:
        """Whether the run has diverged, by a loss per target."""
        if is_lost(loss):
            self.status, self.lost = "diverged", loss

    def _tell(self, measured: dict[str, Any]) -> None:
        self.latest |= measured
        row = {
            "step": self.spent.steps,
            "tokens": self.spent.tokens,
            "flops": self.spent.flops,
            "seconds": self.spent.minutes * 60,
            **measured,
        }
        if _rank() == 0:
            for observer in self.observers:
                try:
                    observer(row)
                except Pruned:  # all ranks hear of it after the next step
                    self.pruned = True

    def _save(self, trainer: pl.Trainer, module: Any) -> None:
        """Write the checkpoint whole or not at all, with the loss that no measurement has shown yet."""
        nats, targets = _over_ranks(_pair(module.nats_seen, module.targets_seen), module.device).tolist()
        self.unreported = (nats, int(targets))
        self.random_states = _gathered([_random_state()])
        partial = self.checkpoint.with_suffix(".partial")
        trainer.save_checkpoint(partial, weights_only=False)
        if _rank() == 0:
            os.replace(partial, self.checkpoint)
        self.saved_at = time.perf_counter()


def _random_state() -> dict[str, Tensor]:
    """Where this rank's random numbers stand."""
    cuda = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {"cpu": torch.get_rng_state(), **cuda}


def _restore_random_state(state: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if torch.cuda.is_available() and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu())


def _pair(nats: Any, targets: int) -> Tensor:
    return torch.tensor([float(nats), targets], dtype=torch.float64)


def _world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def _over_ranks(values: Tensor, device: torch.device) -> Tensor:
    """The sum over ranks."""
    if _world() == 1:
        return values
    values = values.to(device)
    dist.all_reduce(values)
    return values.cpu()


def _gathered(outputs: list[Any]) -> list[Any]:
    """Those of all ranks."""
    if _world() == 1:
        return outputs
    everywhere: list[Any] = [None] * _world()
    dist.all_gather_object(everywhere, outputs)
    return [output for some in everywhere for output in some]
