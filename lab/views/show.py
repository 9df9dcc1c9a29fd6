"""What a model is: its tree with what each part costs, what was chosen, who sees whom in each layer."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import Any

from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import nn

from lab.effect import chosen
from lab.layout import Layout
from lab.models.model import Model
from lab.parts.visibility import Visibility
from lab.runs.comparison.numbers import scaled
from lab.views.tree import Node, numbers, spoken, tree

GRID = 32
"""Tokens of a grid, unless told."""

BLOCK = re.compile(r"(?:(\w+)\.)?blocks\.(\d+)\.(\w+)")
"""Where attention stands: the stack, the layer from 0, its name."""

Heading = tuple[str, Any]
"""Of a column, and what it says of a part."""


@dataclass(frozen=True)
class Grid:
    """Who sees whom in some layers, counted from 1: of each token a row, `■` for each that it sees. `where` is the stack, and
    `cross` where it looks at another.
    """

    where: str
    layers: list[int]
    pattern: str
    rows: list[str]

    @property
    def title(self) -> str:
        """`Layers 1-4: full`."""
        title = (
            f"{self.where} layer{'s' if len(self.layers) > 1 else ''} {numbers(self.layers)}: {self.pattern}".strip()
        )
        return title[0].upper() + title[1:]


@dataclass(frozen=True)
class Shown:
    """A model, described without memory for its weights.

    Attributes:
        name: what was asked for.
        choices: the option of each group that has a say.
        context: tokens of the document that FLOPs and cache are of.
        tree: its parts.
        grids: one for each kind of layer.
        model: without values.
        head: parameters that a run's objective added to it; 0 for none, or where nothing is trained.
    """

    name: str
    choices: dict[str, str]
    context: int
    tree: Node
    grids: list[Grid]
    model: Model = field(repr=False, compare=False)
    head: int = 0

    @property
    def total(self) -> dict[str, float]:
        """Of the whole: parameters, those of a token, FLOPs, and bytes in float32, of which bfloat16 takes half."""
        cache = self.tree.cache_bytes or 0
        return {
            "parameters": self.tree.parameters,
            "active": round(self.tree.active),
            "flops_per_token": self.tree.flops,
            "flops": self.tree.flops * self.context,
            "weight_bytes": 4 * self.tree.parameters,
            "cache_bytes_per_token": cache,
            "cache_bytes": cache * self.context,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        grids = [asdict(grid) for grid in self.grids]
        return {
            "name": self.name,
            "choices": self.choices,
            "context": self.context,
            "total": self.total,
            "objective_head": self.head,
            "tree": self.tree.to_json(),
            "visibility": grids,
        }

    def print(self) -> None:
        """The tree, the totals, the choices and the grids, as wide as the terminal is."""
        console = Console(highlight=False)
        told = [
            word for word, value in (("FLOPs", self.tree.flops), ("bytes of cache", self.tree.cache_bytes)) if value
        ]
        costs = f"{' and '.join(told)} for a token of {self.context:,}" if told else ""
        title = "; ".join(filter(None, (self.name, costs)))
        console.print(textwrap.fill(title, console.width), markup=False, style="italic")
        console.print(_tree_table(self, console.width))
        for line in said(self):
            console.print(line, markup=False)
        console.print()
        words = " ".join(f"{group}={option}" for group, option in self.choices.items())
        console.print(textwrap.fill(words, console.width, break_on_hyphens=False), markup=False, style="dim")
        print_grids((("", grid) for grid in self.grids), console)


def show(
    config: DictConfig,
    tokens: int = GRID,
    context: int | None = None,
    name: str = "",
    vocab_size: int | None = None,
    trained: int | None = None,
) -> Shown:
    """Describe the model of a configuration.

    Args:
        config: from `lab.compose`.
        tokens: of the grids.
        context: tokens of the document that FLOPs and cache are of; by default the model's context.
        name: what was asked for.
        vocab_size: of a trained tokenizer; by default `tokenizer.vocab_size`.
        trained: parameters that a run trained; by default those of the model.

    Returns:
        What is shown, a `Shown`.
    """
    from lab.config import meta_model

    model = meta_model(config, vocab_size)
    length = context or model.context
    head = 0 if trained is None else max(0, trained - model.parameters_total)
    grids = _grids(model, min(tokens, model.context))
    return Shown(name, chosen(config), length, tree(model, length), grids, model, head)


def headings(root: Node) -> list[Heading]:
    """The columns that tell something of this tree."""
    nodes = [node for _, node in root.walk()]
    columns: list[Heading] = [("parameters", lambda node: scaled(node.parameters) if node.parameters else "")]
    if any(round(node.active) != node.parameters for node in nodes):
        columns.append(("active", lambda node: scaled(round(node.active)) if node.parameters else ""))
    columns.append(("share", lambda node: share(node.parameters / max(1, root.parameters))))
    if root.flops:
        columns.append(("FLOPs", lambda node: scaled(node.flops) if node.flops else ""))
    if root.cache_bytes:
        columns.append(("cache", lambda node: scaled(node.cache_bytes) if node.cache_bytes else ""))
    return columns


def share(value: float) -> str:
    """Of the whole in percent; empty for nothing."""
    return "" if not value else "<0.1%" if value < 0.0005 else f"{value:.1%}" if value < 0.0995 else f"{value:.0%}"


def said(shown: Shown) -> Iterator[str]:
    """The totals in words."""
    total, length = shown.total, f"{shown.context:,}"
    active = "" if total["active"] == total["parameters"] else f", {total['active']:,} active"
    yield f"{total['parameters']:,} parameters{active}; weights {_bytes(total['weight_bytes'])}"
    if total["flops"]:
        flops, each = scaled(total["flops"]), scaled(total["flops_per_token"])
        yield f"a document of {length} tokens: {flops} FLOPs forward, {each} a token"
    if shown.head:
        yield f"objective={shown.choices['objective']} added a head of {shown.head:,} parameters"
    if total["cache_bytes"]:
        yield f"cache of {length} tokens: {_bytes(total['cache_bytes'])}"


def _bytes(size: float) -> str:
    return " and ".join(f"{_unit(size / share)} in {kind}" for share, kind in ((1, "float32"), (2, "bfloat16")))


def _unit(size: float) -> str:
    number = scaled(size)
    return f"{number}B" if " " in number else f"{number} B"


def _tree_table(shown: Shown, width: int) -> Table:
    columns = headings(shown.tree)
    cells = [(guide, node, [say(node) for _, say in columns]) for guide, node in _lines(shown.tree)]
    taken = [max(len(heading), *(len(row[i]) for _, _, row in cells)) for i, (heading, _) in enumerate(columns)]
    room = max(16, width - sum(taken) - 2 * len(taken) - 2)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column("part", no_wrap=True)
    for heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for (first, rest), node, row in cells:
        name = f"{node.name}: " if node.name else ""
        lines = textwrap.wrap(
            name + node.label, room, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
        )
        table.add_row(Text("\n".join(lines)), *row, style="bold" if not node.name else "")
    return table


def _lines(node: Node, first: str = "", rest: str = "") -> Iterator[tuple[tuple[str, str], Node]]:
    """Each node with what is drawn before its first line and before the others."""
    below = rest + ("│  " if node.parts else "   ")
    yield (first, below + "  " if node.name else below), node
    for place, part in enumerate(node.parts, 1):
        last = place == len(node.parts)
        yield from _lines(part, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def _grids(model: nn.Module, tokens: int) -> list[Grid]:
    """For each kind of visibility the layers that have it."""
    found: dict[Any, tuple[list[int], Visibility]] = {}
    for path, module in model.named_modules():
        visibility = getattr(module, "visibility", None)
        place = BLOCK.fullmatch(path)
        if isinstance(visibility, Visibility) and place:
            stack, layer, role = place.groups(default="")
            where = f"{stack} {role}".replace("attention", "").strip()
            found.setdefault((where, visibility.identity), ([], visibility))[0].append(int(layer) + 1)
    layout = Layout.full(1, tokens)
    return [
        Grid(
            where,
            layers,
            _pattern(visibility, layout),
            ["".join("■" if s else "·" for s in row) for row in visibility.sees(layout, layout)[0].tolist()],
        )
        for (where, _), (layers, visibility) in found.items()
    ]


def _pattern(visibility: Visibility, layout: Layout) -> str:
    """What it is called; and where a grid is too small to show it, that."""
    said = spoken(visibility) + ("" if visibility.causal else ", both sides")
    seen = visibility.sees(layout, layout)
    hidden = visibility.narrow and bool((seen == Visibility(visibility.causal).sees(layout, layout)).all())
    return f"{said}, beyond this grid" if hidden else said


def print_grids(grids: Iterable[tuple[str, Grid]], console: Console) -> None:
    """As many beside each other as fit, each under its title with what stands before that."""
    grids = list(grids)
    if not grids:
        return
    tokens = max(len(grid.rows) for _, grid in grids)
    between = " " if 2 * tokens <= console.width else ""
    blocks = [
        [before + grid.title, *(between.join(row[: console.width]) for row in grid.rows[: console.width])]
        for before, grid in grids
    ]
    console.print("\nRow i is what token i sees.")
    if tokens > console.width:
        console.print(f"{console.width} of {tokens} tokens fit; a wider terminal or --html shows all")
    wide = max(len(line) for block in blocks for line in block) + 3
    across = max(1, console.width // wide)
    for start in range(0, len(blocks), across):
        for line in zip_longest(*blocks[start : start + across], fillvalue=""):
            shown = "".join(part.ljust(wide) for part in line).rstrip()
            console.print(shown, markup=False, no_wrap=True, overflow="crop")
        console.print()
