"""Run an experiment: its sweep on fair terms, the stages in which every run is judged again, the verdict on its claim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from lab.atomic import write_atomically
from lab.config import compose
from lab.console import say
from lab.errors import RequestError
from lab.runs.claim import OPEN, Found, check_measured, how, judge, verdict
from lab.runs.comparison.collect import FINISHED, RunRecord, read_runs
from lab.runs.comparison.configurations import key_of
from lab.runs.decoding import measure
from lab.runs.experiment import COMPARE, FILE, Experiment
from lab.runs.fair import Left, fair_sweep, records
from lab.runs.machine import machine_name
from lab.runs.report import Preface, Report
from lab.runs.sweep import Outcome, sweep
from lab.runs.sweep.driver import PAGE, check_same, plan_of
from lab.runs.sweep.file import SweepFile, read_sweep
from lab.runs.sweep.job import PLAN
from lab.runs.sweep.plan import apart, bare, plan
from lab.runs.terms import Terms


@dataclass(frozen=True)
class Ended:
    """What a run of an experiment came to.

    Attributes:
        found: of each statement; empty where it has not come to its end.
        outcome: of its sweep.
    """

    experiment: Experiment
    outcome: Outcome
    found: Sequence[Found] = ()

    @property
    def exit_code(self) -> int:
        """As of a sweep."""
        return self.outcome.exit_code

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return self.experiment.to_json() | {"sweep": self.outcome.to_json()}


def run(
    experiment: Experiment,
    overrides: Sequence[str] = (),
    folder: Path | None = None,
    plan_only: bool = False,
    jobs: int | None = None,
    driver: Callable[..., Outcome] = sweep,
) -> Ended:
    """Run what is missing of an experiment, judge its claim, and write the result beside its file, or where the runs are asked
    to go.

    Args:
        experiment: from `find`.
        overrides: for every trial; they are kept with the result.
        folder: of its runs; by default `runs/experiments/` and its name.
        plan_only: run nothing.
        jobs: as of `lab.sweep`.
        driver: what runs a sweep.

    Raises:
        RequestError: the sweep, a term or a statement is wrong. Nothing has run then.
    """
    experiment = replace(experiment, apart=folder)
    folder = folder or Path("runs/experiments") / experiment.name
    check_rule(experiment, overrides)
    _check_again(experiment, overrides, folder)
    outcome = fair_sweep(
        experiment.sweep,
        overrides,
        folder / COMPARE,
        experiment.terms,
        plan_only,
        jobs=jobs,
        run=driver,
        enough=_left(experiment),
    )
    if plan_only or outcome.stopped or outcome.report is None:
        return Ended(experiment, outcome)
    stages: dict[str | None, Sequence[RunRecord]] = {}
    for name, words in experiment.again.items():
        stage = _again(experiment, overrides, folder, name, words, jobs, driver)
        if stage.stopped:
            return Ended(experiment, stage)
        stages[name] = read_runs([folder / name])
    if experiment.decoding is not None:
        finished = [run.folder for run in read_runs([folder / COMPARE]) if run.status == FINISHED]
        measure(finished, experiment.decoding)
    stages[None] = read_runs([folder / COMPARE])
    check_measured(experiment.rule, stages)
    terms = experiment.terms
    found = judge(experiment.rule, stages, terms.margin, terms.most_seeds, terms.match)
    _write(experiment, found, outcome, overrides, folder)
    outcome.report.preface = _preface(experiment, found)
    outcome.report.write_html(folder / PAGE)
    return Ended(experiment, outcome, found)


def check_rule(experiment: Experiment, overrides: Sequence[str] = ()) -> None:
    """See that each statement is about configurations of the sweep, and about what is measured of them.

    Raises:
        RequestError: one is not.
    """
    known = records(read_sweep(experiment.sweep), overrides)
    for statement in experiment.rule:
        statement.check(known, list(experiment.again), experiment.decoding is not None)


def _check_again(experiment: Experiment, overrides: Sequence[str], folder: Path) -> None:
    """See that each stage's words mean something for every configuration, and are those of its runs so far.

    Raises:
        RequestError: they do not, or are others.
    """
    given = dict.fromkeys(apart(trial.overrides) for trial in plan(read_sweep(experiment.sweep), overrides))
    for name, words in experiment.again.items():
        try:
            for each in given:
                compose(*each, *words)
            if all((folder / place / PLAN).exists() for place in (COMPARE, name)):
                typed = {word for each in plan_of(folder / name) for word in each["overrides"]}
                seeds = [int(word.removeprefix("seed=")) for word in typed if word.startswith("seed=")]
                judged, own = _stage(experiment, overrides, folder / COMPARE, words, sorted(seeds))
                check_same(judged, overrides, folder / name, own)
        except RequestError as error:
            raise RequestError(f"{experiment.folder / FILE}: again: {name}: {error}") from None


def _preface(experiment: Experiment, found: Sequence[Found]) -> Preface:
    """The claim and what came of it, for its page."""
    lines = [(each.outcome, f"{each.statement}; {each.numbers}") for each in found]
    rule = how(len(experiment.rule), experiment.terms.margin, experiment.terms.most_seeds, experiment.terms.match)
    return Preface(experiment.claim, verdict(found), lines, rule)


def _left(experiment: Experiment) -> Callable[[Report], Left | None]:
    """What is left to decide by another seed: of the statements on the headline, of whichever there are else."""
    rule = [each for each in experiment.rule if each.plain]

    def left(report: Report) -> Left | None:
        runs = read_runs(report.folders)
        # The shares of all statements, though only some can be looked at before the last stage.
        found = judge(experiment.rule, {None: runs}, experiment.terms.margin, experiment.terms.most_seeds)
        waiting = [each.statement for each in found if each.statement.plain and each.outcome == OPEN]
        if rule and not waiting:
            return None
        said = f"{len(waiting)} of {len(rule)} statements open"
        if len(rule) < len(experiment.rule):
            return Left(said)  # the others are judged by the seeds that all have
        sides = {side.find(runs) for each in waiting for side in (each.left, each.right)}
        return Left(said, None if None in sides else frozenset(filter(None, sides)))

    return left


def _again(
    experiment: Experiment,
    overrides: Sequence[str],
    folder: Path,
    name: str,
    words: Sequence[str],
    jobs: int | None,
    driver: Callable[..., Outcome],
) -> Outcome:
    """Every run of the seeds that all finished, judged once more with other words and without training."""
    compared = folder / COMPARE
    seeds_of: dict[str, set[int]] = {}
    for each in read_runs([compared]):
        if each.result:
            seeds_of.setdefault(key_of(each), set()).update({each.seed or 0} if each.status == FINISHED else ())
    seeds = sorted(set.intersection(*seeds_of.values()))
    if not seeds:
        raise RequestError(f"again: {compared} holds no seed that all configurations finished")
    say(f"{name}: every run again with {' '.join(words)}")
    judged, own = _stage(experiment, overrides, compared, words, seeds)
    return driver(judged, overrides, folder / name, experiment.terms.baseline, False, False, None, jobs, own)


def _stage(
    experiment: Experiment, overrides: Sequence[str], compared: Path, words: Sequence[str], seeds: Sequence[int]
) -> tuple[SweepFile, dict[str, list[str]]]:
    """The sweep that judges these seeds again, and what each of its configurations has beyond the file: it starts from the run
    that was compared, and trains no step.
    """
    terms = Terms.read(compared) or Terms()

    def more(given: Sequence[str]) -> list[str]:
        own = terms.words.get(bare(given), [])
        budgets = {word.partition("=")[0] for word in [*given, *own] if word.startswith("budget.")} - {"budget.steps"}
        unset = [f"{key}=null" for key in sorted(budgets)]
        return [*own, *words, *unset, "budget.steps=0", f"start={compared}"]

    judged = read_sweep(experiment.sweep).changed({"seed": {"values": list(seeds)}})
    return judged, {bare(trial.overrides): more(trial.overrides) for trial in plan(judged, overrides)}


def _write(
    experiment: Experiment,
    found: Sequence[Found],
    outcome: Outcome,
    overrides: Sequence[str],
    folder: Path,
) -> None:
    """The result, whole or not at all; its day is that of the last run, its time that of all of them."""
    import torch

    terms, runs = Terms.read(outcome.folder) or experiment.terms, read_runs([folder])
    content = {
        "verdict": verdict(found),
        "date": max(run.started for run in runs if run.result).date().isoformat(),
        "machine": machine_name(),
        "torch": str(torch.__version__),
        "seconds": round(sum(run.number("seconds") or 0 for run in runs)),
        "overrides": list(overrides),
        "report": str(folder / PAGE),
        "statements": [each.to_json() for each in found],
        "notes": terms.notes(outcome.report.results, outcome.folder) if outcome.report else [],
    }
    try:
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
        write_atomically(experiment.record, text)
    except OSError as error:
        raise RequestError(f"{experiment.record}: cannot be written ({error.strerror or error})") from None
