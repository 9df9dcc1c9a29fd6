"""Two models beside each other: only what they do not share."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.runs.comparison.numbers import NOTHING, percent, scaled
from lab.views.show import Grid, Shown, print_grids
from lab.views.terminal import table
from lab.views.tree import Node

WORDS = {
    "parameters": "parameters",
    "active": "active parameters",
    "flops_per_token": "FLOPs a token",
    "weight_bytes": "bytes of weights, float32",
    "cache_bytes_per_token": "bytes of cache a token",
    "cache_bytes": "bytes of cache, float32",
}
"""Totals that are compared."""

Row = tuple[str, str, str]
"""What differs, and what it is in the first and in the second; a dash where it is not there."""


@dataclass(frozen=True)
class Against:
    """Two models that were described."""

    first: Shown
    second: Shown

    @cached_property
    def choices(self) -> list[Row]:
        """Groups with other options."""
        one, other = self.first.choices, self.second.choices
        every = dict.fromkeys([*one, *other])
        return [
            (group, one.get(group, NOTHING), other.get(group, NOTHING))
            for group in every
            if one.get(group) != other.get(group)
        ]

    @cached_property
    def totals(self) -> list[tuple[str, float, float]]:
        """Totals that differ."""
        found = [("context", float(self.first.context), float(self.second.context))]
        found += [(words, self.first.total[key], self.second.total[key]) for key, words in WORDS.items()]
        return [(words, one, other) for words, one, other in found if one != other]

    @cached_property
    def parts(self) -> list[Row]:
        """Parts by their paths that one has and the other has not, or has otherwise: its class, weights, settings."""
        return list(_parts(self.first.tree, self.second.tree, ""))

    @property
    def same(self) -> bool:
        """Nothing differs."""
        return not (self.choices or self.totals or self.parts or self.first.grids != self.second.grids)

    def to_json(self) -> dict[str, Any]:
        """Plain values: both, and what differs."""
        differs = {
            "choices": {group: [one, other] for group, one, other in self.choices},
            "total": {words: [one, other] for words, one, other in self.totals},
            "parts": {path: [one, other] for path, one, other in self.parts},
            "visibility": self.first.grids != self.second.grids,
        }
        return {"first": self.first.to_json(), "second": self.second.to_json(), "differs": differs}

    def print(self) -> None:
        """What differs, A and B beside each other."""
        console = Console(highlight=False)
        for letter, shown in (("A", self.first), ("B", self.second)):
            console.print(
                textwrap.fill(f"{letter}: {shown.name or 'the defaults'}", console.width), markup=False, style="bold"
            )
        if self.same:
            console.print("\nNothing differs.")
            return
        if self.choices:
            console.print(_table("chosen", self.choices))
        if self.totals:
            rows = [(words, scaled(one), scaled(other), ratio(one, other)) for words, one, other in self.totals]
            console.print(_table("of the whole", rows, ("B to A",)))
        if self.parts:
            console.print(_table("part", self.parts))
        print_grids(self.grids, console)

    @property
    def grids(self) -> list[tuple[str, Grid]]:
        """Those that only one has, with its letter."""
        one, other = self.first.grids, self.second.grids
        return [("A: ", grid) for grid in one if grid not in other] + [
            ("B: ", grid) for grid in other if grid not in one
        ]


def ratio(one: float, other: float) -> str:
    """The second relative to the first."""
    return percent(other / one - 1) if one else ""


def _parts(one: Node, other: Node, path: str) -> Iterator[Row]:
    if _own(one) != _own(other):
        yield path or "all", one.label, other.label
    there = {part.name: part for part in other.parts}
    for part in one.parts:
        inside = f"{path}.{part.name}".lstrip(".")
        if part.name in there:
            yield from _parts(part, there.pop(part.name), inside)
        else:
            yield inside, part.label, NOTHING
    for name, part in there.items():
        yield f"{path}.{name}".lstrip("."), NOTHING, part.label


def _own(node: Node) -> tuple[Any, ...]:
    return node.kind, node.layers, node.shapes, node.pieces, node.says


def _table(first: str, rows: Any, more: tuple[str, ...] = ()) -> Table:
    """Figures where there are more columns than A and B, else words."""
    made = table(first, "A", "B", *more, words=(first,) if more else (first, "A", "B"))
    for row in rows:
        made.add_row(*map(Text, row))
    return made
