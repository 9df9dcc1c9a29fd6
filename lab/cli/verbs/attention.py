"""`lab attention`: show where a model looks."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from lab.cli.parser import Parser, given_text
from lab.errors import RequestError

if TYPE_CHECKING:
    from lab.views.attention import Maps

HELP = {"attention RUN TEXT": "where each head looks"}


def main(arguments: list[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = Parser(
        "attention",
        description="Where each head of a model looks in a text, and in an encoder-decoder from the target to its source: "
        "figures for all heads; with --layer and --head a map, with --token too what one token looks at.",
    )
    parser.add_run()
    parser.add_argument("text", metavar="TEXT", help="or - for standard input; of an encoder-decoder the source")
    parser.add_argument("--target", metavar="TEXT", help="of an encoder-decoder (default: what it writes by itself)")
    parser.add_argument(
        "--kind",
        help="of several that the model has: encoder, decoder, cross (default: all that have what is asked for)",
    )
    for name in ("layer", "head", "token"):
        parser.add_argument(f"--{name}", type=int, metavar="N", help="counted from 1")
    parser.add_html("a page with the map of every head")
    parser.add_json()
    options = parser.parse_args(arguments)
    from lab.runs.subject import subject
    from lab.views import attention as views

    run = subject(options.run)
    every = views.attention(run, given_text(options.text), options.target)
    maps = _asked(every, options)
    if options.html:
        from lab.views.attention_page import to_html
        from lab.views.web import write_page

        write_page(options.html, to_html(maps, f"Attention of {run.folder}"))
    if options.json:
        print(json.dumps([one.to_json() for one in maps], ensure_ascii=False))
        return 0
    for one in maps:
        if len(every) > 1 and options.kind is None:
            print(one.kind)
        views.show(one, options.layer, options.head, options.token)
    return 0


def _asked(every: list[Maps], options: argparse.Namespace) -> list[Maps]:
    """The maps of the kind that was named, and that have the layer, head and token."""
    kinds = [maps.kind for maps in every]
    if options.kind is not None and options.kind not in kinds:
        raise RequestError(f"--kind: {options.kind}; this model has {', '.join(kinds)}")
    fitting, refused = [], []
    for maps in [maps for maps in every if options.kind in (None, maps.kind)]:
        try:
            maps.check(options.layer, options.head, options.token)
            fitting.append(maps)
        except RequestError as error:
            refused.append(error)
    if not fitting:
        raise refused[0]
    if (
        options.token is not None
        and None in (options.layer, options.head)
        and any(len(maps.heads) > 1 for maps in fitting)
    ):
        raise RequestError("--token: goes with --layer and --head, whose map it is a row of")
    return fitting
