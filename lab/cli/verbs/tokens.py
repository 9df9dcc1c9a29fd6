"""`lab tokens`: cut a text into tokens."""

from __future__ import annotations

from pathlib import Path

from lab.cli.parser import Parser, given_text, override, print_json
from lab.errors import RequestError

HELP = {"tokens TEXT [--with TOKENIZER ...]": "how tokenizers cut a text"}


def main(arguments: list[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = Parser(
        "tokens",
        usage="%(prog)s TEXT [GROUP=OPTION ...] [KEY=VALUE ...] [options]",
        description="How tokenizers cut a text. KEY=VALUE is of the composition that a tokenizer is made for.",
    )
    parser.add_argument("text", metavar="TEXT", help="or - for standard input")
    parser.add_argument(
        "--with",
        dest="tokenizers",
        action="append",
        default=[],
        metavar="TOKENIZER",
        help="a run folder, a tokenizer.json, or an option such as wordpiece; several are shown under each other "
        "(default: the composition's)",
    )
    parser.add_argument("--merges", action="store_true", help="what the pieces of byte-pair encodings were merged from")
    parser.add_html("a page")
    parser.add_json()
    options, others = parser.parse_known_args(arguments)
    from lab.views import tokens as views
    from lab.views.web import write_page

    overrides = [override(text) for text in others]
    text = given_text(options.text)
    if overrides and options.tokenizers and all(Path(name).exists() for name in options.tokenizers):
        raise RequestError(
            f"{overrides[0]}: is for a tokenizer that is made, as by --with wordpiece; --with {options.tokenizers[0]} is ready"
        )
    if options.tokenizers:
        cuts = [views.cut(views.named(name, overrides), text, name) for name in options.tokenizers]
    else:
        cuts = [views.cut(views.composed(overrides), text, "as composed")]
    if options.html:
        write_page(options.html, views.to_html(cuts))
    if options.json:
        print_json([cut.to_json() for cut in cuts])
    else:
        views.show(cuts, options.merges)
    return 0
