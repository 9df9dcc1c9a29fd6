"""Span corruption: predict the spans that sentinels stand for in a text (T5, Raffel et al. 2020, section 3.1.4)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from lab.data.spans import SpanModule
from lab.objectives.seq2seq import TeacherForcing
from lab.values import is_number

if TYPE_CHECKING:
    from lab.models.model import Model


class Span(TeacherForcing):
    """Teacher forcing on what is taken out of plain text. The loss counts the sentinels and the end too.

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
    def check(cls, *, share: float = 0.15, mean: float = 3.0, **values) -> None:
        super().check(**values)
        if not (is_number(share) and 0 < share < 1):
            raise ValueError(f"objective.share: {share}; a share of the tokens, over 0 and under 1")
        if not (is_number(mean) and mean >= 1):
            raise ValueError(f"objective.mean: {mean}; tokens of a span, at least 1")

    @classmethod
    def arranges(cls, kind: str, model: type[Model], settings: Mapping[str, Any]) -> Any:
        """With the settings of the spans."""
        return partial(SpanModule, share=settings["share"], mean=settings["mean"])
