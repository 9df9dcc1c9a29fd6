"""A value of its own for each variant, found by the same number of trials for all, before seeds are spent.

One learning rate for all variants favours the one that it happens to suit; the best of a few for each does not (Choi et
al. 2019, "On Empirical Comparisons of Optimizers for Deep Learning", section 4). The trials have a seed of their own, so
that the value is not chosen by the very numbers that are then compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lab.errors import RequestError
from lab.runs.comparison.collect import FINISHED, RunRecord

SEED = 1_000_000
"""Of the trials; comparisons use seeds under it."""


@dataclass(frozen=True)
class Tuning:
    """What is tuned: a key, and the values that every variant tries, rising."""

    key: str
    values: tuple[float, ...]

    @classmethod
    def read(cls, text: str) -> Tuning:
        """`optimizer.lr=0.001,0.003,0.01`, or `optimizer.lr=0.001..0.01:5` for five from end to end, in equal ratios.

        Raises:
            RequestError: it is neither, or there are fewer than two values.
        """
        key, equals, written = text.partition("=")
        low, dots, rest = written.partition("..")
        try:
            if not (key and equals):
                raise ValueError
            if dots:
                high, _, trials = rest.partition(":")
                values = _spread(float(low), float(high), int(trials))
            else:
                values = sorted({float(value) for value in written.split(",")})
            if len(values) < 2 or not all(map(math.isfinite, values)):
                raise ValueError
        except ValueError:
            raise RequestError(
                f"tune: {text!r}; write KEY=VALUE,VALUE,... or KEY=LOW..HIGH:TRIALS, two values or more, as in "
                "optimizer.lr=0.001..0.01:4"
            ) from None
        return cls(key, tuple(values))

    @property
    def words(self) -> list[str]:
        """As Hydra reads them."""
        return [f"{value:.6g}" for value in self.values]

    def on_edge(self, value: str) -> bool:
        """Whether a better one may lie beyond."""
        return value in (self.words[0], self.words[-1])


def _spread(low: float, high: float, trials: int) -> list[float]:
    """So many values from low to high, each as many times the one before."""
    if not (0 < low < high and trials >= 2):
        raise ValueError
    values = [low * (high / low) ** (place / (trials - 1)) for place in range(trials)]
    return [float(f"{value:.3g}") for value in values[:-1]] + [high]


@dataclass(frozen=True)
class Choice:
    """The value of a variant.

    Attributes:
        value: the best, as Hydra reads it; the lowest where no trial finished.
        reached: value -> what its trial reached in the measure, None where it did not finish.
        edge: the best is the lowest or the highest that was tried.
    """

    value: str
    reached: dict[str, float | None]
    edge: bool


def choose(tuning: Tuning, runs: Sequence[RunRecord], variant: Callable[[RunRecord], str]) -> dict[str, Choice]:
    """The best value of each variant, by the headline measure of the trials.

    Args:
        tuning: what was tried.
        runs: the trials, each of which overrides the key.
        variant: names what a trial is a trial of.
    """
    tried: dict[str, dict[str, RunRecord]] = {}
    for run in runs:
        value = next(word.partition("=")[2] for word in run.overrides if word.startswith(f"{tuning.key}="))
        tried.setdefault(variant(run), {})[f"{float(value):.6g}"] = run
    return {name: _best(tuning, trials) for name, trials in tried.items()}


def _best(tuning: Tuning, trials: dict[str, RunRecord]) -> Choice:
    reached = {word: _reached(trials.get(word)) for word in tuning.words}
    known = {word: value for word, value in reached.items() if value is not None}
    if not known:
        return Choice(tuning.words[0], reached, True)
    sign = {"min": 1, "max": -1}[next(run for run in trials.values() if run.status == FINISHED).measure.direction]
    best = min(known, key=lambda word: sign * known[word])
    return Choice(best, reached, tuning.on_edge(best))


def _reached(run: RunRecord | None) -> float | None:
    return None if run is None or run.status != FINISHED else run.value
