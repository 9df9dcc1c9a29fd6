"""What a model is trained to do. An objective says which models and data it takes, what it minimises, and how it is judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lab.optim.groups import make_optimizer, parameter_groups

if TYPE_CHECKING:
    from lab.data.packing import Batch
    from lab.data.store import Prepared
    from lab.models.model import Model


class Objective(pl.LightningModule):
    """Trains a model to minimise the mean of `nats` over the targets of a step.

    Whatever the number of devices and micro-batches, the gradient of a step is that of the mean loss over all targets of
    the step, which `Batch.scored` counts.

    Args:
        model: what is trained.
        optimizer: called with parameter groups.
        prepared: the data, for objectives that ask for its tokenizer, labels or validated examples.
        clip: norm that gradients are clipped to, null for none.
        seed: of the run, for what is drawn alike on every device.

    Attributes:
        families: of models that it trains.
        takes: kinds of data, and how examples are laid into rows where that is not how the kind is laid by itself.
        headline: the metric that runs are compared by, its unit and direction.
        asks: what a measure's question depends on beside the data, by its name: keys of the configuration, `tokenizer`, or
            `cut` for how many examples are cut, and where. Runs that were asked different questions are not compared.
        reaches_all: every step gives a gradient to every parameter; several devices then look for none that has none.
        passes: forward passes that a batch takes.
        whole_text: the text is predicted token by token, so that its nats are bits of its bytes too.
        head: what the objective adds to the model, trained and saved with it; none for nothing.
    """

    families: ClassVar[tuple[str, ...]]
    takes: ClassVar[Mapping[str, type[Any] | None]]
    headline: ClassVar[Mapping[str, str]]
    asks: ClassVar[Mapping[str, tuple[str, ...]]] = {"val/loss": ("tokenizer", "cut")}
    reaches_all: ClassVar[bool] = False
    passes: ClassVar[int] = 1
    whole_text: ClassVar[bool] = True

    def __init__(
        self,
        model: Model,
        optimizer: Callable[..., Optimizer],
        prepared: Prepared | None = None,
        clip: float | None = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.optimizer = optimizer
        self.prepared: Any = prepared
        self.clip, self.seed = clip, seed
        self.head: Any = self.make_head()
        # Before a strategy shares the model out: what it leaves of a matrix no longer looks like one.
        self.groups = parameter_groups(self)
        self.nats_seen = torch.zeros(())  # summed since they were last taken, on the device: reading them waits for it
        self.targets_seen = 0
        self.gradient_norm: Tensor | None = None

    @classmethod
    def arranges(cls, kind: str, model: type[Model], settings: Mapping[str, Any]) -> Any:
        """How data of a kind is laid into rows; none for as the kind is by itself.

        Args:
            kind: of data, among `takes`.
            model: the class that will read the rows.
            settings: what the objective will be called with.
        """
        return cls.takes[kind]

    @classmethod
    def check(cls, **given: Any) -> None:
        """Raise `ValueError` for a setting that is out of range; asked before anything is made. Those not given are the
        defaults of `__init__`.
        """
        made = [each for each in reversed(cls.__mro__) if issubclass(each, Objective)]
        known = [parameter for each in made for parameter in signature(each).parameters.values()]
        defaults = {each.name: None if each.default is each.empty else each.default for each in known}
        cls.check_settings(SimpleNamespace(**defaults | given))

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        """What `check` asks of the settings, all of which are there as attributes."""

    @classmethod
    def check_model(cls, model: Model) -> None:
        """Raise `ValueError` for a model of the right family that cannot be trained so; asked before anything is made."""

    def make_head(self) -> nn.Module | None:
        """What the objective adds to the model; its initial values come from `init`."""
        return None

    def nats(self, batch: Batch) -> Tensor:
        """What is minimised, summed over the `batch.counted` targets."""
        raise NotImplementedError

    def evaluate(self, batch: Batch) -> tuple[Tensor, list[Any]]:
        """What a validation batch tells: `[sums]` float64, which add up over batches and devices, first the nats; and the
        model's outputs for each example, plain values, where metrics need them whole.
        """
        nats = self.nats(batch)
        return torch.stack([nats.double(), nats.new_tensor(batch.counted, dtype=torch.float64)]), []

    def scores(self, sums: Tensor, text_bytes: int | None) -> dict[str, float | None]:
        """Validation metrics from `[sums]` over all batches.

        Args:
            sums: of `evaluate`.
            text_bytes: bytes of the text that was predicted; None where the tokenizer loses some.
        """
        nats, targets = sums[:2].tolist()
        known = text_bytes if self.whole_text else None
        return {"val/loss": nats / targets, "val/bpb": None if known is None else nats / math.log(2) / known}

    def judge(self, outputs: Sequence[Any]) -> Mapping[str, float | None]:
        """Validation metrics from the outputs of all batches."""
        return {}

    def flops(self, batch: Batch) -> float:
        """Forward FLOPs on a batch; a training step takes three times that."""
        return float(self.model.flops(batch.lengths).sum())

    def tokens_read(self, batch: Batch) -> int:
        """How many tokens of a batch the model reads: its part of `Batch.read`."""
        return int(batch.lengths.sum())

    def configure_optimizers(self) -> Optimizer | None:
        """The optimizer, with weight decay kept off norms, biases and embeddings, and the rates that the model asks for; none
        where nothing is trained.
        """
        return make_optimizer(self.groups, self.optimizer) if self.groups else None

    def on_train_start(self) -> None:
        """Tell what balances experts how many forward passes make a step."""
        for layer in self.model.expert_layers:
            layer.balance.parts = self.trainer.accumulate_grad_batches * self.passes

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The part of the step's mean loss that this batch holds, scaled so that averaging over parts restores it."""
        nats = self.nats(batch)
        self.nats_seen = self.nats_seen.to(nats.device) + nats.detach()
        self.targets_seen += batch.counted
        parts = self.trainer.world_size * self.trainer.accumulate_grad_batches
        scored = max(batch.scored, 1)  # a step of examples whose answers were all cut off has none
        loss = nats * (parts / scored)
        share = self.tokens_read(batch) * parts / max(batch.read, 1)  # of the step's, as the parts are averaged
        for layer in self.model.expert_layers:
            if layer.auxiliary is not None:
                loss = loss + share * layer.auxiliary
        return loss

    def validation_step(self, batch: Batch, index: int) -> tuple[Tensor, list[Any]]:  # type: ignore[override]
        """`evaluate` on a batch, where Lightning's strategy calls it."""
        return self.evaluate(batch)

    def configure_gradient_clipping(self, optimizer: Optimizer, *args, **kwargs) -> None:
        """Clip to `clip`, and keep the norm from before."""
        limit = math.inf if self.clip is None else self.clip
        sharded = getattr(self.trainer.strategy.model, "clip_grad_norm_", None)
        if sharded is not None:  # each device holds a part of every gradient
            self.gradient_norm = sharded(limit)
        else:
            self.gradient_norm = torch.nn.utils.clip_grad_norm_(self.parameters(), limit)

    def take_loss(self) -> tuple[Tensor, int]:
        """Nats and targets of the training steps since the last call, of this rank."""
        taken = self.nats_seen, self.targets_seen
        self.nats_seen, self.targets_seen = torch.zeros(()), 0
        return taken
