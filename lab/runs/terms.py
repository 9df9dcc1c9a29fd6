"""On what terms a sweep compares: what was matched, tuned and fixed beforehand. Kept beside its runs, said in its report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from lab.atomic import write_atomically
from lab.errors import RequestError
from lab.runs import folder as files
from lab.runs.comparison.collect import RunRecord
from lab.runs.comparison.compare import Comparison, Configuration, Results, Table
from lab.runs.comparison.labels import listing
from lab.runs.comparison.verdict import TOO_FEW, UNDECIDED, Rule
from lab.runs.tune import SEED, Choice, Tuning

FILE = "terms.json"

MISSED = 0.05
"""How far a cost may be from what it was to match, as a share of it."""

KEPT = {"parameters": "parameters", "parameters_active": "parameters_active", "flops": "flops", "tokens": "tokens_seen"}
"""Where a run's record holds what was matched."""


@dataclass(frozen=True)
class Terms:
    """What is asked of a comparison, and what came of it before it began.

    Attributes:
        baseline: what the others are compared with, and matched to; the first on a ladder.
        margin: the largest difference that makes none.
        most_seeds: seeds are added until it is decided, at most so many.
        match: what all cost the same in; see `lab.runs.match`.
        size: by which they are matched; None for the usual one.
        tune: what each variant has its own best value of, as `Tuning.read` reads it.
        claim: statements of which the verdict of an experiment is made.
        words: of each variant, by its own overrides, those that match and tune it.
        choices: of each variant, by its label, what was tuned.
    """

    baseline: str | None = None
    margin: float | None = None
    most_seeds: int | None = None
    match: str | None = None
    size: str | None = None
    tune: str | None = None
    claim: list[str] | None = None
    words: dict[str, list[str]] = field(default_factory=dict)
    choices: dict[str, Choice] = field(default_factory=dict)

    @property
    def given(self) -> set[str]:
        """The overrides by which variants were matched and tuned."""
        return {word for words in self.words.values() for word in words}

    @property
    def asked(self) -> dict[str, Any]:
        """What was fixed beforehand, where it is."""
        return {
            key: value for key, value in asdict(self).items() if key not in ("words", "choices") and value is not None
        }

    @property
    def fixed(self) -> dict[str, Any]:
        """What can't change once there are results: not what the report alone needs, unless seeds are spent by it."""
        free = set() if self.most_seeds or self.claim else {"margin"} if self.match else {"margin", "baseline"}
        return {key: value for key, value in self.asked.items() if key not in free}

    def write(self, folder: Path) -> None:
        """Keep them.

        Raises:
            RequestError: the folder can't be written.
        """
        files.create(folder)
        try:
            write_atomically(folder / FILE, json.dumps(asdict(self), indent=1) + "\n")
        except OSError as error:
            raise RequestError(f"{folder}: cannot be written ({error.strerror or error})") from None

    @classmethod
    def remove(cls, folder: Path) -> None:
        """Forget them, and a folder that holds nothing else."""
        (folder / FILE).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()

    @classmethod
    def read(cls, folder: Path) -> Terms | None:
        """Those that a sweep's folder keeps; None where it keeps none.

        Raises:
            RequestError: the file is damaged.
        """
        path = folder / FILE
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            held["choices"] = {name: Choice(**each) for name, each in held["choices"].items()}
            terms = cls(**held)
            terms._check()
            return terms
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, RequestError) as error:
            raise RequestError(f"{path}: damaged ({error}); delete it, or name another folder") from None

    def _check(self) -> None:
        """Refuse what no sweep writes.

        Raises:
            ValueError, RequestError: a value of another kind.
        """
        Rule(self.margin, self.most_seeds)
        if self.tune is not None:
            Tuning.read(str(self.tune))
        texts = (self.baseline, self.match, self.size, self.tune, *(self.claim or ()))
        if not all(each is None or isinstance(each, str) for each in texts):
            raise ValueError("a term is no text")
        if not (self.most_seeds is None or type(self.most_seeds) is int):
            raise ValueError("most_seeds is no whole number")
        if self.match not in (None, "time", *KEPT):
            raise ValueError(f"{self.match!r} can't be matched")
        for own in self.words.values():
            if not (isinstance(own, list) and all(isinstance(word, str) for word in own)):
                raise ValueError("words are no lists of overrides")

    def rule(self, margin: float | None = None, most_seeds: int | None = None) -> Rule:
        """That of the verdicts, where a margin and a largest number of seeds may be given in place of those kept."""
        return Rule(
            self.margin if margin is None else margin,
            self.most_seeds if most_seeds is None else most_seeds,
            beforehand=margin in (None, self.margin),
        )

    def notes(self, results: Results, folder: Path) -> list[str]:
        """What a reader must know of them, of the runs in their folder."""
        said = [self._matched(table, folder) for table in results.tables if self.match]
        return [*filter(None, said), *([self._tuned()] if self.tune and self.choices else [])]

    def _matched(self, table: Table, folder: Path) -> str:
        """How close each came, by what the runs themselves recorded."""
        baseline = table.baseline or table.configurations[0]
        ratios = {}
        for each in table.configurations:
            ratio = cost_ratio(str(self.match), each.all, baseline.all)
            if _is_in(each, folder) and each is not baseline and ratio is not None:
                ratios[" ".join([each.label, *self._matching(each)])] = ratio
        if not ratios:
            return ""
        by = f" by {self.size}" if self.size else ""
        said = f"Matched in {self.match}{by}: {listing([f'{label} {ratio:.3f}' for label, ratio in ratios.items()])} "
        missed = [label for label, ratio in ratios.items() if abs(ratio - 1) > MISSED]
        far = f" Farther than {MISSED:.0%}, so that none is judged against it: {listing(missed)}." if missed else ""
        return f"{said}of those of {baseline.label}.{far}"

    def _matching(self, configuration: Configuration) -> list[str]:
        """The overrides that made it cost as much, which are no part of its name."""
        tuned = Tuning.read(self.tune).key if self.tune else None
        return [
            word
            for word in configuration.first.overrides
            if word in self.given and word.partition("=")[0] != tuned and word not in configuration.label.split()
        ]

    def _tuned(self) -> str:
        tuning = Tuning.read(str(self.tune))
        chosen = [
            f"{label} {choice.value}" + (" (an end of the range: a better one may lie beyond)" if choice.edge else "")
            for label, choice in self.choices.items()
        ]
        return (
            f"{tuning.key} was tuned for each by the same {len(tuning.values)} trials ({', '.join(tuning.words)}) with seed "
            f"{SEED}, which is none of those compared: {listing(chosen)}."
        )


def cost_ratio(what: str, mine: Sequence[RunRecord], theirs: Sequence[RunRecord]) -> float | None:
    """What these runs cost over what those do, by what was matched; None where either is not on record."""
    costs = _cost(mine, what), _cost(theirs, what)
    return costs[0] / costs[1] if costs[0] is not None and costs[1] else None


def missed(what: str, mine: Sequence[RunRecord], theirs: Sequence[RunRecord]) -> str:
    """Why no verdict is given on two sides that were to cost the same, and what they differ in; empty where they do."""
    ratio = cost_ratio(what, mine, theirs)
    if ratio is None or abs(ratio - 1) <= MISSED:
        return ""
    return f"not matched: {what} {ratio:.3f} of the other's, farther than {MISSED:.0%}"


def withhold(results: Results, found: Mapping[Path, Terms]) -> Results:
    """The results without a verdict on any two that were to cost the same and did not, nor on a trend over such two."""

    def why(each: Comparison) -> str:
        sides = each.configuration, each.baseline
        asked = [terms.match for folder, terms in found.items() if all(_is_in(side, folder) for side in sides)]
        return next(filter(None, (missed(what, sides[0].all, sides[1].all) for what in asked if what)), "")

    def table(given: Table) -> Table:
        compared = [replace(each, missed=why(each)) for each in given.comparisons]
        compared = [
            replace(each, verdict=UNDECIDED) if each.missed and each.verdict != TOO_FEW else each for each in compared
        ]
        unequal = {each.configuration for each in compared if each.missed}
        trends = [
            replace(each, verdict=UNDECIDED)
            if each.verdict != TOO_FEW and not unequal.isdisjoint(given.grid[each.variant].values())
            else each
            for each in given.trends
        ]
        return replace(given, comparisons=compared, trends=trends)

    return replace(results, tables=list(map(table, results.tables)))


def _is_in(configuration: Configuration, folder: Path) -> bool:
    return any(run.folder.resolve().is_relative_to(folder.resolve()) for run in configuration.all)


def _cost(runs: Sequence[RunRecord], what: str) -> float | None:
    """The mean over seeds; time is that of the training alone."""

    def average(key: str) -> float | None:
        numbers = [number for run in runs if (number := run.number(key)) is not None]
        return fmean(numbers) if numbers else None

    if what != "time":
        return average(KEPT[what])
    tokens, rate = average("tokens_seen"), average("tokens_per_second")
    return tokens / rate if tokens and rate else None


def kept(folders: Sequence[Path]) -> dict[Path, Terms]:
    """The terms of these folders, of those below them, and of a sweep whose runs they are."""
    below = [file.parent for folder in folders for file in sorted(folder.rglob(FILE))]
    places: dict[Path, Path] = {}
    for place in (*folders, *below, *(folder.resolve().parent for folder in folders)):
        places.setdefault(place.resolve(), place)
    return {place: terms for place in places.values() if (terms := Terms.read(place)) is not None}


def given(found: Mapping[Path, Terms], runs: Sequence[RunRecord]) -> set[str]:
    """The overrides by which these runs were matched and tuned; none unless all of them were, on the same terms, since names
    must tell those that were from those that were not.
    """
    fair = {folder.resolve(): terms for folder, terms in found.items() if terms.given}
    of_each = [
        next((terms for folder, terms in fair.items() if run.folder.resolve().is_relative_to(folder)), None)
        for run in runs
    ]
    same = {None if terms is None else (terms.match, terms.size, terms.tune) for terms in of_each}
    return set() if None in same or len(same) > 1 else {word for terms in fair.values() for word in terms.given}


def agreed(found: Mapping[Path, Terms], folders: Sequence[Path]) -> Terms:
    """What all of these folders fixed alike; of most seeds the largest number, since any looks must be allowed for."""
    most = max((each.most_seeds for each in found.values() if each.most_seeds is not None), default=None)
    terms = [found[folder] for folder in folders if folder in found]
    if len(terms) < len(folders):
        return Terms(most_seeds=most)
    baselines, margins = ({getattr(each, name) for each in terms} for name in ("baseline", "margin"))
    return Terms(baselines.pop() if len(baselines) == 1 else None, margins.pop() if len(margins) == 1 else None, most)
