"""What a reader must know to read the tables right: what is missing, what can't be compared, what else differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lab.runs.code import changed
from lab.runs.comparison import labels
from lab.runs.comparison.collect import LOSS_PER_TOKEN, NUMBERED, RunRecord

if TYPE_CHECKING:
    from lab.runs.comparison.compare import Table

SEEN = 0.05
"""Share of validated answers that may be known by heart without a word."""


def missing(tables: Sequence[Table], names: Mapping[str, str], chosen: str | None, ladder: bool) -> list[str]:
    """What is said of configurations that were asked for and have no finished run."""
    present = {each.key for table in tables for each in table.configurations}
    absent = [name for key, name in names.items() if key not in present]
    if not tables or (not absent and chosen is None):
        return []
    notes = []
    if ladder and absent:
        notes.append(
            f"Without a finished run: {labels.listing(absent)}; the next is compared with the last that has one."
        )
    elif chosen is None and names[next(iter(names))] in absent:
        notes.append(f"The first configuration, {absent[0]}, has no finished run; the first that has is the baseline.")
    for table in tables:
        if chosen is not None and table.baseline is not None and table.baseline.key != chosen:
            notes.append(
                f"{names[chosen]} was not run on the data of {table.baseline.label}, which is the baseline there."
            )
    return notes


def cautions(tables: Sequence[Table], runs: Sequence[RunRecord]) -> list[str]:
    """Runs that can't be compared, seeds that are no replicates, circumstances that differ."""
    notes = []
    if len({table.data_fingerprint for table in tables}) > 1:
        notes.append("The runs were validated on different data; runs on different data are not compared.")
    if len({table.measure.name for table in tables}) > 1:
        names = ", ".join(dict.fromkeys(table.measure.name for table in tables))
        notes.append(f"The runs have different headline measures ({names}); they are not compared across them.")
    asked: dict[tuple[str | None, str], dict[str | None, None]] = {}
    for table in tables:
        asked.setdefault((table.data_fingerprint, table.measure.name), {})[table.asked] = None
    notes += [
        f"By {name} the runs were asked different questions ({'; '.join(filter(None, questions))}); they are not compared."
        for (_, name), questions in asked.items()
        if len(questions) > 1
    ]
    for table in tables:
        lost = [share for each in table.configurations for share in each.numbers("tokenizer/lost_share")]
        if table.measure == LOSS_PER_TOKEN and any(lost):
            notes.append(
                f"Bits per byte are undefined for {table.asked}, which loses {max(lost):.1%} "
                "of the text: its runs are compared by val/loss, with each other alone."
            )
        if table.stands_in and any(run.number("val/cut_examples") for run in table.firsts):
            notes.append(
                f"Bits per byte are undefined where validated examples are cut ({table.asked}): these runs are compared by "
                "val/loss, with those alone that cut as many at the same length."
            )
        notes += [
            f"All seeds of {each.label} reached the same value: they are no replicates, and its intervals mean nothing."
            for each in table.configurations
            if each.spread == 0
        ]
        if key := _sizes(table):
            notes.append(
                f"Every variant was run at several sizes of {key}: --scale {key} compares within each, and along it."
            )
    if (seen := max((run.number("val/seen_share") or 0.0 for run in runs), default=0.0)) > SEEN:
        notes.append(
            f"Up to {seen:.0%} of the validated answers are of rows that were trained on too; memory gives those."
        )
    if unseeded := sum(NUMBERED in run.result for run in runs):
        notes.append(
            f"{unseeded} runs recorded no seed: they are numbered as they began, and pair by that alone, whatever their data."
        )
    for key in ("threads", "devices"):
        counts = sorted({number for run in runs if (number := run.number(key)) is not None})
        if len(counts) > 1:
            notes.append(
                f"The runs used different numbers of {key} ({', '.join(f'{count:g}' for count in counts)}); "
                "times and last digits differ for that reason alone."
            )
    if modules := changed(run.result for run in runs):
        notes.append(
            f"The code of {labels.listing(modules)} changed between these runs: those before and after are not of one and the "
            "same thing, nor replicates of each other."
        )
    versions = {str(found.get("torch")) for run in runs if isinstance(found := run.result.get("versions"), dict)}
    if len(versions) > 1:
        notes.append(f"The runs were made with different versions of torch ({', '.join(sorted(versions))}).")
    return notes


def _sizes(table: Table) -> str | None:
    """A size of the model that the configurations form a grid over: all variants at three sizes or more."""
    if table.scale or table.baseline is None:
        return None
    runs = [each.first for each in table.configurations]
    settings = labels.varied(runs)
    for key in settings[0]:
        column = [setting.get(key) for setting in settings]
        if key.startswith("model.") and all(isinstance(value, int | float) for value in column):
            variants, sizes = (len(set(part)) for part in labels.variants_and_sizes(runs, [key]))
            if sizes > 2 and variants > 1 and variants * sizes == len(runs):
                return key
    return None
