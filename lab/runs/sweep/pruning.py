"""Fair pruning: a configuration is given up where it falls behind others at the same point with the same seed.

What was pruned is no result: its runs have the status pruned, those that had ended before included, since which of its seeds
are there would depend on how they came out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lab.errors import RequestError
from lab.runs.sweep.file import SweepFile

METHODS = ("median", "wilcoxon")
P = 0.1
MIN_SEEDS = 5
"""Under which the Wilcoxon test over seeds could not end anything before the last."""


class Rule(Protocol):
    """Decides within a run."""

    def ends(self, history: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        """Whether a run ends early, by one value a measurement, lower is better, beside the same of others."""


@dataclass(frozen=True)
class Median:
    """The best so far must not be worse than the median of the others there (Golovin et al. 2017, section 3.2.2).

    Attributes:
        least: others that must have come so far.
    """

    least: int = 5

    def ends(self, history: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        """Whether a run ends early; see `Rule`."""
        there = [other[len(history) - 1] for other in others if len(other) >= len(history)]
        return len(there) >= self.least and min(history) > statistics.median(there)


@dataclass(frozen=True)
class Pruning:
    """How a sweep prunes.

    Attributes:
        rule: within runs, by what they measure on the way.
        over_seeds: between runs, by Wilcoxon's test over the seeds that a configuration shares with the best one.
    """

    rule: Rule | None = None
    over_seeds: bool = False

    @classmethod
    def of(cls, sweep: SweepFile, asked: str | None) -> Pruning:
        """What the file and the command line say together.

        Raises:
            RequestError: they contradict each other, or there is no such method.
        """
        if asked is None:
            return cls(sweep.early_terminate)
        if asked not in METHODS:
            raise RequestError(f"--prune: {asked!r} is no method; accepted: {', '.join(METHODS)}")
        if sweep.early_terminate:
            raise RequestError(f"--prune: {asked} beside early_terminate in {sweep.path}; accepted: one of them")
        if asked == "median":
            return cls(Median())
        seeds = len(sweep.seeds or ())
        if seeds < MIN_SEEDS:
            raise RequestError(
                f"--prune: wilcoxon compares over seeds, and {sweep.path} has {max(seeds, 1)}; accepted: {MIN_SEEDS} or more"
            )
        return cls(None, over_seeds=True)


def behind_over_seeds(mine: Mapping[int, float], best: Mapping[int, float]) -> bool:
    """Whether values by seed, lower is better, are worse than the best configuration's: Wilcoxon's signed-rank test, p < 0.1.

    Optuna's WilcoxonPruner also wants the mean so far to be worse than the best one's over all of its seeds; where seeds
    differ more than configurations do, that is another question.
    """
    from scipy.stats import wilcoxon

    differences = [mine[seed] - best[seed] for seed in mine.keys() & best.keys()]
    if len(differences) < 2 or statistics.fmean(differences) <= 0:
        return False
    return bool(wilcoxon(differences, alternative="greater", zero_method="zsplit").pvalue < P)


class Early:
    """An observer of one run that ends it where the rule says so.

    Args:
        rule: that decides.
        metric: it looks at.
        sign: 1 where lower is better, else -1.
        history: what this run measured before it was continued, by step.
        remember: keeps it.
        others: what runs of other configurations with this seed measured, in the order of steps.
    """

    def __init__(
        self,
        rule: Rule,
        metric: str,
        sign: int,
        history: dict[int, float],
        remember: Callable[[Mapping[int, float]], None],
        others: Callable[[], list[list[float]]],
    ) -> None:
        self.rule, self.metric, self.sign, self.history = rule, metric, sign, history
        self.remember, self.others = remember, others

    def __call__(self, row: Mapping[str, Any]) -> bool:
        """Whether to end the run after this measurement."""
        value = row.get(self.metric)
        if not isinstance(value, int | float) or not math.isfinite(value):
            return False
        self.history[int(row["step"])] = float(value)
        self.remember(self.history)
        mine = [self.sign * self.history[step] for step in sorted(self.history) if step <= row["step"]]
        return self.rule.ends(mine, [[self.sign * value for value in other] for other in self.others()])
