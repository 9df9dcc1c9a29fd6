"""Windows: which words of a row are near which, once those that are not read are taken out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.layout import PADDING


@dataclass(frozen=True, eq=False)
class Windows:
    """Words, who is near whom, and words to tell them from.

    Attributes:
        words: `[rows, words]` int64.
        weight: `[rows, words]`, how much each counts; 0 for what only fills the row.
        pairs: `[2, pairs]` int64, the places of a word and of one in its window, counted through all rows; in the order of
            the first.
        counts: `[pairs]`, how much each counts; none for 1.
        noise: `[rows, noise]` int64.
    """

    words: Tensor
    weight: Tensor
    pairs: Tensor
    counts: Tensor | None
    noise: Tensor

    @property
    def sizes(self) -> Tensor:
        """`[rows, words]`, how much the pairs of each word count together."""
        found = self.pairs[0].bincount(self.counts, self.words.numel())
        return found.to(self.weight.dtype).view_as(self.words)

    @property
    def near(self) -> Tensor:
        """`[rows, words, words]`, how much the pair of a word and one in its window counts; 0 for no pair."""
        rows, words = self.words.shape
        row, first, second = self.pairs[0] // words, self.pairs[0] % words, self.pairs[1] % words
        found = torch.zeros(rows, words, words, device=self.words.device)
        found[row, first, second] = 1.0 if self.counts is None else self.counts
        return found


def compacted(kept: Tensor, words: Tensor, documents: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The kept places of each row moved together, all `[rows, time]` to `[rows, most that a row keeps]`,
    1 at least. What a row leaves free is word 0 of document `PADDING` with value 0.
    """
    places = kept.cumsum(1) - 1
    width = max(int(places.max()) + 1, 1)
    places = places.masked_fill(~kept, width)

    def moved(numbers: Tensor, fill: int) -> Tensor:
        return numbers.new_full((len(numbers), width + 1), fill).scatter_(1, places, numbers)[:, :width]

    return moved(words, 0), moved(documents, PADDING), moved(values, 0)


def near(documents: Tensor, radius: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Which words are in the window of which: in its document, not itself, and at most its radius away.

    Args:
        documents: `[rows, words]`, the document of each word, `PADDING` where there is none.
        radius: `[rows, words]`.
        window: none is larger.

    Returns:
        `Windows.pairs`, and `[pairs]` int64, how many places lie from the first to the second.
    """
    steps = torch.arange(-window, window + 1, device=documents.device)
    around = F.pad(documents, (window, window), value=PADDING).unfold(1, len(steps), 1)
    there = (around == documents[..., None]) & (documents != PADDING)[..., None]
    there &= (steps.abs() <= radius[..., None]) & (steps != 0)
    found = there.flatten().nonzero()[:, 0]
    first, step = found // len(steps), found % len(steps) - window
    return torch.stack([first, first + step]), step.abs()
