"""Causal language modelling: predict each token from those before it, in its own document."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from lab.data.arrange import Answers, Arranged
from lab.optim.groups import make_optimizer, parameter_groups

if TYPE_CHECKING:
    from lab.data.packing import Batch
    from lab.models.model import Model


class Causal(pl.LightningModule):
    """Trains a model that offers `loss(tokens, targets, layout, reduction)`.

    Whatever the number of devices and micro-batches, the gradient of a step is that of the mean loss over all targets of
    the step, which `Batch.scored` counts.

    Args:
        model: what is trained.
        optimizer: called with parameter groups.
        clip: norm that gradients are clipped to, null for none.
    """

    headline: ClassVar[Mapping[str, str]] = {"name": "val/bpb", "unit": "bits per byte", "direction": "min"}
    takes: ClassVar[Mapping[str, type[Arranged] | None]] = {"text": None, "task": None, "pairs": Answers}
    """Kinds of data, and how examples are laid into rows where that is not how the kind is laid by itself."""

    def __init__(self, model: Model, optimizer: Callable[..., Optimizer], clip: float | None = 1.0) -> None:
        super().__init__()
        self.model = model
        self.optimizer = optimizer
        # Before a strategy shares the model out: what it leaves of a matrix no longer looks like one.
        self.groups = parameter_groups(model)
        self.clip = clip
        self.nats = torch.zeros(())  # summed since they were last taken, on the device: reading them waits for it
        self.targets = 0
        self.gradient_norm: Tensor | None = None

    def configure_optimizers(self) -> Optimizer:
        """The optimizer, with weight decay kept off norms, biases and embeddings, and the rates that the model asks for."""
        return make_optimizer(self.groups, self.optimizer)

    def on_train_start(self) -> None:
        """Tell what balances experts how many forward passes make a step."""
        for layer in self.model.expert_layers:
            layer.balance.parts = self.trainer.accumulate_grad_batches

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The part of the step's mean loss that this batch holds, scaled so that averaging over parts restores it."""
        nats = self.model.loss(batch.tokens, batch.targets, batch.layout, reduction="sum")
        self.nats = self.nats.to(nats.device) + nats.detach()
        self.targets += batch.counted
        parts = self.trainer.world_size * self.trainer.accumulate_grad_batches
        loss = nats * (parts / batch.scored)
        share = batch.counted * parts / batch.scored  # of the step's tokens, as the parts are averaged
        for layer in self.model.expert_layers:
            if layer.auxiliary is not None:
                loss = loss + share * layer.auxiliary
        return loss

    def validation_step(self, batch: Batch, index: int) -> Tensor:
        """`[sums]`, what adds up over batches and devices: nats, and how many targets they are of."""
        nats = self.model.loss(batch.tokens, batch.targets, batch.layout, reduction="sum")
        return torch.stack([nats.double(), nats.new_tensor(batch.counted, dtype=torch.float64)])

    def configure_gradient_clipping(self, optimizer: Optimizer, *args, **kwargs) -> None:
        """Clip to `clip`, and keep the norm from before."""
        limit = math.inf if self.clip is None else self.clip
        sharded = getattr(self.trainer.strategy.model, "clip_grad_norm_", None)
        if sharded is not None:  # each device holds a part of every gradient
            self.gradient_norm = sharded(limit)
        else:
            self.gradient_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)

    def take_loss(self) -> tuple[Tensor, int]:
        """Nats and targets of the training steps since the last call, of this rank."""
        taken = self.nats, self.targets
        self.nats, self.targets = torch.zeros(()), 0
        return taken

    @staticmethod
    def scores(sums: Tensor, text_bytes: int | None) -> dict[str, float | None]:
        """Validation metrics from `[sums]` over all batches: nats per token, and bits per byte of text.

        Args:
            sums: of `validation_step`.
            text_bytes: bytes of the text that was predicted; None where the tokenizer loses some.
        """
        nats, targets = sums[:2].tolist()
        return {
            "val/loss": nats / targets,
            "val/bpb": None if text_bytes is None else nats / math.log(2) / text_bytes,
        }
