"""A page of its own: everything in one file, readable on a phone and a desktop, in light and dark."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from lab.atomic import write_atomically
from lab.errors import RequestError

STYLE = """
:root { color-scheme: light dark; --fg: #1c1e21; --bg: #fff; --faint: #667; --line: #dde }
@media (prefers-color-scheme: dark) { :root { --fg: #e6e6e8; --bg: #16181c; --faint: #99a; --line: #333842 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--fg); background: var(--bg); margin: 0 auto; max-width: 72rem;
  padding: 1rem 1.2rem 3rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem } p { margin: .3rem 0 } .faint { color: var(--faint) }
table { border-collapse: collapse } th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid var(--line) }
td { white-space: nowrap; font-variant-numeric: tabular-nums } .words { white-space: normal; text-align: left }
th:first-child, td:first-child { text-align: left } .wide { overflow-x: auto; margin: .4rem 0 1rem }
code { background: color-mix(in srgb, var(--fg) 8%, var(--bg)); border-radius: .25em; padding: 0 .25em; display: inline-block;
  max-width: 100%; box-sizing: border-box; white-space: pre-wrap; overflow-wrap: anywhere }
@media (max-width: 40rem) { body { padding: .5rem 1rem 2rem } th, td { padding: .2rem .45rem }
  td:first-child { white-space: normal } }
"""


def page(title: str, body: str, style: str = "", script: str = "") -> str:
    """The text of a page.

    Args:
        title: of the page, plain text.
        body: HTML.
        style, script: what the body needs beyond what all pages have.
    """
    code = f"<script>{script}</script>" if script else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}{style}</style></head>"
        f"<body><h1>{html.escape(title)}</h1>\n{body}\n{code}</body></html>\n"
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], look: str = "", raw: Sequence[str] = ()) -> str:
    """A table that scrolls where it is too wide.

    Args:
        headings: of the columns, plain text.
        rows: a cell for each, plain text.
        look: class of the table.
        raw: columns whose cells are HTML, aligned at the left.
    """

    def line(kind: str, cells: Iterable[str]) -> str:
        found = []
        for heading, cell in zip(headings, cells, strict=True):
            words = heading in raw
            text = cell if words and kind == "td" else html.escape(cell)
            found.append(f"<{kind}{' class=words' if words else ''}>{text}</{kind}>")
        return f"<tr>{''.join(found)}</tr>"

    lines = [line("th", headings), *(line("td", row) for row in rows)]
    return f'<div class="wide"><table class="{look}">{"".join(lines)}</table></div>'


def write_page(path: Path, text: str) -> None:
    """Write a page whole or not at all.

    Raises:
        RequestError: its folder is not there, or cannot be written.
    """
    try:
        write_atomically(path, text)
    except OSError as error:
        raise RequestError(f"--html: {path} cannot be written ({error.strerror or error})") from None
