"""What trials of a study hold: which share of a sweep each is, and what its runs came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

Results = dict[int, dict[str, Any]]
"""By seed."""


def share_of(trial: FrozenTrial) -> tuple[int, tuple[int, ...]]:
    """The number of its configuration, and its seeds."""
    return trial.user_attrs["point"], tuple(trial.user_attrs["seeds"])


def are_alike(one: FrozenTrial, other: FrozenTrial) -> bool:
    """Whether they are of the same configuration, which a search may choose twice."""
    chosen = one.user_attrs.get("parameters")
    return chosen is not None and chosen == other.user_attrs.get("parameters")


def is_run_elsewhere(trial: FrozenTrial, trials: list[FrozenTrial]) -> bool:
    """Whether a run of it is under way in another trial: of a search that chose the same, or of a worker with other seeds."""
    seeds = set(trial.user_attrs["seeds"]) - results_of(trial).keys()
    return any(
        t.state == TrialState.RUNNING
        and t.number != trial.number
        and are_alike(t, trial)
        and seeds & (set(t.user_attrs["seeds"]) - results_of(t).keys())
        for t in trials
    )


def results_of(trial: FrozenTrial) -> Results:
    """What the runs of a trial came to."""
    return {int(k.removeprefix("result/")): v for k, v in trial.user_attrs.items() if k.startswith("result/")}


def history_of(trial: FrozenTrial, key: str) -> dict[int, float]:
    """What a run measured on its way, in the order of its steps."""
    return dict(sorted((int(step), value) for step, value in trial.user_attrs.get(key, {}).items()))


def gathered(trials: list[FrozenTrial]) -> Results:
    """The last that is known of each seed."""
    return {seed: result for trial in trials for seed, result in results_of(trial).items()}


def standing(trials: list[FrozenTrial]) -> Results:
    """The same, of the last attempt at each seed, which began with all that was to be kept of those before."""
    latest: dict[int, int] = {}
    for trial in trials:
        for seed in trial.user_attrs["seeds"]:
            latest[seed] = max(latest.get(seed, 0), trial.user_attrs["attempt"])
    return {
        seed: result
        for trial in trials
        for seed, result in results_of(trial).items()
        if trial.user_attrs["attempt"] == latest.get(seed, 0)
    }


def has_status(result: Mapping[str, Any], status: str) -> bool:
    """Whether a run ended so."""
    return result["status"] == status


def by_point(trials: list[FrozenTrial]) -> dict[int, list[FrozenTrial]]:
    """Trials by the number of their configuration."""
    found: dict[int, list[FrozenTrial]] = {}
    for trial in trials:
        found.setdefault(trial.user_attrs["point"], []).append(trial)
    return found
