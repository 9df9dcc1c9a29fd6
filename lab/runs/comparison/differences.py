"""Paired differences: their mean, how sure it is, and what it is beside the noise of seeds.

A seed fixes the order of the data and the initial values, so two configurations are compared seed by seed. The
interval is Student's; beside it stands the bootstrap of the t statistic (Efron 1979; Hall 1988, "Theoretical comparison
of bootstrap confidence intervals"), which allows for skewed differences and needs more seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev

CONFIDENCE = 0.95
FEWEST_FOR_BOOTSTRAP = 8
RESAMPLES = 10_000


@dataclass(frozen=True, eq=False)
class Difference:
    """The mean of paired differences, in the unit of the measure.

    Attributes:
        seeds: those that both sides have.
        values: the difference of each, in their order.
        mean: None without a pair.
        sd: standard deviation of the differences; None under 2 pairs. 0 where all are equal up to rounding.
        low, high: ends of the 95% t-interval; None under 2 pairs.
        p: two-sided p-value of the paired t-test; None under 2 pairs, 1 where the differences don't vary.
    """

    seeds: tuple[int, ...]
    values: tuple[float, ...] = ()
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def excludes_zero(self) -> bool:
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def varies(self) -> bool:
        """Whether the seeds are replicates at all."""
        return bool(self.sd)

    @property
    def error(self) -> float | None:
        """Standard error of the mean."""
        return None if self.sd is None else self.sd / math.sqrt(len(self.seeds))

    def first(self, pairs: int) -> Difference:
        """Of the first so many pairs alone."""
        if pairs >= len(self.seeds) or not self.varies:
            return self
        kept = dict(zip(self.seeds[:pairs], self.values, strict=False))
        return paired_difference(kept, dict.fromkeys(kept, 0.0))

    @cached_property
    def bootstrap(self) -> tuple[float, float] | None:
        """Ends of the 95% bootstrap interval; None under FEWEST_FOR_BOOTSTRAP pairs."""
        if len(self.values) < FEWEST_FOR_BOOTSTRAP or not self.varies:
            return None
        return bootstrap_interval(self.values)


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference:
    """`values` less `baseline`, each by seed, over the seeds that both have."""
    seeds = tuple(sorted(values.keys() & baseline.keys()))
    differences = tuple(values[seed] - baseline[seed] for seed in seeds)
    if not differences:
        return Difference(seeds)
    mean = fmean(differences)
    if len(differences) == 1:
        return Difference(seeds, differences, mean)
    spread = stdev(differences)
    if spread <= 1e-12 * max(abs(values[seed]) + abs(baseline[seed]) for seed in seeds):
        return Difference(seeds, differences, mean, 0.0, mean, mean, 1.0)
    from scipy.special import stdtr, stdtrit

    freedom = len(differences) - 1
    error = spread / math.sqrt(len(differences))
    reach = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    p = 2 * float(stdtr(freedom, -abs(mean) / error))
    return Difference(seeds, differences, mean, spread, mean - reach, mean + reach, p)


def bootstrap_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The bootstrap-t interval of a mean: quantiles of the t statistic of resamples instead of Student's.

    The same values give the same interval: the resamples are drawn from a fixed seed.
    """
    import numpy as np

    sample = np.asarray(values, dtype=float)
    size = len(sample)
    drawn = sample[np.random.default_rng(0).integers(0, size, (RESAMPLES, size))]
    error = drawn.std(1, ddof=1) / math.sqrt(size)
    error[error == 0] = np.nan  # a resample of one value tells no t; a handful among ten thousand
    low, high = np.nanquantile((drawn.mean(1) - sample.mean()) / error, [(1 - confidence) / 2, (1 + confidence) / 2])
    own = sample.std(ddof=1) / math.sqrt(size)
    return float(sample.mean() - high * own), float(sample.mean() - low * own)


@dataclass(frozen=True)
class Noise:
    """What seeds alone do: the spread of one configuration over its seeds, pooled over configurations.

    Attributes:
        sd: standard deviation of a run over seeds.
        freedom: degrees of freedom behind it.
    """

    sd: float
    freedom: int

    def floor(self, seeds: int, confidence: float = CONFIDENCE) -> float:
        """How far two means of one configuration, each over `seeds` seeds of its own, differ at most, 95 times in 100."""
        from scipy.special import stdtrit

        return float(stdtrit(self.freedom, (1 + confidence) / 2)) * self.sd * math.sqrt(2 / seeds)

    def effect(self, mean: float) -> float | None:
        """A difference in standard deviations of a run (Cohen's d), with Hedges' (1981) correction for few seeds; None where
        they are too few for it.
        """
        return mean / self.sd * (1 - 3 / (4 * self.freedom - 1)) if self.freedom > 1 else None


def noise(groups: Iterable[Iterable[float]]) -> Noise | None:
    """The pooled spread within groups, each the values that one configuration reached; None where nothing varies."""
    squares, freedom = 0.0, 0
    for group in map(list, groups):
        if len(group) > 1:
            squares += (len(group) - 1) * stdev(group) ** 2
            freedom += len(group) - 1
    return Noise(math.sqrt(squares / freedom), freedom) if squares > 0 else None
