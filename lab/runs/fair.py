"""A sweep whose comparison is fair: variants at equal cost, each with its own best value, seeds until it is decided.

What each variant needs of its own is found before the sweep begins and joined to its trials; the sweep itself is
`lab.runs.sweep`. Looking after each seed costs what `lab.runs.comparison.sequential` says it does, and nothing is hidden by
starting again: the terms are kept with the runs and can't change under them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lab.console import say
from lab.errors import RequestError
from lab.runs.comparison import labels
from lab.runs.comparison.collect import NOT_STARTED, RunRecord, read_runs
from lab.runs.comparison.verdict import FEWEST_PAIRS, Rule
from lab.runs.match import SIZES, check_what, match
from lab.runs.report import Report, report
from lab.runs.sweep import Outcome, sweep
from lab.runs.sweep.driver import PAGE
from lab.runs.sweep.file import SweepFile, read_sweep
from lab.runs.sweep.job import PLAN
from lab.runs.sweep.plan import apart, bare, plan
from lab.runs.terms import Terms
from lab.runs.tune import SEED, Choice, Tuning, choose

Words = Mapping[str, Sequence[str]]
"""Overrides of each configuration's own, by `bare`."""

TUNING = "-tuning"
"""What the folder of the tuning is called after that of the sweep."""


@dataclass(frozen=True)
class Variant:
    """A configuration of a sweep, whatever its seed: its overrides, and what it is called among the others."""

    words: tuple[str, ...]
    label: str

    @property
    def key(self) -> str:
        return bare(self.words)


def fair_sweep(
    file: str | Path | SweepFile,
    overrides: Sequence[str] = (),
    folder: str | Path | None = None,
    terms: Terms | None = None,
    plan_only: bool = False,
    retry_failed: bool = False,
    storage: str | None = None,
    jobs: int | None = None,
    run: Callable[..., Outcome] = sweep,
    enough: Callable[[Report], Left | None] | None = None,
) -> Outcome:
    """Run what is missing of a sweep on these terms, and compare.

    Args:
        file, overrides, folder, plan_only, retry_failed, storage, jobs: as of `lab.sweep`. A plan ends where results would
            be needed.
        terms: what is asked; without any it is a plain sweep.
        run: what runs a sweep.
        enough: says of a report what is left to decide by another seed, None for nothing; by default of its comparisons.

    Raises:
        RequestError: as `lab.sweep`; or terms that contradict the file, each other, or those of the sweep so far.
    """
    described = file if isinstance(file, SweepFile) else read_sweep(file)
    folder = Path(folder or Path("runs") / described.path.stem)
    asked = terms or Terms()
    _check(described, overrides, asked)
    asked = replace(asked, size=asked.size or SIZES.get(asked.match or ""))
    before = Terms.read(folder) or (Terms() if (folder / PLAN).exists() else None)
    if before is not None and before.fixed != asked.fixed:
        raise RequestError(
            f"{folder}: this sweep has begun on other terms: {_changes(before, asked)}; keep them, or name another --folder"
        )

    def go(
        file: SweepFile,
        folder: Path,
        words: Sequence[str],
        own: Words,
        baseline: str | None = None,
        fewer: Mapping[str, int] | None = None,
    ) -> Outcome:
        return run(file, words, folder, baseline, plan_only, retry_failed, storage, jobs, own, fewer)

    if before is not None and (asked.match or asked.tune):
        for each in _variants(described, overrides):
            if each.key not in before.words:
                raise RequestError(
                    f"{folder}: {each.label} is new in this sweep, whose variants were matched or tuned before it began; "
                    "name another --folder"
                )
    found = asked if before is None else replace(before, baseline=asked.baseline, margin=asked.margin)
    if before is None and (asked.match or asked.tune):
        variants = _variants(described, overrides)
        found = _matched(variants, found)
        if asked.tune:
            outcome, found = _tuned(described, overrides, folder, found, variants, go)
            if outcome is not None:
                return outcome
    if before is None and found.asked and not plan_only:
        found.write(folder)

    def one(file: SweepFile, fewer: Mapping[str, int] | None = None) -> Outcome:
        try:
            return go(file, folder, overrides, found.words, found.baseline, fewer)
        except RequestError:
            if before is None and not (folder / PLAN).exists():
                Terms.remove(folder)  # nothing has begun on them
            raise

    if found.most_seeds is None:
        outcome = one(described)
    else:
        outcome = _until_decided(described, overrides, found, one, enough or undecided)
    if outcome.report is not None and found.asked:
        outcome.report = report([folder], found.baseline, found.margin, (), found.most_seeds)
        outcome.report.write_html(folder / PAGE)
    return outcome


def records(described: SweepFile, overrides: Sequence[str]) -> list[RunRecord]:
    """What the runs of each configuration of a sweep will say of themselves, as far as it is known before."""
    return [_record(words) for words in dict.fromkeys(apart(trial.overrides) for trial in plan(described, overrides))]


def _variants(described: SweepFile, overrides: Sequence[str]) -> list[Variant]:
    """The configurations of a sweep, in its order."""
    known = records(described, overrides)
    return [Variant(each.overrides, name) for each, name in zip(known, labels.label_all(known), strict=True)]


def _record(words: Sequence[str]) -> RunRecord:
    from lab.config import compose, identity, trusted

    config = compose(*words)
    objective: Any = trusted("objective._target_", config.objective._target_)
    found = {
        "configuration": identity(config),
        "choices": dict(config.choices),
        "headline": dict(objective.headline),
    }
    return RunRecord(Path(), NOT_STARTED, result=found, overrides=tuple(words))


def _check(described: SweepFile, overrides: Sequence[str], terms: Terms) -> None:
    """Refuse terms that contradict the file, what was typed, or each other."""
    Rule(terms.margin, terms.most_seeds)
    seeds = described.seeds or []
    typed = {word.lstrip("+").partition("=")[0] for word in overrides}
    if terms.match is not None:
        check_what(terms.match)
    if terms.size and not terms.match:
        raise RequestError(f"match by {terms.size}: says by which size, not what; give --match {' or '.join(SIZES)}")
    if described.method == "bayes" and (terms.match or terms.most_seeds is not None):
        asked = "match" if terms.match else "until-decided"
        raise RequestError(
            f"{asked}: takes configurations that are known beforehand; method bayes chooses them as it goes"
        )
    if terms.tune:
        key = Tuning.read(terms.tune).key
        if key in described.swept or key in typed or key == "seed":
            where = (
                "typed for all" if key in typed else "what the file varies" if key in described.swept else "a replicate"
            )
            raise RequestError(f"tune: {key} is {where}; a variant's own value is of a key that nothing else sets")
        if described.method != "grid":
            raise RequestError(f"tune: goes with method grid; method {described.method} looks for values itself")
        if any(seed >= SEED for seed in seeds):
            raise RequestError(f"tune: seeds from {SEED} on are those of its trials; the file has {max(seeds)}")
    if terms.most_seeds is not None:
        if "seed" in typed:
            raise RequestError("until-decided: adds seeds of its own; leave seed out")
        if terms.most_seeds < max(FEWEST_PAIRS, len(seeds)):
            raise RequestError(
                f"until-decided: {terms.most_seeds}; at least {FEWEST_PAIRS}, and the {len(seeds)} that the file lists"
            )
    for word, value in {"until-decided": terms.most_seeds, "tune": terms.tune}.items():
        if value is not None and described.run_cap is not None and described.method == "grid":
            raise RequestError(f"{word}: run_cap {described.run_cap} cuts the grid off; leave one of them out")
    if terms.baseline not in (None, "first", "previous") and described.method != "bayes":
        known = records(described, overrides)
        labels.find(str(terms.baseline), labels.label_all(known), known, "--baseline")


def _changes(before: Terms, now: Terms) -> str:
    """What is another term: `margin 0.02 then, 0.5 now`; of a claim the statements that are others."""
    said = []
    for key in {**before.fixed, **now.fixed}:
        sides = [terms.fixed.get(key) for terms in (before, now)]
        if sides[0] != sides[1]:
            lists = [[side] if isinstance(side, str | int | float) else list(side or ()) for side in sides]
            others = [[each for each in mine if each not in theirs] for mine, theirs in (lists, lists[::-1])]
            then, since = ("; ".join(map(str, side)) or "none" for side in others)
            said.append(f"{key} {then} then, {since} now")
    return ", ".join(said)


def _matched(variants: Sequence[Variant], terms: Terms) -> Terms:
    """The terms with the words that make the variants cost the same."""
    if terms.match is None:
        return terms
    place = 0
    if terms.baseline not in (None, "first", "previous"):
        records = [_record(each.words) for each in variants]
        place = labels.find(str(terms.baseline), [each.label for each in variants], records, "--baseline")
    fits = match([each.words for each in variants], place, terms.match, terms.size)
    for each, fit in zip(variants, fits, strict=True):
        if each is not variants[place]:
            say(f"{each.label}: {' '.join(fit.words) or 'as it is'}, {fit.ratio:.3f} of the baseline's {terms.match}")
    words = {each.key: list(fit.words) for each, fit in zip(variants, fits, strict=True)}
    return replace(terms, words=words)


def _tuned(
    described: SweepFile,
    overrides: Sequence[str],
    folder: Path,
    terms: Terms,
    variants: Sequence[Variant],
    go: Callable[..., Outcome],
) -> tuple[Outcome | None, Terms]:
    """The terms with each variant's best value; with an outcome where the tuning did not come to its end."""
    tuning = Tuning.read(str(terms.tune))
    place = folder.with_name(folder.name + TUNING)
    say(f"tuning {tuning.key}: {len(tuning.words)} trials of each variant, with seed {SEED}")
    tried = {"seed": {"values": [SEED]}, tuning.key: {"values": [float(word) for word in tuning.words]}}
    tuned = described.changed(tried)
    mine = {bare(each.words, tuning.key): terms.words.get(each.key, []) for each in variants}
    trials = plan(tuned, apart(overrides))
    own = {bare(trial.overrides): mine[bare(trial.overrides, tuning.key)] for trial in trials}
    outcome = go(tuned, place, apart(overrides), own)
    if outcome.report is None or outcome.stopped:
        return outcome, terms
    called = {bare((*each.words, *terms.words.get(each.key, [])), tuning.key): each.label for each in variants}
    tried_now = [run for run in read_runs([place]) if bare(run.overrides, tuning.key) in called]
    found: dict[str, Choice] = choose(tuning, tried_now, lambda run: called[bare(run.overrides, tuning.key)])
    for each in variants:
        choice = found[each.label]
        say(f"{each.label}: {tuning.key}={choice.value}{', an end of the range' if choice.edge else ''}")
    words = {each.key: [*terms.words.get(each.key, []), f"{tuning.key}={found[each.label].value}"] for each in variants}
    return None, replace(terms, words=words, choices={each.label: found[each.label] for each in variants})


@dataclass(frozen=True)
class Left:
    """What is left to decide by another seed.

    Attributes:
        said: in words.
        sides: the configurations whose comparisons are open, by `key_of`; None for all of the sweep.
    """

    said: str
    sides: frozenset[str] | None = None


def undecided(report: Report) -> Left | None:
    """The comparisons that ask for another seed, None for none. What is decided stays, and needs no more of them."""
    compared = report.results.comparisons
    waiting = [each for each in compared if each.look is None or each.look.go_on]
    if not waiting:
        return None
    sides = frozenset(side.key for each in waiting for side in (each.configuration, each.baseline))
    return Left(f"{len(waiting)} of {len(compared)} comparisons undecided", sides)


def _until_decided(
    described: SweepFile,
    overrides: Sequence[str],
    terms: Terms,
    go: Callable[[SweepFile, Mapping[str, int]], Outcome],
    enough: Callable[[Report], Left | None],
) -> Outcome:
    """One seed more for what is undecided, until nothing is or the most is reached."""
    most = terms.most_seeds or FEWEST_PAIRS
    seeds = sorted(described.seeds or [])
    after = seeds[-1] + 1 if seeds else 0
    seeds += range(after, after + most)
    fewer: dict[str, int] = {}
    for count in range(FEWEST_PAIRS, most + 1):
        outcome = go(described.changed({"seed": {"values": seeds[:count]}}), fewer)
        if outcome.stopped or outcome.report is None:
            break
        left = enough(outcome.report)
        if left is None:
            break
        say(f"{count} seeds: {left.said}")
        if left.sides is None:
            fewer.clear()
            continue
        known = [each for table in outcome.report.results.tables for each in table.configurations]
        open_ones = {bare(each.first.overrides) for each in known if each.key in left.sides}
        for trial in plan(described, overrides):
            key = bare(trial.overrides)
            if bare([*trial.overrides, *terms.words.get(key, [])]) in open_ones:
                fewer.pop(key, None)
            else:
                fewer.setdefault(key, count)
    return outcome
