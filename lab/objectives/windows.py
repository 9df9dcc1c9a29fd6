"""Windows: which words of a row are near which, once those that are not read are taken out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lab.layout import PADDING


@dataclass(frozen=True, eq=False)
class Windows:
    """Words, who is near whom, and words to tell them from.

    Attributes:
        words: `[rows, words]` int64.
        weight: `[rows, words]`, how much each counts; 0 for what only fills the row.
        near: `[rows, words, words]`, how much the pair of a word and one in its window counts; 0 for no pair.
        noise: `[rows, noise]` int64.
    """

    words: Tensor
    weight: Tensor
    near: Tensor
    noise: Tensor


def compacted(kept: Tensor, words: Tensor, documents: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The kept places of each row moved together, all `[rows, time]` to `[rows, most that a row keeps]`.

    What a row leaves free is word 0 of document `PADDING` with value 0.
    """
    places = kept.cumsum(1) - 1
    width = int(places.max()) + 1 if places.numel() else 0
    places = places.masked_fill(~kept, width)

    def moved(numbers: Tensor, fill: int) -> Tensor:
        return numbers.new_full((len(numbers), width + 1), fill).scatter_(1, places, numbers)[:, :width]

    return moved(words, 0), moved(documents, PADDING), moved(values, 0)


def distances(words: Tensor) -> Tensor:
    """`[words, words]`, how many places lie from each place of a row `[rows, words]` to each."""
    places = torch.arange(words.shape[1], device=words.device)
    return (places[:, None] - places).abs()


def near(documents: Tensor, radius: Tensor) -> Tensor:
    """`[rows, words, words]` bool, whether the second word is in the window of the first: in its document, not itself, and
    at most its radius away, `[rows, words]`.
    """
    distance = distances(documents)
    within = (distance <= radius[:, :, None]) & (distance > 0)
    return within & (documents[:, :, None] == documents[:, None]) & (documents != PADDING)[:, :, None]
