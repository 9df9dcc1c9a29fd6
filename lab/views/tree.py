"""The tree of a model: its parts as PyTorch prints them, with the shapes of their weights, and what each costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from torch import nn

from lab.models.model import Model
from lab.models.stack import Stack
from lab.parts.alignment import Alignment
from lab.parts.attention import Scored
from lab.parts.experts import MixtureOfExperts
from lab.parts.linear import Merged
from lab.parts.visibility import Visibility

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes."""


@dataclass(frozen=True)
class Node:
    """A part of a model; equal ones of a list are one. Figures are of all that it stands for, so those of parts add up.

    Attributes:
        name: what its parent calls it; where parts of a list differ, with the layers.
        kind: its class.
        layers: which of a list it stands for, counted from 1; empty for what is not in a list.
        shapes: of the weights that it holds itself.
        pieces: what is merged in its first weight, with how many rows each.
        says: its settings.
        parameters, active: active is what one token uses.
        flops: forward, for a token of a document as long as the context.
        cache_bytes: kept for a token of such a document; none where nothing is kept.
        parts: what it is made of.
    """

    name: str
    kind: str
    layers: tuple[int, ...] = ()
    shapes: Shapes = ()
    pieces: tuple[tuple[str, int], ...] = ()
    says: str = ""
    parameters: int = 0
    active: float = 0
    flops: float = 0.0
    cache_bytes: float | None = None
    parts: tuple[Node, ...] = field(default=())

    @property
    def count(self) -> int:
        """How many equal parts it stands for."""
        return max(1, len(self.layers))

    @property
    def label(self) -> str:
        """`32 × PreNorm`, with weights and settings."""
        words = [f"{self.count} × {self.kind}" if self.count > 1 else self.kind]
        if self.says:
            words[0] += f" ({self.says})"
        if self.pieces:
            words.append(f"{_shape(self.shapes[0][1])} {', '.join(f'{name} {rows}' for name, rows in self.pieces)}")
        rest = self.shapes[1:] if self.pieces else self.shapes
        words += [(f"{name} " if name != "weight" else "") + _shape(shape) for name, shape in rest]
        return " ".join(words)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = asdict(self) | {"layers": list(self.layers), "count": self.count, "active": round(self.active)}
        plain["shapes"] = {name: list(shape) for name, shape in self.shapes}
        plain["pieces"] = dict(self.pieces)
        return plain | {"parts": [part.to_json() for part in self.parts]}

    def walk(self, path: str = "") -> Iterator[tuple[str, Node]]:
        """Itself and all parts below with their paths."""
        yield path, self
        for part in self.parts:
            yield from part.walk(f"{path}.{part.name}".lstrip("."))


def tree(model: Model, length: int) -> Node:
    """The tree of a model, which may be on the meta device.

    Args:
        model: of any family.
        length: of the document that FLOPs and cache are of, in tokens.
    """
    return _Walk(length, model.head_flops).root(model)


def numbers(layers: Sequence[int]) -> str:
    """Layers in few signs: `1-32`, `1, 3, …, 31`, `2, 5, 6`."""
    found = list(layers)
    step = found[1] - found[0] if len(found) > 1 else 1
    even = all(b - a == step for a, b in pairwise(found))
    if even and step == 1 and len(found) > 2:
        return f"{found[0]}-{found[-1]}"
    if even and len(found) > 4:
        return f"{found[0]}, {found[1]}, …, {found[-1]}"
    return ", ".join(map(str, found))


def spoken(visibility: Visibility) -> str:
    """`sliding (window 128)`."""
    sizes = ", ".join(f"{k} {v}" for k, v in vars(visibility).items() if k in ("window", "stride"))
    return type(visibility).__name__.lower() + (f" ({sizes})" if sizes else "")


class _Walk:
    """Nodes of modules, each parameter counted where it is met first."""

    def __init__(self, length: int, head_flops: int) -> None:
        self.length, self.lengths, self.head_flops = length, np.array([length]), head_flops
        self.met: set[int] = set()

    def root(self, model: Model) -> Node:
        node = self.node("", model)
        flops = float(model.flops(self.lengths).sum()) / self.length
        kept = model.cache_bytes(self.length) / self.length if model.generates else None
        return replace(node, flops=flops, cache_bytes=kept)

    def node(self, name: str, module: Any, share: float = 1.0, costed: bool = False, causal: bool = True) -> Node:
        """`share`: of experts, those that serve a token; `costed`: some part above has said what this one costs."""
        flops = None if isinstance(module, Model) else self.flops(name, module)
        if isinstance(module, Stack):
            causal = module.causal
        inside = costed or flops is not None
        parts: list[Node] = []
        for child_name, child in module.named_children():
            if _shows_nothing(child):
                continue
            serves = (
                module.top_k / len(child) if isinstance(module, MixtureOfExperts) and child_name == "experts" else 1
            )
            settings = (share * serves, inside, causal)
            if isinstance(child, nn.ModuleList):
                parts += self.merged(child_name, child, *settings)
            else:
                parts.append(self.node(child_name, child, *settings))
        own = {n: p for n, p in module.named_parameters(recurse=False) if id(p) not in self.met}
        self.met |= {id(parameter) for parameter in own.values()}
        held = sum(parameter.numel() for parameter in own.values())
        if flops is None:
            flops = sum(part.flops for part in parts)
            if inside and isinstance(module, nn.Linear):
                flops += 2.0 * module.weight.numel() * share
        else:
            flops *= share
        kept = [part.cache_bytes for part in parts if part.cache_bytes is not None]
        return Node(
            name,
            type(module).__name__,
            shapes=tuple((n, tuple(p.shape)) for n, p in own.items()),
            pieces=tuple(module.outputs.items()) if isinstance(module, Merged) and own else (),
            says=_says(module),
            parameters=held + sum(part.parameters for part in parts),
            active=held * share + sum(part.active for part in parts),
            flops=flops,
            cache_bytes=sum(kept) if kept else self.kept(name, module, causal),
            parts=tuple(parts),
        )

    def merged(self, name: str, modules: nn.ModuleList, *settings: Any) -> list[Node]:
        """Nodes for the items of a list, equal ones as one."""
        found: dict[Node, list[int]] = {}
        for number, module in enumerate(modules, 1):
            inner = list(module) if isinstance(module, nn.ModuleList) else [module]
            node = self.node(name, inner[0] if len(inner) == 1 else module, *settings)
            found.setdefault(node, []).append(number)
        return [
            replace(
                _times(node, len(layers)),
                name=f"{name}[{numbers(layers)}]" if len(found) > 1 else name,
                layers=tuple(layers),
            )
            for node, layers in found.items()
        ]

    def flops(self, name: str, module: Any) -> float | None:
        """What a part says that it costs; none for a part that says nothing."""
        if name == "cross" or (hasattr(module, "cross_flops") and not isinstance(module, Scored)):
            return float(module.cross_flops(self.lengths, self.lengths).sum()) / self.length
        if name == "embedding":
            return float(self.head_flops) or None
        return float(module.flops(self.lengths).sum()) / self.length if hasattr(module, "flops") else None

    def kept(self, name: str, module: Any, causal: bool) -> float | None:
        """Bytes that a part keeps of a token while generating; what looks across, of a token of the source."""
        if name in ("attention", "cross") and causal and hasattr(module, "cached"):
            numbers = module.visibility.kept(self.length) * sum(int(np.prod(shape)) for shape in module.cached)
            return numbers * next(module.parameters()).element_size() / self.length
        if name != "encoder" and hasattr(module, "state_bytes"):
            return module.state_bytes / self.length
        if isinstance(module, Alignment):
            return 4 * module.kept(self.length) / self.length or None
        return None


def _times(node: Node, count: int) -> Node:
    if count == 1:
        return node
    kept = None if node.cache_bytes is None else node.cache_bytes * count
    return replace(
        node,
        parameters=node.parameters * count,
        active=node.active * count,
        flops=node.flops * count,
        cache_bytes=kept,
        parts=tuple(_times(part, count) for part in node.parts),
    )


def _shows_nothing(module: nn.Module) -> bool:
    """Named places that change nothing."""
    return type(module) is nn.Identity or (isinstance(module, nn.Dropout) and module.p == 0)


def _says(module: nn.Module) -> str:
    """What a part of the lab says of itself; torch's own repeat the shapes, but for dropout."""
    if isinstance(module, nn.Dropout):
        return f"p={module.p}"
    said = [module.extra_repr()] if type(module).extra_repr.__module__.startswith("lab.") else []
    visibility = getattr(module, "visibility", None)
    if isinstance(visibility, Visibility) and visibility.narrow:
        said.append(spoken(visibility))
    dropped = getattr(module, "dropout", 0.0)
    if isinstance(dropped, float) and dropped:  # within a layer; what stands between layers is a part of its own
        said.append(f"dropout={dropped}")
    return ", ".join(filter(None, said))


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"
