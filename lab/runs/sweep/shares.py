"""What workers claim in a sweep, and what the trials of a study say of it.

A share is one run, so that seeds of a configuration run side by side. Where something follows from the mean over seeds, as in a
search by values, or from how the seeds before came out, as where configurations are pruned, it is a configuration with all of
its seeds. A trial holds the results of its seeds, and its value is their mean.

Several workers may add a trial for the same share at once, when a sweep begins or when one finds another dead. Of such
twins the first owns the share.
"""

from __future__ import annotations

import statistics
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from lab.runs.sweep.plan import Plan, Point
from lab.runs.sweep.pruning import Pruning, behind_over_seeds
from lab.runs.sweep.trials import Results, are_alike, by_point, has_status, results_of, share_of, standing

NO_PRUNING = Pruning()

CRASHES = 2
"""After so many of its workers have died, a run has failed."""


def shares(plan: Plan, pruning: Pruning = NO_PRUNING) -> list[Point]:
    """What workers claim, in the order to do so: runs, or configurations."""
    if not _by_run(plan, pruning):
        return plan.points
    return [Point(p.number, p.parameters, (seed,)) for seed in plan.seeds for p in plan.points if seed in p.seeds]


def _by_run(plan: Plan, pruning: Pruning) -> bool:
    return plan.sweep.method != "bayes" and pruning == NO_PRUNING


class Shares:
    """The shares of one sweep, beside the trials of its study.

    Args:
        plan: of the sweep.
        metric: what configurations are valued by.
        maximize: whether more of it is better.
        pruning: what ends runs and configurations early.

    Attributes:
        all: of them, in the order to claim them.
        by_run: each is a single run.
    """

    def __init__(self, plan: Plan, metric: str, maximize: bool, pruning: Pruning = NO_PRUNING) -> None:
        self.plan, self.metric, self.maximize, self.pruning = plan, metric, maximize, pruning
        self.all, self.by_run = shares(plan, pruning), _by_run(plan, pruning)
        self._held = {(point.number, point.seeds) for point in self.all}

    @staticmethod
    def chosen(point: Point, trials: list[FrozenTrial]) -> dict[str, Any] | None:
        """The parameters of a configuration, which a search may have chosen since."""
        return next((t.user_attrs["parameters"] for t in trials if "parameters" in t.user_attrs), point.parameters)

    def of(self, point: Point, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Of a configuration's trials those of a share, and of shares that it is a part of."""
        return [t for t in trials if not self.by_run or point.seeds[0] in t.user_attrs["seeds"]]

    def holds(self, trial: FrozenTrial) -> bool:
        """Whether it is a share of this plan; others may want more seeds in the same study."""
        return share_of(trial) in self._held

    def judged(self, results: Results, seeds: tuple[int, ...]) -> tuple[TrialState, float | None]:
        """What a trial's results make of it. What diverged or was pruned teaches a search to stay away."""
        mine = [results[seed] for seed in seeds if seed in results]
        if any(has_status(result, "pruned") for result in mine):
            return TrialState.PRUNED, None
        if len(mine) < len(seeds):
            return TrialState.WAITING, None
        if any(has_status(result, "diverged") for result in mine):
            return TrialState.PRUNED, None
        values = [result.get(self.metric) for result in mine if has_status(result, "finished")]
        numbers = [float(value) for value in values if isinstance(value, int | float)]
        return (TrialState.COMPLETE, statistics.fmean(numbers)) if numbers else (TrialState.FAIL, None)

    def steps(self, results: Results, seeds: tuple[int, ...]) -> dict[int, float]:
        """Values of single seeds, as Optuna's intermediate values."""
        values = {seeds.index(seed): result.get(self.metric) for seed, result in results.items() if seed in seeds}
        return {step: float(value) for step, value in values.items() if isinstance(value, int | float)}

    def owner(self, trials: list[FrozenTrial], seeds: tuple[int, ...]) -> FrozenTrial | None:
        """Of a configuration's trials with these seeds the one that counts: the first of the last attempt."""
        alive = [t for t in trials if tuple(t.user_attrs["seeds"]) == seeds and not self._is_dead(t)]
        return min(alive, key=lambda t: (-t.user_attrs["attempt"], t.number), default=None)

    def _is_dead(self, trial: FrozenTrial) -> bool:
        """Whether it ended without its answer: by its worker's death, or as a twin."""
        answer, _ = self.judged(results_of(trial), tuple(trial.user_attrs["seeds"]))
        return trial.state == TrialState.FAIL != answer

    def turn(self, trial: FrozenTrial) -> tuple[int, int]:
        """What claims are sorted by: the smallest comes first."""
        number, seeds = share_of(trial)
        if self.by_run:
            return self.plan.seeds.index(seeds[0]), number
        done = len(results_of(trial))
        breadth = self.plan.breadth_first and not self.pruning.over_seeds
        return (done if breadth else -done), number

    def fatal(self, trials: list[FrozenTrial], attempt: int) -> Results:
        """Runs of a configuration that have failed, since in this attempt too many workers died of them."""
        deaths: dict[int, list[str]] = {}
        for trial in trials:
            mine = trial.user_attrs
            if mine["attempt"] == attempt and "worker" in mine and "blameless" not in mine and self._is_dead(trial):
                done = results_of(trial)
                seed = next((seed for seed in mine["seeds"] if seed not in done), None)
                if seed is not None:
                    deaths.setdefault(seed, []).append(mine.get("death", "gave no sign of life"))
        return {
            seed: {"status": "failed", "error": f"its process {how[-1]}, {len(how)} times", "seed": seed}
            for seed, how in deaths.items()
            if len(how) >= CRASHES
        }

    def is_behind(self, results: Results, trials: list[FrozenTrial]) -> bool:
        """Whether a configuration with these results is to be pruned, being worse than the best one over the same seeds."""
        complete = [t for t in trials if t.state == TrialState.COMPLETE and t.value is not None and self.holds(t)]
        if not complete:
            return False
        best = (max if self.maximize else min)(complete, key=lambda t: t.value or 0.0)
        sign = -1 if self.maximize else 1
        mine, theirs = (
            {seed: sign * value for seed, result in each.items() if isinstance(value := result.get(self.metric), float)}
            for each in (results, results_of(best))
        )
        return behind_over_seeds(mine, theirs)

    def results(self, trials: list[FrozenTrial]) -> list[tuple[Point, Results]]:
        """Every configuration that is known by now, with its results as far as there are any."""
        found, of_point = [], by_point(trials)
        for point in self.plan.points:
            known = [t for t in of_point.get(point.number, []) if "parameters" in t.user_attrs]
            if known:
                last = max(known, key=lambda t: t.number)
                chosen = Point(point.number, last.user_attrs["parameters"], point.seeds)
                found.append((chosen, standing([t for t in known if are_alike(t, last)])))
        return found
