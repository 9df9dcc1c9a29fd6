"""A drawing of a model's blocks as SVG, from the bottom up as in Vaswani et al. 2017, figure 1: made from the model itself."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from lab.models.model import Model
from lab.models.stack import Stack
from lab.parts.attention import Scored
from lab.parts.experts import MixtureOfExperts
from lab.parts.linear import Linear
from lab.parts.position import Position
from lab.parts.visibility import Visibility
from lab.views.flow import steps
from lab.views.tree import numbers, spoken

WIDTH, MIDDLE, BOX, GAP = 340, 180, 216, 20
LETTER = 6.4  # width of one, at 12 pixels

Place = tuple[str, str]
"""What names a box in another drawing: the stack and kind of block that it stands in, and the layer."""


@dataclass(frozen=True)
class Box:
    """A layer: what stands in its box, and where its block has it."""

    lines: tuple[str, ...]
    look: str
    where: str = ""
    experts: tuple[int, int] = (0, 0)


@dataclass
class Pen:
    """Shapes with their height counted from the bottom, which is turned round at the end."""

    marked: frozenset[Place] = frozenset()
    boxes: dict[Place, Box] = field(default_factory=dict)
    shapes: list[tuple[float, str]] = field(default_factory=list)
    top: float = 14.0

    def box(self, place: Place, box: Box, middle: float = MIDDLE, width: float = BOX, up: float | None = None) -> float:
        """Draw a box whose bottom is `up`, or on top of what is there; gives its top."""
        bottom = self.top if up is None else up
        wrapped = [textwrap.wrap(line, int((width - 10) / LETTER)) for line in box.lines]
        lines = [part for parts in wrapped for part in parts]
        squares = 20 if box.experts[0] else 0
        height = 16 * len(lines) + 12 + squares
        marked = " marked" if place in self.marked else ""
        self.boxes[place] = box
        x = middle - width / 2
        self.add(
            bottom + height,
            f'<rect class="{box.look}{marked}" x="{x:.0f}" y="@" width="{width:.0f}" height="{height}" rx="5"/>',
        )
        for number, line in enumerate(lines):
            kind = "title" if number < len(wrapped[0]) else "detail"
            self.add(
                bottom + height - 18 - 16 * number,
                f'<text class="{kind}" x="{middle:.0f}" y="@">{html.escape(line)}</text>',
            )
        if squares:
            self._squares(box.experts, middle, bottom + 6)
        return bottom + height

    def _squares(self, experts: tuple[int, int], middle: float, up: float) -> None:
        """A square for each expert, at most sixteen, filled for those that serve a token."""
        shown = min(16, experts[0])
        for number in range(shown):
            look = "serves" if number < experts[1] else "waits"
            self.add(
                up + 12, f'<rect class="{look}" x="{middle - 6 * shown + 12 * number:.0f}" y="@" width="9" height="9"/>'
            )

    def line(self, *points: tuple[float, float], look: str = "way") -> None:
        """A line through points."""
        self.shapes.append((0, "M" + " L".join(f"{x:.0f} {{{y:.1f}}}" for x, y in points) + f"|{look}"))

    def add(self, up: float, shape: str) -> None:
        """A shape whose `@` is its height."""
        self.shapes.append((up, shape))

    def plus(self, up: float, x: float = MIDDLE) -> None:
        """A sum, in a circle around this point."""
        self.add(up, f'<circle class="sum" cx="{x:.0f}" cy="@" r="8"/>')
        self.line((x - 4, up), (x + 4, up))
        self.line((x, up - 4), (x, up + 4))

    def words(self, text: str, x: float, up: float, look: str = "note") -> None:
        """A line of words that begins at `x`."""
        self.add(up, f'<text class="{look}" x="{x:.0f}" y="@">{html.escape(text)}</text>')

    def svg(self, title: str, width: float = WIDTH) -> str:
        """The drawing."""
        height = self.top + 14
        drawn = []
        for up, shape in self.shapes:
            if "|" in shape and shape.startswith("M"):
                way, look = shape.split("|")
                turned = re.sub(r"\{([\d.]+)\}", lambda found: f"{height - float(found[1]):.1f}", way)
                drawn.append(f'<path class="{look}" d="{turned}"/>')
            else:
                drawn.append(shape.replace("@", f"{height - up:.1f}", 1))
        return (
            f'<svg class="block" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" '
            f'aria-label="{html.escape(title, quote=True)}">{"".join(drawn)}</svg>'
        )


def draw(model: Model, title: str, other: Model | None = None) -> str:
    """The drawing of a model as SVG; what `other` has not, or has otherwise or elsewhere, is marked."""
    marked: frozenset[Place] = frozenset()
    if other is not None:
        mine, theirs = _drawn(model).boxes, _drawn(other).boxes
        marked = frozenset(place for place, box in mine.items() if theirs.get(place) != box)
    pen = _drawn(model, marked)
    return pen.svg(title)


def _drawn(model: Any, marked: frozenset[Place] = frozenset()) -> Pen:
    pen = Pen(marked)
    for name, stack in _stacks(model):
        _stack(pen, name, stack, model)
    if not _stacks(model):
        _embedding(pen, "", model, None)
        for name, module in model.named_children():
            if name != "embedding" and any(True for _ in module.parameters()):
                _rise(pen)
                title = f"{name.capitalize()}: {_words(module)}"
                pen.top = pen.box(("", name), Box((title, *_inside(module), *_lists(module)), "attention"))
    if getattr(model, "head_flops", 0):
        _rise(pen)
        head = "the embedding again" if model.embedding.head is None else f"{model.vocab_size:,} × {model.dim}"
        pen.top = pen.box(("", "head"), Box(("Scores of the vocabulary", head), "embed"))
    _rise(pen, arrow=True)
    return pen


def _stacks(model: Any) -> list[tuple[str, Stack]]:
    if isinstance(model, Stack):
        return [("", model)]
    return [(name, module) for name, module in model.named_children() if isinstance(module, Stack)]


def _stack(pen: Pen, name: str, stack: Stack, model: Any) -> None:
    if name:
        if pen.boxes:
            pen.line((MIDDLE, pen.top), (MIDDLE, pen.top + 10))
            pen.top += 16
            pen.words("its states, which the decoder looks at", 24, pen.top)
            pen.top += 26
        pen.words(name.capitalize(), 24, pen.top, "name")
        pen.top += 12
    _embedding(pen, name, model, stack.position)
    for layers, block, position in _kinds(stack):
        _rise(pen)
        label = (
            f"× {len(layers)}"
            if len(layers) == len(stack.blocks)
            else f"layer{'s' * (len(layers) > 1)} {numbers(layers)}"
        )
        kind = name if len(layers) == len(stack.blocks) else f"{name} {label}".strip()
        _block(pen, kind, block, position, label)
    if any(True for _ in stack.norm.parameters()):
        _rise(pen)
        pen.top = pen.box((name, "norm"), Box((_words(stack.norm),), "norm", "after the blocks"))


def _kinds(stack: Stack) -> list[tuple[list[int], Any, Position]]:
    """Each kind of block with the layers that it is, and its position."""
    found: dict[Any, tuple[list[int], Any, Position]] = {}
    for number, block in enumerate(stack.blocks):
        position = stack.position.at(number)
        boxes = tuple(_layer(name, module, position) for name, module in block.named_children())
        found.setdefault((type(block), boxes), ([], block, position))[0].append(number + 1)
    return list(found.values())


def _embedding(pen: Pen, name: str, model: Any, position: Position | None) -> None:
    pen.words("tokens", MIDDLE + 8, pen.top)
    _rise(pen)
    table = getattr(model, "embedding", None)
    lines = ("Embedding", f"{model.vocab_size:,} × {model.dim}") if table is not None else ("Counts of tokens",)
    pen.top = pen.box((name, "embedding"), Box(lines, "embed"))
    adds = [] if position is None else [part for part in position.modules() if _adds(part)]
    for added in adds:
        _rise(pen)
        middle = pen.top + 8
        pen.plus(middle)
        pen.box((name, "position"), Box((_words(added),), "position"), middle=68, width=96, up=middle - 14)
        pen.line((116, middle), (MIDDLE - 8, middle))
        pen.top = middle + 8


def _block(pen: Pen, kind: str, block: Any, position: Position, label: str) -> None:
    begin = pen.top
    pen.line((MIDDLE, begin), (MIDDLE, begin + 16))
    pen.top += 16
    modules = dict(block.named_children())
    boxes = {name: _layer(name, module, position) for name, module in modules.items()}
    try:
        way = steps(block)
    except ValueError:
        pen.words("its layers; how they are joined is not drawn", 24, pen.top)
        way = []
        for name, module in modules.items():
            if any(True for _ in module.parameters()):
                _rise(pen)
                pen.top = pen.box((kind, name), boxes[name])
    for step in way:
        if step.on:
            _rise(pen)
            pen.top = pen.box((kind, step.on), _at(boxes[step.on], "on the stream"))
        else:
            _branches(pen, kind, step.branches, step.factor, boxes)
    pen.line((MIDDLE, pen.top), (MIDDLE, pen.top + 16))
    pen.top += 16
    height = pen.top - begin - 8
    pen.shapes.insert(
        0, (pen.top - 4, f'<rect class="frame" x="10" y="@" width="{WIDTH - 20}" height="{height:.0f}" rx="10"/>')
    )
    pen.words(label, WIDTH - 18, pen.top - 22, "times")
    pen.top -= 4


def _branches(pen: Pen, kind: str, branches: Sequence[tuple[str, ...]], factor: float, boxes: dict[str, Box]) -> None:
    """Layers that leave the stream and are added to it; what all branches begin with is drawn once."""
    fork = pen.top + 10
    pen.line((MIDDLE, pen.top), (MIDDLE, fork))
    shared = 0
    while len(branches) > 1 and all(len(b) > shared and b[shared] == branches[0][shared] for b in branches):
        shared += 1
    pen.top = fork
    for name in branches[0][:shared]:
        _rise(pen)
        pen.top = pen.box((kind, name), _at(boxes[name], "beside others"))
    width = BOX if len(branches) == 1 else (WIDTH - 90) / len(branches) - 6
    bottom, highest, ends = pen.top, pen.top, []
    for number, branch in enumerate(branches):
        middle = MIDDLE if len(branches) == 1 else 62 + (width + 6) * (number + 0.5)
        top = bottom
        for place, name in enumerate(branch[shared:]):
            start = (MIDDLE, top) if place == 0 else (middle, top)
            pen.line(start, (middle, top + GAP / 2), (middle, top + GAP))
            before = "before its layer" if place == 0 else "behind it"
            where = "beside others" if len(branches) > 1 else before if boxes[name].look == "norm" else ""
            top = pen.box((kind, name), _at(boxes[name], where), middle, width, top + GAP)
        ends.append((middle, top))
        highest = max(highest, top)
    joint = highest + GAP + 8
    for middle, top in ends:
        pen.line((middle, top), (middle, joint - 14), (MIDDLE, joint - 10), (MIDDLE, joint - 8))
    pen.line((MIDDLE, fork), (34, fork), (34, joint), (MIDDLE - 8, joint), look="way stream")
    if factor != 1:
        pen.words(f"× {factor:.2f}", 38, (fork + joint) / 2)
    pen.plus(joint)
    pen.top = joint + 8


def _rise(pen: Pen, arrow: bool = False) -> None:
    """The stream goes up to what comes next."""
    pen.line((MIDDLE, pen.top), (MIDDLE, pen.top + GAP))
    pen.top += GAP
    if arrow:
        pen.line((MIDDLE - 5, pen.top - 7), (MIDDLE, pen.top), (MIDDLE + 5, pen.top - 7))


def _layer(name: str, module: nn.Module, position: Position) -> Box:
    """What stands in the box of a block's layer."""
    if isinstance(module, Scored):
        return Box((_words(module), *_attention(name, module, position)), "attention")
    if isinstance(module, MixtureOfExperts):
        expert: Any = module.experts[0]
        said = f"{len(module.experts)} experts, {module.top_k} a token" + (
            ", one more for all" if module.shared else ""
        )
        lines = (_words(module), said, *_inside(expert))
        return Box(lines, "ffn", experts=(len(module.experts), module.top_k))
    if "norm" in name:
        return Box((_words(module),), "norm")
    return Box((_words(module), *_inside(module)), "ffn")


def _attention(name: str, module: Any, position: Position) -> Iterator[str]:
    shared = getattr(module, "kv_heads", module.heads)
    yield f"{module.heads} heads" + ("" if shared == module.heads else f", {shared} for keys and values")
    if name == "cross":
        yield "looks at the encoder's states"
        return
    seen: Visibility = module.visibility
    yield f"sees {spoken(seen)}" if seen.narrow else "sees all before" if seen.causal else "sees both sides"
    if module.rotates:
        yield f"{_words(position)} turns queries, keys"
    if type(position).bias is not Position.bias:
        yield f"{_words(position)} biases scores"


def _inside(module: nn.Module) -> Iterator[str]:
    """Settings, and widths from what is read to what is given."""
    said = module.extra_repr() if type(module).extra_repr.__module__.startswith("lab.") else ""
    maps = [part for part in module.modules() if isinstance(part, Linear)]
    inner = getattr(module, "inner", None)
    if maps and inner:
        yield f"{said + ', ' if said else ''}{maps[0].in_features} → {inner} → {maps[-1].out_features}"
    elif said:
        yield said


def _lists(module: nn.Module) -> Iterator[str]:
    """`2 × LSTM` for a list of layers."""
    for layers in module.children():
        if isinstance(layers, nn.ModuleList):
            kinds = [part for part in layers.modules() if not isinstance(part, nn.ModuleList)]
            yield f"{len(kinds)} × {_words(kinds[0])}"


def _adds(position: Any) -> bool:
    return (
        isinstance(position, Position)
        and type(position).embed is not Position.embed
        and not hasattr(position, "options")
    )


def _at(box: Box, where: str) -> Box:
    return Box(box.lines, box.look, where, box.experts)


def _words(module: Any) -> str:
    """`GroupedQueryAttention` as `Grouped query attention`; names such as RMSNorm stay."""
    name = type(module).__name__
    words = re.findall(r"[A-Z]+[a-z0-9]*", name)
    if len(words) < 2 or any(len(word) > 1 and word[:2].isupper() for word in words):
        return name
    return " ".join([words[0], *(word.lower() for word in words[1:])])
