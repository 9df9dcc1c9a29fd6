"""`lab sweep`: run a sweep file here."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from lab.cli.imports import at_once
from lab.cli.parser import Parser, override, print_json
from lab.errors import RequestError

HELP = {
    "sweep FILE [KEY=VALUE ...]": "run a sweep file of W&B's format here, resumable",
    "sweep --status FOLDER": "how far it is",
}

REPORTED = ("--scale", "--measure", "--most-seeds", "--table", "--html", "--wandb")
"""Options of the report that come after a sweep."""


def main(arguments: list[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = Parser(
        "sweep",
        usage="%(prog)s FILE [KEY=VALUE ...] [options]",
        description="Run a sweep file of W&B's own format, without a server. KEY=VALUE holds for every trial.",
    )
    parser.add_argument("file", metavar="FILE", help="a YAML file: method, parameters, command")
    parser.add_argument("--folder", type=Path, help="where runs and report go (default: runs/ and the file's name)")
    parser.add_argument("--baseline", help="what the report compares with: a configuration, `first` or `previous`")
    parser.add_argument("--plan", action="store_true", help="show what would run, and stop")
    parser.add_argument(
        "--count", type=int, metavar="N", help="the `run_cap` of a file that has none, as W&B's agent takes it"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="run so many trials at once, each on its share of the cores"
    )
    parser.add_argument(
        "--storage", metavar="URL", help="a database that workers on several machines share the sweep by"
    )
    parser.add_argument("--retry-failed", action="store_true", help="run trials again that failed")
    parser.add_argument(
        "--prune", metavar="HOW", help="give up what falls behind: `median` within runs, `wilcoxon` over seeds"
    )
    parser.add_argument("--status", action="store_true", help="how far it is; FILE may be a sweep's folder")
    _add_terms(parser)
    _add_elsewhere(parser)
    parser.add_json()
    options, others = parser.parse_known_args(arguments)
    for text in others:
        if text.startswith("--") and text.partition("=")[0] in REPORTED:
            raise RequestError(f"{text}: goes with `lab report FOLDER`, once the sweep has run")
        if text.startswith("--") and "=" not in text:
            parser.error(f"{text}: no such option")
    words = [override(text) for text in others]
    if options.status:
        return _status(options, words)
    if options.slurm is not None:
        return _slurm(options, arguments)
    from lab.runs.sweep.file import read_sweep

    # What is wrong with it is said before anything heavy is imported.
    described = read_sweep(options.file, options.count)
    if options.jobs and not options.plan:
        from lab.runs.sweep import processes

        processes.prepare()
    with at_once():
        from lab.runs.fair import fair_sweep
        from lab.runs.sweep import sweep
        from lab.runs.terms import Terms

    terms = Terms(
        options.baseline, options.margin, options.until_decided, options.match, options.match_size, options.tune
    )
    _check(options, terms.most_seeds is not None, bool(terms.match or terms.tune))
    outcome = fair_sweep(
        described,
        words,
        options.folder,
        terms,
        options.plan,
        options.retry_failed,
        options.storage,
        options.jobs,
        run=partial(sweep, prune=options.prune, online=options.online, join=options.join),
    )
    if options.json:
        print_json(outcome.to_json())
    else:
        outcome.print()
    return outcome.exit_code


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


def _add_elsewhere(parser: Parser) -> None:
    """Who chooses and who computes, if not this process."""
    elsewhere = parser.add_argument_group("elsewhere")
    elsewhere.add_argument(
        "--online", action="store_true", help="let W&B's server choose, and run its agent in this process"
    )
    elsewhere.add_argument("--join", metavar="ID", help="the same for a sweep that is on W&B's server already")
    elsewhere.add_argument(
        "--slurm", type=int, metavar="N", help="print the script of a SLURM array of N workers that share --storage"
    )


def _check(options: argparse.Namespace, adds_seeds: bool, fits: bool) -> None:
    """Refuse flags that contradict each other."""
    if options.prune and adds_seeds:
        raise RequestError("--prune: goes without --until-decided, which gives all that is undecided another seed")
    if (options.online or options.join) and (adds_seeds or fits):
        raise RequestError("--online: W&B's server says what runs; --match, --tune and --until-decided go without")


def _status(options: argparse.Namespace, words: list[str]) -> int:
    """How far a sweep is."""
    if words:
        raise RequestError(f"{words[0]}: nothing to set; --status only looks")
    from lab.runs.sweep.status import status

    found = status(options.folder or options.file, options.storage)
    if options.json:
        print_json(found.to_json())
    else:
        found.print()
    return 0


def _slurm(options: argparse.Namespace, arguments: list[str]) -> int:
    """The script of a SLURM array."""
    from lab.runs.sweep.slurm import script

    text = script(options.file, arguments, options.slurm, options.storage, options.count)
    if options.json:
        print_json({"script": text})
    else:
        print(text, end="")
    return 0
