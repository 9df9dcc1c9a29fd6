"""Classification of texts: one label for a sequence, from its first token or the mean of all (BERT, section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.data.arrange import Sequences
from lab.metrics.classification import accuracy, macro_f1
from lab.objectives.objective import Objective
from lab.parts.kernels import IGNORE
from lab.parts.linear import Linear

if TYPE_CHECKING:
    from lab.data.packing import Batch

POOLS = ("first", "mean")


class Classify(Objective):
    """The loss is the cross-entropy of each row's label.

    Args:
        pool: what stands for a row: its `first` token or the `mean` of all.
        settings: as `Objective`.

    Raises:
        ValueError: another pool.
    """

    families = ("encoder",)
    takes = {"labelled": Sequences}
    headline = {"name": "val/accuracy", "unit": "share of texts", "direction": "max"}

    def __init__(self, pool: str = "first", **settings) -> None:
        if pool not in POOLS:
            raise ValueError(f"objective.pool: {pool}; choose from {', '.join(POOLS)}")
        self.pool = pool
        super().__init__(**settings)

    def make_head(self) -> nn.Module:
        return Linear(self.model.dim, len(self.prepared.labels))

    def logits(self, batch: Batch) -> Tensor:
        """`[rows, labels]`."""
        vectors = self.model.vectors(batch.tokens, batch.layout, batch.segments)
        return self.head(pooled(vectors, batch.layout.padding, self.pool))

    def nats(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.logits(batch).float(), batch.targets, ignore_index=IGNORE, reduction="sum")

    def evaluate(self, batch: Batch) -> tuple[Tensor, list[Any]]:
        """`[sums]`: nats and rows; of each row the label that scores best, and the true one."""
        logits = self.logits(batch).float()
        nats = F.cross_entropy(logits, batch.targets, ignore_index=IGNORE, reduction="sum").double()
        real = batch.targets != IGNORE
        pairs = torch.stack([logits.argmax(-1), batch.targets], dim=1)[real].tolist()
        return torch.stack([nats, nats.new_tensor(batch.counted)]), pairs

    def judge(self, outputs: Sequence[Any]) -> Mapping[str, float | None]:
        """Accuracy, and F1 with every label counting the same."""
        predicted, true = zip(*outputs, strict=True)
        return {"val/accuracy": accuracy(predicted, true), "val/macro_f1": macro_f1(predicted, true)}

    def flops(self, batch: Batch) -> float:
        return float(self.model.body_flops(batch.lengths).sum()) + 2 * self.head.weight.numel() * batch.counted


def pooled(vectors: Tensor, padding: Tensor, pool: str) -> Tensor:
    """`[rows, time, dim]` and `[rows, time]` bool to `[rows, dim]`."""
    if pool == "first":
        return vectors[:, 0]
    real = (~padding).unsqueeze(-1).to(vectors.dtype)
    return (vectors * real).sum(1) / real.sum(1)
