"""How much one label says about another, in bits, and how much it would say by chance."""

from __future__ import annotations

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
    measured = information(_summed(labels, counts, kinds))
    drawn = [information(_summed(random.permutation(labels), counts, kinds)) for _ in range(shuffles)]
    return Told(measured, float(np.mean(drawn)), float(np.quantile(drawn, 0.95)))


def _summed(labels: np.ndarray, counts: np.ndarray, kinds: int) -> np.ndarray:
    return np.stack([np.bincount(labels, column, minlength=kinds) for column in counts.T], axis=1)
