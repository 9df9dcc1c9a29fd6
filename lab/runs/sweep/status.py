"""How far a sweep is, read from its folder and its study; also while it runs."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.trial import TrialState

from lab.errors import RequestError
from lab.runs import folder as files
from lab.runs.sweep.driver import SWEEP
from lab.runs.sweep.file import SweepFile, read_sweep
from lab.runs.sweep.job import PLAN
from lab.runs.sweep.live import spoken_time
from lab.runs.sweep.plan import Plan, apart
from lab.runs.sweep.storage import JOURNAL, open_database, open_journal

RUNNING, INTERRUPTED, WAITING = "running", "interrupted", "waiting"
GIVEN_UP = "given up"
"""A run that will not be: another seed of its configuration was pruned."""
OPEN = {RUNNING, WAITING}
"""States of a trial that has not ended."""


@dataclass(frozen=True)
class RunStatus:
    """One run: how it ended, or how far it is."""

    folder: str
    overrides: list[str]
    status: str
    value: float | None
    progress: float
    seconds: float | None
    configuration: str | None


@dataclass(frozen=True)
class Status:
    """A sweep.

    Attributes:
        folder: of it.
        name: that its file gives it.
        active: somebody works on it: on this machine, or wherever its database is reached from.
        total: runs that it means to make.
        runs: those that are planned or there.
        metric: what they are valued by.
        best: overrides and mean of the best configuration.
        seconds_left: by what runs took so far, null while none has ended.
        studies: of its storage, with their trials by state and the workers at it.
    """

    folder: str
    name: str
    active: bool
    total: int
    runs: list[RunStatus]
    metric: str | None
    best: dict[str, Any] | None
    seconds_left: float | None
    studies: list[dict[str, Any]]

    @property
    def counts(self) -> Counter[str]:
        """Runs by their status."""
        found = Counter(run.status for run in self.runs)
        found[WAITING] += max(self.total - len(self.runs), 0)
        return +found

    def to_json(self) -> dict[str, Any]:
        """As one document."""
        return asdict(self) | {"counts": dict(self.counts)}

    def print(self) -> None:
        """In words."""
        from rich.console import Console

        out = Console(highlight=False, soft_wrap=True)
        counts = ", ".join(f"{count} {status}" for status, count in self.counts.items())
        out.print(
            f"{self.name} ({self.folder}): {'at work' if self.active else 'nobody works on it here'}", markup=False
        )
        left = "" if not self.seconds_left else f"; {spoken_time(self.seconds_left)} left"
        out.print(f"{self.total} runs: {counts}{left}", markup=False)
        for run in self.runs:
            if run.status in (RUNNING, INTERRUPTED, "stopped"):
                out.print(f"  {run.folder}  {run.status} at {run.progress:.0%}", markup=False)
        if self.best:
            words, seeds = " ".join(self.best["overrides"]), self.best["seeds"]
            over = f"{seeds} seed{'s' * (seeds > 1)}"
            out.print(f"best {self.metric}: {self.best['mean']:.4f} over {over}, {words}", markup=False)
        for study in self.studies:
            states = ", ".join(f"{count} {state}" for state, count in study["trials"].items())
            workers = f"; workers {', '.join(study['workers'])}" if study["workers"] else ""
            out.print(f"study {study['name']}, what workers claim: {states}{workers}", markup=False)


def status(target: str | Path, storage: str | None = None) -> Status:
    """How far a sweep is.

    Args:
        target: its folder, or its file, whose folder is the one under `runs/`.
        storage: the database that it is shared by.

    Raises:
        RequestError: there is no sweep.
    """
    target = Path(target)
    folder = target if target.is_dir() else Path("runs") / target.stem
    if not (folder / SWEEP).is_file():
        raise RequestError(f"{folder}: no sweep there; `lab sweep FILE` makes one")
    described = read_sweep(folder / SWEEP)
    studies = _studies(folder, storage)
    active = _held(folder / ".lock") or (storage is not None and any(study["workers"] for study in studies))
    planned = _planned(folder)
    there = sorted(path.parent.name for path in folder.glob(f"*/{files.CONFIG}"))
    runs = [_run(folder / name, planned.get(name, []), active) for name in dict.fromkeys([*planned, *there])]
    pruned = {_configuration(run) for run in runs if run.status == "pruned"}
    runs = [
        replace(run, status=GIVEN_UP) if run.status == WAITING and _configuration(run) in pruned else run
        for run in runs
    ]
    total = len(runs)  # of a grid the plan names every run, and some of its configurations may need fewer seeds
    if described.method == "bayes" or not planned:
        points = Plan(described).points
        ended = [study["trials"] for study in studies if not OPEN & set(study["trials"])]
        # A search that chose a configuration twice has fewer runs than it could have had.
        if not planned or all(sum(trials.values()) < len(points) for trials in ended):
            total = max(total, sum(len(point.seeds) for point in points))
    metric, maximize = _measure(described, folder, runs)
    return Status(
        folder=str(folder),
        name=described.name or folder.name,
        active=active,
        total=total,
        runs=runs,
        metric=metric,
        best=_best(runs, maximize),
        seconds_left=_left(runs, total),
        studies=studies,
    )


def _configuration(run: RunStatus) -> str:
    """What the folders of a configuration's runs share."""
    return run.folder.rpartition("-seed")[0]


def _held(lock: Path) -> bool:
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def _planned(folder: Path) -> dict[str, list[str]]:
    """The overrides of each run of the plan, by its folder."""
    try:
        plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        return {trial["folder"]: trial["overrides"] for trial in plan}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _run(folder: Path, overrides: list[str], active: bool) -> RunStatus:
    result = files.read_result(folder)
    rows = files.MetricsFile(folder / files.METRICS).read() if folder.exists() else []
    progress = float(rows[-1].get("progress") or 0) if rows else 0.0
    if result is None:
        began = (folder / files.CONFIG).exists()
        state = (RUNNING if active else INTERRUPTED) if began else WAITING
        return RunStatus(folder.name, overrides, state, None, progress, None, None)
    return RunStatus(
        folder.name,
        list(result.get("overrides") or overrides),
        result["status"],
        files.headline_value(result),
        progress if result["status"] == "stopped" else 1.0,
        result.get("seconds"),
        result.get("configuration"),
    )


def _measure(described: SweepFile, folder: Path, runs: list[RunStatus]) -> tuple[str | None, bool]:
    """What the first result says that it is judged by."""
    for run in runs:
        result = files.read_result(folder / run.folder)
        if result and result.get("headline"):
            return result["headline"]["name"], result["headline"]["direction"] == "max"
    return described.metric, described.goal == "maximize"


def _best(runs: list[RunStatus], maximize: bool) -> dict[str, Any] | None:
    values: dict[str, list[float]] = {}
    words: dict[str, list[str]] = {}
    for run in runs:
        if run.status == "finished" and run.value is not None and run.configuration:
            values.setdefault(run.configuration, []).append(run.value)
            words[run.configuration] = list(apart(run.overrides))
    if not values:
        return None
    best = (max if maximize else min)(values, key=lambda name: statistics.fmean(values[name]))
    return {"overrides": words[best], "mean": statistics.fmean(values[best]), "seeds": len(values[best])}


def _left(runs: list[RunStatus], total: int) -> float | None:
    """The mean time of a run for each that is to come, shared by those at work."""
    took = [run.seconds for run in runs if run.seconds and run.status == "finished"]
    if not took:
        return None
    under_way = [run for run in runs if run.status == RUNNING]
    ended = sum(run.status not in (RUNNING, WAITING, INTERRUPTED, "stopped") for run in runs)
    to_come = total - ended - sum(run.progress for run in under_way)
    return statistics.fmean(took) * max(to_come, 0) / max(len(under_way), 1)


def _studies(folder: Path, storage: str | None) -> list[dict[str, Any]]:
    if storage is None and not (folder / JOURNAL).exists():
        return []
    where = open_journal(folder) if storage is None else open_database(storage)
    found = []
    for name in optuna.get_all_study_names(where):
        trials = optuna.load_study(study_name=name, storage=where).get_trials(deepcopy=False)
        states = Counter(trial.state.name.lower() for trial in trials)
        workers = [t.user_attrs.get("worker", "unknown") for t in trials if t.state == TrialState.RUNNING]
        found.append({"name": name, "trials": dict(states), "workers": workers})
    return found
