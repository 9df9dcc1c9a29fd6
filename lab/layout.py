"""Layout: what a row of tokens holds. Every part reads it; none guesses from shapes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

PADDING = -1

IGNORE = -100
"""The target where nothing is to be predicted, which torch's cross-entropy ignores."""

Frame = tuple[str | None, str | None, str | None]
"""Roles of the special tokens that begin a row that is read, stand between two texts and end the last; None for no token."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Which document each token of each row belongs to, where it stands, and what is padding.

    What all layers derive from a layout (masks, rotation tables) is computed once and kept by `once`.

    Attributes:
        documents: `[batch, time]` int64, the number of the token's document within its row, -1 for padding.
            A document lies in one piece. Attention stays within a document.
        positions: `[batch, time]` int64, at least 0 and under `span`: what position encodings count.
        span: one more than the largest position, or a bound of it, known without asking the device.
        padded: some row may hold padding.
        single: every row holds tokens of document 0 alone, at the same positions.
        plain: every row is one document that fills it, with positions 0, 1, 2, ... Kernels need no mask then.
    """

    documents: Tensor
    positions: Tensor
    span: int
    padded: bool = False
    single: bool = False
    plain: bool = False
    _derived: dict[Hashable, object] = field(default_factory=dict, repr=False)

    @classmethod
    def full(cls, batch: int, time: int, device: torch.device | str | None = None) -> Layout:
        """Rows of one document each, without padding."""
        positions = torch.arange(time, device=device).expand(batch, time)
        return cls(torch.zeros_like(positions), positions, span=time, single=True, plain=True)

    @classmethod
    def packed(
        cls,
        lengths: Sequence[Sequence[int]],
        time: int | None = None,
        restart: bool = True,
        mask: bool = True,
    ) -> Layout:
        """Rows from the lengths of their documents: `[[5, 3], [8]]` is two rows of 8 tokens, the first with two documents.

        Args:
            lengths: for each row the lengths of its documents, each at least 1.
            time: tokens in a row; what the documents leave free at the end is padding. By default the fullest row's.
            restart: positions begin at 0 in each document, else in each row.
            mask: attention stays within a document, else within the row.

        Raises:
            ValueError: a length under 1, or a row whose documents are longer than `time`.
        """
        if any(length < 1 for row in lengths for length in row):
            raise ValueError(f"a document has at least 1 token, got lengths {lengths}")
        totals = [sum(row) for row in lengths]
        width = max(totals, default=0) if time is None else time
        if any(total > width for total in totals):
            raise ValueError(f"documents of {max(totals)} tokens do not fit a row of {width}")
        documents = torch.full((len(totals), width), PADDING)
        positions = torch.arange(width).repeat(len(totals), 1)
        for row, pieces in enumerate(lengths):
            start = 0
            for number, length in enumerate(pieces):
                documents[row, start : start + length] = number if mask else 0
                if restart:
                    positions[row, start : start + length] = torch.arange(length)
                start += length
        padded = any(total < width for total in totals)
        plain = not padded and (all(len(row) == 1 for row in lengths) or not (mask or restart))
        return cls(documents, positions, span=width, padded=padded, single=plain, plain=plain)

    def afresh(self) -> Layout:
        """The same, and nothing derived of it yet."""
        return replace(self, _derived={})

    @property
    def places(self) -> Tensor:
        """`[batch, time]` int64: how many tokens of its own document precede each token, whatever `positions` count."""
        return self.once("places", self._count_places)

    def _count_places(self) -> Tensor:
        index = torch.arange(self.documents.shape[1], device=self.documents.device).expand_as(self.documents)
        if self.plain:
            return index
        return index - torch.where(self._begins(), index, 0).cummax(dim=1).values

    def _begins(self) -> Tensor:
        """`[batch, time]` bool, true where another document than the token before's is, or a row begins."""
        begins = torch.ones_like(self.documents, dtype=torch.bool)
        begins[:, 1:] = self.documents[:, 1:] != self.documents[:, :-1]
        return begins

    @property
    def numbered(self) -> Tensor:
        """`[batch, time]` int64: the number of each token's document among those of all rows."""
        return self.once("numbered", lambda: self._begins().flatten().cumsum(0).view_as(self.documents) - 1)

    @property
    def lengths(self) -> Tensor:
        """`[batch, time]` int64: of each token's document, one more than its largest position."""
        return self.once("lengths", self._measure)

    def _measure(self) -> Tensor:
        number = self.numbered.flatten()
        largest = number.new_zeros(number.numel()).scatter_reduce(0, number, self.positions.flatten() + 1, "amax")
        return largest[number].view_as(self.documents)

    @property
    def segments(self) -> list[tuple[int, int, int]]:
        """Row, start and stop of every document, or of what a part of rows holds of it, in order; padding is in none."""
        return self.once("segments", self._find_segments)

    def _find_segments(self) -> list[tuple[int, int, int]]:
        batch, time = self.documents.shape
        if self.plain or not batch:
            return [(row, 0, time) for row in range(batch)]
        begins = self._begins().nonzero().tolist()
        ends = [*((r, s) if r == row else (row, time) for (row, _), (r, s) in pairwise(begins)), (batch - 1, time)]
        found = [(row, start, stop) for (row, start), (_, stop) in zip(begins, ends, strict=True)]
        if not self.padded:
            return found
        padding = self.padding
        return [(row, start, stop) for row, start, stop in found if not padding[row, start]]

    def part(self, start: int, stop: int, span: int | None = None) -> Layout:
        """Tokens `start` to `stop` of every row, at the places that they have in their documents; `span` is that of their
        positions, where it is known to be less than that of all.
        """
        span = self.span if span is None else span
        piece = Layout(self.documents[:, start:stop], self.positions[:, start:stop], span, self.padded, self.single)
        piece.once("places", lambda: self.places[:, start:stop])
        return piece

    def rows(self, numbers: Tensor) -> Layout:
        """The rows with these numbers, `[rows]` int64."""
        chosen = Layout(
            self.documents[numbers], self.positions[numbers], self.span, self.padded, self.single, self.plain
        )
        if not self.plain:
            places = self.places[numbers]
            chosen.once("places", lambda: places)
        return chosen

    def followed_by(self, more: Layout) -> Layout:
        """Both, one after the other, each token where it is."""
        documents = torch.cat([self.documents, more.documents], dim=1)
        positions = torch.cat([self.positions, more.positions], dim=1)
        single = self.single and more.single
        joined = Layout(documents, positions, max(self.span, more.span), self.padded or more.padded, single)
        joined.once("places", lambda: torch.cat([self.places, more.places], dim=1))
        return joined

    @property
    def padding(self) -> Tensor:
        """`[batch, time]` bool, true where a row holds no token."""
        return self.documents == PADDING

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, computed at the first call with this key and kept for as long as the layout lives."""
        if key not in self._derived:
            self._derived[key] = make()
        return self._derived[key]  # type: ignore[return-value]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Layout:
        """The same layout on another device."""
        if self.documents.device == torch.device(device):
            return self
        documents = self.documents.to(device, non_blocking=non_blocking)
        positions = self.positions.to(device, non_blocking=non_blocking)
        return Layout(documents, positions, self.span, self.padded, self.single, self.plain)
