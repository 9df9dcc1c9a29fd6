"""`lab routing`: show which experts tokens go to."""

from __future__ import annotations

from lab.cli.parser import Parser, given_text, print_json
from lab.errors import RequestError

HELP = {"routing RUN [TEXT]": "which experts tokens go to, against chance"}


def main(arguments: list[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = Parser(
        "routing",
        description="Which experts the tokens of a text go to: load of each layer, whether kinds of token tell more than "
        "chance, which tokens go together, how routes go on from layer to layer; with --layer what each expert takes.",
    )
    parser.add_run()
    parser.add_argument(
        "text",
        metavar="TEXT",
        nargs="?",
        help="or - for standard input (default: the text that the run was validated on)",
    )
    parser.add_argument("--tokens", type=int, metavar="N", help="of the validation text at most (default: 20,000)")
    parser.add_argument("--code", action="store_true", help="a program: tell keywords, operators and brackets apart")
    parser.add_argument("--layer", metavar="NAME", help="as the table says: a number, or 'encoder 2'")
    parser.add_html("a page with all of it")
    parser.add_json()
    options = parser.parse_args(arguments)
    if options.text is not None and options.tokens is not None:
        raise RequestError("--tokens: of the validation text; a TEXT is read whole")
    from lab.runs.subject import subject
    from lab.views.routing import TOKENS, routing

    text = None if options.text is None else given_text(options.text)
    run = subject(options.run)
    tokens = TOKENS if options.tokens is None else options.tokens
    routes = routing(run, text, tokens, options.code, options.layer)
    if options.html:
        from lab.views.routing_page import to_html
        from lab.views.web import write_page

        write_page(options.html, to_html(routes, f"Routes of {run.folder}"))
    if options.json:
        print_json(routes.to_json())
    else:
        from lab.views.routing_text import show

        show(routes, options.layer)
    return 0
