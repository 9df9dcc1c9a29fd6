"""The parameters of a sweep: read from its file, checked, and turned into points of a grid or draws."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lab.errors import RequestError
from lab.runs.sweep.distributions import DISTRIBUTIONS, Distribution, Settings

# As in W&B's schema. None of these characters means something else to Hydra, as "+", "~" and "@" do.
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
MOST_POINTS = 100_000
LARGEST_EXPONENT = 700.0
"""e to that power still is a number."""
SIGMAS = 9.0
"""No draw lies further from the mean."""
SMALLEST_QUANTILE = 2.0**-54


@dataclass(frozen=True)
class Parameter:
    """One parameter of a sweep, under its dotted name."""

    name: str
    distribution: str
    settings: Settings

    @property
    def spread(self) -> Distribution:
        """Its distribution."""
        return DISTRIBUTIONS[self.distribution]

    @property
    def is_constant(self) -> bool:
        """Whether every trial gets the same value."""
        return self.distribution == "constant"

    @property
    def listed(self) -> list[Any]:
        """The values that are written out in the file; none for a range."""
        return [self.settings["value"]] if self.is_constant else self.settings.get("values", [])

    def points(self) -> Sequence[Any]:
        """Every value that a grid takes, in order.

        Raises RequestError where W&B's grid has none either: a continuous range, values with probabilities.
        """
        points = self.spread.points
        if points is None:
            raise RequestError(
                f"parameters.{self.name}: a grid can't be laid over the distribution {self.distribution}; "
                "accepted with method grid: value, values, or the distributions int_uniform and q_uniform"
            )
        if "min" in self.settings:
            count = (self.settings["max"] - self.settings["min"]) / self.settings.get("q", 1)
            if count > MOST_POINTS:
                raise RequestError(
                    f"parameters.{self.name}: {count:.3g} values are too many for a grid; "
                    f"accepted: {MOST_POINTS} at most"
                )
        return as_sent(list(points(self.settings)))

    def draw(self, u: float) -> Any:
        """The value at quantile `u` in [0, 1)."""
        return as_sent(self.spread.quantile(self.settings, max(u, SMALLEST_QUANTILE)))


def read_parameters(tree: Any) -> tuple[dict[str, Parameter], bool]:
    """The parameters under their dotted names, in the file's order, and whether any of them was nested.

    `tree` is what the file has under `parameters`. Raises RequestError naming the key.
    """
    parameters: dict[str, Parameter] = {}
    nested = False
    for name, place, written in _flatten(tree):
        if name in parameters:
            raise RequestError(f"{place}: gives {name} a second time; accepted: once, nested or with dots")
        parameters[name] = _read_parameter(name, place, written)
        nested |= place != f"parameters.{name}"
    return parameters, nested


def as_sent(value: Any) -> Any:
    """The value as W&B's server hands it to an agent: JSON has one kind of number, so 3.0 arrives as 3."""
    if isinstance(value, list):
        return [as_sent(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return int(value)
    return value


def _flatten(tree: Any, prefix: str = "", place: str = "parameters") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each parameter's dotted name, its place in the file, and what is written there."""
    if not isinstance(tree, dict) or not tree:
        raise RequestError(
            f"{place}: {tree!r} leaves nothing to search; accepted: one or more names, "
            "each with value, values, or min and max"
        )
    for name, written in tree.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise RequestError(
                f"{place}: {name!r} can't name a parameter; accepted: a letter, then letters, digits, '_', '.' and '-'"
            )
        here = f"{place}.{name}"
        if not isinstance(written, dict):
            raise RequestError(f"{here}: {written!r} is not a mapping; accepted: value, values, or min and max")
        if "parameters" not in written:
            yield f"{prefix}{name}", here, written
        elif len(written) == 1:
            yield from _flatten(written["parameters"], f"{prefix}{name}.", f"{here}.parameters")
        else:
            others = ", ".join(str(key) for key in written if key != "parameters")
            raise RequestError(f"{here}: has parameters and {others}; accepted: parameters alone")


def _read_parameter(name: str, place: str, written: Settings) -> Parameter:
    settings = {key: value for key, value in written.items() if key != "distribution"}
    kind = written["distribution"] if "distribution" in written else _infer(place, settings)
    distribution = DISTRIBUTIONS.get(kind) if isinstance(kind, str) else None
    if distribution is None:
        known = ", ".join(DISTRIBUTIONS)
        raise RequestError(f"{place}.distribution: {kind!r} is not supported; accepted: {known}")

    accepted = ", ".join([*distribution.required, *distribution.defaults])
    for key, value in settings.items():
        if key not in distribution.required and key not in distribution.defaults:
            raise RequestError(f"{place}.{key}: {value!r} has no meaning for {kind}; accepted keys: {accepted}")
    for key in distribution.required:
        if key not in settings:
            raise RequestError(f"{place}.{key}: is missing; {kind} needs {' and '.join(distribution.required)}")

    settings = {**distribution.defaults, **settings}
    _check_numbers(place, kind, settings)
    _check_values(place, settings)
    for key in settings.keys() & {"value", "values"}:
        settings[key] = as_sent(settings[key])
    return Parameter(name, kind, settings)


def _infer(place: str, settings: Settings) -> str:
    """The distribution that W&B takes when none is named."""
    if "value" in settings:
        return "constant"
    if "values" in settings:
        return "categorical_w_probabilities" if "probabilities" in settings else "categorical"
    if "min" not in settings or "max" not in settings:
        raise RequestError(f"{place}: {dict(settings)!r} gives no values; accepted: value, values, or min and max")
    kinds = {type(settings["min"]), type(settings["max"])}
    if kinds == {int}:
        return "int_uniform"
    if kinds <= {int, float}:
        return "uniform"
    raise RequestError(
        f"{place}: min {settings['min']!r} and max {settings['max']!r} leave the distribution open; "
        "accepted: two numbers (1.0e-3, not 1e-3, which YAML takes for text), or a distribution by name"
    )


def _check_numbers(place: str, kind: str, settings: Settings) -> None:
    whole = kind == "int_uniform"
    for key in ("min", "max", "q", "mu", "sigma", "a", "b"):
        number = settings.get(key, 1)
        if type(number) not in ((int,) if whole else (int, float)) or not math.isfinite(number):
            expected = "a whole number" if whole else "a number (1.0e-3, not 1e-3, which YAML takes for text)"
            raise RequestError(f"{place}.{key}: {number!r} does not fit {kind}; accepted: {expected}")
    for key in ("q", "sigma", "a", "b"):
        if settings.get(key, 1) <= 0:
            raise RequestError(f"{place}.{key}: {settings[key]!r} does not fit {kind}; accepted: a number over 0")
    if "min" in settings and settings["min"] >= settings["max"]:
        raise RequestError(f"{place}.min: {settings['min']!r} is not less than max {settings['max']!r}")
    if kind.endswith("log_uniform_values") and settings["min"] <= 0:
        raise RequestError(f"{place}.min: {settings['min']!r} has no logarithm; accepted: a number over 0")
    if kind.endswith("log_uniform"):
        for key in ("min", "max"):
            if abs(settings[key]) > LARGEST_EXPONENT:
                raise RequestError(
                    f"{place}.{key}: {settings[key]!r} is an exponent of e in {kind}; "
                    f"accepted: from -{LARGEST_EXPONENT:g} to {LARGEST_EXPONENT:g}, or {kind}_values"
                )
    if kind.endswith("log_normal") and abs(settings["mu"]) + SIGMAS * settings["sigma"] > LARGEST_EXPONENT:
        raise RequestError(
            f"{place}.sigma: {settings['sigma']!r} around mu {settings['mu']!r} reaches no finite numbers in {kind}; "
            f"accepted: mu and {SIGMAS:g} sigma of {LARGEST_EXPONENT:g} at most together"
        )


def _check_values(place: str, settings: Settings) -> None:
    values = settings.get("values", [None])
    if not isinstance(values, list) or not values:
        raise RequestError(f"{place}.values: {values!r} leaves nothing to choose; accepted: a list of one or more")
    weights = settings.get("probabilities", [1 / len(values)] * len(values))
    if (
        not isinstance(weights, list)
        or len(weights) != len(values)
        or not all(type(weight) in (int, float) and weight >= 0 for weight in weights)
        or not math.isclose(sum(weights), 1, rel_tol=1e-5)
    ):
        raise RequestError(
            f"{place}.probabilities: {weights!r} does not fit; "
            f"accepted: {len(values)} numbers from 0, one a value, that add up to 1"
        )
