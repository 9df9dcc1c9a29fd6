"""A sweep whose comparison is fair: variants at equal cost, each with its own best value, seeds until it is decided.

What each variant needs of its own is found before the sweep begins and joined to its trials; the sweep itself is
`lab.runs.sweep`. Looking after each seed costs what `lab.runs.comparison.sequential` says it does, and nothing is hidden by
starting again: the terms are kept with the runs and can't change under them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from lab.console import say
from lab.errors import RequestError
from lab.runs.comparison import labels
from lab.runs.comparison.collect import NOT_STARTED, RunRecord, read_runs
from lab.runs.comparison.verdict import FEWEST_PAIRS, Rule
from lab.runs.match import SIZES, match
from lab.runs.report import Report, report
from lab.runs.sweep import PAGE, Outcome, sweep
from lab.runs.sweep_file import SweepFile, read_sweep
from lab.runs.sweep_plan import plan, without_seed
from lab.runs.terms import Terms
from lab.runs.tune import SEED, Tuning, choose

TUNING = "-tuning"
"""What the folder of the tuning is called after that of the sweep."""


def fair_sweep(
    file: str | Path,
    overrides: Sequence[str] = (),
    folder: str | Path | None = None,
    terms: Terms | None = None,
    plan_only: bool = False,
    retry_failed: bool = False,
    run: Callable[..., Outcome] = sweep,
    enough: Callable[[Report], str] | None = None,
) -> Outcome:
    """Run what is missing of a sweep on these terms, and compare.

    Args:
        file, overrides, folder, plan_only, retry_failed: as of `lab.sweep`. A plan ends where results would be needed.
        terms: what is asked; without any it is a plain sweep.
        run: what runs a sweep.
        enough: says of a report what is left to decide by another seed, empty for nothing; by default of its comparisons.

    Raises:
        RequestError: as `lab.sweep`; or terms that contradict the file, each other, or those of the sweep so far.
    """
    terms = terms or Terms()
    terms = replace(terms, size=terms.size or SIZES.get(terms.match or ""))
    folder = Path(folder or Path("runs") / Path(file).stem)
    described = read_sweep(file)
    _check(described, overrides, terms)
    before = Terms.read(folder)
    if before is not None and before.fixed != terms.fixed:
        raise RequestError(
            f"{folder}: this sweep has begun on other terms ({_said(before)}), and now {_said(terms)}; keep them, or name "
            "another --folder"
        )
    if before is not None:
        terms = replace(before, baseline=terms.baseline, margin=terms.margin)
    elif terms.match or terms.tune:
        variants = dict(zip(*_named(described, overrides), strict=True))
        terms = _matched(variants, terms)
        if terms.tune:
            outcome, terms = _tuned(described, overrides, folder, terms, variants, plan_only, run)
            if outcome is not None:
                return outcome
    if terms != before and not (terms.plain or plan_only):
        terms.write(folder)

    def go(file: Path) -> Outcome:
        return run(file, overrides, folder, terms.baseline, plan_only, retry_failed, own=terms.words)

    outcome = go(Path(file)) if terms.most_seeds is None else _until_decided(described, terms, go, enough or undecided)
    if outcome.report is not None and not terms.plain:
        outcome.report = report([folder], terms.baseline, terms.margin, (), terms.most_seeds)
        outcome.report.write_html(folder / PAGE)
    return outcome


def records(described: SweepFile, overrides: Sequence[str]) -> list[RunRecord]:
    """What the runs of each configuration of a sweep will say of themselves, as far as it is known before."""
    trials = {without_seed(trial.overrides): trial for trial in plan(described, overrides)}
    return [_record(without(trial.overrides, "seed")) for trial in trials.values()]


def without(overrides: Sequence[str], *keys: str) -> tuple[str, ...]:
    """The overrides of other keys than these."""
    return tuple(word for word in overrides if word.lstrip("+").partition("=")[0] not in keys)


def _named(described: SweepFile, overrides: Sequence[str]) -> tuple[list[RunRecord], list[str]]:
    """The configurations of a sweep, in its order, and what each is called among the others."""
    known = records(described, overrides)
    return known, labels.label_all(known)


def _record(words: Sequence[str]) -> RunRecord:
    from lab.config import compose, identity

    config = compose(*words)
    found = {"configuration": identity(config), "choices": dict(config.choices)}
    return RunRecord(Path(), NOT_STARTED, result=found, overrides=tuple(words))


def _check(described: SweepFile, overrides: Sequence[str], terms: Terms) -> None:
    """Refuse terms that contradict the file, what was typed, or each other."""
    Rule(terms.margin)
    seeds = described.seeds or []
    typed = {word.lstrip("+").partition("=")[0] for word in overrides}
    if terms.size and not terms.match:
        raise RequestError(f"match by {terms.size}: says by which size, not what; give --match {' or '.join(SIZES)}")
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
        if described.run_cap is not None and described.method == "grid":
            raise RequestError(f"until-decided: run_cap {described.run_cap} cuts the grid off; leave one of them out")


def _said(terms: Terms) -> str:
    return ", ".join(f"{key} {value}" for key, value in terms.fixed.items()) or "none"


def _matched(variants: Mapping[RunRecord, str], terms: Terms) -> Terms:
    """The terms with the words that make the variants, and what they are called, cost the same."""
    if terms.match is None:
        return terms
    place, names = 0, list(variants.values())
    if terms.baseline not in (None, "first", "previous"):
        place = labels.find(str(terms.baseline), names, list(variants), "--baseline")
    fits = match([each.overrides for each in variants], place, terms.match, terms.size)
    for name, fit in zip(names, fits, strict=True):
        if name != names[place]:
            say(f"{name}: {' '.join(fit.words) or 'as it is'}, {fit.ratio:.3f} of the baseline's {terms.match}")
    own = zip(variants, fits, strict=True)
    return replace(terms, words={without_seed(each.overrides): list(fit.words) for each, fit in own if fit.words})


def _tuned(
    described: SweepFile,
    overrides: Sequence[str],
    folder: Path,
    terms: Terms,
    variants: Mapping[RunRecord, str],
    plan_only: bool,
    run: Callable[..., Outcome],
) -> tuple[Outcome | None, Terms]:
    """The terms with each variant's best value; with an outcome where the tuning did not come to its end."""
    tuning = Tuning.read(str(terms.tune))
    place = folder.with_name(folder.name + TUNING)
    say(f"tuning {tuning.key}: {len(tuning.words)} trials of each variant, with seed {SEED}")

    def bare(words: Sequence[str]) -> frozenset[str]:
        return frozenset(without(words, "seed", tuning.key))

    matched = {bare(each.overrides): terms.words.get(without_seed(each.overrides), []) for each in variants}
    called = {
        words | set(matched[words]): name
        for words, name in ((bare(each.overrides), name) for each, name in variants.items())
    }
    typed = without(overrides, "seed")
    with rewritten(described, [SEED], {tuning.key: {"values": [float(word) for word in tuning.words]}}) as file:
        trials = plan(read_sweep(file), typed)
        own = {without_seed(trial.overrides): matched[bare(trial.overrides)] for trial in trials}
        outcome = run(file, typed, place, None, plan_only, False, own=own)
    if plan_only or outcome.stopped:
        return outcome, terms
    choices = choose(tuning, read_runs([place]), lambda record: called[bare(record.overrides)])
    words = {}
    for each, name in variants.items():
        value, key = choices[name].value, without_seed(each.overrides)
        say(f"{name}: {tuning.key}={value}{', an end of the range' if choices[name].edge else ''}")
        words[key] = [*terms.words.get(key, []), f"{tuning.key}={value}"]
    return None, replace(terms, words=words, choices={name: choices[name] for name in variants.values()})


def undecided(report: Report) -> str:
    """How many comparisons ask for another seed; empty for none."""
    looks = [each.look for each in report.results.comparisons]
    left = sum(look is None or look.go_on for look in looks)
    return f"{left} of {len(looks)} comparisons undecided" if left or not looks else ""


def _until_decided(
    described: SweepFile, terms: Terms, go: Callable[[Path], Outcome], left: Callable[[Report], str]
) -> Outcome:
    """One seed more for all, until nothing is left to decide or the most is reached."""
    most = terms.most_seeds or FEWEST_PAIRS
    seeds = sorted(described.seeds or [])
    after = seeds[-1] + 1 if seeds else 0
    seeds += range(after, after + most)
    for count in range(FEWEST_PAIRS, most + 1):
        with rewritten(described, seeds[:count]) as file:
            outcome = go(file)
        if outcome.stopped or outcome.report is None:
            break
        if not (said := left(outcome.report)):
            break
        say(f"{count} seeds: {said}")
    return outcome


@contextmanager
def rewritten(described: SweepFile, seeds: Sequence[int], more: dict[str, Any] | None = None) -> Iterator[Path]:
    """The file with other seeds and further parameters, for as long as it is needed."""
    content = yaml.safe_load(described.path.read_text(encoding="utf-8"))
    content["parameters"] |= {"seed": {"values": list(seeds)}, **(more or {})}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / described.path.name
        path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
        yield path
