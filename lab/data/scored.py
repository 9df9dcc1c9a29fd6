"""Scored pairs: two texts and a number that says how alike they are (semantic textual similarity, Cer et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lab.data.arrange import Both, PairBatch
from lab.data.examples import Example, Pairs
from lab.errors import RequestError

if TYPE_CHECKING:
    from lab.data.store import Tokens
    from lab.data.tokenizers import Tokenizer


class Scored(Pairs):
    """Pairs of texts with a score. The score is kept as the text that follows the two.

    Args:
        source, target, score: the columns.
        table: as `Table`.
    """

    kind = "scored"
    fields = 3

    def __init__(
        self, path=None, source: str = "source", target: str = "target", score: str = "score", **table
    ) -> None:
        super().__init__(path, source, target, **table)
        self.texts, self.columns = list(self.columns), self.columns | {"data.score": score}

    def examples(self, by: str | None = None) -> Iterator[Example]:
        for place, row, group in self._rows(by):
            texts = (self._text(row, key, place) for key in self.texts)
            yield Example((*texts, self._number(row["data.score"], place)), group=group)

    def _number(self, value: Any, place: str) -> str:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not abs(number) <= float(np.finfo(np.float32).max):
            raise RequestError(
                f"data.score={self.columns['data.score']!r}: {place} holds {str(value)[:40]!r}; a number is needed"
            )
        return repr(number)

    def read(self, example: Example) -> Sequence[str]:
        return example.texts[:2]

    scored = read

    def encode(self, tokenizer: Tokenizer, examples: Sequence[Example], labels: Mapping[str, int]) -> list[np.ndarray]:
        """Tokens of the source, tokens of the target, and the four bytes of the score in single precision."""
        tokens = iter(tokenizer.encode([text for example in examples for text in example.texts[:2]]))
        arrays: list[np.ndarray] = []
        for example in examples:
            number = np.frombuffer(np.float32(example.texts[2]).tobytes(), np.uint8)
            arrays += [next(tokens), next(tokens), number.astype(tokenizer.dtype)]
        return arrays


def scores_of(tokens: Tokens, indices: Iterable[int]) -> np.ndarray:
    """`[pairs]` float32, of the pairs with these numbers."""
    return np.concatenate([tokens.field(i, 2).astype(np.uint8).view(np.float32) for i in indices])


class ScoredPairs(Both):
    """Scored pairs for a model that reads each side by itself. One target a row: its score."""

    def scores(self, indices: np.ndarray) -> np.ndarray:
        """`[rows]` float32."""
        return scores_of(self.tokens, indices)

    def batch(self, indices: np.ndarray, scored: int | None = None) -> PairBatch:
        return replace(super().batch(indices, scored), targets=torch.from_numpy(self.scores(indices)))
