"""The verdict on a claim, by a rule that was written down before there was a result.

A claim is a list of statements about two configurations each; it is confirmed when all of them hold, refuted when one is
contradicted, undecided otherwise. A statement is judged by one interval of the paired difference. The intervals of all
statements hold the truth together with 95% (Bonferroni over the statements, and over the looks where seeds were added), so
that a claim is decided wrongly at most once in twenty experiments, however many statements it has.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from lab.errors import RequestError
from lab.runs.comparison.collect import FINISHED, RunRecord, measure_of, usual_direction
from lab.runs.comparison.configurations import key_of
from lab.runs.comparison.differences import paired_difference
from lab.runs.comparison.numbers import number, plain, signed
from lab.runs.comparison.sequential import interval, repeated_interval
from lab.runs.comparison.verdict import ALPHA, FEWEST_PAIRS
from lab.runs.terms import MISSED, missed
from lab.values import is_number

VERDICTS = CONFIRMED, REFUTED, UNDECIDED = "confirmed", "refuted", "undecided"
HOLDS, CONTRADICTED, OPEN = "holds", "contradicted", "open"

FORMS = {"better": "over", "worse": "than", "equivalent": "to", "not worse": "than"}
"""What a statement may say, and the word before what it compares with."""

COUNTED = ("decode/cache_bytes", "parameters", "parameters_active", "flops")
"""Measures that are counted: no seed changes them, and a difference needs no interval."""


@dataclass(frozen=True)
class Side:
    """A configuration in a statement.

    Attributes:
        words: overrides and options that tell it from the others.
        stage: where its runs were judged again; None for as they were trained.
    """

    words: str
    stage: str | None = None

    @classmethod
    def read(cls, text: str) -> Side:
        words, _, stage = text.strip().partition(" in ")
        return cls(words.strip(), stage.strip() or None)

    def __str__(self) -> str:
        return f"{self.words} in {self.stage}" if self.stage else self.words

    def find(self, runs: Sequence[RunRecord]) -> str | None:
        """The key of the configuration that is meant; None where none of these runs is of it.

        Raises:
            RequestError: several are.
        """
        wanted = set(map(_word, self.words.split()))
        keys = dict.fromkeys(key_of(run) for run in runs if wanted <= _words(run))
        if len(keys) > 1:
            raise RequestError(
                f"rule: {self.words} means {len(keys)} configurations; say what tells one from the others"
            )
        return next(iter(keys), None)

    def check(self, runs: Sequence[RunRecord], stages: Sequence[str]) -> None:
        """Refuse what is not among these configurations and stages.

        Raises:
            RequestError: it names the nearest.
        """
        if self.stage is not None and self.stage not in stages:
            raise RequestError(f"rule: in {self.stage}: no such stage{_near(self.stage, stages)}")
        if self.find(runs) is None:
            known = sorted({f"{key}={value}" for run in runs for key, value in _words(run)})
            strange = [word for word in self.words.split() if not any(_word(word) in _words(run) for run in runs)]
            unknown = (strange or [self.words])[0]
            raise RequestError(f"rule: {unknown}: no configuration of the sweep has it{_near(unknown, known)}")


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(known) or 'none'}"


def _word(text: str) -> tuple[str, Any]:
    """Key and value, so that 0.10 is 0.1."""
    key, _, value = text.lstrip("+").partition("=")
    try:
        return key, float(value)
    except ValueError:
        return key, value


def _words(run: RunRecord) -> set[tuple[str, Any]]:
    typed = dict(map(_word, run.overrides))  # of two the later
    return {*typed.items(), *run.choices.items()}


@dataclass(frozen=True)
class Statement:
    """What is said of two configurations.

    Attributes:
        form: one of `FORMS`.
        measure: a key of the runs' records; None for their headline.
    """

    form: str
    left: Side
    right: Side
    measure: str | None = None

    @classmethod
    def read(cls, written: Any) -> Statement:
        """`{better: position=rope over position=sinusoidal}`, with `in STAGE` after either and `on MEASURE` at the end.

        Raises:
            RequestError: it is not like that.
        """
        example = "write better: A over B, worse: A than B, equivalent: A to B or not worse: A than B, and `on MEASURE`"
        if not isinstance(written, dict) or len(written) != 1 or next(iter(written)) not in FORMS:
            raise RequestError(f"rule: {written!r} is no statement; {example}")
        form, text = next(iter(written.items()))
        found = re.fullmatch(rf"(.+?) {FORMS[form]} (.+?)(?: on (\S+))?", str(text).strip())
        if found is None:
            raise RequestError(f"rule: {form}: {text!r} names no two configurations; {example}")
        left, right = Side.read(found[1]), Side.read(found[2])
        if left.stage == right.stage and set(map(_word, left.words.split())) == set(map(_word, right.words.split())):
            raise RequestError(f"rule: {form}: {text!r} says {left} twice; {example}")
        return cls(form, left, right, found[3])

    def __str__(self) -> str:
        on = f" on {self.measure}" if self.measure else ""
        return f"{self.form}: {self.left} {FORMS[self.form]} {self.right}{on}"

    def check(self, runs: Sequence[RunRecord], stages: Sequence[str], decodes: bool) -> None:
        """Refuse sides that are not among these configurations and stages, and what can't be measured of them.

        Args:
            runs: of each configuration what is known beforehand.
            stages: by their names.
            decodes: how they decode is measured too.

        Raises:
            RequestError: it names the nearest, or what is accepted.
        """
        for side in (self.left, self.right):
            side.check(runs, stages)
        name, headlines = self.measure, [run.measure.name for run in runs]
        if name is None or name in headlines:
            return
        if usual_direction(name) is None:
            raise RequestError(
                f"rule: {self}: {name} is nothing of which the better way is known; accepted: {', '.join(headlines[:1])}, "
                "the other measures of the objective, or a cost such as flops, parameters or seconds"
            )
        if name.startswith("decode/") and not decodes:
            raise RequestError(
                f"rule: {self}: {name} is measured where decode asks for it, with rows, tokens and times"
            )

    @property
    def plain(self) -> bool:
        """It is about runs as they were trained, by their headline."""
        return self.measure is None and self.left.stage is None and self.right.stage is None


@dataclass(frozen=True)
class Found:
    """What came of a statement.

    Attributes:
        outcome: holds, contradicted or open.
        measure: by which it was judged, and its values on both sides.
        pairs: seeds that both sides finished.
        difference, low, high: left less right; the ends None where there are too few pairs.
        missed: why it is open whatever its interval, of two that were to cost the same; empty where they do.
    """

    statement: Statement
    outcome: str
    measure: str
    pairs: int = 0
    left: float | None = None
    right: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    missed: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        kept = ("outcome", "measure", "pairs", "left", "right", "difference", "low", "high")
        said = {"statement": str(self.statement), **{key: getattr(self, key) for key in kept}}
        return said | ({"missed": self.missed} if self.missed else {})

    def sentence(self) -> str:
        """For a person."""
        return plain(f"{self.statement}: {self.outcome}; {self.numbers}")

    @property
    def numbers(self) -> str:
        """Both sides, their difference and its interval."""
        if self.difference is None:
            return "no seed finished both"
        digits = 4 if abs(self.left or 0) < 100 else 0
        low, high = (signed(end, digits) for end in (self.low, self.high))
        return (
            f"{self.measure} {number(self.left or 0, digits)} and {number(self.right or 0, digits)}, difference "
            f"{signed(self.difference, digits)}{'' if self.low is None else f' [{low}, {high}]'} over {self.pairs} seeds"
            f"{self.missed and f'; {self.missed}'}"
        )


def verdict(found: Sequence[Found]) -> str:
    """Of the claim."""
    outcomes = {each.outcome for each in found}
    return REFUTED if CONTRADICTED in outcomes else UNDECIDED if OPEN in outcomes or not found else CONFIRMED


def how(statements: int, margin: float | None, most: int | None, match: str | None = None) -> str:
    """How the verdict is reached, for a reader of the page, on which the comparisons of the sweep stand too."""
    said = (
        "The statements were fixed before the first run. The claim is confirmed when all of them hold, refuted when one is "
        "contradicted, undecided otherwise. "
    )
    if statements == 1:
        said += f"The statement is judged by an interval of {1 - ALPHA:.0%}"
    else:
        said += f"Each is judged by an interval of its own; all {statements} hold together with {1 - ALPHA:.0%} (Bonferroni)"
    if most is not None:
        said += f", at all looks from {FEWEST_PAIRS} seeds to {most}"
    said += ". "
    if margin is not None:
        said += f"A difference of up to {margin:g} in the headline measure makes none. "
    if match is not None:
        said += f"A statement on two whose cost in {match} differs by more than {MISSED:.0%} is open. "
    return said + (
        "The comparisons of the sweep ask other questions and share 5% of their own, so that the two may part where it is "
        "close: the verdict on the claim is this one."
    )


def judge(
    rule: Sequence[Statement],
    stages: Mapping[str | None, Sequence[RunRecord]],
    margin: float | None = None,
    most: int | None = None,
    match: str | None = None,
) -> list[Found]:
    """What came of each statement.

    Args:
        rule: of the claim.
        stages: the runs as they were trained, under None, and as they were judged again, by the stage's name.
        margin: the largest difference that makes none, in the unit of the headline.
        most: where seeds were added until it was decided, how many at most.
        match: what both sides were to cost the same in, as they were trained; a statement on two that do not is open.
    """
    found = [_judge(each, stages, margin, most, ALPHA / len(rule)) for each in rule]
    return found if match is None else [_withheld(each, stages.get(None, ()), match) for each in found]


def _withheld(found: Found, trained: Sequence[RunRecord], match: str) -> Found:
    """Open, where the two sides do not cost the same."""
    statement = found.statement
    sides = [list(_runs_of(side, trained).values()) for side in (statement.left, statement.right)]
    why = missed(match, *sides)
    return replace(found, outcome=OPEN, missed=why) if why else found


def check_measured(rule: Sequence[Statement], stages: Mapping[str | None, Sequence[RunRecord]]) -> None:
    """See that what statements compare by is there, once all has been measured. Arguments as `judge`.

    Raises:
        RequestError: no run of either side holds it, as no other would.
    """
    for statement in rule:
        sides = [_runs_of(side, stages.get(side.stage, ())) for side in (statement.left, statement.right)]
        runs = [run for side in sides for run in side.values()]
        if statement.measure and runs and all(run.number(statement.measure) is None for run in runs):
            known = ", ".join(sorted(key for key, value in runs[0].result.items() if is_number(value)))
            raise RequestError(
                f"rule: {statement}: {statement.measure} is nothing that these runs measure; accepted: {known}"
            )


def _judge(
    statement: Statement,
    stages: Mapping[str | None, Sequence[RunRecord]],
    margin: float | None,
    most: int | None,
    alpha: float,
) -> Found:
    sides = [_runs_of(side, stages.get(side.stage, ())) for side in (statement.left, statement.right)]
    if not sides[0] or not sides[1]:
        return Found(statement, OPEN, statement.measure or "headline")
    first = next(iter(sides[0].values()))
    theirs = next(iter(sides[1].values()))
    if first.data_fingerprint != theirs.data_fingerprint:
        raise RequestError(f"rule: {statement}: the two were validated on different data, and are not compared")
    measured = measure_of(statement.measure or first.measure.name, (first, theirs))
    measure = measured.name
    left, right = (
        {seed: value for seed, run in runs.items() if (value := run.number(measure)) is not None} for runs in sides
    )
    difference = paired_difference(left, right)
    if difference.mean is None:
        return Found(statement, OPEN, measure)
    mine, others = (fmean(side[seed] for seed in difference.seeds) for side in (left, right))
    ends = _ends(measure, difference.values, most, alpha)
    sign = 1 if measured.direction == "min" else -1
    low, high = sorted(sign * end for end in ends)
    limit = margin if statement.measure in (None, first.measure.name) else None
    outcome = _outcome(statement.form, low, high, limit)
    shown = ends if math.isfinite(low) else (None, None)
    return Found(statement, outcome, measure, len(difference.seeds), mine, others, difference.mean, *shown)


def _runs_of(side: Side, runs: Sequence[RunRecord]) -> dict[int, RunRecord]:
    """The finished runs of a configuration by their seed."""
    finished = [run for run in runs if run.status == FINISHED and run.seed is not None]
    key = side.find(finished)
    return {run.seed or 0: run for run in finished if key is not None and key_of(run) == key}


def _ends(measure: str, values: Sequence[float], most: int | None, alpha: float) -> tuple[float, float]:
    if measure in COUNTED and len(set(values)) == 1:
        return values[0], values[0]
    if len(values) < FEWEST_PAIRS:
        return -math.inf, math.inf
    _, low, high = interval(values, alpha) if most is None else repeated_interval(values, most, alpha)
    return low, high


def _outcome(form: str, low: float, high: float, margin: float | None) -> str:
    """Of an interval of the difference whose positive side is the worse one."""
    if form == "worse":
        return _outcome("better", -high, -low, margin)
    within = margin is not None and -margin < low and high < margin
    reach = margin or 0.0
    holds, contradicted = {
        "better": (high < 0 and not within, low >= 0 or within),
        "equivalent": (within, low > reach or high < -reach),
        "not worse": (high < reach or low == high == 0, low > reach),
    }[form]
    return HOLDS if holds else CONTRADICTED if contradicted else OPEN
