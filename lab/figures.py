"""Tables of figures for a terminal of any width."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Column, Table

WRAPPED = 12
"""Characters that a column whose cells wrap is left with at least."""

GAP = 3
"""Characters between two columns."""

WIDE = 10_000
"""Characters in a terminal where everything fits."""


class Figures(Table):
    """A table whose columns go on below where a terminal has no room for all beside each other, after its first ones again: no
    figure is cut.

    Args:
        names: first columns, which say what a row is of.
        settings: of `Table`.
    """

    def __init__(self, names: int = 1, **settings) -> None:
        super().__init__(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, **settings)
        self.names = names

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        """As many plain tables as it takes."""
        for columns in self._beside(console, options):
            heads = [column.copy() for column in columns]
            part = Table(*heads, box=self.box, padding=self.padding, pad_edge=False, header_style=self.header_style)
            for row, *cells in zip(self.rows, *(column.cells for column in columns), strict=True):
                part.add_row(*cells, style=row.style)
            yield part

    def _beside(self, console: Console, options: ConsoleOptions) -> Iterator[list[Column]]:
        """The columns of each table; those that say what a row is of are in all."""
        wide = options.update(max_width=WIDE)
        own = [
            max(Measurement.get(console, wide, cell).maximum for cell in (column.header, *column.cells))
            for column in self.columns
        ]

        def least(wrapped: int) -> list[int]:
            """The width of each, with its share of paddings and dividers."""
            return [
                GAP + (width if column.no_wrap else min(width, wrapped))
                for column, width in zip(self.columns, own, strict=True)
            ]

        room = options.max_width
        if sum(least(WRAPPED)) <= room:
            yield self.columns
            return
        widths = least(max(WRAPPED, room // 4))
        names, before = self.columns[: self.names], sum(widths[: self.names])
        group, taken = list(names), before
        for column, width in zip(self.columns[self.names :], widths[self.names :], strict=True):
            if len(group) > self.names and taken + width > room:
                yield group
                group, taken = list(names), before
            group.append(column)
            taken += width
        yield group
