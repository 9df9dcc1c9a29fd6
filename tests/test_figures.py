"""Tables for any width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from lab.figures import Figures

CELL = st.text("0123456789.±", min_size=1, max_size=12)


def printed(table: Figures, width: int) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return captured.get().splitlines()


@given(st.data(), st.integers(1, 12), st.integers(1, 4), st.integers(40, 120))
def test_no_figure_is_cut_at_any_width(data, columns, rows, width):
    names = [f"name{row}" for row in range(rows)]
    heads = [f"head{column}" for column in range(columns)]
    cells = [[data.draw(CELL) for _ in heads] for _ in names]
    table = Figures()
    table.add_column("which")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for name, row in zip(names, cells, strict=True):
        table.add_row(name, *row)
    lines = printed(table, width)
    assert all(len(line) <= width for line in lines)
    found: dict[str, list[str]] = {name: [] for name in ("which", *names)}
    for words in map(str.split, lines):
        if words and words[0] in found:
            found[words[0]] += words[1:]
    assert found == {"which": heads, **dict(zip(names, cells, strict=True))}


@pytest.mark.parametrize(("width", "tables"), [(200, 1), (60, 2), (36, 6)])
def test_long_names_wrap_before_columns_go_below(width, tables):
    table = Figures()
    table.add_column("which", overflow="fold")
    for column in range(6):
        table.add_column(f"column {column}", no_wrap=True)
    name = "attention=gqa, model.kv_heads=2, position=rope"
    table.add_row(Text(name), *(f"{n} ± 0.001" for n in range(6)))
    lines = printed(table, width)
    assert sum("which" in line for line in lines) == tables
    assert all(any(f"{n} ± 0.001" in line for line in lines) for n in range(6))
    if tables == 1:
        assert any(name in line for line in lines)
