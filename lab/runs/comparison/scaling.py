"""The same variants at several sizes: fitted curves, and whether a difference grows or goes away with scale.

A curve is a power law with an offset, L = E + A (C / C0)^-alpha (Hestness et al. 2017; Hoffmann et al. 2022, equation 2 with
one cost): E is what no scale removes, C0 the middle of the costs seen. Its intervals are of a parametric bootstrap: fits of
losses drawn around the curve with the noise of seeds. Whether a difference changes with scale takes no curve: for each seed the
differences have a slope over the logarithm of the cost, and the slopes are judged like any paired difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

from lab.runs.comparison.compare import Table
from lab.runs.comparison.configurations import Configuration
from lab.runs.comparison.differences import Difference, noise, paired_difference
from lab.runs.comparison.labels import variants_and_sizes
from lab.runs.comparison.verdict import ALPHA, FEWEST_PAIRS, TOO_FEW, UNDECIDED, holm

if TYPE_CHECKING:
    import numpy as np

AXES = {"flops": "training FLOPs", "parameters": "parameters", "tokens_seen": "training tokens"}
FEWEST_SIZES = 4
DRAWS = 1000
GROWS, SHRINKS = "grows with scale", "goes away with scale"


@dataclass(frozen=True)
class Curve:
    """L = floor + factor (C / reference)^-exponent, each parameter with the ends of its 95% interval."""

    reference: float
    floor: float
    factor: float
    exponent: float
    floor_ends: tuple[float, float] | None = None
    exponent_ends: tuple[float, float] | None = None

    def __call__(self, cost: np.ndarray | float) -> np.ndarray | float:
        """The loss at these costs."""
        return self.floor + self.factor * (cost / self.reference) ** -self.exponent


@dataclass(frozen=True, eq=False)
class Variant:
    """One variant over its sizes, smallest first; the curve is None under four sizes."""

    name: str
    configurations: Sequence[Configuration]
    costs: Sequence[float]
    curve: Curve | None


@dataclass(frozen=True, eq=False)
class Trend:
    """How the difference between a variant and the baseline's changes with scale.

    Attributes:
        slope: of the difference for a tenfold cost, paired over seeds.
        mean: the difference, averaged over sizes and seeds.
        verdict: GROWS, SHRINKS, undecided, too few seeds; corrected over all trends of a scale.
    """

    variant: str
    baseline: str
    slope: Difference
    mean: float
    verdict: str


@dataclass(frozen=True, eq=False)
class Scaling:
    """What a scale shows. `axis` is the cost along it, a key of `result.json`."""

    axis: str
    variants: Sequence[Variant]
    trends: Sequence[Trend]

    @property
    def title(self) -> str:
        return AXES[self.axis]


def scaling(table: Table) -> Scaling | None:
    """The curves and trends of a table over `--scale`; None for one without, or where no cost differs among sizes."""
    if not table.scale or table.baseline is None:
        return None
    names, sizes = variants_and_sizes([each.first for each in table.configurations], table.scale)
    axis = next((key for key in AXES if _varies(table.configurations, key)), None)
    if axis is None:
        return None
    grid: dict[str, dict[tuple[float, ...], Configuration]] = {}
    for name, size, configuration in zip(names, sizes, table.configurations, strict=True):
        grid.setdefault(name, {})[size] = configuration
    reference = names[list(table.configurations).index(table.baseline)]
    fitted = table.measure.direction == "min"
    variants = [_variant(name, list(found.values()), axis, fitted) for name, found in grid.items()]
    opened = [_trend(name, reference, grid, axis) for name in grid if name != reference]
    return Scaling(axis, variants, _judge([trend for trend in opened if trend is not None]))


def fit(costs: Sequence[float], losses: Sequence[float], spread: Sequence[float] = (), draws: int = DRAWS) -> Curve:
    """The least squares curve through these means.

    Args:
        costs, losses: of each size; at least three sizes.
        spread: standard error of each loss; with it the intervals are drawn.
        draws: of the bootstrap.
    """
    import numpy as np
    from scipy.optimize import least_squares

    cost, loss = np.asarray(costs, float), np.asarray(losses, float)
    reference = float(np.exp(np.log(cost).mean()))
    x = np.log(cost / reference)
    floor, factor, exponent = (float(each[0]) for each in _fit_many(x, loss[None]))
    # From the grid's best to the minimum itself.
    polished = least_squares(
        lambda guess: guess[0] + np.exp(guess[1] - math.exp(guess[2]) * x) - loss,
        [floor, math.log(max(factor, 1e-12)), math.log(exponent)],
        bounds=([-1e-12, -40, math.log(1e-3)], [max(loss.min(), 1e-9), 40, math.log(10)]),
        xtol=1e-14,
        ftol=1e-14,
    ).x
    curve = Curve(reference, max(float(polished[0]), 0.0), math.exp(polished[1]), math.exp(polished[2]))
    if not len(spread):
        return curve
    around = np.asarray(curve(cost)) + np.random.default_rng(0).normal(size=(draws, len(cost))) * np.asarray(spread)
    floors, _, exponents = _fit_many(x, around)

    def ends(drawn: np.ndarray) -> tuple[float, float]:
        low, high = np.quantile(drawn, [ALPHA / 2, 1 - ALPHA / 2])
        return float(low), float(high)

    return replace(curve, floor_ends=ends(floors), exponent_ends=ends(exponents))


def _fit_many(x: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Curves of losses `[draws, sizes]` at x = log(C / C0) `[sizes]`: for each exponent of a grid the other two are linear.

    Returns floors, factors, exponents `[draws]`, the first two at least 0.
    """
    import numpy as np

    exponents = np.geomspace(0.01, 4, 300)
    falls = np.exp(-np.outer(exponents, x))
    centred = falls - falls.mean(1, keepdims=True)
    factor = losses @ centred.T / (centred**2).sum(1)
    floor = losses.mean(1, keepdims=True) - factor * falls.mean(1)
    factor = np.where(floor < 0, losses @ falls.T / (falls**2).sum(1), factor)
    floor = np.where(factor < 0, losses.mean(1, keepdims=True), np.maximum(floor, 0))
    factor = np.maximum(factor, 0)
    error = ((losses[:, None] - floor[..., None] - factor[..., None] * falls) ** 2).sum(2)
    best = error.argmin(1)
    rows = np.arange(len(losses))
    return floor[rows, best], factor[rows, best], exponents[best]


def _varies(configurations: Sequence[Configuration], key: str) -> bool:
    costs = [each.average(key) for each in configurations]
    known = [cost for cost in costs if cost]
    return len(known) == len(costs) and max(known) > 1.5 * min(known)


def _variant(name: str, configurations: list[Configuration], axis: str, fitted: bool) -> Variant:
    costs = [each.average(axis) or math.nan for each in configurations]
    order = sorted(range(len(costs)), key=costs.__getitem__)
    configurations, costs = [configurations[place] for place in order], [costs[place] for place in order]
    if not fitted or len(set(costs)) < FEWEST_SIZES:
        return Variant(name, configurations, costs, None)
    own = noise(each.values.values() for each in configurations)
    spread = [own.sd / math.sqrt(len(each.runs)) for each in configurations] if own else []
    return Variant(name, configurations, costs, fit(costs, [each.mean for each in configurations], spread))


def _trend(
    name: str, reference: str, grid: dict[str, dict[tuple[float, ...], Configuration]], axis: str
) -> Trend | None:
    """The slope of each seed that finished every size of both; None under two sizes in common."""
    mine, theirs = grid[name], grid[reference]
    common = [size for size in mine if size in theirs]
    if len(common) < 2:
        return None
    decades = [math.log10(theirs[size].average(axis) or math.nan) for size in common]
    seeds = set.intersection(*(set(grid[each][size].runs) for each in (name, reference) for size in common))
    slopes, differences = {}, []
    for seed in sorted(seeds):
        own = [mine[size].values[seed] - theirs[size].values[seed] for size in common]
        slopes[seed] = _slope(decades, own)
        differences += own
    slope = paired_difference(slopes, dict.fromkeys(slopes, 0.0))
    return Trend(name, reference, slope, fmean(differences) if differences else 0.0, TOO_FEW)


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    middle = fmean(x)
    weights = [each - middle for each in x]
    squares = sum(weight**2 for weight in weights)
    return sum(weight * value for weight, value in zip(weights, y, strict=True)) / squares if squares else 0.0


def _judge(trends: Sequence[Trend]) -> list[Trend]:
    asked = [trend for trend in trends if trend.slope.p is not None and len(trend.slope.seeds) >= FEWEST_PAIRS]
    corrected = dict(zip(map(id, asked), holm([trend.slope.p or 0.0 for trend in asked]), strict=True))

    def verdict(trend: Trend) -> str:
        p = corrected.get(id(trend))
        if p is None or trend.slope.mean is None:
            return TOO_FEW
        if p >= ALPHA:
            return UNDECIDED
        return GROWS if (trend.slope.mean > 0) == (trend.mean > 0) else SHRINKS

    return [Trend(each.variant, each.baseline, each.slope, each.mean, verdict(each)) for each in trends]
