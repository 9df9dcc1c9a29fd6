"""What a worker needs to know of a sweep: its plan, and where each run goes with which configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lab.atomic import write_atomically
from lab.config import compose, identity, trusted
from lab.errors import RequestError
from lab.runs import folder as files
from lab.runs.comparison.collect import usual_direction
from lab.runs.sweep.hyperband import Hyperband
from lab.runs.sweep.plan import Plan, Point, Trial, apart
from lab.runs.sweep.pruning import Median, Pruning
from lab.runs.sweep.queue import Queue
from lab.runs.sweep.sampler import Sampler
from lab.runs.sweep.storage import is_new, open_database, open_journal, study_names
from lab.runs.sweep.trials import Results

PLAN = "plan.json"
"""Every run of a sweep with its folder, as far as it is known."""

TRIES = 8
"""Configurations looked at to see whether a search can run."""
ENDED = ("finished", "diverged", "pruned", "failed")


@dataclass(frozen=True)
class Planned:
    """A run of a sweep with its folder and its composed configuration.

    Attributes:
        elsewhere: how it ended, by the database that others share; null where that is not known.
    """

    trial: Trial
    folder: Path
    config: DictConfig
    elsewhere: str | None = None

    @property
    def status(self) -> str | None:
        """How it ended, null while it has not run."""
        result = files.read_result(self.folder)
        return self.elsewhere if result is None else result["status"]


class Job:
    """A sweep's plan and its folder.

    Args:
        plan: of the file and the overrides typed beside it.
        folder: of the sweep; each run has its own within.
        threads: of every run that sets none itself, all its ranks together.
        prune: a way of pruning that the command line asks for.

    Raises:
        RequestError: it contradicts the file.
    """

    def __init__(self, plan: Plan, folder: Path, threads: int | None = None, prune: str | None = None) -> None:
        self.plan, self.folder, self.threads, self.prune = plan, folder, threads, prune
        self.pruning = Pruning.of(plan.sweep, prune)
        self._composed: dict[str, tuple[DictConfig, str]] = {}

    def planned(self, point: Point, seed: int) -> Planned:
        """One run. Seeds share a composition.

        Raises:
            RequestError: it cannot be composed; the message names the file.
        """
        trial = self.plan.trial(point.number, point.parameters or {}, seed)
        key = json.dumps(point.parameters, sort_keys=True)
        if key not in self._composed:
            self._composed[key] = self._compose(trial)
        composed, name = self._composed[key]
        config = deepcopy(composed)
        config.seed, config.overrides = trial.seed, trial.overrides
        if config.trainer.threads is None and self.threads is not None:
            config.trainer.threads = max(self.threads // config.trainer.devices, 1)
        number = self._number(trial, name)
        return Planned(trial, self.folder / f"{number:02d}-{name}-seed{trial.seed}", config)

    def _number(self, trial: Trial, name: str) -> int:
        """The number that begins a configuration's folder: that of its runs so far, whatever values stand before it now; of a
        new one its place, or the next that is free.
        """
        key = (frozenset(apart(trial.overrides)), name)  # W&B's server sends them in another order
        if key not in self._numbers:
            taken = set(self._numbers.values())
            place = trial.configuration
            self._numbers[key] = place if place not in taken else next(n for n in count() if n not in taken)
        return self._numbers[key]

    @cached_property
    def _numbers(self) -> dict[tuple[frozenset[str], str], int]:
        """By overrides and name, those of the plan that the folder holds."""
        try:
            trials = json.loads((self.folder / PLAN).read_text(encoding="utf-8"))
            before = [(each["overrides"], *each["folder"].split("-")[:2]) for each in trials]
            return {(frozenset(apart(overrides)), name): int(number) for overrides, number, name in before}
        except (ValueError, TypeError, KeyError, AttributeError, OSError):
            return {}  # there is none yet; a damaged one is refused where it is compared with this one

    def _compose(self, trial: Trial) -> tuple[DictConfig, str]:
        """The configuration of a trial and its seeds, and what it is called among others."""
        try:
            config = compose(*trial.overrides)
        except RequestError as error:
            raise RequestError(f"{self.plan.sweep.path}: {self.plan.sweep.document.located(error)}") from None
        if config.logger.kind == "wandb":
            config.logger.tags = [*config.logger.tags, self.folder.name]
        return config, identity(config)[:6]

    def all_planned(self) -> list[Planned]:
        """Every run that is known before the first one, in the order to run them."""
        points = {point.number: point for point in self.plan.points}
        return [self.planned(points[trial.configuration], trial.seed) for trial in self.plan.trials]

    def example(self) -> Planned:
        """A run of the sweep; of a search one that it may choose, and every value that is written out can be composed.

        Raises:
            RequestError: there is none; nothing that a search draws would run.
        """
        if self.plan.sweep.method != "bayes":
            return self.planned(self.plan.points[0], self.plan.seeds[0])
        draws = list(self.plan.drawn(TRIES))
        found = self._first(draws)
        for name, parameter in self.plan.varied.items():
            for value in parameter.listed:
                self._first([{**one, name: value} for one in ((found.trial.parameters, *draws))])
        return found

    def _first(self, choices: Sequence[Mapping[str, Any]]) -> Planned:
        """Of some configurations the first that can be composed."""
        refused = None
        for parameters in choices:
            chosen = {name: parameters[name] for name in self.plan.space}
            try:
                return self.planned(Point(0, chosen, self.plan.seeds), self.plan.seeds[0])
            except RequestError as error:
                refused = error
        raise refused or RequestError(f"{self.plan.sweep.path}: parameters: nothing to search")

    def check_goal(self) -> None:
        """See that a search does not look for the worst of what is known to be better one way.

        Raises:
            RequestError: it does.
        """
        (metric, maximize), headline = self.measure(), self.headline()
        known = headline["direction"] if metric == headline["name"] else usual_direction(metric)
        if known is None or maximize == (known == "max"):
            return
        better, right = ("more", "maximize") if known == "max" else ("less", "minimize")
        document = self.plan.sweep.document
        asked = document.content["metric"].get("goal", "minimize, as W&B takes it where nothing is said")
        refusal = RequestError(f"metric.goal: {asked}; {better} is better of {metric}: {right}")
        raise RequestError(f"{self.plan.sweep.path}: {document.located(refusal)}")

    def check_pruning(self) -> None:
        """See that runs can be looked at on their way.

        Raises:
            RequestError: they can't, so that nothing would ever be pruned.
        """
        rule, trainer = self.pruning.rule, self.example().config.trainer
        if rule is None:
            return
        asked = "early_terminate" if self.prune is None else f"--prune {self.prune}"
        if trainer.devices > 1:
            raise RequestError(f"{asked}: looks at runs of one device; trainer.devices is {trainer.devices}")
        if isinstance(rule, Median) and len(self.plan.points) <= rule.least:
            raise RequestError(
                f"{asked}: looks at a run beside {rule.least} others; the sweep has {len(self.plan.points)} configurations"
            )
        first = rule.bands[0] if isinstance(rule, Hyperband) else 1
        if self.measure()[0].startswith("val/") and trainer.validations <= first:
            raise RequestError(
                f"{asked}: looks at a run after validation {first} at the earliest, and trainer.validations is"
                f" {trainer.validations}; accepted: more of them"
            )

    def known(self, point: Point) -> Results:
        """What the folders hold of a configuration, by seed."""
        try:
            runs = [self.planned(point, seed) for seed in point.seeds]
        except RequestError:  # said where it is run
            return {}
        found = {run.trial.seed: files.read_result(run.folder) for run in runs}
        return {seed: result for seed, result in found.items() if result and result["status"] in ENDED}

    def measure(self) -> tuple[str, bool]:
        """What configurations are valued by, and whether more of it is better: the file's metric, or the headline."""
        sweep = self.plan.sweep
        if sweep.metric:
            return sweep.metric, sweep.goal == "maximize"
        headline = self.headline()
        return headline["name"], headline["direction"] == "max"

    def headline(self) -> Mapping[str, str]:
        """What the objective is judged by: `name`, `unit`, `direction`."""
        config = self.example().config
        objective: Any = trusted("objective._target_", config.objective._target_)
        return objective.headline

    def check_measured(self, result: Mapping[str, Any]) -> None:
        """See that a run has measured what the file asks for, which it says itself.

        Raises:
            RequestError: it has not, as no other run would.
        """
        metric, document = self.plan.sweep.metric, self.plan.sweep.document
        if metric is not None and result["status"] == "finished" and metric not in result:
            measured = ", ".join(key for key in result if key.startswith(("val/", "train/")))
            refusal = RequestError(f"metric.name: {metric} is nothing that these runs measure; accepted: {measured}")
            raise RequestError(f"{self.plan.sweep.path}: {document.located(refusal)}")

    def open_queue(self, storage: str | None = None) -> Queue:
        """Its study, in its folder or in a database.

        Raises:
            RequestError: it can't be opened.
        """
        metric, maximize = self.measure()
        where = open_journal(self.folder) if storage is None else open_database(storage)
        return Queue(where, self.name, Sampler(self.plan), metric, maximize, self.known, self.pruning)

    def elsewhere(self, storage: str) -> dict[Path, str]:
        """How the runs ended that a database knows of, by their folders here; the database stays as it is.

        Raises:
            RequestError: it can't be opened.
        """
        if is_new(storage) or self.name not in study_names(open_database(storage)):
            return {}
        ended = {}
        for point, results in self.open_queue(storage).results():
            for seed, result in results.items():
                with suppress(RequestError):  # chosen by a search, and its failure
                    ended[self.planned(point, seed).folder] = result["status"]
        return ended

    @property
    def name(self) -> str:
        """Of its study: what is asked, by the name of the file and a digest."""
        return f"{self.plan.sweep.path.stem} {self.plan.digest}"

    def deliver(self, queue: Queue) -> list[Planned]:
        """Every run that is known by now; results that came from elsewhere get a record here."""
        runs = []
        for point, results in queue.results():
            for seed in point.seeds:
                try:
                    run = self.planned(point, seed)
                except RequestError:  # chosen by a search, and its failure
                    continue
                runs.append(run)
                if seed in results and _is_news(results[seed]["status"], run.status):
                    _write_record(run, results[seed])
        return sorted(runs, key=lambda run: (self.plan.seeds.index(run.trial.seed), run.trial.configuration))


def _is_news(status: str, here: str | None) -> bool:
    """Whether the study knows of a run what its folder does not: how it ended, or that it was pruned since."""
    return here not in ENDED or (status == "pruned" != here)


def _write_record(run: Planned, result: Mapping[str, Any]) -> None:
    """The record of a run that was made elsewhere, or whose process died."""
    from lab.runs.train import new_record

    files.create(run.folder)
    try:
        files.write_config(run.folder, run.config)
        record = new_record(run.config) | dict(result)
        write_atomically(run.folder / files.RESULT, json.dumps(record, indent=2) + "\n")
    except OSError as error:
        raise RequestError(f"{run.folder}: cannot be written ({error.strerror or error})") from None
