"""What `lab probe` prints: the lens as a grid of words, losses as bars, the worst sequences with their worst tokens."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence as Items

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.views.lens import Lens, Said
from lab.views.losses import Group, Losses, Sequence
from lab.views.terminal import plain, table, visible

CELL = 12
"""Signs of a cell: a word and its percents."""

SHOWN = 60
"""Tokens of a sequence that are printed."""


def show_lens(lens: Lens, layer: int | None = None, token: int | None = None) -> None:
    """The lens; of one token its candidates in each layer, of one layer its row alone."""
    console = Console(highlight=False)
    numbered = [(n, one) for n, one in enumerate(lens.layers) if layer in (None, n)]
    if token is not None:
        asked = lens.asks[token - 1]
        console.print(
            f"token {token}, {lens.reads[token - 1]!r}" + (f"; then {asked!r}" if asked else ""), markup=False
        )
        rows = table("layer", "says", "rank of the text's own", words=("layer", "says"))
        for _, one in numbered:
            said = one.said[token - 1]
            top = "  ".join(f"{visible(word)} {share:.0%}" for word, share in said.top)
            rows.add_row(one.name, Text(top), "" if said.rank is None else f"{said.rank:,}")
        console.print(rows)
        return
    across = max(1, (console.width - 10) // CELL)
    for start in range(0, len(lens.reads), across):
        places = range(start, min(start + across, len(lens.reads)))
        for _, one in reversed(numbered):
            line = Text(f"{one.name:>9} ")
            for place in places:
                line.append(*_cell(one.said[place]))
            console.print(line, no_wrap=True, overflow="crop")
        for name, words in (("should be", lens.asks), ("read", lens.reads)):
            cells = "".join(_fit(visible(words[place] or ""), CELL - 1).ljust(CELL) for place in places)
            console.print(f"{name:>9} {cells}".rstrip(), markup=False, no_wrap=True, overflow="crop", style="dim")
        console.print()
    console.print("percents are probabilities; * says what should be there", style="dim", markup=False)
    rows = table("layer", "loss (nats)", "says what the last does", "KL from the last (nats)", words=("layer",))
    for _, one in numbered:
        loss = "" if one.loss is None else f"{one.loss:.3f}"
        rows.add_row(one.name, loss, f"{one.agreement:.0%}", f"{one.divergence:.3f}")
    console.print(rows)


def _cell(said: Said) -> tuple[str, str]:
    word, share = said.top[0]
    right = said.rank == 1
    style = "bold green" if right else "" if share >= 0.1 else "dim"
    percents = f"{100 * share:.0f}" + ("*" if right else " ")
    return f"{_fit(visible(word), CELL - 6):<{CELL - 5}}{percents:>4} ", style


def _fit(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + "…"


def show_losses(losses: Losses) -> None:
    """Three pictures: by position, by kind, and the worst sequences."""
    console = Console(highlight=False)
    console.print("\n".join(textwrap.wrap(summary(losses), console.width)), markup=False)
    for heading, groups in (("tokens read", losses.positions), ("kind of token", losses.kinds)):
        console.print(_bars(heading, groups, losses.loss, console.width))
    for number, one in enumerate(losses.worst, 1):
        console.print(f"worst sequence {number}: {one.loss:.2f} nats a token, {one.tokens} predicted", markup=False)
        console.print(_sequence(one))
        console.print()
    if losses.worst:
        console.print("‹› are the three tokens of each that were least expected", style="dim", markup=False)


def summary(losses: Losses) -> str:
    """One line on what was read."""
    read = "all of the validation text" if losses.whole else "rows spread over the validation text"
    said = f"{losses.loss:.4f} nats a token over {losses.tokens:,} predicted tokens, {read}"
    return said if losses.recorded is None else f"{said}; the run's val/loss is {losses.recorded:.4f}"


def _bars(heading: str, groups: Items[Group], mean: float, width: int) -> Table:
    bars = table(heading, "tokens", "share", "loss", "", words=(heading, ""))
    total, most = sum(group.tokens for group in groups), max(group.loss for group in groups)
    room = max(8, width - 50)
    for group in groups:
        bar = "█" * max(1, round(room * group.loss / most)) if most else ""
        style = "red" if group.loss > mean else ""
        cells = (f"{group.tokens:,}", f"{group.tokens / total:.1%}", f"{group.loss:.3f}")
        bars.add_row(group.name, *cells, Text(bar, style=style))
    return bars


def _sequence(one: Sequence) -> Text:
    """Its tokens around the worst, the three worst marked."""
    found = sorted((loss, place) for place, loss in enumerate(one.losses) if loss is not None)
    worst = {place for _, place in found[-3:]}
    begin = max(0, min(worst, default=0) - SHOWN // 3)
    line = Text("…" if begin else "", overflow="fold")
    for place in range(begin, min(begin + SHOWN, len(one.words))):
        word = plain(one.words[place])
        line.append(f"‹{word}›" if place in worst else word, style="bold red" if place in worst else "")
    return line.append("…") if begin + SHOWN < len(one.words) else line
