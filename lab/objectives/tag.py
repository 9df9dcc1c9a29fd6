"""Classification of tokens: a tag for each word, at its first token (named entities; BERT, section 5.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.data.arrange import Tags
from lab.layout import IGNORE
from lab.metrics.classification import accuracy
from lab.metrics.entities import ALL, entity_scores, is_of_entity
from lab.objectives.objective import Objective
from lab.parts.classifier import Classifier
from lab.values import is_number

if TYPE_CHECKING:
    from lab.data.packing import Batch


class Tag(Objective):
    """The loss is the cross-entropy of each word's tag. Tags of entities (`B-PER`, `I-PER`, `O`) are judged by the F1 of
    entities, others, such as parts of speech, by the share of words whose tag is right.

    Args:
        dropout: on the vector of each token, before it is scored.
        settings: as `Objective`.

    Raises:
        ValueError: a dropout that is no share.
    """

    whole_text = False
    families = ("encoder",)
    takes = {"tagged": Tags}
    headline = {"name": "val/entity_f1", "unit": "F1 of entities", "direction": "max"}
    asks = dict.fromkeys(("val/entity_f1", "val/accuracy", "val/loss"), ("cut",))

    def __init__(self, dropout: float = 0.0, **settings) -> None:
        self.check(dropout=dropout)
        self.dropout = dropout
        super().__init__(**settings)
        self.of_entities = all(map(is_of_entity, self.prepared.labels))
        if not self.of_entities:
            self.headline = {"name": "val/accuracy", "unit": "share of words", "direction": "max"}  # type: ignore[misc]

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        if not (is_number(settings.dropout) and 0 <= settings.dropout < 1):
            raise ValueError(f"objective.dropout: {settings.dropout}; a share, from 0 and under 1")

    def make_head(self) -> nn.Module:
        return Classifier(self.model.dim, len(self.prepared.labels), self.dropout)

    def logits(self, batch: Batch) -> Tensor:
        """`[words, tags]`, of the places that have a tag."""
        return self.head(self.model.vectors(batch.tokens, batch.layout)[batch.targets != IGNORE])

    def nats(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.logits(batch).float(), batch.targets[batch.targets != IGNORE], reduction="sum")

    def evaluate(self, batch: Batch) -> tuple[Tensor, list[Any]]:
        """`[sums]`: nats and words; of each sentence the tags that score best, and the true ones."""
        logits, asked = self.logits(batch).float(), batch.targets != IGNORE
        true = batch.targets[asked]
        nats = F.cross_entropy(logits, true, reduction="sum").double()
        sizes = [size for size in asked.sum(1).tolist() if size]
        sides = (side.split(sizes) for side in (logits.argmax(-1), true))
        sentences = [[one.tolist(), other.tolist()] for one, other in zip(*sides, strict=True)]
        return torch.stack([nats, nats.new_tensor(len(true))]), sentences

    def judge(self, outputs: Sequence[Any]) -> Mapping[str, float | None]:
        """The share of words whose tag is right; where tags are of entities, their F1, of all and of each type."""
        labels = self.prepared.labels
        predicted, true = ([[labels[tag] for tag in both[side]] for both in outputs] for side in (0, 1))
        words = accuracy(list(chain(*predicted)), list(chain(*true)))
        if not self.of_entities:
            return {"val/accuracy": words}
        scores = entity_scores(predicted, true)
        of_types = {f"val/entity_f1/{kind}": found.f1 for kind, found in scores.items() if kind != ALL}
        return {"val/entity_f1": scores[ALL].f1, "val/accuracy": words} | of_types

    def flops(self, batch: Batch) -> float:
        return float(self.model.body_flops(batch.lengths).sum()) + 2 * self.head.weight.numel() * batch.counted
