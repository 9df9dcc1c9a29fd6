"""`lab show`: describe a composition."""

from __future__ import annotations

from lab.cli.parser import Parser, override, print_json
from lab.errors import RequestError

HELP = {"show [GROUP=OPTION ...] [KEY=VALUE ...]": "a composition: parts, costs, who sees whom"}


def main(arguments: list[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = Parser(
        "show",
        usage="%(prog)s [GROUP=OPTION ...] [KEY=VALUE ...] [options]",
        description="The parts of a composition with what they cost, and who sees whom in each layer.",
    )
    parser.add_argument("--tokens", type=int, default=32, help="of the drawn grids (default: %(default)s)")
    parser.add_json()
    options, others = parser.parse_known_args(arguments)
    if options.tokens < 1:
        raise RequestError(f"--tokens: {options.tokens}; at least 1")
    from lab.config import compose
    from lab.views.show import show as describe

    shown = describe(compose(*[override(text) for text in others]), options.tokens)
    if options.json:
        print_json(shown.to_json())
    else:
        shown.print()
    return 0
