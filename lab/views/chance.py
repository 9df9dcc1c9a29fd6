"""How much one label says about another, in bits, and how much it would say by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SHUFFLES = 200
"""By which chance is known."""


@dataclass(frozen=True)
class Told:
    """Mutual information, beside the same of shuffled labels.

    Attributes:
        bits: as measured.
        chance: the mean over shuffles.
        bound: what 95% of the shuffles stay under.
    """

    bits: float
    chance: float
    bound: float

    @property
    def above(self) -> bool:
        """Whether it is more than chance gives, at 5% for this one measurement."""
        return self.bits > self.bound

    def beside(self) -> str:
        """What shuffled labels tell, in words: the mean, and the bound in brackets."""
        return f"{self.chance:.4f} ({self.bound:.4f})"


def information(table: np.ndarray) -> float:
    """Mutual information in bits of what counts the rows of a table, `[rows, columns]`, and what its columns."""
    shares = table / max(table.sum(), 1)
    apart = shares.sum(1, keepdims=True) * shares.sum(0, keepdims=True)
    seen = shares > 0
    return float(max(0.0, (shares[seen] * np.log2(shares[seen] / apart[seen])).sum()))


def told(labels: np.ndarray, counts: np.ndarray, kinds: int, seed: int = 0, shuffles: int = SHUFFLES) -> Told:
    """What the label of an item says about what it is counted under.

    Args:
        labels: `[items]` int64, under `kinds`; shuffled over the items to see chance.
        counts: `[items, columns]`, how often each item is counted under each column.
        kinds: how many labels there are.
        seed: of the shuffles.
        shuffles: how many.
    """
    random = np.random.default_rng(seed)
    drawn = [_summed(random.permutation(labels), counts, kinds) for _ in range(shuffles)]
    return _told(_summed(labels, counts, kinds), drawn)


def told_by_types(
    labels: np.ndarray, counts: np.ndarray, kinds: int, least: int, seed: int = 0, shuffles: int = SHUFFLES
) -> Told:
    """What the label of a type of item says, beside what it would if each type's items went where another type's do.

    A type keeps its label and how many items it has, so that a few frequent types that a label names count as much by chance.
    Types with under `least` items, of which little is known, change places among themselves.

    Args:
        labels: `[types]`.
        counts: `[types, columns]`, how often items of each type are counted under each column.
        kinds, seed, shuffles: as `told`.
        least: items.
    """
    random = np.random.default_rng(seed)
    sizes = counts.sum(1, keepdims=True)
    shares = counts / np.maximum(sizes, 1e-12)
    strata = [np.flatnonzero((sizes[:, 0] >= least) == often) for often in (True, False)]
    drawn = []
    for _ in range(shuffles):
        moved = shares.copy()
        for stratum in strata:
            moved[stratum] = shares[random.permutation(stratum)]
        drawn.append(_summed(labels, sizes * moved, kinds))
    return _told(_summed(labels, counts, kinds), drawn)


def _told(table: np.ndarray, shuffled: Sequence[np.ndarray]) -> Told:
    drawn = [information(other) for other in shuffled]
    return Told(information(table), float(np.mean(drawn)), float(np.quantile(drawn, 0.95)))


def _summed(labels: np.ndarray, counts: np.ndarray, kinds: int) -> np.ndarray:
    """`[kinds, columns]`, the counts of all items with each label."""
    return np.eye(kinds, dtype=counts.dtype)[labels].T @ counts
