"""The same variants at several sizes: fitted curves.

A curve is a power law with an offset, L = E + A (C / C0)^-alpha (Hestness et al. 2017; Hoffmann et al. 2022, equation 2 with
one cost): E is what no scale removes, C0 the middle of the costs seen. Its intervals are of a parametric bootstrap: fits of
losses drawn around the curve with the noise of seeds. Whether a difference changes with scale is in `trends`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lab.runs.comparison.compare import Table
from lab.runs.comparison.configurations import Configuration
from lab.runs.comparison.differences import noise
from lab.runs.comparison.trends import AXES, Trend, axis_of
from lab.runs.comparison.verdict import ALPHA

if TYPE_CHECKING:
    import numpy as np

FEWEST_SIZES = 4
DRAWS = 1000


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
    axis = axis_of(table.configurations) if table.scale else None
    if axis is None:
        return None
    fitted = table.measure.direction == "min"
    variants = [_variant(name, list(sizes.values()), axis, fitted) for name, sizes in table.grid.items()]
    return Scaling(axis, variants, table.trends)


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
        bounds=([-1e-12, -40, math.log(1e-3)], [max(loss.max(), 1e-9), 40, math.log(10)]),
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


def _variant(name: str, configurations: list[Configuration], axis: str, fitted: bool) -> Variant:
    costs = [each.average(axis) or math.nan for each in configurations]
    order = sorted(range(len(costs)), key=costs.__getitem__)
    configurations, costs = [configurations[place] for place in order], [costs[place] for place in order]
    if not fitted or len(set(costs)) < FEWEST_SIZES:
        return Variant(name, configurations, costs, None)
    own = noise(each.values.values() for each in configurations)
    spread = [own.sd / math.sqrt(len(each.runs)) for each in configurations] if own else []
    return Variant(name, configurations, costs, fit(costs, [each.mean for each in configurations], spread))
