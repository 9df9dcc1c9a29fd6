"""Run a sweep file here, without a server: one trial after another in one process, resumable, ending in a report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig

from lab.config import compose, identity
from lab.console import say
from lab.errors import RequestError
from lab.runs import folder as files
from lab.runs.live import Live, spoken_time
from lab.runs.report import Report, report
from lab.runs.signals import Stop
from lab.runs.sweep_file import SweepFile, read_sweep
from lab.runs.sweep_plan import Trial, joined, plan
from lab.runs.train import continue_run, data_module, train

PLAN, SWEEP, PAGE = "plan.json", "sweep.yaml", "report.html"
ENDED = ("finished", "diverged", "pruned", "failed")


@dataclass(frozen=True)
class Planned:
    """A trial with its folder and its composed configuration."""

    trial: Trial
    folder: Path
    config: DictConfig

    @property
    def status(self) -> str | None:
        """How it ended, null while it has not run."""
        result = files.read_result(self.folder)
        return None if result is None else result["status"]


@dataclass
class Outcome:
    """What a sweep came to.

    Attributes:
        folder: of the sweep; each trial has its own within.
        planned: every trial.
        seconds: what remained was estimated to take, before it started.
        report: over all trials that ended; null when only the plan was asked for.
        stopped: by Ctrl-C or SIGTERM.
    """

    folder: Path
    planned: list[Planned]
    seconds: float
    report: Report | None = None
    stopped: bool = False

    @property
    def exit_code(self) -> int:
        """130 stopped, 1 a trial failed, else 0."""
        if self.stopped:
            return 130
        return int(self.report is not None and any(p.status == "failed" for p in self.planned))

    def print(self) -> None:
        """The report, or the plan."""
        from rich.console import Console

        if self.report is not None:
            self.report.print()
            return
        for planned in self.planned:
            Console(soft_wrap=True, highlight=False).print(
                f"{planned.folder}  {planned.status or 'to run'}  {' '.join(planned.trial.argv)}",
                markup=False,
            )

    def to_json(self) -> dict[str, Any]:
        """The same as one document."""
        trials = [
            {
                "folder": str(p.folder),
                "status": p.status,
                "overrides": p.trial.overrides,
                "seed": p.trial.seed,
            }
            for p in self.planned
        ]
        document = {"folder": str(self.folder), "estimated_seconds": self.seconds, "trials": trials}
        return document | {"report": None if self.report is None else self.report.to_json()}


def sweep(
    file: str | Path,
    overrides: Sequence[str] = (),
    folder: str | Path | None = None,
    baseline: str | None = None,
    plan_only: bool = False,
    retry_failed: bool = False,
    own: Mapping[str, Sequence[str]] | None = None,
) -> Outcome:
    """Run what is missing of a sweep, and compare all its trials.

    Args:
        file: a sweep file in W&B's format.
        overrides: for every trial.
        folder: by default `runs/` and the file's name.
        baseline: what the report compares with; see `lab.report`.
        plan_only: run nothing.
        retry_failed: run trials again that failed.
        own: further overrides of a configuration, as `lab.runs.fair` finds them; see `sweep_plan.joined`.

    Raises:
        RequestError: the file, an override, a configuration or the data is wrong, or the folder holds another sweep.
            Nothing has run then.
    """
    from lab.runs.estimate import estimate_seconds

    described = read_sweep(file)
    folder = Path(folder or Path("runs") / Path(file).stem)
    planned = _compose(described, [joined(trial, own or {}) for trial in plan(described, overrides)], folder)
    _same_sweep(folder, planned)
    missing = [p for p in planned if p.status not in ENDED or (retry_failed and p.status == "failed")]
    seconds = estimate_seconds([p.config for p in missing], _measured(planned))
    outcome = Outcome(folder, planned, seconds)
    _say_plan(described, planned, missing, seconds)
    if plan_only:
        return outcome
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise RequestError(
            f"{folder}: another process runs this sweep; wait for it, or name another --folder"
        ) from None
    except OSError as error:
        raise RequestError(f"{folder}: cannot be written ({error.strerror or error})") from None
    with lock:
        _prepare(missing)
        _write_plan(folder, Path(file), planned)
        with (
            Stop("stopping the sweep after this step; Ctrl-C again interrupts at once") as stop,
            Live(described.name or folder.name, planned, missing, seconds) as live,
        ):
            for one in missing:
                _run(one, live)
                if stop():
                    break
        outcome.stopped = stop()
    outcome.report = report([folder], baseline=baseline)
    outcome.report.write_html(folder / PAGE)
    return outcome


def _compose(described: SweepFile, trials: Sequence[Trial], folder: Path) -> list[Planned]:
    """Every trial's configuration, from the strings that the agent would pass. Seeds share a composition."""
    composed: dict[int, DictConfig] = {}
    planned = []
    for trial in trials:
        if trial.configuration not in composed:
            try:
                composed[trial.configuration] = compose(*trial.overrides)
            except RequestError as error:
                raise RequestError(f"{described.path}: {error}") from None
        config = deepcopy(composed[trial.configuration])
        config.seed, config.overrides = trial.seed, trial.overrides
        if config.logger.kind == "wandb":
            config.logger.tags = [*config.logger.tags, folder.name]
        name = f"{trial.configuration:02d}-{identity(config)[:6]}-seed{trial.seed}"
        planned.append(Planned(trial, folder / name, config))
    return planned


def _same_sweep(folder: Path, planned: Sequence[Planned]) -> None:
    """Refuse a folder whose plan is of another sweep. More seeds or more values are the same sweep."""
    path = folder / PLAN
    if not path.exists():
        return
    try:
        before = {tuple(t["overrides"]): t["folder"] for t in json.loads(path.read_text(encoding="utf-8"))}
    except (ValueError, TypeError, KeyError) as error:
        raise RequestError(f"{path}: damaged ({error}); delete it, or name another --folder") from None
    now = {tuple(p.trial.overrides): p.folder.name for p in planned}
    shared = before.keys() & now.keys()
    if not shared:
        raise RequestError(f"{folder}: holds another sweep, no trial is the same; name another --folder")
    for overrides in shared:
        if before[overrides].split("-")[1] != now[overrides].split("-")[1]:
            raise RequestError(
                f"{folder}: {' '.join(overrides)} stands for another configuration than when the sweep began, since files"
                " in conf/ have changed; its results stay as they are, name another --folder"
            )


def _measured(planned: Sequence[Planned]) -> dict[str, float]:
    """Seconds that a trial of each configuration took, where one has finished."""
    known = {}
    for one in planned:
        result = files.read_result(one.folder)
        if result and result["status"] == "finished":
            known[result["configuration"]] = result["seconds"]
    return known


def _say_plan(described: SweepFile, planned: Sequence[Planned], missing: Sequence[Planned], seconds: float) -> None:
    configurations = len({p.trial.configuration for p in planned})
    seeds = len({p.trial.seed for p in planned})
    what = f"{len(planned)} trials, {configurations} configurations with {seeds} seeds"
    done = len(planned) - len(missing)
    if described.nested:
        say(
            f"{described.path}: nested parameters are run here; `wandb agent` would pass them as one text that is no override"
        )
    if not missing:
        say(f"{what}: all done, nothing to run")
    else:
        say(f"{what}; {done} done, {len(missing)} to run: {spoken_time(seconds)}, estimated")


def _prepare(missing: Sequence[Planned]) -> None:
    """Make the tokens of every trial before the first one runs; a wrong data request ends the sweep here."""
    configurations = {one.trial.configuration: one.config for one in missing}
    for config in configurations.values():
        data_module(config)


def _write_plan(folder: Path, file: Path, planned: Sequence[Planned]) -> None:
    trials: list[Mapping[str, Any]] = [
        {"folder": p.folder.name, "overrides": p.trial.overrides, "argv": p.trial.argv} for p in planned
    ]
    try:
        files.write_atomically(folder / SWEEP, file.read_text(encoding="utf-8"))
        files.write_atomically(folder / PLAN, json.dumps(trials, indent=1) + "\n")
    except OSError as error:
        raise RequestError(f"{folder}: cannot be written ({error.strerror or error})") from None


def _run(one: Planned, live: Live) -> None:
    """Run one trial, or what is left of it. A request that turns out wrong is that trial's failure."""
    observers: list[Callable[[Mapping[str, Any]], None]] = [live.observe]
    live.begin(one)
    try:
        if one.status != "failed" and (one.folder / files.CHECKPOINT).exists():
            run = continue_run(one.folder, observers)
        else:
            if one.folder.exists():
                shutil.rmtree(one.folder)  # killed before it left anything to continue from, or failed
            run = train(one.config, one.folder, observers=observers)
        live.end(one, run.result)
    except RequestError as error:
        live.end(one, files.read_result(one.folder) or {"status": "failed", "error": str(error)})
