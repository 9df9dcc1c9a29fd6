"""Looking again after more seeds, without fooling oneself.

A t-test repeated after every added seed until it says "significant" errs far more often than its 5%. Here the 5% are spent
over the looks by Lan and DeMets' (1983) function of O'Brien and Fleming's type: next to nothing at the
first looks, most of it at the last. The boundaries are exact for normal differences of unknown variance, from the
first look at three pairs: with S the sum and Q the sum of squares of n differences, S / sqrt(Q) is a Markov chain
under the null hypothesis, for Q is independent of all ratios so far (Basu), and so the recursion has one dimension
(Armitage, McPherson and Rowe 1969; Jennison and Turnbull 1991, "Exact calculations for repeated t, chi-squared and
F tests"). The mean's interval repeated at these levels covers the truth at all looks together (Jennison and Turnbull 1989).

An anytime-valid t-test (Wang and Ramdas 2024) would need no largest number of seeds. With a cap, as every budget has, spending
finds the same difference with fewer: see `tests/runs/test_sequential.py` for both by simulation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from lab.errors import RequestError
from lab.runs.comparison.verdict import ALPHA, FEWEST_PAIRS

if TYPE_CHECKING:
    import numpy as np

CELLS = 801
FAR = 7.5
STEPS = 201


@dataclass(frozen=True)
class Look:
    """What is known after this look.

    Attributes:
        pairs: seen so far.
        level: what a plain two-sided p-value must be under to be a verdict at this look; 0 before the first.
        mean: of the differences.
        low, high: the interval that holds at this look and all others together; infinite before the first.
        decided: zero is outside the interval, or the interval is within the margin, now or at an earlier look.
        last: no look is left.
    """

    pairs: int
    level: float
    mean: float
    low: float
    high: float
    decided: bool
    last: bool

    @property
    def excludes_zero(self) -> bool:
        """Whether there is a difference."""
        return self.low > 0 or self.high < 0

    def within(self, margin: float | None) -> bool:
        """Whether it makes none."""
        return margin is not None and -margin < self.low and self.high < margin

    @property
    def go_on(self) -> bool:
        """Whether another seed is worth it: undecided, and the cap not reached."""
        return not self.decided and not self.last


def look(
    differences: Sequence[float],
    most: int,
    alpha: float = ALPHA,
    margin: float | None = None,
) -> Look:
    """Decide, or go on; it is looked after every pair from the third on.

    Args:
        differences: paired, in the order in which they were seen.
        most: the largest number of pairs, fixed before the first look.
        alpha: the chance of a false verdict over all looks.
        margin: differences up to it make no difference; None asks for a difference alone.

    Raises:
        RequestError: more pairs than `most`, or `most` under three.
    """
    pairs = len(differences)
    _check(pairs, most)
    planned = tuple(range(FEWEST_PAIRS, most + 1))
    taken = [count for count in planned if count <= pairs]
    state = Look(pairs, 0.0, fmean(differences) if differences else 0.0, -math.inf, math.inf, False, pairs == most)
    for count, level in zip(taken, nominal_levels(planned, most, alpha), strict=False):
        if state.decided:
            break
        mean, low, high = interval(differences[:count], level)
        state = Look(count, level, mean, low, high, False, count == most)
        state = replace(state, decided=state.excludes_zero or state.within(margin))
    return state


def _check(pairs: int, most: int) -> None:
    if most < FEWEST_PAIRS or pairs > most:
        raise RequestError(
            f"most seeds: {pairs} pairs with at most {most}; give the number that was planned, at least {FEWEST_PAIRS}"
        )


def look_at_all(
    compared: Sequence[Sequence[float]],
    most: int,
    alpha: float = ALPHA,
    margins: Sequence[float | None] | None = None,
) -> list[Look]:
    """Decide for several comparisons at once, any false verdict among all looks and comparisons under `alpha`.

    By Holm's rule: what is decided frees its share for the rest (Maurer and Bretz 2013). With a margin a comparison
    that is decided may still be wrong about the other question, and keeps its share.

    Args:
        compared: differences of each, as of `look`.
        margins: of each; by default none.
    """
    limits = margins or [None] * len(compared)
    shares = len(compared)
    while True:
        found = [
            look(differences, most, alpha / shares, margin=margin)
            for differences, margin in zip(compared, limits, strict=True)
        ]
        left = sum(margin is not None or not each.decided for each, margin in zip(found, limits, strict=True))
        if left in (0, shares):
            return found
        shares = left


def spent(share: float, alpha: float = ALPHA) -> float:
    """How much of alpha is spent at a share of the seeds: on each side 2 Phi(z / sqrt(share)), z the alpha / 4 quantile."""
    from scipy.special import ndtr, ndtri

    return float(4 * ndtr(ndtri(alpha / 4) / math.sqrt(min(share, 1.0))))


@lru_cache(maxsize=256)
def nominal_levels(looks: tuple[int, ...], most: int, alpha: float = ALPHA) -> tuple[float, ...]:
    """The level of the plain t-test at each look, so that the looks together err as often as was spent.

    Args:
        looks: increasing numbers of pairs, the first at least 2.
    """
    import numpy as np
    from scipy.special import ndtr

    if not looks:
        return ()
    centres = np.linspace(-FAR, FAR, CELLS)
    half = FAR / (CELLS - 1)
    mass = ndtr(centres + half) - ndtr(centres - half)
    levels: list[float] = []
    gone = 0.0
    for pairs in range(looks[0], looks[-1] + 1):
        if pairs in looks:
            target = spent(pairs / most, alpha)
            critical, mass = _cut(centres, mass, target - gone)
            levels.append(float(2 * ndtr(-critical)))
            gone = target
        if pairs < looks[-1]:
            mass = _one_more(centres, mass, pairs)
    return tuple(levels)


def _cut(centres: np.ndarray, mass: np.ndarray, share: float) -> tuple[float, np.ndarray]:
    """The z beyond which, on both sides, this share of the mass lies; and the mass that stays within."""
    import numpy as np

    width = centres[1] - centres[0]
    lower = centres < 0
    outside = 2 * np.cumsum(mass[lower])  # up to the right edge of a cell, and as much on the other side
    critical = -float(np.interp(share, outside, centres[lower] + width / 2))
    kept = np.clip((critical - np.abs(centres)) / width + 0.5, 0, 1)
    return critical, mass * kept


def _one_more(centres: np.ndarray, mass: np.ndarray, pairs: int) -> np.ndarray:
    """The distribution after another pair. z is the normal quantile of t; without stopping it is standard normal.

    With u = S / sqrt(Q): another difference x makes it (u + y) / sqrt(1 + y^2), y = x / sqrt(Q), and y sqrt(n) is
    Student's t of n degrees of freedom, whatever u was.
    """
    import numpy as np
    from scipy.special import stdtrit

    u = _share(centres, pairs)
    y = stdtrit(pairs, (np.arange(STEPS) + 0.5) / STEPS) / math.sqrt(pairs)
    after = (u[:, None] + y) / np.sqrt(1 + y**2)
    place = np.interp(after, _share(centres, pairs + 1), np.arange(len(centres)))
    left = np.minimum(place.astype(int), len(centres) - 2)
    part, weight = place - left, mass[:, None] / STEPS
    lower = np.bincount(left.ravel(), ((1 - part) * weight).ravel(), len(centres))
    return lower + np.bincount(left.ravel() + 1, (part * weight).ravel(), len(centres))


def _share(z: np.ndarray, pairs: int) -> np.ndarray:
    """S / sqrt(Q) of so many pairs at the normal quantile z of t."""
    import numpy as np
    from scipy.special import ndtr, stdtrit

    t = -np.sign(z) * stdtrit(pairs - 1, ndtr(-np.abs(z)))
    return t * np.sqrt(pairs / (pairs - 1 + t**2))


def repeated_interval(differences: Sequence[float], most: int, alpha: float = ALPHA) -> tuple[float, float, float]:
    """Mean, low and high after these pairs, as at every look from the third pair on: at all looks together the ends hold
    the truth with 1 - alpha, for whatever reason it was looked or stopped. Infinite before the first look.

    Raises:
        RequestError: more pairs than `most`, or `most` under three.
    """
    pairs = len(differences)
    _check(pairs, most)
    if pairs < FEWEST_PAIRS:
        return fmean(differences) if differences else 0.0, -math.inf, math.inf
    levels = nominal_levels(tuple(range(FEWEST_PAIRS, most + 1)), most, alpha)
    return interval(differences, levels[pairs - FEWEST_PAIRS])


def interval(differences: Sequence[float], level: float) -> tuple[float, float, float]:
    """Mean, low and high: Student's, which misses the truth with this chance; infinite where the differences don't vary."""
    from scipy.special import stdtrit

    mean, count = fmean(differences), len(differences)
    spread = stdev(differences)
    if spread <= 1e-12 * abs(mean) or level <= 0:  # no replicates: nothing can be said
        return mean, -math.inf, math.inf
    reach = -float(stdtrit(count - 1, level / 2)) * spread / math.sqrt(count)
    return mean, mean - reach, mean + reach
