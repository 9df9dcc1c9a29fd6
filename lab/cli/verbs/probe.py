"""`lab probe`: what each layer would say, and where the loss is."""

from __future__ import annotations

from lab.cli.parser import Parser, given_text, print_json
from lab.errors import RequestError

HELP = {"probe RUN [TEXT]": "what each layer would say next, and where the loss is"}


def main(arguments: list[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = Parser(
        "probe",
        description="With TEXT what each layer of a model would say next (of an encoder: at each token, hidden; of an "
        "encoder-decoder: at each token of the target); without, the loss over the validation text by position and kind of "
        "token, and the sequences where it is highest.",
    )
    parser.add_run()
    parser.add_argument(
        "text", metavar="TEXT", nargs="?", help="to look at through each layer; or - for standard input"
    )
    parser.add_argument("--target", metavar="TEXT", help="of an encoder-decoder (default: what it writes by itself)")
    parser.add_argument("--layer", type=int, metavar="N", help="this layer alone; 0 is the embedding")
    parser.add_argument("--token", type=int, metavar="N", help="the candidates at this token, counted from 1")
    parser.add_argument(
        "--tokens", type=int, metavar="N", help="of the validation text to predict, in whole rows (default: 20000)"
    )
    parser.add_argument("--worst", type=int, metavar="N", help="sequences to show (default: 5)")
    parser.add_argument("--code", action="store_true", help="the text is of programs, whose parts are kinds of token")
    parser.add_html("a page")
    parser.add_json()
    options = parser.parse_args(arguments)
    if options.text is None and any(getattr(options, name) is not None for name in ("target", "layer", "token")):
        raise RequestError("--target, --layer, --token: go with a TEXT to look at")
    if options.worst is not None and options.worst < 0:
        raise RequestError(f"--worst: {options.worst}; 0 or more")
    if options.text is not None and options.tokens is None and (options.code or options.worst is not None):
        raise RequestError("--worst, --code: of the loss over the validation text, which beside a TEXT takes --tokens")
    from lab.runs.subject import subject
    from lab.views import probe as views

    run = subject(options.run)
    seen = found = None
    if options.text is not None:
        from lab.views.lens import lens

        seen = lens(run, given_text(options.text), options.target)
        seen.check(options.layer, options.token)
    if options.text is None or options.tokens is not None:
        from lab.views.losses import losses

        asked = {name: getattr(options, name) for name in ("tokens", "worst") if getattr(options, name) is not None}
        found = losses(run, code=options.code, **asked)
    if options.html:
        from lab.views.probe_page import to_html
        from lab.views.web import write_page

        write_page(options.html, to_html(f"Inside {run.folder}", seen, found))
    if options.json:
        print_json({"lens": seen and seen.to_json(), "losses": found and found.to_json()})
        return 0
    if seen:
        views.show_lens(seen, options.layer, options.token)
    if found:
        views.show_losses(found)
    return 0
