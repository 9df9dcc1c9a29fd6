"""`lab generate`: continue prompts."""

from __future__ import annotations

import argparse
from typing import Any

from lab.cli.parser import Parser, given_text, print_json
from lab.errors import RequestError

HELP = {"generate RUN PROMPT ...": "what a model writes, as it writes it"}


def main(arguments: list[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = Parser(
        "generate",
        description="What a model writes after a prompt, as it writes it; after several, when all are written. An "
        "encoder-decoder reads the prompt as its source.",
    )
    parser.add_run()
    parser.add_argument("prompts", metavar="PROMPT", nargs="+", help="or - for standard input")
    parser.add_argument("--tokens", type=int, metavar="N", help="at most (default: 100; of an encoder-decoder its own)")
    parser.add_argument(
        "--temperature", type=float, help="0 takes the best token (default: 0, or 1 with a --top or --min)"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="draw among the K best tokens")
    parser.add_argument("--top-p", type=float, metavar="P", help="among the best with a probability of P together")
    parser.add_argument("--min-p", type=float, metavar="P", help="among those P times as probable as the best, or more")
    parser.add_argument(
        "--repetition", type=float, metavar="X", help="make tokens that were there less likely, if over 1"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: %(default)s)")
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="ends an answer before it; repeatable"
    )
    parser.add_argument(
        "--slide", action="store_true", help="at the end of the context forget its older half and go on"
    )
    parser.add_argument(
        "--no-cache", action="store_true", help="compute all tokens anew for each; the same text, slower"
    )
    parser.add_argument("--beam", type=int, metavar="N", help="hypotheses that an encoder-decoder follows")
    parser.add_argument("--steps", action="store_true", help="one token, step by step: shapes, candidates, the choice")
    parser.add_html("a page")
    parser.add_json()
    options = parser.parse_args(arguments)
    from lab.console import say
    from lab.models.sampling import Sampling
    from lab.runs.generate import write
    from lab.runs.subject import subject

    filters = [name for name in ("top_k", "top_p", "min_p") if getattr(options, name) is not None]
    if options.temperature == 0 and filters:
        raise RequestError(f"--{filters[0].replace('_', '-')}: draws, and --temperature 0 takes the best token")
    if options.prompts.count("-") > 1:
        raise RequestError("PROMPT: - more than once; standard input is read once")
    chosen = {name: getattr(options, name) for name in ("temperature", "top_k", "top_p", "min_p", "repetition")}
    if options.temperature is None:
        chosen["temperature"] = float(bool(filters))
    try:
        sampling = Sampling(**chosen, seed=options.seed)
    except ValueError as error:
        key, _, said = str(error).partition(":")
        raise RequestError(f"--{key.replace('_', '-')}:{said}") from None
    if options.steps:
        return _steps(options, sampling)
    streams = len(options.prompts) == 1 and not options.json
    written = write(
        subject(options.run),
        [given_text(prompt) for prompt in options.prompts],
        options.tokens,
        sampling,
        options.stop,
        not options.no_cache,
        options.slide,
        options.beam,
        heard=(lambda _, text: print(text, end="", flush=True)) if streams else None,
    )
    _page(options, written)
    if options.json:
        print_json(written.to_json())
    elif streams:
        print()
    else:
        print("\n\n".join(f"> {answer.prompt}\n{answer.text}" for answer in written.answers))
    say(written.note())
    return 0


def _steps(options: argparse.Namespace, sampling: Any) -> int:
    """One token after one prompt."""
    from lab.runs.subject import subject
    from lab.views import step as views

    if len(options.prompts) > 1:
        raise RequestError(f"--steps: of one prompt, and there are {len(options.prompts)}")
    others = {"tokens": options.tokens is not None, "stop": options.stop, "slide": options.slide}
    others |= {"no-cache": options.no_cache, "beam": options.beam is not None}
    if given := [f"--{name}" for name, value in others.items() if value]:
        raise RequestError(f"{', '.join(given)}: of several tokens, and --steps shows one")
    one = views.step(subject(options.run), given_text(options.prompts[0]), sampling)
    _page(options, one)
    if options.json:
        print_json(one.to_json())
    else:
        views.show(one)
    return 0


def _page(options: argparse.Namespace, what: Any) -> None:
    """Write the page, if one is asked for."""
    if options.html:
        from lab.views.generate_page import to_html
        from lab.views.web import write_page

        write_page(options.html, to_html(what, f"What {options.run} writes"))
