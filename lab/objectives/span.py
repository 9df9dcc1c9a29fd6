"""Span corruption: predict the spans that sentinels stand for in a text (T5, Raffel et al. 2020, section 3.1.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lab.data.spans import SpanModule
from lab.layout import IGNORE
from lab.objectives.seq2seq import TeacherForcing
from lab.values import is_number

if TYPE_CHECKING:
    from lab.data.arrange import PairBatch
    from lab.models.model import Model


class Span(TeacherForcing):
    """Teacher forcing on what is taken out of plain text. In training the loss counts the sentinels and the end too; `val/loss`
    is of the text's tokens alone, as shorter rows have more of the others, which are easy.

    Args:
        share: of the tokens, that is taken out.
        mean: length of the spans.
        settings: as `TeacherForcing`.

    Raises:
        ValueError: a share or a length out of range.
    """

    whole_text = False
    takes = {"text": SpanModule}
    headline = {"name": "val/loss", "unit": "nats per token taken out", "direction": "min"}

    def __init__(self, share: float = 0.15, mean: float = 3.0, **settings) -> None:
        self.check(share=share, mean=mean)
        super().__init__(**settings)
        self.share, self.mean = share, mean

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        super().check_settings(settings)
        if not (is_number(settings.share) and 0 < settings.share < 1):
            raise ValueError(f"objective.share: {settings.share}; a share of the tokens, over 0 and under 1")
        if not (is_number(settings.mean) and settings.mean >= 1):
            raise ValueError(f"objective.mean: {settings.mean}; tokens of a span, at least 1")

    @cached_property
    def marks(self) -> Tensor:
        """The sentinels and the end."""
        tokenizer = self.prepared.tokenizer
        return torch.tensor([*tokenizer.sentinels, tokenizer.id("end")], device=self.device)

    def evaluate(self, batch: PairBatch) -> tuple[Tensor, list[Any]]:  # type: ignore[override]
        """`[sums]`: nats and number of the text's tokens that are taken out."""
        targets = batch.targets.masked_fill(torch.isin(batch.targets, self.marks), IGNORE)
        nats = self._loss(replace(batch, targets=targets), 0.0).double()
        return torch.stack([nats, (targets != IGNORE).sum().to(nats)]), []

    @classmethod
    def arranges(cls, kind: str, model: type[Model], settings: Mapping[str, Any]) -> Any:
        """With the settings of the spans."""
        return partial(SpanModule, share=settings["share"], mean=settings["mean"])
