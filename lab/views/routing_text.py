"""Routes in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.text import Text

from lab.views.routes import Layer, Routes
from lab.views.terminal import SHADES, table

GROUPS = 12
TAKEN = 6


def show(routes: Routes, layer: str | None = None) -> None:
    """Load, kinds and changes of all layers; of one what its experts take, by token and by kind."""
    console = Console(highlight=False)
    first = routes.layers[0]
    top_k = first.chosen.shape[1]
    counted = ", ".join(f"{len(read.ids):,} of the {read.name}" if read.name != "text" else f"{len(read.ids):,}"
                        for read in dict.fromkeys(one.read for one in routes.layers))  # fmt: skip
    _say(console, f"{counted} tokens of {routes.source}; {first.experts} experts, {top_k} a token")
    if layer is not None:
        _layer(console, routes, routes.layer(layer))
        return
    _say(console, f"\nLoad, % of choices; {100 / first.experts:.1f} is even")
    _grid(console, "layer", [(one.name, one.load) for one in routes.layers], 1 / first.experts)
    _summary(console, routes)
    if routes.groups:
        _say(console, "Frequent tokens by their usual first experts, and how often they take these")
        for group in routes.groups[:GROUPS]:
            route = "→".join(map(str, group.route))
            words = " ".join(map(repr, group.tokens))
            _line(console, f"  {route:<{2 * len(group.route)}} {group.follow:4.0%}  {words}")
    _say(console, "\n--layer NAME shows what a layer's experts take, and where tokens go next")


def _summary(console: Console, routes: Routes) -> None:
    """What kinds tell of experts, and a layer of the next."""
    _say(console, "\nWhat a token's kind tells of its expert, in bits; shuffled: mean (95% bound)")
    kinds = table("layer", "uneven", "kind", "tokens shuffled", "words shuffled", "", words=("layer", ""))
    for layer in routes.layers:
        one, words = layer.kind_told, layer.kind_told_of_words
        told = (f"{layer.uneven:.2f}", f"{one.bits:.4f}", one.beside(), words.beside())
        kinds.add_row(layer.name, *told, verdict(layer))
    console.print(kinds)
    if routes.changes:
        _say(console, "What an expert tells of that in the next layer, in bits (numbers are arbitrary)")
        columns = ("from", "to", "bits", "shuffled", "same number", "by chance", "")
        changes = table(*columns, words=("from", "to", ""), names=2)
        for change in routes.changes:
            same = (f"{change.stay:.1%}", f"{change.stay_by_chance:.1%}")
            said = "above chance" if change.told.above else "not above chance"
            names = (change.before.name, change.after.name)
            changes.add_row(*names, f"{change.told.bits:.4f}", change.told.beside(), *same, said)
        console.print(changes)


def verdict(layer: Layer) -> str:
    """Whether experts go by kinds, in words."""
    if not layer.kind_told.above:
        return "not above chance"
    return "by kind" if layer.kind_told_of_words.above else "by word alone"


def _layer(console: Console, routes: Routes, layer: Layer) -> None:
    _say(
        console, f"\nLayer {layer.name}: what each expert takes beyond its share, with the share of it that goes there"
    )
    for expert in range(layer.experts):
        taken = "  ".join(f"{one.token!r} {one.share:.0%}" for one in layer.taken(expert, TAKEN))
        console.print(
            Text(f"{expert + 1:4} {layer.load[expert]:6.1%}  {taken}"),
            no_wrap=True,
            overflow="ellipsis",
            soft_wrap=False,
        )
    _say(console, "\nWhere tokens of each kind go, % of their choices")
    _grid(console, "kind", [*layer.kind_shares, ("all", layer.load)], 1 / layer.experts)
    _say(console, f"{verdict(layer)}: {layer.kind_told.bits:.4f} bits, shuffled {layer.kind_told.beside()}")
    if layer.together is not None:
        _say(console, "\nExperts chosen together, % of what their loads would make")
        _grid(console, "", [(str(i + 1), row) for i, row in enumerate(layer.together)], 1.0)
    for change in routes.changes:
        if change.before is layer:
            _say(console, f"\nFrom an expert here to one in layer {change.after.name}, % of its tokens")
            _grid(console, "", [(str(i + 1), row) for i, row in enumerate(change.shares)], 1 / layer.experts)


def _grid(console: Console, corner: str, rows: Sequence[tuple[str, np.ndarray]], even: float) -> None:
    """A row of percentages for each label, a column for each expert; shades where numbers do not fit."""
    wide = max(len(corner), *(len(label) for label, _ in rows))
    count = len(rows[0][1])
    room = console.width - wide - 2
    if 5 * count <= room:
        _say(console, f"  {corner:<{wide}}" + "".join(f"{i + 1:5}" for i in range(count)))
        for label, values in rows:
            console.print(Text(f"  {label:<{wide}}").append_text(Text("").join(_cell(v, even) for v in values)))
        return
    shown = min(count, room)
    for label, values in rows:
        shades = "".join(SHADES[min(4, int(2 * value / even + 0.5))] for value in values[:shown])
        _say(console, f"  {label:<{wide}}{shades}")
    more = f"; {shown} of {count} experts fit, --html shows all" if shown < count else ""
    _say(console, f"  a column for each expert, ▒ is even, █ twice that{more}")


def _cell(value: float, even: float) -> Text:
    style = "bold" if value >= 1.5 * even else "dim" if value <= even / 2 else ""
    return Text(f"{100 * value:5.0f}" if value >= 0.995 else f"{100 * value:5.1f}", style=style)


def _line(console: Console, text: str) -> None:
    """One line, cut where the terminal ends."""
    console.print(Text(text), no_wrap=True, overflow="ellipsis")


def _say(console: Console, text: str) -> None:
    console.print(Text(text))
