"""The columns of the report's tables: what was reached, and what it took."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lab.runs.comparison.compare import Configuration, Table
from lab.runs.comparison.numbers import duration, memory, scaled, signed
from lab.runs.comparison.words import interval, level, places

SPEED = "train/tokens_per_second"
"""What parts of this key hold, such as bands of length, the report shows too."""


@dataclass(frozen=True)
class Column:
    """A heading, and for each configuration what the table shows and what it is sorted by."""

    title: str
    cells: list[str]
    values: Sequence[float | str | None]


def quality_columns(table: Table, gap: str) -> list[Column]:
    """What was reached; `gap` stands between a difference and its interval."""
    digits = places(table)
    rows = table.configurations
    own = [table.comparison_of(each) for each in rows]
    changes = [
        "" if each is None else f"{signed(each.difference.mean, digits)}{gap}{interval(each, digits)}".strip()
        for each in own
    ]
    alone = "baseline" if table.baseline else "first"
    verdicts = [alone if each is None else each.verdict for each in own]
    return [
        Column("seeds", [str(len(each.runs)) for each in rows], [len(each.runs) for each in rows]),
        Column(table.measure.title, [level(each, digits) for each in rows], [each.mean for each in rows]),
        Column(f"difference{gap}[95%]", changes, [0 if each is None else each.difference.mean for each in own]),
        Column("verdict", verdicts, verdicts),
    ]


def cost_columns(table: Table) -> list[Column]:
    """What training took: of one run, the mean over seeds; of memory the highest."""

    def column(title: str, key: str, shown: Callable[[float | None], str]) -> Column:
        values = [each.average(key) for each in table.configurations]
        return Column(title, [shown(value) for value in values], values)

    peaks = [peak_memory(each) for each in table.configurations]
    counts = [each.average("parameters") for each in table.configurations]
    return [
        Column("parameters", [parameters(each) for each in table.configurations], counts),
        column("FLOPs", "flops", scaled),
        column("tokens", "tokens_seen", scaled),
        column("time", "seconds", duration),
        column("tokens/s", "tokens_per_second", scaled),
        Column("memory", [memory(peak) for peak in peaks], peaks),
    ]


def part_columns(table: Table) -> list[tuple[str, list[Column]]]:
    """The measure, and the speed of training, in the parts that runs report them in, such as `val/chrf/source_16-31`: of each
    a title and one column a part, the mean over seeds.
    """
    found = []
    for whole in (table.measure.name, SPEED):
        names = {key for each in table.configurations for run in each.runs.values() for key in run.result}
        parts = sorted((key for key in names if key.startswith(f"{whole}/")), key=_by_number)
        columns = []
        for key in parts:
            values = [each.average(key) for each in table.configurations]
            shown = ["" if value is None else f"{value:,.4g}" for value in values]
            columns.append(Column(key.removeprefix(f"{whole}/"), shown, values))
        if columns:
            found.append((whole, columns))
    return found


def shared(columns: Sequence[Column]) -> tuple[str, list[Column]]:
    """What the titles of all parts begin with, up to an underscore, and the columns without it: `distance` of `distance_2-3`
    and `distance_4-7`; nothing where they share nothing.
    """
    begin = os.path.commonprefix([column.title for column in columns])
    begin = begin[: begin.rfind("_") + 1]
    return begin.removesuffix("_"), [replace(each, title=each.title.removeprefix(begin)) for each in columns]


def _by_number(key: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", key)]


def parameters(configuration: Configuration) -> str:
    """The count, and how many are active per token where that is fewer."""
    total, active = configuration.average("parameters"), configuration.average("parameters_active")
    some = f" ({scaled(active)} active)" if active is not None and active != total else ""
    return scaled(total) + some


def peak_memory(configuration: Configuration) -> float | None:
    """The highest peak over the seeds, bytes."""
    return max(configuration.numbers("peak_memory_bytes"), default=None)
