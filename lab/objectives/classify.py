"""Classification of texts: one label for a text, or for a pair of texts (BERT, section 4.1; GPT, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.data.arrange import Sequences
from lab.layout import IGNORE
from lab.metrics.classification import accuracy, macro_f1
from lab.models.pooling import check_pool
from lab.objectives.objective import Objective
from lab.values import is_number

if TYPE_CHECKING:
    from lab.data.packing import Batch
    from lab.models.model import Model


class Classify(Objective):
    """The loss is the cross-entropy of each row's label.

    Args:
        pool: what stands for a text: its `first` token, the `last`, or the `mean` of all; None for what the family does.
        dropout: on what stands for a text, before it is scored.
        settings: as `Objective`.

    Raises:
        ValueError: another pool, or a dropout that is no share.
    """

    whole_text = False
    families = ("encoder", "decoder", "bag_of_words", "word_vectors")
    takes = {"labelled": Sequences}
    headline = {"name": "val/accuracy", "unit": "share of texts", "direction": "max"}

    def __init__(self, pool: str | None = None, dropout: float = 0.0, **settings) -> None:
        self.check(pool=pool, dropout=dropout)
        self.pool, self.dropout = pool, dropout
        super().__init__(**settings)

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        check_pool(settings.pool, "objective.pool")
        if not (is_number(settings.dropout) and 0 <= settings.dropout < 1):
            raise ValueError(f"objective.dropout: {settings.dropout}; a share, from 0 and under 1")

    @classmethod
    def arranges(cls, kind: str, model: type[Model], settings: Mapping[str, Any]) -> Any:
        return partial(Sequences, frame=model.frame)

    def make_head(self) -> nn.Module:
        return self.model.classifier(len(self.prepared.labels), self.dropout)

    def logits(self, batch: Batch) -> Tensor:
        """`[rows, labels]`."""
        return self.head(self.model.represent(batch.tokens, batch.layout, batch.segments, self.pool))

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
        pool = self.model.pool_flops * len(batch.lengths) if self.pool is None else 0
        return float((self.model.body_flops(batch.lengths) + self.head.flops(batch.lengths)).sum()) + pool
