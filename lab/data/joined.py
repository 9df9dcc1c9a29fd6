"""Prompts and answers, several in a row: as many examples as fit, each of which sees itself alone and begins at position 0."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict

import numpy as np

from lab.data.arrange import Answers, wasted
from lab.data.packing import Batch
from lab.layout import IGNORE, Layout


class Joined:
    """Rows that share examples out among them.

    Args:
        arranged: the examples, a row each.

    Attributes:
        members: for each row the numbers of its examples.
        cut: how many examples were cut.
    """

    def __init__(self, arranged: Answers) -> None:
        self.arranged, self.cut = arranged, arranged.cut
        self.sizes = arranged.lengths[:, 0]
        self.members = fill(self.sizes, arranged.context)
        self.lengths = np.array([self.sizes[row].sum() for row in self.members])

    def __len__(self) -> int:
        return len(self.members)

    @property
    def waste(self) -> float:
        """The share of padding if all rows were one batch."""
        return wasted(self.lengths[:, None])

    def scored(self, indices: np.ndarray) -> int:
        """How many targets these rows have."""
        return self.arranged.scored(self._examples(indices))

    def read(self, indices: np.ndarray) -> int:
        """How many tokens these rows hold."""
        return int(self.lengths[indices].sum())

    def batch(self, indices: np.ndarray, scored: int | None = None) -> Batch:
        """The rows with these numbers, `[rows]`; `scored` is the whole step's, by default this batch's."""
        examples = self._examples(indices)
        made = {i: self.arranged.row(i) for i in examples}
        inputs, targets = (
            [np.concatenate([made[i][side] for i in self.members[row]]) for row in indices] for side in (0, 1)
        )
        counted = sum(int((row != IGNORE).sum()) for row in targets)
        return Batch(
            self.arranged.rows(inputs),
            self.arranged.rows(targets, IGNORE),
            Layout.packed([self.sizes[self.members[row]].tolist() for row in indices]),
            counted if scored is None else scored,
            counted,
            self.sizes[examples],
            examples=examples,
        )

    def _examples(self, indices: np.ndarray) -> np.ndarray:
        return np.concatenate([self.members[row] for row in indices])


def fill(sizes: np.ndarray, room: int) -> list[np.ndarray]:
    """Which items share a row of this room: the largest first, each where it leaves the least (best-fit decreasing)."""
    rows: list[list[int]] = []
    free: dict[int, list[int]] = defaultdict(list)  # rows by the room that they have left
    rooms: list[int] = []  # that some row has left, sorted
    for item in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[item])
        place = bisect_left(rooms, size)
        if place == len(rooms):
            left, row = room, len(rows)
            rows.append([])
        else:
            left = rooms[place]
            row = free[left].pop()
            if not free[left]:
                del rooms[place]
        rows[row].append(item)
        if not free[left - size]:
            insort(rooms, left - size)
        free[left - size].append(row)
    return [np.array(row) for row in rows]
