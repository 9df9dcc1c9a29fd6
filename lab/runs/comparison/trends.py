"""Whether a difference grows or goes away with scale: the same variants at several sizes, paired over seeds.

It takes no curve. For each seed that finished every size the differences have a slope over the logarithm of the cost, and a
mean over the sizes; both are judged like any paired difference, in the correction of their report. A slope alone tells
that a difference changes; which way it does takes a mean on one side of zero too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from lab.runs.comparison.configurations import Configuration
from lab.runs.comparison.differences import Difference, paired_difference
from lab.runs.comparison.verdict import TOO_FEW, UNDECIDED

AXES = {"flops": "training FLOPs", "parameters": "parameters", "tokens_seen": "training tokens"}
"""What may grow along a scale; the first that does is its axis."""

GROWS, SHRINKS, CHANGES = "grows with scale", "goes away with scale", "changes with scale"

Grid = Mapping[str, Mapping[tuple[float, ...], Configuration]]
"""Variant -> size -> configuration."""


@dataclass(frozen=True, eq=False)
class Trend:
    """How the difference between a variant and the baseline's changes with scale.

    Attributes:
        slope: of the difference for a tenfold cost.
        mean: the difference averaged over the sizes.
        verdict: GROWS, SHRINKS, CHANGES where the mean may be on either side of zero, undecided, too few seeds.
    """

    variant: str
    baseline: str
    slope: Difference
    mean: Difference
    verdict: str = TOO_FEW

    @property
    def asked(self) -> tuple[Difference, Difference]:
        """The questions that it puts."""
        return self.slope, self.mean

    def word(self, sloped: bool, apart: bool) -> str:
        """The verdict of a slope and a mean of which each is known to be apart from zero, or not."""
        if not sloped:
            return UNDECIDED
        if not apart:
            return CHANGES
        return GROWS if ((self.slope.mean or 0) > 0) == ((self.mean.mean or 0) > 0) else SHRINKS


def axis_of(configurations: Sequence[Configuration]) -> str | None:
    """The cost that grows along a scale, a key of `result.json`; None where none does by half or more."""

    def grows(key: str) -> bool:
        costs = [cost for each in configurations if (cost := each.average(key))]
        return len(costs) == len(configurations) and max(costs) > 1.5 * min(costs)

    return next((key for key in AXES if grows(key)), None)


def trends(grid: Grid, reference: str, axis: str) -> list[Trend]:
    """Of each variant but the reference that has two sizes in common with it, the verdicts still open."""
    found = []
    for variant in grid:
        sizes = [size for size in grid[variant] if size in grid[reference]]
        if variant != reference and len(sizes) > 1:
            found.append(_trend(variant, reference, [(grid[variant][at], grid[reference][at]) for at in sizes], axis))
    return found


def _trend(variant: str, reference: str, pairs: Sequence[tuple[Configuration, Configuration]], axis: str) -> Trend:
    decades = [math.log10(theirs.average(axis) or math.nan) for _, theirs in pairs]
    seeds = set.intersection(*(mine.runs.keys() & theirs.runs.keys() for mine, theirs in pairs))

    def over_seeds(along: Callable[[Sequence[float]], float]) -> Difference:
        """Of what the values over sizes come to, on both sides."""
        mine, theirs = ({seed: along([pair[side].values[seed] for pair in pairs]) for seed in seeds} for side in (0, 1))
        return paired_difference(mine, theirs)

    return Trend(variant, reference, over_seeds(partial(_slope, decades)), over_seeds(fmean))


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    middle = fmean(x)
    weights = [each - middle for each in x]
    squares = sum(weight**2 for weight in weights)
    return sum(weight * value for weight, value in zip(weights, y, strict=True)) / squares if squares else 0.0
