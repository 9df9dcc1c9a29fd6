"""`lab sweep`: run a sweep file here."""

from __future__ import annotations

import argparse
from pathlib import Path

from lab.cli.parser import Parser, override, print_json
from lab.errors import RequestError

HELP = {"sweep FILE [KEY=VALUE ...]": "run a sweep file of W&B's format here, resumable"}


def main(arguments: list[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = Parser(
        "sweep",
        usage="%(prog)s FILE [KEY=VALUE ...] [options]",
        description="Run a sweep file of W&B's own format, without a server. KEY=VALUE holds for every trial.",
    )
    parser.add_argument("file", metavar="FILE", help="a YAML file: method, parameters, command")
    parser.add_argument("--status", action="store_true", help="how far it is; FILE may be a sweep's folder")
    parser.add_argument("--folder", type=Path, help="where runs and report go (default: runs/ and the file's name)")
    parser.add_argument("--baseline", help="what the report compares with: a configuration, `first` or `previous`")
    parser.add_argument("--plan", action="store_true", help="show what would run, and stop")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="run so many trials at once, each on its share of the cores"
    )
    parser.add_argument(
        "--prune", metavar="HOW", help="give up what falls behind: `median` within runs, `wilcoxon` over seeds"
    )
    parser.add_argument(
        "--storage", metavar="URL", help="a database that workers on several machines share the sweep by"
    )
    parser.add_argument("--retry-failed", action="store_true", help="run trials again that failed")
    parser.add_argument(
        "--online", action="store_true", help="let W&B's server choose, and run its agent in this process"
    )
    parser.add_argument("--join", metavar="ID", help="the same for a sweep that is on W&B's server already")
    _add_terms(parser)
    parser.add_json()
    options, others = parser.parse_known_args(arguments)
    if options.status:
        return _status(options, others)
    from lab.runs.fair import fair_sweep
    from lab.runs.terms import Terms

    outcome = fair_sweep(
        options.file,
        [override(text) for text in others],
        options.folder,
        Terms(options.baseline, options.margin, options.until_decided, options.match, options.match_size, options.tune),
        options.plan,
        options.retry_failed,
        options.storage,
        options.jobs,
        options.prune,
        options.online,
        options.join,
    )
    if options.json:
        print_json(outcome.to_json())
    else:
        outcome.print()
    return outcome.exit_code


def _status(options: argparse.Namespace, others: list[str]) -> int:
    """How far a sweep is."""
    if others:
        raise RequestError(f"{others[0]}: nothing to set; --status only looks")
    from lab.runs.sweep.status import status

    found = status(options.folder or options.file, options.storage)
    if options.json:
        print_json(found.to_json())
    else:
        found.print()
    return 0


def _add_terms(parser: Parser) -> None:
    """On what terms a sweep compares."""
    fair = parser.add_argument_group("a fair comparison")
    fair.add_argument(
        "--match", metavar="COST", help="make all cost the same: parameters, parameters_active, flops, tokens or time"
    )
    fair.add_argument(
        "--match-size",
        metavar="KEY",
        help="by this size of the model (default: model.inner; flops, tokens, time: budget)",
    )
    fair.add_argument(
        "--tune", metavar="KEY=VALUES", help="each its own best of A,B,C or of LOW..HIGH:TRIALS, before seeds are spent"
    )
    fair.add_argument("--until-decided", type=int, metavar="N", help="add seeds until it is decided, N at most")
    fair.add_argument("--margin", type=float, help="the largest difference that makes none, in the measure's unit")
