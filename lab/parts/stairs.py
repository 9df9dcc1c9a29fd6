"""Documents of unequal lengths in few runs of a fused recurrent kernel.

Fused kernels run over rows of equal length. torch's own way with unequal ones, packed sequences, makes it step (an LSTM takes
twice as long on a CPU). Here documents are sorted, the longest first, and time is cut where some end: each stage is a
rectangle of those that go on, and begins with the states that the stage before left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from lab.layout import Layout
from lab.parts.cell import State

SPARE = 64
"""Places beyond the ends of documents that are rather computed than begin another stage, whose start costs as much."""


@dataclass(frozen=True, eq=False)
class Stairs:
    """The tokens of a layout in the order of computation: stage by stage, document by document, step by step.

    Attributes:
        stages: documents and steps of each.
        into: `[places]`, which token of the flattened rows stands at each place; none where they are in order.
        back: `[batch * time]`, the place of each token of the rows; that of padding is any.
        reverse: `[places]`, the place of the token as far from its document's end as this one is from the begin.
        rows: `[documents]`, the row of each.
        first: `[documents, 1]` bool, whether it is the first of its row, which takes up the row's state.
        last: `[batch]`, the last document of each row.
        filled: `[batch, 1]` bool, whether a row has one; none where all have.
    """

    stages: list[tuple[int, int]]
    into: Tensor | None = None
    back: Tensor | None = None
    reverse: Tensor | None = None
    rows: Tensor | None = None
    first: Tensor | None = None
    last: Tensor | None = None
    filled: Tensor | None = None

    def enter(self, x: Tensor) -> Tensor:
        """`[batch, time, dim]` to `[places, dim]`."""
        x = x.flatten(0, 1)
        return x if self.into is None else x.index_select(0, self.into)

    def leave(self, x: Tensor, batch: int) -> Tensor:
        """`[places, dim]` to `[batch, time, dim]`."""
        return (x if self.back is None else x.index_select(0, self.back)).unflatten(0, (batch, -1))

    def flip(self, x: Tensor) -> Tensor:
        """`[places, dim]`, every document from its end to its begin."""
        if self.reverse is None:
            return x.unflatten(0, self.stages[0]).flip(1).flatten(0, 1)
        return x.index_select(0, self.reverse)

    def pieces(self, x: Tensor) -> Iterator[Tensor]:
        """The rectangles: `[documents, steps, dim]` each."""
        sizes = [documents * steps for documents, steps in self.stages]
        return (piece.unflatten(0, stage) for piece, stage in zip(x.split(sizes), self.stages, strict=True))

    def begin(self, state: State | None) -> State | None:
        """The states of rows as those of the documents that take them up; others begin with zeros."""
        if state is None or self.rows is None or self.first is None:
            return state
        return tuple(part.index_select(0, self.rows) * self.first for part in state)

    def end(self, state: State) -> State:
        """The states of documents as those of the rows that they end; zeros for a row without one."""
        if self.last is None:
            return state
        found = tuple(part.index_select(0, self.last) for part in state)
        return found if self.filled is None else tuple(part * self.filled for part in found)


def stairs(layout: Layout, exact: bool) -> Stairs:
    """The stages of a layout.

    Args:
        layout: of the rows.
        exact: no document runs beyond its end, so that the last states are theirs; else a little, where that is cheaper.
    """
    if layout.single:
        batch, time = layout.documents.shape
        return Stairs([(batch, time)])
    return layout.once(("stairs", exact), lambda: _build(layout, exact))


def cuts(lengths: np.ndarray, spare: int) -> list[int]:
    """Where the stages of documents of these lengths end, when up to `spare` places may be wasted in each."""
    values, counts = np.unique(lengths, return_counts=True)
    found, ended, wasted = [], 0, 0
    for (length, following), count in zip(pairwise(values.tolist()), counts.tolist(), strict=False):
        ended += count
        wasted += ended * (following - length)
        if wasted > spare:
            found.append(length)
            ended = wasted = 0
    return [*found, int(values[-1])]


def _build(layout: Layout, exact: bool) -> Stairs:
    batch, time = layout.documents.shape
    rows, starts, stops = np.array(layout.segments, dtype=np.int64).reshape(-1, 3).T
    order = np.argsort(starts - stops, kind="stable")
    rank, last = np.argsort(order), np.zeros(batch, np.int64)
    last[rows] = rank  # segments are in order: the last of a row stays
    filled = np.isin(np.arange(batch), rows)[:, None]
    firsts = np.isin(order, np.unique(rows, return_index=True)[1])[:, None]
    rows, starts, lengths = rows[order], starts[order], (stops - starts)[order]

    stages, tokens, mirrored, inside = [], [], [], []
    for start, stop in pairwise([0, *cuts(lengths, -1 if exact else SPARE)]):
        going = int((lengths > start).sum())
        begin, ends = (rows * time + starts)[:going, None], lengths[:going, None] - 1
        step = np.arange(start, stop)
        stages.append((going, stop - start))
        tokens.append((begin + np.minimum(step, ends)).ravel())
        mirrored.append((begin + np.maximum(ends - step, 0)).ravel())
        inside.append((step <= ends).ravel())
    into, whole = np.concatenate(tokens), np.concatenate(inside)
    back = np.zeros(batch * time, np.int64)
    back[into[whole]] = np.flatnonzero(whole)
    device = layout.documents.device
    arrays = (into, back, back[np.concatenate(mirrored)], rows, firsts, last, *(() if filled.all() else (filled,)))
    return Stairs(stages, *(torch.from_numpy(array).to(device) for array in arrays))
