"""How many seeds it takes: the power of the paired t-test and of the two one-sided tests.

Power is the chance that a true difference of a given size gets its verdict. It comes from the noncentral t distribution
(Cohen 1988), for equivalence from an integral over the chi distribution of the spread (Phillips 1990). What is
planned from an observed spread is as sure as that spread, which few seeds tell badly.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from lab.runs.comparison.verdict import ALPHA, FEWEST_PAIRS

POWER = 0.8
MOST = 10_000


def power(seeds: int, difference: float, sd: float, alpha: float = ALPHA) -> float:
    """Chance that a paired t-test over `seeds` finds this true difference, the right way round; its pairs spread by `sd`."""
    from scipy import stats

    freedom = seeds - 1
    shift = abs(difference) / sd * math.sqrt(seeds)
    return float(stats.nct.sf(stats.t.isf(alpha / 2, freedom), freedom, shift))


def equivalence_power(seeds: int, difference: float, sd: float, margin: float, alpha: float = ALPHA) -> float:
    """Chance that the two one-sided tests call this true difference equivalent within the margin."""
    import numpy as np
    from scipy import stats
    from scipy.special import ndtr

    freedom = seeds - 1
    spread = np.sqrt(stats.chi2.ppf((np.arange(400) + 0.5) / 400, freedom) / freedom)  # observed over true
    reach = stats.t.isf(alpha, freedom) * spread
    upper = (margin - difference) / sd * math.sqrt(seeds) - reach
    lower = -(margin + difference) / sd * math.sqrt(seeds) + reach
    return float(np.maximum(ndtr(upper) - ndtr(lower), 0).mean())


def seeds_to_find(difference: float, sd: float, alpha: float = ALPHA, wanted: float = POWER) -> int | None:
    """The fewest seeds that find this true difference with the wanted power; None over MOST."""
    return _fewest(lambda seeds: power(seeds, difference, sd, alpha) >= wanted) if difference else None


def seeds_to_equate(
    difference: float, sd: float, margin: float, alpha: float = ALPHA, wanted: float = POWER
) -> int | None:
    """The fewest seeds that call this true difference equivalent with the wanted power; None over MOST."""
    if abs(difference) >= margin:
        return None
    return _fewest(lambda seeds: equivalence_power(seeds, difference, sd, margin, alpha) >= wanted)


def detectable(seeds: int, sd: float, alpha: float = ALPHA, wanted: float = POWER) -> float:
    """The smallest true difference that this many seeds find with the wanted power."""
    from scipy.optimize import brentq

    scale = sd / math.sqrt(seeds)
    most = 8.0
    while power(seeds, most * scale, sd, alpha) < wanted:
        most *= 2
    return float(brentq(lambda size: power(seeds, size * scale, sd, alpha) - wanted, 0, most)) * scale


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """The smallest number of seeds that is enough, which any larger one is too."""
    low, high = FEWEST_PAIRS - 1, FEWEST_PAIRS
    while not enough(high):
        low, high = high, 2 * high
        if low > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
