"""The report's table as a file: CSV and Parquet with the numbers in full, LaTeX and Markdown as one reads them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab.atomic import write_atomically
from lab.errors import RequestError
from lab.runs.comparison import words
from lab.runs.comparison.columns import Column, cost_columns, peak_memory, quality_columns
from lab.runs.comparison.compare import Comparison, Configuration, Results, Table
from lab.runs.comparison.numbers import plain

COUNTED = ("parameters", "parameters_active", "flops", "tokens_seen", "steps", "seconds", "tokens_per_second")
COLUMNS: dict[str, type] = {
    **dict.fromkeys(("configuration", "measure", "unit", "data_fingerprint"), str),
    **dict.fromkeys((*COUNTED, "peak_memory_bytes"), float),
    "seeds": int,
    **dict.fromkeys(("mean", "sd"), float),
    "baseline": str,
    "pairs": int,
    **dict.fromkeys(("difference", "low", "high", "p", "p_holm", "p_equivalent"), float),
    **dict.fromkeys(("bootstrap_low", "bootstrap_high", "effect", "detectable"), float),
    "seeds_needed": int,
    **dict.fromkeys(("verdict", "unmatched", "missed"), str),
}


def write(results: Results, path: Path) -> None:
    """Write the table in the format that the path's ending names.

    Raises:
        RequestError: the ending is none of a format's, or the path can't be written.
    """
    save(path, format_of(path)(results))


def format_of(path: Path) -> Callable[[Results], str | bytes]:
    """What makes a table in the format that a path's ending names. Raises `RequestError` where it names none."""
    make = FORMATS.get(path.suffix.lower())
    if make is None:
        raise RequestError(f"--table {path}: a table ends in one of {', '.join(FORMATS)}")
    return make


def save(path: Path, content: str | bytes) -> None:
    """Write a file that is there whole or not at all.

    Raises:
        RequestError: the path can't be written.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        raise RequestError(f"{path} cannot be written: {error.strerror or error}") from error


def row(table: Table, configuration: Configuration) -> dict[str, Any]:
    """What is known of a configuration, by column; unknown numbers are None."""
    comparison = table.comparison_of(configuration)
    own: dict[str, Any] = {
        "configuration": configuration.label,
        "measure": table.measure.name,
        "unit": table.measure.unit,
        "data_fingerprint": table.data_fingerprint,
        **{key: configuration.average(key) for key in COUNTED},
        "peak_memory_bytes": peak_memory(configuration),
        "seeds": len(configuration.runs),
        "mean": configuration.mean,
        "sd": configuration.spread,
    }
    return own if comparison is None else own | comparison_row(comparison)


def comparison_row(comparison: Comparison) -> dict[str, Any]:
    """What is known of a comparison, by column."""
    difference, corrected = comparison.difference, comparison.corrected
    low, high = difference.bootstrap or (None, None)
    return {
        "baseline": comparison.baseline.label,
        "pairs": len(difference.seeds),
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "p": difference.p,
        "p_holm": comparison.corrected_p,
        "p_equivalent": None if corrected is None else corrected.equivalent,
        "bootstrap_low": low,
        "bootstrap_high": high,
        "effect": comparison.effect,
        "detectable": comparison.detectable,
        "seeds_needed": comparison.seeds_needed,
        "verdict": comparison.verdict,
        "unmatched": words.unmatched(comparison),
        "missed": comparison.missed,
    }


def _rows(results: Results) -> list[dict[str, Any]]:
    return [row(table, configuration) for table in results.tables for configuration in table.configurations]


def as_csv(results: Results) -> str:
    """One row a configuration; unknown numbers are empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(COLUMNS))
    writer.writeheader()
    writer.writerows(_rows(results))
    return text.getvalue()


def as_parquet(results: Results) -> bytes:
    """The same with types, unknown values null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {str: pa.string(), float: pa.float64(), int: pa.int64()}
    rows = _rows(results)
    columns = {
        name: pa.array([None if (value := each.get(name)) is None else kind(value) for each in rows], kinds[kind])
        for name, kind in COLUMNS.items()
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def as_markdown(results: Results) -> str:
    """A table of GitHub's kind for each table of the report."""

    def escape(text: str) -> str:
        return "".join(f"\\{char}" if char in "\\|*_`<[" else char for char in plain(text))

    parts = []
    for table in results.tables:
        header, names, columns = _readable(table)
        lines = [f"**{escape(words.heading(table, results))}**", ""]
        lines.append(_line([escape(header), *(escape(column.title) for column in columns)]))
        lines.append(_line(["---", *("---" if column.title == "verdict" else "---:" for column in columns)]))
        for place, name in enumerate(names):
            lines.append(_line([escape(name), *(escape(column.cells[place]) for column in columns)]))
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


TEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "±": r"$\pm$",
    "–": "--",
    "[": "{[}",  # after a line's end it would begin an argument
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def as_latex(results: Results) -> str:
    """A `tabular` with the rules of the package booktabs for each table of the report."""

    def escape(text: str) -> str:
        return "".join(TEX.get(char, char) for char in plain(text))

    parts = []
    for table in results.tables:
        header, names, columns = _readable(table)
        alignment = "l" + "".join("l" if column.title == "verdict" else "r" for column in columns)
        lines = [f"% {plain(words.heading(table, results))}", rf"\begin{{tabular}}{{{alignment}}}", r"\toprule"]
        lines += [" & ".join(map(escape, [header, *(column.title for column in columns)])) + r" \\", r"\midrule"]
        for place, name in enumerate(names):
            lines.append(" & ".join(map(escape, [name, *(column.cells[place] for column in columns)])) + r" \\")
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]))
    return "\n\n".join(parts) + "\n"


def _readable(table: Table) -> tuple[str, list[str], list[Column]]:
    header, names = words.column_names(table)
    return header, names, [*quality_columns(table, " "), *cost_columns(table)]


FORMATS: dict[str, Callable[[Results], str | bytes]] = {
    ".csv": as_csv,
    ".parquet": as_parquet,
    ".tex": as_latex,
    ".md": as_markdown,
}
