"""The report: what each swap did, as a table in the terminal, JSON, CSV and one HTML page."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import RequestError
from lab.runs import words
from lab.runs.collect import read_runs
from lab.runs.compare import (
    BETTER,
    CONFIDENCE,
    TOO_FEW,
    UNDECIDED,
    WORSE,
    Comparison,
    Configuration,
    Results,
    Table,
    compare,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table as RichTable

STYLES = {BETTER: "bold green", WORSE: "bold red", UNDECIDED: "yellow", TOO_FEW: "dim"}


def report(folders: str | Path | Sequence[str | Path], baseline: str | None = None) -> Report:
    """Read the runs in these folders and below, and compare their configurations over paired seeds.

    Args:
        folders: of runs, multiruns or sweeps; one, or several.
        baseline: the configuration that the others are compared with, by its label, an override or an option;
            `previous` for a ladder of cumulative swaps. By default the first of the sweep's plan, or the one
            that started first.

    Raises:
        RequestError: a folder is missing, no run can be read, or `baseline` is not among the configurations.
    """
    paths = [Path(folder) for folder in ([folders] if isinstance(folders, str | Path) else folders)]
    return Report(paths, compare(read_runs(paths), baseline))


@dataclass
class Report:
    """What was read and found, ready to be printed or written.

    Attributes:
        folders: that were asked for.
        results: the numbers.
        page: where `write_html` put the page, for `print` to say so.
    """

    folders: list[Path]
    results: Results
    page: Path | None = None

    def print(self, console: Console | None = None) -> None:
        """The tables, then in sentences what was found, what did not finish, and where to look further."""
        from rich.console import Console
        from rich.text import Text

        console = console or Console()
        for table in self.results.tables:
            console.print(Text(words.heading(table, self.results), style="bold"))
            for part in _fitting(table, console):
                console.print(part)
            for comparison in table.comparisons:
                console.print(_finding(comparison, table))
            console.print()
        if not self.results.tables:
            console.print(Text("No run is finished: there is nothing to compare.", style="bold"))
        if self.results.not_counted:
            console.print(Text("Not counted", style="bold"))
            for line in words.not_counted(self.results):
                console.print(Text(f"• {line}"))
            console.print()
        for note in self.results.notes:
            console.print(Text(f"Note: {words.plain(note)}"))
        if self.results.comparisons:
            console.print(Text(words.rule(self.results), style="dim"))
        if self.page:
            console.print(Text(f"Page: {self.page}"), soft_wrap=True)
        for line in words.wandb_runs(self.results):
            console.print(Text(line), soft_wrap=True)

    def to_json(self) -> dict[str, Any]:
        """The whole report as one document of plain values; unknown numbers are None."""
        return {
            "folders": [str(folder) for folder in self.folders],
            "confidence": CONFIDENCE,
            "rule": words.rule(self.results),
            "mode": "previous" if self.results.ladder else "baseline",
            "tables": [_table_json(table) for table in self.results.tables],
            "not_counted": [
                {
                    "folder": str(run.folder),
                    "status": run.status,
                    "error": why or None,
                    "label": label,
                    "seed": run.seed,
                }
                for label, run, why in self.results.not_counted
            ],
            "notes": list(self.results.notes),
            "page": None if self.page is None else str(self.page),
            "wandb": words.wandb_places(self.results),
        }

    def write_csv(self, path: str | Path) -> None:
        """One row a configuration, numbers in full; unknown ones are empty.

        Raises:
            RequestError: the path can't be written.
        """
        rows = [_row(table, configuration) for table in self.results.tables for configuration in table.configurations]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=CSV_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        _write(Path(path), text.getvalue())

    def write_html(self, path: str | Path) -> None:
        """One page that holds all it needs, charts included, and works without a network.

        Raises:
            RequestError: the path can't be written.
        """
        from lab.runs.page import page

        _write(Path(path), page(self))
        self.page = Path(path)


def _finding(comparison: Comparison, table: Table) -> RenderableType:
    from rich.text import Text

    text = Text("• ")
    text.append(words.plain(words.sentence(comparison, table, against=False)))
    if unmatched := words.unmatched(comparison):
        text.append(f" {unmatched[0].upper()}{unmatched[1:]}.", style="yellow")
    text.highlight_regex(rf"(?<=: ){comparison.verdict}(?=[ .])", STYLES[comparison.verdict])
    return text


def _fitting(table: Table, console: Console) -> list[RenderableType]:
    """One table where the terminal is wide enough; else quality and cost apart."""
    from rich.measure import Measurement

    whole = _rich(table, [*words.quality_columns(table, " "), *words.cost_columns(table)])
    if Measurement.get(console, console.options.update(max_width=10_000), whole).maximum <= console.width:
        return [whole]
    return [_rich(table, words.quality_columns(table, "\n")), _rich(table, words.cost_columns(table))]


def _rich(table: Table, columns: Sequence[words.Column]) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, header_style="")
    header, names = words.short_names(table)
    shown.add_column(Text(words.plain(header)), overflow="fold")
    for column in columns:
        verdict = column.title == "verdict"
        shown.add_column(Text(column.title), justify="left" if verdict else "right", no_wrap=not verdict)
    for place, name in enumerate(names):
        cells = [Text(column.cells[place], style=STYLES.get(column.cells[place], "")) for column in columns]
        shown.add_row(Text(words.plain(name)), *cells)
    return shown


COUNTED = ("parameters", "parameters_active", "flops", "tokens_seen", "steps", "seconds", "tokens_per_second")
CSV_COLUMNS = [
    *(
        "configuration",
        "measure",
        "unit",
        "data_fingerprint",
        *COUNTED,
        "peak_memory_bytes",
        "seeds",
        "mean",
        "sd",
    ),
    *("baseline", "pairs", "difference", "low", "high", "p", "p_holm", "verdict", "unmatched"),
]


def _row(table: Table, configuration: Configuration) -> dict[str, Any]:
    comparison = table.comparison_of(configuration)
    row: dict[str, Any] = {
        "configuration": configuration.label,
        "measure": table.measure.name,
        "unit": table.measure.unit,
        "data_fingerprint": table.data_fingerprint,
        **{key: configuration.average(key) for key in COUNTED},
        "peak_memory_bytes": words.peak_memory(configuration),
        "seeds": len(configuration.runs),
        "mean": configuration.mean,
        "sd": configuration.spread,
    }
    return row if comparison is None else row | _comparison_row(comparison)


def _comparison_row(comparison: Comparison) -> dict[str, Any]:
    difference = comparison.difference
    return {
        "baseline": comparison.baseline.label,
        "pairs": len(difference.seeds),
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "p": difference.p,
        "p_holm": comparison.corrected_p,
        "verdict": comparison.verdict,
        "unmatched": words.unmatched(comparison),
    }


def _table_json(table: Table) -> dict[str, Any]:
    return {
        "measure": {
            "name": table.measure.name,
            "unit": table.measure.unit,
            "direction": table.measure.direction,
        },
        "data_fingerprint": table.data_fingerprint,
        "tokenizer": table.tokenizer,
        "baseline": None if table.baseline is None else table.baseline.label,
        "configurations": [_configuration_json(each) for each in table.configurations],
        "comparisons": [_comparison_json(each, table) for each in table.comparisons],
    }


def _configuration_json(configuration: Configuration) -> dict[str, Any]:
    runs = configuration.runs
    return {
        "label": configuration.label,
        "configuration": configuration.key,
        "overrides": list(configuration.first.overrides),
        "choices": configuration.first.choices,
        **{key: configuration.average(key) for key in COUNTED},
        "peak_memory_bytes": words.peak_memory(configuration),
        "seeds": list(runs),
        "values": {str(seed): value for seed, value in configuration.values.items()},
        "mean": configuration.mean,
        "sd": configuration.spread,
        "folders": {str(seed): str(run.folder) for seed, run in runs.items()},
        "command": words.command(configuration),
    }


def _comparison_json(comparison: Comparison, table: Table) -> dict[str, Any]:
    return {
        "label": comparison.configuration.label,
        **_comparison_row(comparison),
        "seeds": list(comparison.difference.seeds),
        "unmatched": comparison.unmatched,
        "whole_road": comparison.whole_road,
        "finding": words.sentence(comparison, table, against=True),
    }


def _write(path: Path, text: str) -> None:
    from lab.runs.folder import write_atomically

    try:
        write_atomically(path, text)
    except OSError as error:
        raise RequestError(f"{path} cannot be written: {error.strerror or error}") from error
