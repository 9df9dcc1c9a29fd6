"""`lab show`: describe a composition, or what two do not share."""

from __future__ import annotations

import gc
import re
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from lab.cli.parser import Parser, override, print_json
from lab.errors import RequestError

if TYPE_CHECKING:
    from lab.views.against import Against
    from lab.views.show import Shown

HELP = {
    "show [GROUP=OPTION ...] [KEY=VALUE ...]": "a composition: parts, costs, who sees whom",
    "show A ... --against B ...": "what two compositions do not share",
}


def main(arguments: list[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = Parser(
        "show",
        usage="%(prog)s [RUN | GROUP=OPTION KEY=VALUE ...] [--against RUN | GROUP=OPTION KEY=VALUE ...] [options]",
        description="The parts of a composition, or of a run by its folder, with what they cost, and who sees whom in each "
        "layer. With --against, what two do not share.",
    )
    parser.add_argument("--against", nargs="+", metavar="WORD", help="the words of another composition, or a run")
    parser.add_argument("--context", type=int, metavar="N", help="tokens of the document that costs are of")
    parser.add_argument("--tokens", type=int, default=32, help="of the drawn grids (default: %(default)s)")
    parser.add_html("a page, with a drawing of the block")
    parser.add_json()
    options, others = parser.parse_known_args(arguments)
    for name in ("tokens", "context"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise RequestError(f"--{name}: {value}; at least 1")
    gc.disable()  # a fifth of the time would go to looking for garbage in the modules that are loaded
    try:
        _describe(options, others)
    finally:
        gc.enable()
    return 0


def _describe(options: Namespace, others: list[str]) -> None:
    shown = _shown(others, options.tokens, options.context)
    described: Shown | Against = shown
    if options.against:
        from lab.views.against import Against

        described = Against(shown, _shown(options.against, options.tokens, options.context))
    if options.html:
        from lab.views.show_page import to_html
        from lab.views.web import write_page

        write_page(options.html, to_html(described))
    if options.json:
        print_json(described.to_json())
    else:
        described.print()


def _shown(words: list[str], tokens: int, context: int | None) -> Shown:
    """What is described: a run's folder alone, or overrides, several of which may be one quoted word."""
    from lab.config import compose
    from lab.effect import say_without_effect
    from lab.runs.folder import CONFIG, TOKENIZER, read_config, read_result
    from lab.views.show import show

    if len(words) == 1 and not words[0].startswith("-") and ("=" not in words[0] or Path(words[0]).is_dir()):
        folder = Path(words[0])
        config, vocab_size = read_config(folder), None
        if (folder / TOKENIZER).is_file():
            from lab.data.tokenizers import Tokenizer

            vocab_size = Tokenizer.load(folder).vocab_size
        result = read_result(folder) or {}
        return show(config, tokens, context, str(folder), vocab_size, result.get("parameters"))
    if len(words) > 1 and (
        run := next((word for word in words if "=" not in word and (Path(word) / CONFIG).is_file()), None)
    ):
        other = next(word for word in words if word != run)
        raise RequestError(f"{other}: {run} is a run, which has its configuration; it stands alone")
    given = [part for word in words for part in re.split(r"\s+(?=[\w./@+~-]+=)", word.strip())]
    config = compose(*map(override, given), trained=False)
    say_without_effect([config])
    return show(config, tokens, context, " ".join(given))
