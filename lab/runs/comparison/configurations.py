"""Configurations: the runs that count, brought together by what they share, and apart by what can't be compared.

Runs of one configuration differ by seed alone. Configurations are comparable that were validated on the same data by the
same measure, and by that were asked the same: a loss per token is of one tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev

from lab.runs.comparison import labels
from lab.runs.comparison.collect import (
    DIVERGED,
    FAILED,
    FINISHED,
    LOSS_PER_TOKEN,
    NOT_STARTED,
    PRUNED,
    Measure,
    RunRecord,
)

NO_MEASURES = ("seed", "seconds")
"""Numbers of another program's run that nobody compares by."""


@dataclass(frozen=True, eq=False)
class Configuration:
    """The runs that count of one configuration, one a seed.

    Attributes:
        key: its hash.
        label: what tells it from the others.
        runs: seed -> run, finished and with a value.
    """

    key: str
    label: str
    runs: Mapping[int, RunRecord]

    @cached_property
    def values(self) -> dict[int, float]:
        """Seed -> what the run reached."""
        return {seed: run.value for seed, run in self.runs.items() if run.value is not None}

    @cached_property
    def mean(self) -> float:
        return fmean(self.values.values())

    @cached_property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None for a single one."""
        return stdev(self.values.values()) if len(self.runs) > 1 else None

    @property
    def all(self) -> list[RunRecord]:
        return list(self.runs.values())

    @property
    def first(self) -> RunRecord:
        return self.all[0]

    def numbers(self, key: str) -> list[float]:
        """What the runs recorded under this key of `result.json`; those without a number are left out."""
        return [number for run in self.runs.values() if (number := run.number(key)) is not None]

    def average(self, key: str) -> float | None:
        numbers = self.numbers(key)
        return fmean(numbers) if numbers else None


def key_of(run: RunRecord) -> str:
    return run.configuration or _words(run)


def count(
    runs: Sequence[RunRecord], names: Mapping[str, str]
) -> tuple[list[RunRecord], list[tuple[str, RunRecord, str]], list[str]]:
    """The runs that are results; those that are not, and why; notes on those left out for a newer one."""
    newest: dict[tuple[str, int, str | None], RunRecord] = {}
    not_counted, notes = [], []
    for run in runs:
        label = names[key_of(run)] if run.result else " ".join(labels.told(run.overrides).values()) or run.folder.name
        if run.status != FINISHED:
            not_counted.append((label, run, run.error or _behind(run)))
        elif run.seed is None or run.value is None:
            not_counted.append((label, run, _missing(run)))
        else:
            place = (key_of(run), run.seed, run.data_fingerprint)
            older, newer = sorted((newest.get(place, run), run), key=lambda each: each.started)
            newest[place] = newer
            if older is not newer:
                notes.append(
                    f"{label} seed {run.seed} ran twice: {newer.folder} counts, being newer than {older.folder}."
                )
    counted = {(_words(run), run.seed) for run in newest.values()}
    not_counted = [
        each for each in not_counted if each[1].status != NOT_STARTED or (_words(each[1]), each[1].seed) not in counted
    ]  # what one folder has planned, another may hold
    return list(newest.values()), not_counted, notes


def _behind(run: RunRecord) -> str:
    """Where a run was when its sweep gave it up; empty for one that ended otherwise."""
    steps = run.number("steps")
    if run.status != PRUNED or run.value is None or steps is None:
        return ""
    return f"behind the others at step {steps:.0f}, {run.measure.name} {run.value:.4g}"


def given_up(runs: Iterable[RunRecord]) -> frozenset[str]:
    """What tells the configurations of which a run diverged, was pruned or failed: a sweep may leave their other seeds out."""
    return frozenset(_words(run) for run in runs if run.status in (DIVERGED, PRUNED, FAILED))


def was_given_up(run: RunRecord, others: frozenset[str]) -> bool:
    """Whether a run that has not started is of one of them."""
    return _words(run) in others


def _words(run: RunRecord) -> str:
    return " ".join(sorted(labels.told(run.overrides).values()))


def _missing(run: RunRecord) -> str:
    """Why a finished run can't be compared."""
    if run.seed is None:
        return "result.json holds no seed"
    if not run.foreign:
        return f"result.json holds no {run.measure.name}"
    known = sorted(
        key for key in run.result if run.number(key) is not None and not key.startswith("_") and key not in NO_MEASURES
    )
    return f"it holds no {run.measure.name}; --measure KEY compares by one of {labels.listing(known) or 'none'}"


Sort = tuple[str | None, Measure, str | None]


def comparable(runs: Iterable[RunRecord], names: Mapping[str, str]) -> dict[Sort, list[Configuration]]:
    """Configurations by what makes them comparable: data, measure, and what else its question depends on."""
    sorts: dict[Sort, dict[str, dict[int, RunRecord]]] = {}
    for run in runs:
        by_key = sorts.setdefault((run.data_fingerprint, run.measure, _asked(run)), {})
        by_key.setdefault(key_of(run), {})[run.seed or 0] = run
    order = list(names)
    return {
        sort: [Configuration(key, names[key], dict(sorted(by_key[key].items()))) for key in order if key in by_key]
        for sort, by_key in sorts.items()
    }


def _asked(run: RunRecord) -> str | None:
    """What the question behind a run's measure depends on beside the data, in words; of a part of a measure, as of all."""
    held, name = run.result.get("asks"), run.measure.name
    if isinstance(held, dict):
        return next((str(text) for key, text in held.items() if name == key or name.startswith(f"{key}/")), None)
    if name != LOSS_PER_TOKEN.name:
        return None
    size = run.config.get("tokenizer.vocab_size", "")
    return f"tokenizer {run.choices.get('tokenizer', 'of unknown kind')} {size}".strip()
