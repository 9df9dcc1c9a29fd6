"""`lab parts`: list what can be chosen."""

from __future__ import annotations

from pathlib import Path

from lab.cli.parser import Parser, print_json

HELP = {"parts [GROUP ...]": "what can be chosen, and what it is"}


def main(arguments: list[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = Parser(
        "parts",
        description="What can be chosen: the options of every group, or of those named, and what they are.",
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="such as position or attention; all by default")
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="put the table into a Markdown file, between its marks"
    )
    parser.add_json()
    options = parser.parse_args(arguments)
    from lab.views import parts as views

    found = views.parts(options.groups)
    if options.into:
        views.into_file(options.into, found)
    if options.json:
        print_json(views.to_json(found))
    elif not options.into:
        views.show(found)
    return 0
