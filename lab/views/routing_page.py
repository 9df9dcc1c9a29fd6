"""Routes as a page: tables whose cells are tinted by what they hold."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from lab.views.routes import Layer, Routes
from lab.views.routing_text import verdict
from lab.views.terminal import plain
from lab.views.web import page, table

STYLE = """
.grid td, .grid th { padding: .15rem .45rem } .grid td { min-width: 2.4rem } td.words { min-width: min(24rem, 60vw) }
.grid td.cell { background: color-mix(in srgb, var(--tint) calc(var(--s) * 1%), var(--bg)) }
:root { --tint: #4a90d9 } @media (prefers-color-scheme: dark) { :root { --tint: #2f6cab } }
details { margin: .6rem 0; border-bottom: 1px solid var(--line); padding-bottom: .4rem }
summary { cursor: pointer; font-weight: 600 } h3 { font-size: 1rem; margin: 1rem 0 .2rem }
"""


def to_html(routes: Routes, title: str) -> str:
    """Load, what kinds tell, groups of tokens; and for each layer, behind its name, what its experts take."""
    first = routes.layers[0]
    reads = dict.fromkeys(layer.read for layer in routes.layers)
    counted = " and ".join(
        f"{len(read.ids):,}{'' if read.name == 'text' else f' of the {read.name}'}" for read in reads
    )
    even = 1 / first.experts
    body = [
        f"<p class='faint'>{counted} tokens of {html.escape(routes.source)}; {first.experts} experts, "
        f"{first.chosen.shape[1]} a token.</p>",
        f"<h2>Load</h2><p class='faint'>% of the choices of each layer; {100 * even:.1f} is even.</p>",
        _grid("layer", [(layer.name, layer.load) for layer in routes.layers], even),
        "<h2>Do kinds of token tell?</h2><p class='faint'>What a token's kind says of its expert, in bits, beside the mean and "
        "the 95% bound of shuffles: of kinds over tokens, and of routes over words, each of which goes where another "
        "goes. Uneven is the fullest expert's load over an even one.</p>",
        table(
            ("layer", "uneven", "kind", "tokens shuffled", "words shuffled", ""),
            (_told_row(layer) for layer in routes.layers),
        ),
        *_changes(routes),
        *_groups(routes),
        "<h2>Layer by layer</h2>",
        *(_layer(routes, layer) for layer in routes.layers),
    ]
    return page(title, "\n".join(body), STYLE)


def _told_row(layer: Layer) -> tuple[str, ...]:
    one, words = layer.kind_told, layer.kind_told_of_words
    return layer.name, f"{layer.uneven:.2f}", f"{one.bits:.4f}", one.beside(), words.beside(), verdict(layer)


def _changes(routes: Routes) -> Iterator[str]:
    if not routes.changes:
        return
    yield (
        "<h2>From layer to layer</h2><p class='faint'>What a token's first expert says of its first one in the next layer. "
        "Numbers of experts are arbitrary, so keeping the same one means something only beside its chance.</p>"
    )
    rows = (
        (change.before.name, change.after.name, f"{change.told.bits:.4f}", change.told.beside(), f"{change.stay:.1%}",
         f"{change.stay_by_chance:.1%}", "above chance" if change.told.above else "not above chance")
        for change in routes.changes
    )  # fmt: skip
    yield table(("from", "to", "bits", "shuffled", "same number", "by chance", ""), rows)


def _groups(routes: Routes) -> Iterator[str]:
    if not routes.groups:
        return
    yield (
        "<h2>Tokens that go together</h2><p class='faint'>Frequent tokens by their usual route: the first expert of each "
        "layer, how often they take it, and how often any token does.</p>"
    )
    rows = (
        ("→".join(map(str, group.route)), f"{group.follow:.0%}", f"{group.chance:.0%}", _words(group.tokens))
        for group in routes.groups
    )
    yield table(("route", "taken", "by any", "tokens"), rows, raw=("tokens",))


def _layer(routes: Routes, layer: Layer) -> str:
    even = 1 / layer.experts
    takes = ((str(expert + 1), f"{layer.load[expert]:.1%}", _taken(layer, expert)) for expert in range(layer.experts))
    parts = [
        f"<details><summary>Layer {html.escape(layer.name)}</summary>",
        "<h3>What each expert takes beyond its share, and how often it gets it</h3>",
        table(("expert", "load", "tokens"), takes, raw=("tokens",)),
        "<h3>Where tokens of each kind go, % of their choices</h3>",
        _grid("kind", [*layer.kind_shares, ("all", layer.load)], even),
    ]
    if layer.together is not None:
        rows = [(str(i + 1), row) for i, row in enumerate(layer.together)]
        parts += ["<h3>Experts chosen together, % of what their loads would make</h3>", _grid("", rows, 1.0)]
    for change in routes.changes:
        if change.before is layer:
            rows = [(str(i + 1), row) for i, row in enumerate(change.shares)]
            parts += [f"<h3>From an expert here to one in layer {html.escape(change.after.name)}, % of its tokens</h3>"]
            parts += [_grid("", rows, even)]
    return "\n".join([*parts, "</details>"])


def _taken(layer: Layer, expert: int) -> str:
    return " ".join(f"{_words([one.token])} {one.share:.0%}" for one in layer.taken(expert))


def _words(tokens: Iterable[str]) -> str:
    return " ".join(f"<code>{html.escape(plain(token))}</code>" for token in tokens)


def _grid(corner: str, rows: Sequence[tuple[str, np.ndarray]], even: float) -> str:
    """Percentages, a row for each label and a column for each expert, full tint at three times an even share."""
    heads = "".join(f"<th>{i + 1}</th>" for i in range(len(rows[0][1])))
    lines = []
    for label, values in rows:
        cells = "".join(
            f"<td class='cell' style='--s:{min(100, round(100 * float(value) / (3 * even)))}'>{100 * value:.1f}</td>"
            for value in values
        )
        lines.append(f"<tr><th>{html.escape(label)}</th>{cells}</tr>")
    return f"<div class='wide'><table class='grid'><tr><th>{corner}</th>{heads}</tr>{''.join(lines)}</table></div>"
