"""`lab experiment`: run an experiment, or list all."""

from __future__ import annotations

from pathlib import Path

from lab.cli.parser import Parser, override, print_json
from lab.errors import RequestError

HELP = {"experiment NAME | --list": "run an experiment of experiments/; the verdicts on all claims"}


def main(arguments: list[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = Parser(
        "experiment",
        usage="%(prog)s NAME [KEY=VALUE ...] [options] | --list",
        description="Run what is missing of experiments/NAME and judge its claim by the rule that its file fixes. KEY=VALUE "
        "holds for every trial.",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="an experiment, or its folder")
    parser.add_argument("--list", action="store_true", help="all experiments with their verdicts")
    parser.add_argument(
        "--folder", type=Path, help="where runs and result go (default: runs/experiments/NAME, and beside its file)"
    )
    parser.add_argument("--plan", action="store_true", help="show what would run first, and stop")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="run so many trials at once, each on its share of the cores"
    )
    parser.add_json()
    options, others = parser.parse_known_args(arguments)
    from lab.runs.conduct import run
    from lab.runs.experiment import experiments, find
    from lab.views import experiments as views

    if options.list == (options.name is not None):
        raise RequestError("name one experiment, or --list all")
    if options.list:
        found = experiments()
        if options.json:
            print_json([each.to_json() for each in found])
        else:
            views.show(found)
        return 0
    overrides = [override(text) for text in others]
    ended = run(find(options.name), overrides, options.folder, options.plan, options.jobs)
    if options.json:
        print_json(ended.to_json())
    else:
        views.show_ended(ended)
    return ended.exit_code
