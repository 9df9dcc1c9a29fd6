"""What `lab embeddings` prints: neighbours with bars, a plane of words in signs, a word's senses as a table."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.views.embeddings import METHODS, Plane, Senses
from lab.views.terminal import plain, table
from lab.views.words import Near


def show_near(found: Mapping[str, Near]) -> None:
    """Each query with its neighbours, the nearest first."""
    console = Console(highlight=False)
    for query, neighbours in found.items():
        console.print(plain(query), markup=False, style="bold", no_wrap=True, overflow="ellipsis")
        rows = Table(box=None, padding=(0, 1), pad_edge=False, show_header=False)
        rows.add_column(justify="right", no_wrap=True)
        rows.add_column(no_wrap=True, min_width=12)
        rows.add_column(overflow="fold")
        for name, cosine in neighbours:
            bar = "█" * max(0, round(12 * cosine))
            rows.add_row(f"  {cosine:.3f}".replace("-", "−"), bar, Text(plain(name)))
        console.print(rows)


def show_senses(found: Senses) -> None:
    """The texts, numbered, and how alike the word is in each two."""
    console = Console(highlight=False)
    for number, text in enumerate(found.texts, 1):
        indent = f"{number}  "
        console.print(
            "\n".join(textwrap.wrap(indent + plain(text), console.width, subsequent_indent="   ")), markup=False
        )
    rows = table(plain(found.word), *map(str, range(1, len(found.texts) + 1)))
    for number, row in enumerate(found.cosines, 1):
        rows.add_row(str(number), *(f"{value:.3f}".replace("-", "−") for value in row))
    console.print(rows)


def show_plane(found: Plane) -> None:
    """Words where they stand; what finds no room is a dot."""
    console = Console(highlight=False)
    kept = "" if found.kept is None else f", {found.kept:.0%} of the variance"
    console.print(f"{len(found.names)} points by {METHODS[found.method]}{kept}")
    width, height = console.width, max(12, min(40, console.width // 4))
    lines = [[" "] * width for _ in range(height)]
    low, span = found.points.min(0), np.ptp(found.points, axis=0)
    places = (found.points - low) / np.where(span > 0, span, 1)
    hidden = 0
    for name, (x, y) in zip(found.names, places.tolist(), strict=True):
        line, column = lines[round((1 - y) * (height - 1))], round(x * (width - 1))
        word = plain(name)[:20]
        start = min(column, width - len(word) - 2)
        room = line[max(0, start - 1) : start + len(word) + 3]
        if start >= 0 and all(sign == " " for sign in room):
            line[start : start + len(word) + 2] = ["·", *word, " "]
        elif line[column] == " " and (
            column == 0 or line[column - 1] in " ·"
        ):  # one behind a name would seem to be its own
            line[column], hidden = "·", hidden + 1
        else:
            hidden += 1
    for line in lines:
        console.print("".join(line).rstrip(), markup=False, no_wrap=True, overflow="crop")
    if hidden:
        console.print(f"{hidden} without room for a name; --html FILE has all", style="dim")
