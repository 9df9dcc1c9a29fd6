"""The page of `lab probe`: the lens as a table of words in shades, losses as bars, the worst sequences with shaded tokens."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from lab.views.lens import Layer, Lens
from lab.views.losses import Group, Losses
from lab.views.probe import summary
from lab.views.terminal import visible
from lab.views.web import page, table

STYLE = """
:root { --heat: 25, 110, 190; --cost: 205, 60, 40 }
@media (prefers-color-scheme: dark) { :root { --heat: 50, 120, 190; --cost: 205, 60, 40 } }
.lens td, .lens th { text-align: center; padding: .15rem .35rem; white-space: pre;
  font: .82rem ui-monospace, monospace; border: 1px solid var(--line) }
.lens td { background: rgba(var(--heat), var(--p)) } .lens .right { outline: 2px solid var(--fg); outline-offset: -2px }
.lens th { color: var(--faint); font-weight: 400 } .lens .side { position: sticky; left: 0; background: var(--bg) }
.bar { display: inline-block; height: .8em; background: rgba(var(--heat), .9); vertical-align: baseline }
.over .bar { background: rgba(var(--cost), .9) } .bars td:last-child { text-align: left; min-width: min(12rem, 12vw) }
.text { white-space: pre-wrap; overflow-wrap: anywhere; font: .9rem/1.8 ui-monospace, monospace }
.text span { background: rgba(var(--cost), var(--p)) }
"""


def to_html(title: str, lens: Lens | None, losses: Losses | None) -> str:
    """A page of what was looked at."""
    body = [*(_lens(lens) if lens else ()), *(_losses(losses) if losses else ())]
    return page(title, "\n".join(body), STYLE)


def _lens(lens: Lens) -> Iterator[str]:
    yield "<h2>What each layer would say</h2>"
    yield (
        "<p class='faint'>What leaves each layer, through what follows the last one and the head. The stronger the shade, the "
        "likelier; with an edge where it is what the text has. Point at a word for the candidates.</p>"
    )
    rows = [_row(layer, lens) for layer in reversed(lens.layers)]
    for name, words in (("should be", lens.asks), ("read", lens.reads)):
        cells = "".join(f"<th>{html.escape(visible(word or ''))}</th>" for word in words)
        rows.append(f"<tr><th class='side'>{name}</th>{cells}</tr>")
    yield f"<div class='wide'><table class='lens'>{''.join(rows)}</table></div>"
    heads = ("layer", "loss (nats)", "says what the last does", "KL from the last (nats)")
    lines = [
        (one.name, "" if one.loss is None else f"{one.loss:.3f}", f"{one.agreement:.0%}", f"{one.divergence:.3f}")
        for one in lens.layers
    ]
    yield table(heads, lines)


def _row(layer: Layer, lens: Lens) -> str:
    cells = []
    for said in layer.said:
        word, share = said.top[0]
        top = "\n".join(f"{share:.1%} {visible(word)}" for word, share in said.top)
        truth = "" if said.truth is None else f"\nthe text's own: {said.truth:.2%}, place {said.rank:,}"
        look = ' class="right"' if said.rank == 1 else ""
        cells.append(
            f'<td{look} style="--p:{0.75 * share:.2f}" title="{html.escape(top + truth, quote=True)}">'
            f"{html.escape(visible(word))}</td>"
        )
    return f"<tr><th class='side'>{layer.name}</th>{''.join(cells)}</tr>"


def _losses(losses: Losses) -> Iterator[str]:
    yield f"<h2>Losses</h2><p>{html.escape(summary(losses))}</p>"
    yield "<p class='faint'>Below, losses are in nats a token; a bar over the mean is red.</p>"
    yield from _bars("tokens read", losses.positions, losses.loss)
    yield from _bars("kind of token", losses.kinds, losses.loss)
    yield "<h2>Sequences with the highest loss</h2><p class='faint'>The redder a token, the less it was expected.</p>"
    for one in losses.worst:
        most = max((loss for loss in one.losses if loss is not None), default=1.0) or 1.0
        spans = "".join(
            html.escape(word)
            if loss is None
            else f'<span style="--p:{0.8 * loss / most:.2f}" title="{loss:.2f} nats">{html.escape(word)}</span>'
            for word, loss in zip(one.words, one.losses, strict=True)
        )
        yield f"<p><b>{one.loss:.2f}</b> nats a token, {one.tokens} predicted</p><p class='text'>{spans}</p>"


def _bars(heading: str, groups: Sequence[Group], mean: float) -> Iterator[str]:
    most = max(group.loss for group in groups) or 1.0
    total = sum(group.tokens for group in groups)
    lines = "".join(
        f"<tr{' class=over' if group.loss > mean else ''}><td>{group.name}</td><td>{group.tokens:,}</td>"
        f"<td>{group.tokens / total:.1%}</td><td>{group.loss:.3f}</td>"
        f"<td><span class='bar' style='width:{100 * group.loss / most:.0f}%'></span></td></tr>"
        for group in groups
    )
    heads = "".join(f"<th>{head}</th>" for head in (heading, "tokens", "share", "loss", ""))
    yield f"<h2>By {heading}</h2><div class='wide'><table class='bars'><tr>{heads}</tr>{lines}</table></div>"
