"""The distributions of W&B's sweeps: the keys that each takes, its quantile function, and what a grid or a search sees of it.

Names and keys are those of W&B's sweep schema, and so is what they mean
(https://docs.wandb.ai/models/sweeps/sweep-config-keys): values are drawn by inverse transform, quantised ones are the
nearest multiple of q, which may lie up to q/2 outside a range.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy

Settings = Mapping[str, Any]
Quantile = Callable[[Settings, float], Any]


class Range(NamedTuple):
    """What a search moves in: values from low to high, evenly over their logarithms, or in steps."""

    low: float
    high: float
    log: bool = False
    step: float | None = None


@dataclass(frozen=True)
class Distribution:
    """How values are spread.

    Attributes:
        required: keys that must be given.
        quantile: the value at u in (0, 1).
        defaults: keys that may be given.
        points: every value, where they can be counted.
        range: where an even spread, or one over logarithms, says as much; else a search moves over u.
    """

    required: tuple[str, ...]
    quantile: Quantile
    defaults: Settings = field(default_factory=dict)
    points: Callable[[Settings], Sequence[Any]] | None = None
    range: Callable[[Settings], Range] | None = None


def quantised(quantile: Quantile) -> Quantile:
    """The nearest multiples of q."""
    return lambda s, u: round(quantile(s, u) / s["q"]) * s["q"]


def _uniform(settings: Settings, u: float) -> float:
    return settings["min"] + u * (settings["max"] - settings["min"])


def _whole(settings: Settings, u: float) -> int:
    return settings["min"] + int(u * (settings["max"] - settings["min"] + 1))


def _exponential(settings: Settings, u: float) -> float:
    return math.exp(_uniform(settings, u))


def _logarithms(settings: Settings) -> Settings:
    return {**settings, "min": math.log(settings["min"]), "max": math.log(settings["max"])}


def _log_uniform_values(settings: Settings, u: float) -> float:
    return _exponential(_logarithms(settings), u)


def _inverse(settings: Settings, u: float) -> float:
    """1/x of an x whose logarithm is even from min to max."""
    return 1 / _exponential(settings, 1 - u)


def _normal(settings: Settings, u: float) -> float:
    return NormalDist(settings["mu"], settings["sigma"]).inv_cdf(u)


def _log_normal(settings: Settings, u: float) -> float:
    return math.exp(_normal(settings, u))


def _beta(settings: Settings, u: float) -> float:
    from scipy.special import betaincinv

    return float(betaincinv(settings["a"], settings["b"], u))


def _weighted(settings: Settings, u: float) -> Any:
    cumulative = list(itertools.accumulate(settings["probabilities"]))
    last = len(cumulative) - 1  # the sum may round to less than 1
    return settings["values"][bisect.bisect_right(cumulative, u, hi=last)]


def _steps(settings: Settings) -> list[Any]:
    """From min in steps of q, max excluded, as W&B's grid counts them."""
    return numpy.arange(settings["min"], settings["max"], settings["q"]).tolist()


def _even(settings: Settings) -> Range:
    return Range(settings["min"], settings["max"])


def _even_steps(settings: Settings) -> Range:
    low, high = (quantised(_uniform)(settings, end) for end in (0.0, 1.0))
    return Range(low, high, step=settings["q"])


def _even_logarithms(settings: Settings) -> Range:
    return Range(settings["min"], settings["max"], log=True)


def _even_exponents(settings: Settings) -> Range:
    return Range(math.exp(settings["min"]), math.exp(settings["max"]), log=True)


def _even_inverse_exponents(settings: Settings) -> Range:
    return Range(math.exp(-settings["max"]), math.exp(-settings["min"]), log=True)


ENDS = ("min", "max")
STEP = {"q": 1.0}
BELL = {"mu": 0.0, "sigma": 1.0}
SHAPE = {"a": 1.0, "b": 1.0}

DISTRIBUTIONS = {
    "constant": Distribution(("value",), lambda s, u: s["value"], points=lambda s: [s["value"]]),
    "categorical": Distribution(
        ("values",), lambda s, u: s["values"][int(u * len(s["values"]))], points=lambda s: s["values"]
    ),
    "categorical_w_probabilities": Distribution(("values", "probabilities"), _weighted),
    "int_uniform": Distribution(
        ENDS,
        _whole,
        points=lambda s: range(s["min"], s["max"] + 1),
        range=lambda s: Range(s["min"], s["max"], step=1),
    ),
    "uniform": Distribution(ENDS, _uniform, range=_even),
    "q_uniform": Distribution(ENDS, quantised(_uniform), STEP, _steps, _even_steps),
    "log_uniform": Distribution(ENDS, _exponential, range=_even_exponents),
    "log_uniform_values": Distribution(ENDS, _log_uniform_values, range=_even_logarithms),
    "q_log_uniform": Distribution(ENDS, quantised(_exponential), STEP),
    "q_log_uniform_values": Distribution(ENDS, quantised(_log_uniform_values), STEP),
    "inv_log_uniform": Distribution(ENDS, _inverse, range=_even_inverse_exponents),
    # The logarithm of 1/x is even where that of x is.
    "inv_log_uniform_values": Distribution(ENDS, _log_uniform_values, range=_even_logarithms),
    "normal": Distribution((), _normal, BELL),
    "q_normal": Distribution((), quantised(_normal), STEP | BELL),
    "log_normal": Distribution((), _log_normal, BELL),
    "q_log_normal": Distribution((), quantised(_log_normal), STEP | BELL),
    "beta": Distribution((), _beta, SHAPE),
    "q_beta": Distribution((), quantised(_beta), STEP | SHAPE),
}
