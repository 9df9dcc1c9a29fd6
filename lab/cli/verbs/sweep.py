"""`lab sweep`: run a sweep file here."""

from __future__ import annotations

from pathlib import Path

from lab.cli.parser import Parser, override, print_json

HELP = {"sweep FILE [KEY=VALUE ...]": "run a sweep file of W&B's format here, resumable"}


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
    parser.add_argument("--retry-failed", action="store_true", help="run trials again that failed")
    parser.add_json()
    options, others = parser.parse_known_args(arguments)
    from lab.runs.sweep import sweep as run

    outcome = run(
        options.file,
        [override(text) for text in others],
        options.folder,
        options.baseline,
        options.plan,
        options.retry_failed,
    )
    if options.json:
        print_json(outcome.to_json())
    else:
        outcome.print()
    return outcome.exit_code
