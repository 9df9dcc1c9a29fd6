"""The report: what each swap did, as a table in the terminal, JSON, files and one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.runs.comparison import export, method, words
from lab.runs.comparison.collect import by_measure, read_runs, searched
from lab.runs.comparison.columns import Column, cost_columns, part_columns, peak_memory, quality_columns, shared
from lab.runs.comparison.compare import MANY, PREVIOUS, Comparison, Configuration, Results, Table, compare
from lab.runs.comparison.differences import CONFIDENCE
from lab.runs.comparison.numbers import plain
from lab.runs.comparison.scaling import Scaling, scaling
from lab.runs.comparison.verdict import BETTER, EQUIVALENT, TOO_FEW, UNDECIDED, WORSE
from lab.runs.terms import agreed, given, kept, withhold

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from lab.figures import Figures

STYLES = {BETTER: "bold green", WORSE: "bold red", EQUIVALENT: "bold cyan", UNDECIDED: "yellow", TOO_FEW: "dim"}


def report(
    folders: str | Path | Sequence[str | Path],
    baseline: str | None = None,
    margin: float | None = None,
    scale: Sequence[str] = (),
    most_seeds: int | None = None,
    measure: str | None = None,
) -> Report:
    """Read the runs in these folders and below, and compare their configurations over paired seeds.

    What a sweep fixed beforehand (`lab.runs.terms`) holds for the report of its folder too, unless given here; of several
    folders what all of them fixed alike. Where seeds were added in any of them, the verdicts allow for the looks.

    Args:
        folders: of runs, multiruns or sweeps; one, or several.
        baseline: the configuration that the others are compared with, by its label, an override or an option;
            `previous` for a ladder of cumulative swaps. By default the first of the sweep's plan, or the one
            that started first.
        margin: the largest difference that makes none, in the unit of the measure; with it a verdict may be `equivalent`,
            other than in a table whose bits per byte are null and are stood in for.
        scale: keys that set the size, like `model.dim`: variants are compared within each size, and along it.
        most_seeds: where seeds were added until it was decided, how many at most; the verdicts allow for the looks.
        measure: a number of their records to compare by in place of their headline, as `KEY` or `KEY:max`. A margin that a
            sweep fixed is one of the headline's, and asks nothing of another measure.

    Raises:
        RequestError: a folder is missing, no run can be read, `baseline` is not among the configurations, a margin is
            not above 0, a key of `scale` is no number that varies, or there are more pairs than `most_seeds`.
    """
    paths = [Path(folder) for folder in ([folders] if isinstance(folders, str | Path) else folders)]
    runs, terms = read_runs(paths), kept(paths)
    before = agreed(terms, paths)
    if measure is not None:
        headlines = {run.measure.name for run in runs if run.result}
        runs = by_measure(runs, measure)
        if headlines != {run.measure.name for run in runs if run.result}:
            before = replace(before, margin=None)  # which is in the headline's unit
    if baseline is None and not (scale and before.baseline == PREVIOUS):
        baseline = before.baseline
    apart = {word for word in given(terms, runs) if word.partition("=")[0] not in scale}
    results = compare(runs, baseline, before.rule(margin, most_seeds), scale, searched(paths), apart)
    results = withhold(results, terms)
    said = [note for folder, each in terms.items() for note in each.notes(results, folder)]
    return Report(paths, replace(results, notes=[*said, *results.notes]))


@dataclass(frozen=True)
class Preface:
    """What the page of an experiment says before its comparisons.

    Attributes:
        claim: as people state it.
        verdict: on the claim, in a word.
        statements: of which it is made, each with what came of it and the numbers in a sentence.
        rule: how that was reached.
    """

    claim: str
    verdict: str
    statements: Sequence[tuple[str, str]]
    rule: str


@dataclass
class Report:
    """What was read and found, ready to be printed or written.

    Attributes:
        folders: that were asked for.
        results: the numbers.
        page: where `write_html` put the page, for `print` to say so.
        wandb: where `publish` put it.
        preface: of an experiment.
    """

    folders: list[Path]
    results: Results
    page: Path | None = None
    wandb: str | None = None
    preface: Preface | None = None

    @cached_property
    def scalings(self) -> list[Scaling | None]:
        """For each table what its scale shows."""
        return [scaling(table) for table in self.results.tables]

    def print(self, console: Console | None = None) -> None:
        """The tables, then in sentences what was found, what did not finish, and where to look further."""
        from rich.console import Console
        from rich.text import Text

        console = console or Console()
        for table, scale in zip(self.results.tables, self.scalings, strict=True):
            console.print(Text(words.heading(table, self.results), style="bold"))
            for part in _fitting(table, console):
                console.print(part)
            for whole, columns in part_columns(table):
                kind, columns = shared(columns)
                console.print(Text(f"{whole}, by {kind}" if kind else f"{whole}, in parts", style="bold"))
                console.print(_rich(table, columns))
            if table.is_search:
                console.print(Text(f"• {plain(words.best(table))}. {words.LUCK}"))
            shown = table.comparisons[:MANY] if table.is_search else table.comparisons
            for comparison in shown:
                console.print(_finding(comparison, table))
            if len(shown) < len(table.comparisons):
                console.print(Text(f"• and {len(table.comparisons) - len(shown)} more, on the page and with --json"))
            for line in words.scaling(scale, table) if scale else ():
                console.print(Text(f"• {plain(line)}"))
            if floor := words.noise_floor(table):
                console.print(Text(floor, style="dim"))
            console.print()
        if not self.results.tables:
            console.print(Text("No run is finished: there is nothing to compare.", style="bold"))
        if self.results.not_counted:
            console.print(Text("Not counted", style="bold"))
            lines = words.not_counted(self.results)
            for line in lines if len(lines) <= 2 * MANY else lines[:MANY]:
                console.print(Text(f"• {line}"))
            if len(lines) > 2 * MANY:
                console.print(Text(f"• and {len(lines) - MANY} more: {words.apart(self.results)}"))
            console.print()
        for note in self.results.notes:
            console.print(Text(f"Note: {plain(note)}"))
        if self.results.comparisons:
            console.print(Text(method.said(self.results), style="dim"))
        if self.page:
            console.print(Text(f"Page: {self.page}"), soft_wrap=True)
        if self.wandb:
            kept = "" if "://" in self.wandb else ", kept until the server can be reached: give --wandb again then"
            console.print(Text(f"W&B report: {self.wandb}{kept}"), soft_wrap=True)
        for line in words.wandb_runs(self.results):
            console.print(Text(line), soft_wrap=True)

    def to_json(self) -> dict[str, Any]:
        """The whole report as one document of plain values; unknown numbers are None."""
        return {
            "folders": [str(folder) for folder in self.folders],
            "confidence": CONFIDENCE,
            "margin": self.results.rule.margin,
            "most_seeds": self.results.rule.most_seeds,
            "rule": method.said(self.results),
            "mode": "previous" if self.results.ladder else "baseline",
            "tables": [
                _table_json(table) | {"scaling": scale and _scaling_json(scale, table)}
                for table, scale in zip(self.results.tables, self.scalings, strict=True)
            ],
            "not_counted": [
                {
                    "folder": str(run.folder),
                    "status": run.status,
                    "error": why or None,
                    "label": label,
                    "seed": run.seed,
                    "command": words.command([run]),
                }
                for label, run, why in self.results.not_counted
            ],
            "notes": list(self.results.notes),
            "page": None if self.page is None else str(self.page),
            "wandb": words.wandb_places(self.results),
            "wandb_report": self.wandb,
        }

    def write_table(self, path: str | Path) -> None:
        """One row a configuration, in the format that the ending names: `.csv`, `.parquet`, `.tex`, `.md`.

        Raises:
            RequestError: the ending is of no format, or the path can't be written.
        """
        export.write(self.results, Path(path))

    def write_html(self, path: str | Path) -> None:
        """One page that holds all it needs, charts included, and works without a network.

        Raises:
            RequestError: the path can't be written.
        """
        from lab.runs.comparison.page import page

        export.save(Path(path), page(self))
        self.page = Path(path)

    def publish(self) -> str:
        """A report and a workspace in W&B; returns its address. Offline the definition is checked and kept: its path.

        Raises:
            RequestError: no run is finished, the server refuses, or the definition can't be written.
        """
        from lab.runs.comparison.page import title
        from lab.runs.comparison.wandb_report import publish

        self.wandb = publish(self.results, title(self), self.folders[0])
        return self.wandb


def _finding(comparison: Comparison, table: Table) -> RenderableType:
    from rich.text import Text

    text = Text("• ")
    text.append(plain(words.sentence(comparison, table, against=False)))
    if unmatched := words.unmatched(comparison):
        text.append(f" {unmatched[0].upper()}{unmatched[1:]}.", style="yellow")
    text.highlight_regex(rf"(?<=: ){comparison.verdict}(?=[ .])", STYLES[comparison.verdict])
    return text


def _fitting(table: Table, console: Console) -> list[RenderableType]:
    """One table where the terminal is wide enough; else quality and cost apart."""
    from rich.measure import Measurement

    whole = _rich(table, [*quality_columns(table, " "), *cost_columns(table)])
    if Measurement.get(console, console.options.update(max_width=10_000), whole).maximum <= console.width:
        return [whole]
    return [_rich(table, quality_columns(table, "\n")), _rich(table, cost_columns(table))]


def _rich(table: Table, columns: Sequence[Column]) -> Figures:
    from rich.text import Text

    from lab.figures import Figures

    shown = Figures(header_style="")
    header, names = words.column_names(table)
    shown.add_column(Text(plain(header)), overflow="fold")
    for column in columns:
        verdict = column.title == "verdict"
        shown.add_column(Text(column.title), justify="left" if verdict else "right", no_wrap=not verdict)
    for place, name in enumerate(names):
        cells = [Text(column.cells[place], style=STYLES.get(column.cells[place], "")) for column in columns]
        shown.add_row(Text(plain(name)), *cells)
    return shown


def _table_json(table: Table) -> dict[str, Any]:
    return {
        "measure": {
            "name": table.measure.name,
            "unit": table.measure.unit,
            "direction": table.measure.direction,
        },
        "data_fingerprint": table.data_fingerprint,
        "asked": table.asked,
        "baseline": None if table.baseline is None else table.baseline.label,
        "noise_sd": None if table.noise is None else table.noise.sd,
        "noise_floor": table.noise_floor,
        "configurations": [_configuration_json(each, table) for each in table.configurations],
        "parts": {
            f"{whole}/{column.title}": list(column.values)
            for whole, columns in part_columns(table)
            for column in columns
        },
        "comparisons": [_comparison_json(each, table) for each in table.comparisons],
    }


def _configuration_json(configuration: Configuration, table: Table) -> dict[str, Any]:
    runs = configuration.runs
    return {
        "label": configuration.label,
        "configuration": configuration.key,
        "overrides": list(configuration.first.overrides),
        "choices": configuration.first.choices,
        **{key: configuration.average(key) for key in export.COUNTED},
        "peak_memory_bytes": peak_memory(configuration),
        "seeds": list(runs),
        "values": {str(seed): value for seed, value in configuration.values.items()},
        "mean": configuration.mean,
        "sd": configuration.spread,
        "folders": {str(seed): str(run.folder) for seed, run in runs.items()},
        "pareto": table.fronts(configuration),
        "command": words.command(configuration.all),
    }


def _comparison_json(comparison: Comparison, table: Table) -> dict[str, Any]:
    return {
        "label": comparison.configuration.label,
        **export.comparison_row(comparison),
        "seeds": list(comparison.difference.seeds),
        "unmatched": comparison.unmatched,
        "whole_road": comparison.whole_road,
        "finding": words.sentence(comparison, table, against=True),
    }


def _scaling_json(scale: Scaling, table: Table) -> dict[str, Any]:
    return {
        "axis": scale.axis,
        "curves": [
            {
                "variant": each.name,
                "costs": list(each.costs),
                "means": [one.mean for one in each.configurations],
                "floor": each.curve and each.curve.floor,
                "factor": each.curve and each.curve.factor,
                "exponent": each.curve and each.curve.exponent,
                "reference": each.curve and each.curve.reference,
                "floor_interval": each.curve and list(each.curve.floor_ends or ()),
                "exponent_interval": each.curve and list(each.curve.exponent_ends or ()),
            }
            for each in scale.variants
        ],
        "trends": [
            {
                "variant": each.variant,
                "baseline": each.baseline,
                "difference": each.mean.mean,
                "slope": each.slope.mean,
                "low": each.slope.low,
                "high": each.slope.high,
                "p": each.slope.p,
                "verdict": each.verdict,
            }
            for each in scale.trends
        ],
        "findings": words.scaling(scale, table),
    }
