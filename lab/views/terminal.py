"""What views in the terminal share: tables of figures, shades, and text on one line whose every sign shows."""

from __future__ import annotations

from collections.abc import Collection

from lab.figures import Figures

SHADES = " ░▒▓█"
"""From nothing to full."""


def table(*headings: str, words: Collection[str] = (), names: int = 1) -> Figures:
    """A table of figures, aligned at the right; the columns that `words` names are aligned at the left, and wrap. The first
    `names` columns say what a row is of.
    """
    made = Figures(names)
    for heading in headings:
        left = heading in words
        made.add_column(heading, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    return made


def plain(text: str) -> str:
    """A text on one line, whose every sign shows: nothing in it steers a terminal."""
    marked = text.replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍")
    return "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in marked)


def visible(word: str) -> str:
    """A token as `plain`, with marks for spaces."""
    return plain(word).replace(" ", "␣")
