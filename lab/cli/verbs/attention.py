"""`lab attention`: show where a model looks."""

from __future__ import annotations

import json
from pathlib import Path

from lab.cli.parser import Parser, given_text
from lab.errors import RequestError

HELP = {"attention RUN TEXT": "where each head looks"}


def main(arguments: list[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = Parser(
        "attention",
        description="Where each head of a trained model looks in a text: figures for all heads; with --layer and --head a "
        "map, with --token too what one token looks at.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a run")
    parser.add_argument("text", metavar="TEXT", help="or - for standard input")
    for name in ("layer", "head", "token"):
        parser.add_argument(f"--{name}", type=int, metavar="N", help="counted from 1")
    parser.add_argument("--html", type=Path, metavar="FILE", help="a page with the map of every head")
    parser.add_json()
    options = parser.parse_args(arguments)
    if options.token is not None and None in (options.layer, options.head):
        raise RequestError("--token: goes with --layer and --head, whose map it is a row of")
    from lab.runs.folder import load, write_atomically
    from lab.views import attention as views

    maps = views.attention(load(options.run), given_text(options.text))
    for one in maps:
        one.check(options.layer or 1, options.head or 1)
    if options.html:
        write_atomically(options.html, views.to_html(maps, f"Attention of {options.run}"))
    if options.json:
        print(json.dumps([one.to_json() for one in maps], ensure_ascii=False))
    else:
        for one in maps:
            views.show(one, options.layer, options.head, options.token)
    return 0
