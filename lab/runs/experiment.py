"""An experiment: a question, the claim as people state it, the sweep that tests it, the rule of its verdict, and the result.

experiments/NAME/experiment.yaml    all but the result, written before there is one
experiments/NAME/result.yaml        what came out, when, on which machine; written by `lab experiment NAME`
experiments/NAME/README.md          what it means and how far it reaches, in a person's words
runs/experiments/NAME/              the runs, and the page
"""

from __future__ import annotations

import difflib
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from lab.atomic import write_atomically
from lab.config import compose
from lab.console import say
from lab.errors import RequestError
from lab.options import conf_folder
from lab.runs.claim import OPEN, VERDICTS, Found, Statement, check_measured, how, judge, verdict
from lab.runs.comparison.collect import FINISHED, RunRecord, read_runs
from lab.runs.comparison.configurations import key_of
from lab.runs.decoding import Decoding, measure
from lab.runs.fair import Left, fair_sweep, records
from lab.runs.report import Preface, Report
from lab.runs.sweep import Outcome, sweep
from lab.runs.sweep.driver import PAGE, check_same, plan_of
from lab.runs.sweep.file import SweepFile, read_sweep
from lab.runs.sweep.job import PLAN
from lab.runs.sweep.plan import apart, bare, plan
from lab.runs.terms import Terms

FILE, RESULT = "experiment.yaml", "result.yaml"
TEXTS = ("question", "claim")
TERMS = ("baseline", "margin", "match", "match_size", "tune", "until_decided")
KEYS = (*TEXTS, "source", "sweep", *TERMS, "again", "decode", "rule")
NOT_RUN = "not run"
COMPARE = "compare"
"""The folder of the sweep, beside those of its stages."""


@dataclass(frozen=True)
class Experiment:
    """What an experiment's file says.

    Attributes:
        folder: where it stands.
        question, claim, source: in words; the source may be empty.
        sweep: the sweep file.
        terms: of the comparison.
        again: stages in which every finished run is judged again, by name the overrides that make them other.
        decoding: what is measured of every finished run; None for nothing.
        rule: of the verdict.
        apart: a folder where its result stands, for runs that are not those of record; None for beside the file.
    """

    folder: Path
    question: str
    claim: str
    source: str
    sweep: Path
    terms: Terms
    rule: tuple[Statement, ...]
    again: Mapping[str, Sequence[str]] = field(default_factory=dict)
    decoding: Decoding | None = None
    apart: Path | None = None

    @property
    def record(self) -> Path:
        """Where its result is kept."""
        return (self.apart or self.folder) / RESULT

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def result(self) -> dict[str, Any]:
        """What came out last, empty before it was run.

        Raises:
            RequestError: the file is damaged.
        """
        path = self.record
        if not path.is_file():
            return {}
        found = _load(path)
        if found.get("verdict") not in VERDICTS:
            raise RequestError(f"{path}: damaged, it holds no verdict; run the experiment again")
        return found

    @property
    def verdict(self) -> str:
        """Confirmed, refuted, undecided or not run."""
        return self.result.get("verdict", NOT_RUN)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "question": self.question,
            "claim": self.claim,
            "source": self.source,
            "rule": [str(each) for each in self.rule],
            "verdict": self.verdict,
            "result": self.result,
        }


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


def home() -> Path:
    """The folder of experiments: here, or of the checkout."""
    here = Path("experiments")
    return here if here.is_dir() else conf_folder().parent / "experiments"


def experiments() -> list[Experiment]:
    """All that there are.

    Raises:
        RequestError: a file is wrong.
    """
    return [read(path.parent) for path in sorted(home().glob(f"*/{FILE}"))]


def find(name: str) -> Experiment:
    """The one of this name, or in this folder.

    Raises:
        RequestError: there is none; it names the nearest.
    """
    if (Path(name) / FILE).is_file():
        return read(Path(name))
    if (home() / name / FILE).is_file():
        return read(home() / name)
    names = [path.parent.name for path in sorted(home().glob(f"*/{FILE}"))]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    raise RequestError(
        f"{name}: no such experiment; "
        + (f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names) or 'none'}")
    )


def read(folder: Path) -> Experiment:
    """Read and check an experiment's file; its sweep is read when it runs.

    Raises:
        RequestError: it names the file, the key and what is accepted.
    """
    path = folder / FILE
    try:
        return _read(folder, _load(path))
    except RequestError as error:
        raise RequestError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RequestError(f"{path}: can't be read ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(content, dict):
        raise RequestError(f"{path}: holds no mapping")
    return content


def _read(folder: Path, content: dict[str, Any]) -> Experiment:
    for key in content:
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, n=1, cutoff=0.5)
            raise RequestError(
                f"{key}: no such key; " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(KEYS)}")
            )
    for key in (*TEXTS, "sweep", "rule"):
        if not content.get(key):
            raise RequestError(f"{key}: is missing")
    for key in ("question", "claim", "source", "sweep", "baseline", "match", "match_size", "tune"):
        if not isinstance(content.get(key, ""), str):
            raise RequestError(f"{key}: {content[key]!r} is no text")
    margin, most = content.get("margin"), content.get("until_decided")
    if margin is not None and (not isinstance(margin, int | float) or isinstance(margin, bool)):
        raise RequestError(f"margin: {margin!r}; a number above 0, in the unit of the measure")
    if most is not None and type(most) is not int:
        raise RequestError(f"until_decided: {most!r}; a whole number of seeds")
    if not isinstance(content["rule"], list):
        raise RequestError("rule: is no list of statements")
    rule = tuple(map(Statement.read, content["rule"]))
    for statement in rule:
        if statement.form == "equivalent" and (margin is None or statement.measure):
            raise RequestError(f"rule: {statement}: equivalent takes a margin, which is of the headline measure")
    wanted = content.get("decode")
    if wanted is not None and not (isinstance(wanted, dict) and wanted.keys() <= {"rows", "tokens", "times"}):
        raise RequestError(f"decode: {wanted!r}; a mapping with rows, tokens and times")
    return Experiment(
        folder,
        content["question"].strip(),
        content["claim"].strip(),
        content.get("source", "").strip(),
        folder / content["sweep"],
        Terms(
            baseline=content.get("baseline"),
            margin=margin,
            most_seeds=most,
            match=content.get("match"),
            size=content.get("match_size"),
            tune=content.get("tune"),
            claim=list(map(str, rule)),
        ),
        rule,
        _stages(content.get("again") or {}),
        None if wanted is None else Decoding(**wanted),
    )


def _stages(written: Any) -> dict[str, list[str]]:
    good = isinstance(written, dict) and all(
        isinstance(words, list) and words and all(isinstance(word, str) for word in words) for words in written.values()
    )
    named = good and all(re.fullmatch(r"[\w-]+", str(name)) and name != COMPARE for name in written)
    if not named:
        raise RequestError(
            f"again: {written!r}; stages, each a name of letters, digits, - and _ other than {COMPARE} with a list of overrides"
        )
    return {str(name): words for name, words in written.items()}


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


def machine_name() -> str:
    """The processor, how many cores of it there are, and the accelerator if there is one."""
    import torch

    from lab.runs.machine import cores

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    said = f"{processor}, {cores()} core{'s' if cores() > 1 else ''} used"
    return f"{said}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else said
