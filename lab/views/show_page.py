"""The page of `lab show`: the drawing, the tree with its costs, who sees whom; of two models, what they do not share."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any

from lab.runs.comparison.numbers import scaled
from lab.views.against import Against, ratio
from lab.views.drawing import draw
from lab.views.show import Grid, Shown, headings, said
from lab.views.tree import Node
from lab.views.web import page, table

STYLE = Path(__file__).with_name("show.css")


@singledispatch
def to_html(shown: Any) -> str:
    """The page of a `Shown`, or of an `Against`."""
    raise TypeError(type(shown).__name__)


@to_html.register
def _(shown: Shown) -> str:
    body = [
        f'<div class="drawings"><figure>{draw(shown.model, shown.name)}</figure><div class="facts">{_facts(shown)}</div></div>',
        f"<h2>Parts</h2><p class='faint'>Of all equal layers together; FLOPs and bytes of cache for a token of "
        f"{shown.context:,}.</p>{_tree(shown.tree)}",
        _grids(("", grid) for grid in shown.grids),
    ]
    return _page(shown.name or "The defaults", body)


@to_html.register
def _(pair: Against) -> str:
    sides = ((pair.first, pair.second, "A"), (pair.second, pair.first, "B"))
    drawings = "".join(
        f"<figure><figcaption><b>{letter}</b> {html.escape(one.name or 'the defaults')}</figcaption>"
        f"{draw(one.model, one.name, other.model)}</figure>"
        for one, other, letter in sides
    )
    totals = [(words, scaled(one), scaled(other), ratio(one, other)) for words, one, other in pair.totals]
    body = [
        "<p class='faint'>Only what differs; in the drawings it has a thick edge.</p>"
        if not pair.same
        else "<p>Nothing differs.</p>",
        f'<div class="drawings">{drawings}</div>',
        _section("Chosen", ("group", "A", "B"), pair.choices),
        _section("Of the whole", ("", "A", "B", "B to A"), totals, "figures"),
        _section("Parts", ("part", "A", "B"), pair.parts),
        _grids(pair.grids),
    ]
    return _page(" against ".join(one.name or "the defaults" for one in (pair.first, pair.second)), body)


def _page(title: str, body: Iterable[str]) -> str:
    return page(title, "\n".join(body), STYLE.read_text(encoding="utf-8"))


def _facts(shown: Shown) -> str:
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in said(shown))
    return lines + _section("Chosen", ("group", "option"), list(shown.choices.items()))


def _section(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], look: str = "words") -> str:
    return f"<h2>{title}</h2>{table(heads, rows, look)}" if rows else ""


def _tree(root: Node) -> str:
    columns = headings(root)
    top = "<th>part</th>" + "".join(f"<th>{html.escape(head)}</th>" for head, _ in columns)
    return f'<div class="wide"><table class="tree"><tr>{top}</tr>{"".join(_rows(root, columns, root, 0))}</table></div>'


def _rows(node: Node, columns: Sequence[Any], root: Node, depth: int) -> Iterator[str]:
    cells = "".join(
        f'<td style="--share:{node.parameters / max(1, root.parameters):.4f}">{say(node)}</td>'
        if head == "share"
        else f"<td>{say(node)}</td>"
        for head, say in columns
    )
    name = f"<b>{html.escape(node.name)}</b> " if node.name else ""
    yield f'<tr><td style="--depth:{depth}">{name}{html.escape(node.label)}</td>{cells}</tr>'
    for part in node.parts:
        yield from _rows(part, columns, root, depth + 1)


def _grids(grids: Iterable[tuple[str, Grid]]) -> str:
    figures = "".join(
        f"<figure>{_grid(grid)}<figcaption>{html.escape(before + grid.title)}</figcaption></figure>"
        for before, grid in grids
    )
    if not figures:
        return ""
    return f"<h2>Who sees whom</h2><p class='faint'>Row i is what token i sees.</p><div class='grids'>{figures}</div>"


def _grid(grid: Grid) -> str:
    """As SVG: one run of squares after the other in each row."""
    size = len(grid.rows)
    way = "".join(f"M{j} {i}h1v1h-1z" for i, row in enumerate(grid.rows) for j, sign in enumerate(row) if sign == "■")
    title = html.escape(grid.title)
    return f'<svg class="grid" viewBox="0 0 {size} {size}" role="img" aria-label="{title}"><path d="{way}"/></svg>'
