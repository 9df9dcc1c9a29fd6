"""`lab report`: compare runs."""

from __future__ import annotations

import os
from pathlib import Path

from lab.cli.parser import Parser, print_json
from lab.errors import RequestError

HELP = {"report FOLDER ...": "compare runs: a table and a page"}


def main(arguments: list[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = Parser("report", description="Compare the runs of folders, over paired seeds.")
    parser.add_argument("folders", nargs="+", type=Path, help="runs, sweeps or multiruns")
    parser.add_argument("--baseline", help="a configuration, `first` or `previous`")
    parser.add_argument(
        "--html", type=Path, help="the page (default: report.html in the folder, or in the one around all of them)"
    )
    parser.add_argument("--margin", type=float, help="the largest difference that makes none, in the measure's unit")
    parser.add_argument("--measure", metavar="KEY[:max]", help="compare by another number of the runs' records")
    parser.add_argument("--scale", action="append", default=[], metavar="KEY", help="compare within each size of KEY")
    parser.add_argument("--most-seeds", type=int, metavar="N", help="seeds were added until it was decided, at most N")
    parser.add_argument(
        "--table", action="append", default=[], type=Path, metavar="FILE", help="as .csv, .parquet, .tex or .md"
    )
    parser.add_argument("--wandb", action="store_true", help="a report in W&B too; offline its definition is kept")
    parser.add_json()
    options = parser.parse_args(arguments)
    from lab.runs.comparison.export import format_of
    from lab.runs.report import report as compare

    for path in options.table:
        format_of(path)
    made = compare(
        options.folders, options.baseline, options.margin, options.scale, options.most_seeds, options.measure
    )
    try:
        made.write_html(options.html or _around(options.folders) / _page(options.folders))
    except RequestError as error:
        if options.html:
            raise
        from lab.console import say

        say(f"{error}; --html FILE writes the page elsewhere")
    for path in options.table:
        made.write_table(path)
    if options.wandb:
        made.publish()
    if options.json:
        print_json(made.to_json())
    else:
        made.print()
    return 0


def _page(folders: list[Path]) -> str:
    """The page's name; that of an experiment, which begins with its claim, stays."""
    from lab.runs.experiment import COMPARE
    from lab.runs.terms import Terms

    terms = Terms.read(folders[0] / COMPARE) if len(folders) == 1 else None
    return "comparison.html" if terms is not None and terms.claim else "report.html"


def _around(folders: list[Path]) -> Path:
    """The folder, or the one around several: a sweep's own page stays as it is."""
    if len(folders) == 1:
        return folders[0]
    return Path(os.path.relpath(os.path.commonpath([os.path.abspath(folder) for folder in folders])))
