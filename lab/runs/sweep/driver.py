"""Run a sweep file here, without a server: resumable, ending in a report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lab.atomic import write_atomically
from lab.console import say
from lab.effect import say_without_effect
from lab.errors import RequestError
from lab.runs import folder as files
from lab.runs import machine
from lab.runs.code import KEY, changed, code
from lab.runs.comparison import labels
from lab.runs.report import Report, report
from lab.runs.sweep.engine import work
from lab.runs.sweep.file import SweepFile, read_sweep
from lab.runs.sweep.job import ENDED, PLAN, Job, Planned
from lab.runs.sweep.live import Live, spoken_time
from lab.runs.sweep.plan import Plan, apart, bare
from lab.runs.sweep.pruning import Pruning
from lab.runs.sweep.shares import shares
from lab.runs.sweep.stop import SweepStop
from lab.runs.sweep.trials import has_status
from lab.runs.sweep.workers import wait_for_orphans, work_together
from lab.runs.train import data_module

SWEEP, PAGE = "sweep.yaml", "report.html"


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
    seconds: float | None
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
        if self.report is not None or self.stopped:
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
    file: str | Path | SweepFile,
    overrides: Sequence[str] = (),
    folder: str | Path | None = None,
    baseline: str | None = None,
    plan_only: bool = False,
    retry_failed: bool = False,
    storage: str | None = None,
    jobs: int | None = None,
    own: Mapping[str, Sequence[str]] | None = None,
    fewer: Mapping[str, int] | None = None,
    prune: str | None = None,
    online: bool = False,
    join: str | None = None,
) -> Outcome:
    """Run what is missing of a sweep, and compare all its trials.

    Args:
        file: a sweep file in W&B's format, or one that was read.
        overrides: for every trial.
        folder: by default `runs/` and the file's name.
        baseline: what the report compares with; see `lab.report`.
        plan_only: run nothing.
        retry_failed: run trials again that failed.
        storage: URL of a database that several machines share the sweep by; by default a file in the folder.
        jobs: processes that run trials at once, dividing the threads; by default this one alone.
        own: what configurations have beyond the file, see `Plan`; the same each time.
        fewer: configurations that need fewer seeds than the file lists, see `Plan`.
        prune: `median` ends runs that fall behind those with the same seed, `wilcoxon` configurations that fall behind
            over seeds; a file's `early_terminate` needs no word.
        online: let W&B's server choose the runs, and run its agent in this process.
        join: the same for a sweep that is on the server: ID, PROJECT/ID or ENTITY/PROJECT/ID.

    Raises:
        RequestError: the file, an override, a configuration or the data is wrong, the folder holds another sweep, or the
            storage can't be reached. Nothing has run then, or what has run is kept.
    """
    from lab.runs.estimate import estimate_seconds

    if jobs is not None and jobs < 1:
        raise RequestError(f"--jobs: {jobs}; accepted: a whole number from 1")
    if (online or join) and (storage or jobs or prune or retry_failed):
        raise RequestError(
            "--online: W&B's server says what runs; --storage, --jobs, --prune and --retry-failed go without"
        )
    described = file if isinstance(file, SweepFile) else read_sweep(file)
    folder = Path(folder or Path("runs") / described.path.stem)
    plan = Plan(described, overrides, own, fewer)
    most = len(shares(plan, Pruning.of(described, prune)))
    if jobs is not None and jobs > most:
        runs = sum(len(point.seeds) for point in plan.points)
        what = "a configuration runs one seed at a time" if most < runs else "there are no more runs"
        say(f"--jobs: {most} of {jobs}; {what}")
        jobs = most
    share = max(machine.cores() // (jobs or 1), 1)
    job = Job(plan, folder, share, prune)
    planned = job.all_planned()
    example = job.example()
    job.check_goal()
    job.check_pruning()
    _same_sweep(folder, planned, job)
    elsewhere = job.elsewhere(storage) if storage else {}
    planned = [replace(one, elsewhere=elsewhere.get(one.folder)) for one in planned]
    missing = _missing(planned, retry_failed)
    to_come = [p.config for p in missing] or [example.config] * _to_search(job, elsewhere)
    results = {one.folder: result for one in planned if (result := files.read_result(one.folder))}
    seconds = estimate_seconds(to_come, _measured(results.values()))
    at_once = max(1, min(jobs or 1, len(to_come)))
    outcome = Outcome(folder, planned, None if seconds is None else seconds / at_once)
    _say_changed(planned, results)
    _say_plan(job, planned, missing, outcome.seconds)
    if plan_only:
        return outcome
    if online or join:
        return _online(outcome, job, example, join, baseline)
    with _alone(folder, storage):
        _prepare(missing or [example])
        write_plan(job, planned)
        queue = job.open_queue(storage)
        if storage is None:
            wait_for_orphans(folder)
            queue.end_running()  # whoever ran them is gone
        queue.fill()  # what has ended, before it is asked what of it is to be made anew
        queue.fill(lambda point, seed, result: _again(job.planned(point, seed), result, retry_failed, storage is None))
        job.threads = queue.threads(share)
        if missing or not planned:
            _say_threads(job, share, jobs or 1)
        known = planned or job.deliver(queue)  # of a search what it has chosen
        with (
            SweepStop() as stop,
            Live(described.name or folder.name, job, known, missing, outcome.seconds, queue.shares.maximize) as live,
        ):
            if jobs is None:
                work(job, queue, stop, live)
            elif queue.left():
                work_together(job, queue, stop, live, jobs, storage)
        outcome.planned = job.deliver(queue)
        write_plan(job, outcome.planned)
        outcome.stopped = stop.finishing
        if queue.left() and queue.reached():
            say(f"{job.measure()[0]} has reached the target of {described.target}: no further run")
    return _reported(outcome, baseline)


def _again(run: Planned, result: Mapping[str, Any], retry_failed: bool, here: bool) -> bool:
    """Whether a run is made anew: it has failed, which is asked for; or it was made here, and its record was deleted."""
    return (retry_failed and has_status(result, "failed")) or (here and files.read_result(run.folder) is None)


def _online(outcome: Outcome, job: Job, example: Planned, join: str | None, baseline: str | None) -> Outcome:
    """Run what W&B's server sends."""
    from lab.runs.sweep.online import AgentStop, check_online, work_online

    check_online(job)
    with _alone(outcome.folder, None):
        _prepare([example])
        write_plan(job, outcome.planned)
        title, (_, maximize) = job.plan.sweep.name or outcome.folder.name, job.measure()
        with (
            AgentStop() as stop,
            Live(title, job, outcome.planned, outcome.planned, outcome.seconds, maximize) as live,
        ):
            ran = work_online(job, stop, live, join)
        outcome.planned = list({run.folder: run for run in (*outcome.planned, *ran)}.values())
        outcome.stopped = stop.finishing
    return _published(_reported(outcome, baseline))


def _published(outcome: Outcome) -> Outcome:
    """Its report in W&B too. The runs stay as they are where it can't be made, and it can be made later."""
    assert outcome.report is not None
    try:
        outcome.report.publish()
    except RequestError as error:
        say(f"{error}. Made later by: lab report {outcome.folder} --wandb")
    return outcome


def _reported(outcome: Outcome, baseline: str | None) -> Outcome:
    if outcome.stopped and not any(outcome.folder.glob(f"*/{files.RESULT}")):
        return outcome  # before anything ran
    outcome.report = report([outcome.folder], baseline=baseline)
    outcome.report.write_html(outcome.folder / PAGE)
    return outcome


@contextmanager
def _alone(folder: Path, storage: str | None) -> Iterator[None]:
    """One sweep at a time in a folder, unless a database tells workers apart."""
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if storage is None:
            lock.acquire(timeout=0)
    except Timeout:
        raise RequestError(
            f"{folder}: another process runs this sweep; wait for it, or name another --folder"
        ) from None
    except OSError as error:
        raise RequestError(f"{folder}: cannot be written ({error.strerror or error})") from None
    try:
        yield
    finally:
        lock.release()


def _to_search(job: Job, elsewhere: Iterable[Path]) -> int:
    """Runs that a search has not made yet, by the folders here and those of runs made elsewhere."""
    if job.plan.sweep.method != "bayes":
        return 0
    done = {path.parent for path in job.folder.glob(f"*/{files.RESULT}")}.union(elsewhere)
    return max(sum(len(point.seeds) for point in job.plan.points) - len(done), 0)


def check_same(described: SweepFile, overrides: Sequence[str], folder: Path, own: Mapping[str, Sequence[str]]) -> None:
    """See that a folder holds this sweep or none, before anything else runs. Arguments as of `sweep`.

    Raises:
        RequestError: it holds another one.
    """
    job = Job(Plan(described, overrides, own), folder)
    _same_sweep(folder, job.all_planned(), job)


def _same_sweep(folder: Path, planned: Sequence[Planned], job: Job) -> None:
    """Refuse a folder whose plan is of another sweep. More seeds, and more or fewer values, are the same sweep."""
    path = folder / PLAN
    if not path.exists():
        return
    if job.plan.sweep.method == "bayes":
        _same_search(folder, job)
        return
    before = {tuple(each["overrides"]): each["folder"] for each in plan_of(folder)}
    now = {tuple(p.trial.overrides): p.folder.name for p in planned}
    shared = before.keys() & now.keys()
    if not shared:
        raise RequestError(f"{folder}: holds another sweep, no trial is the same; name another --folder")
    old, new = ({bare(overrides) for overrides in each} for each in (before, now))
    if old - new and new - old:
        raise RequestError(
            f"{folder}: holds another sweep, one with {min(old - new)} and without {min(new - old)}; name another --folder"
        )
    for overrides in shared:
        if before[overrides].split("-")[1] != now[overrides].split("-")[1]:
            raise RequestError(
                f"{folder}: {' '.join(overrides)} stands for another configuration than when the sweep began, since files"
                " in conf/ have changed; its results stay as they are, name another --folder"
            )


def plan_of(folder: Path) -> list[dict[str, Any]]:
    """The runs that a sweep has planned, or a search chosen: `overrides` and `folder` of each.

    Raises:
        RequestError: the plan is damaged.
    """
    path = folder / PLAN
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [{"overrides": each["overrides"], "folder": each["folder"]} for each in found]
    except (ValueError, TypeError, KeyError) as error:
        raise RequestError(f"{path}: damaged ({error}); delete it, or name another --folder") from None


def _fixed(overrides: Sequence[str], job: Job) -> frozenset[str]:
    """Of the overrides of a search's run those that all of its runs have."""
    return frozenset(apart(overrides, *job.plan.varied))


def _same_search(folder: Path, job: Job) -> None:
    """The same for a search by values, whose configurations follow from each other."""
    try:
        before = Plan(read_sweep(folder / SWEEP), job.plan.overrides).digest
    except RequestError:
        before = None
    fixed = {_fixed(each["overrides"], job) for each in plan_of(folder)}
    if before != job.plan.digest or fixed - {_fixed(job.example().trial.overrides, job)}:
        raise RequestError(f"{folder}: holds another sweep, with another space or method; name another --folder")


def _missing(planned: Sequence[Planned], retry_failed: bool) -> list[Planned]:
    """What is still to run. A configuration of which a run was pruned is given up with all of its seeds."""
    given_up = {one.trial.configuration for one in planned if one.status == "pruned"}
    return [
        one
        for one in planned
        if (one.status not in ENDED and one.trial.configuration not in given_up)
        or (retry_failed and one.status == "failed")
    ]


def _measured(results: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds that a trial of each configuration took, where one has finished."""
    return {each["configuration"]: each["seconds"] for each in results if each["status"] == "finished"}


def _say_plan(job: Job, planned: Sequence[Planned], missing: Sequence[Planned], seconds: float | None) -> None:
    described, seeds = job.plan.sweep, len(job.plan.seeds)
    if described.nested:
        say(
            f"{described.path}: nested parameters are run here; `wandb agent` would pass them as one text that is no override, "
            "unless the command has ${args_json}"
        )
    headline = job.headline()["name"]
    if described.metric not in (None, headline, "val/loss"):
        say(
            f"metric.name: {described.metric}; these runs are judged by {headline}, and whether they measure this is seen when "
            "the first has ended"
        )
    say_without_effect({one.trial.configuration: one.config for one in planned}.values())
    if not planned:
        if seconds == 0:
            say(f"{len(job.plan.points)} configurations searched with {seeds} seeds: all done, nothing to run")
            return
        say(f"{len(job.plan.points)} configurations to search with {seeds} seeds: {spoken_time(seconds)}, estimated")
        return
    configurations = len({p.trial.configuration for p in planned})
    what = f"{len(planned)} trials, {configurations} configurations with {len({p.trial.seed for p in planned})} seeds"
    done = len(planned) - len(missing)
    if not missing:
        say(f"{what}: all done, nothing to run")
    else:
        say(f"{what}; {done} done, {len(missing)} to run: {spoken_time(seconds)}, estimated")


def _say_changed(planned: Sequence[Planned], results: Mapping[Path, Mapping[str, Any]]) -> None:
    """Say which code is another than that of the runs that are there."""
    now: dict[int, dict[str, str]] = {}
    modules, runs = set(), 0
    for one in planned:
        if result := results.get(one.folder):
            mine = now.setdefault(one.trial.configuration, code(one.config))
            found = changed([result, {KEY: mine}])
            modules.update(found)
            runs += bool(found)
    if modules:
        say(
            f"the code of {labels.listing(sorted(modules))} has changed since {runs} of these runs, which stay as they are and "
            "are no replicates of what is run now; another --folder begins anew"
        )


def _say_threads(job: Job, share: int, jobs: int) -> None:
    """How the cores are shared; numbers depend on that in their last digits."""
    threads = "1 thread" if job.threads == 1 else f"{job.threads} threads"
    at_once = f"{jobs} runs at once, " if jobs > 1 else ""
    if job.threads != share:
        say(f"{at_once}{threads} a run, with which this sweep began, so that its numbers stay comparable")
    elif jobs > 1:
        say(f"{at_once}{threads} a run")


def _prepare(missing: Sequence[Planned]) -> None:
    """Make the tokens of every trial before the first one runs; a wrong data request ends the sweep here."""
    configurations = {one.trial.configuration: one.config for one in missing}
    for config in configurations.values():
        data_module(config)


def write_plan(job: Job, planned: Sequence[Planned]) -> None:
    """Keep the sweep's file and its runs, as far as they are known, in its folder.

    Raises:
        RequestError: it can't be written.
    """
    trials: list[Mapping[str, Any]] = [
        {"folder": p.folder.name, "overrides": p.trial.overrides, "argv": p.trial.argv} for p in planned
    ]
    folder = job.folder
    try:
        write_atomically(folder / SWEEP, job.plan.sweep.document.text)
        write_atomically(folder / PLAN, json.dumps(trials, indent=1) + "\n")
    except OSError as error:
        raise RequestError(f"{folder}: cannot be written ({error.strerror or error})") from None
