"""What a composition is: its parts with what they cost, and who sees whom in each layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from lab.layout import Layout
from lab.models.model import Model
from lab.models.stack import Stack
from lab.parts.linear import count
from lab.parts.visibility import Visibility
from lab.runs.comparison.numbers import scaled

GRID = 32
"""Tokens of a grid, unless told."""


@dataclass(frozen=True)
class Part:
    """A part of a model.

    Attributes:
        name: where it stands; equal layers are one part.
        kind: its class.
        layers: how many of them there are.
        parameters, active: of one of them; active is what a token uses.
        flops: forward, for a token of a document as long as the context.
        cache_bytes: kept for a token of a document as long as the context; null where nothing is kept.
    """

    name: str
    kind: str
    layers: int
    parameters: int
    active: int
    flops: float
    cache_bytes: float | None


@dataclass(frozen=True)
class Shown:
    """A composition, described without memory for its weights."""

    choices: dict[str, str]
    context: int
    parts: list[Part]
    total: Part
    grids: list[tuple[list[int], str, list[str]]]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        grids = [{"layers": layers, "pattern": kind, "sees": rows} for layers, kind, rows in self.grids]
        return {
            "choices": self.choices,
            "context": self.context,
            "parts": [asdict(part) for part in self.parts],
            "total": asdict(self.total),
            "visibility": grids,
        }

    def print(self) -> None:
        """The table, and a grid for each kind of layer."""
        console = Console(highlight=False)
        title = f"Of each part; FLOPs and bytes of cache for a token of {self.context:,}"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
        for heading in ("part", "class", "×", "parameters", "active", "FLOPs", "cache"):
            words = heading in ("part", "class")
            table.add_column(heading, justify="left" if words else "right", overflow="fold")
        for part in self.parts:
            table.add_row(*_row(part))
        table.add_section()
        table.add_row(*_row(self.total), style="bold")
        console.print(table)
        for layers, kind, rows in self.grids:
            console.print(f"\n{_numbers(layers)}: {kind}; row i is what token i sees", markup=False)
            for row in rows:
                console.print(" ".join(row), markup=False)


def show(config: DictConfig, tokens: int = GRID) -> Shown:
    """Describe a composition.

    Args:
        config: from `lab.compose`.
        tokens: of the grids.
    """
    import torch

    from lab.config import construct

    with torch.device("meta"):
        model: Model = construct(config, "model.build", vocab_size=int(config.tokenizer.vocab_size))
    length = model.context
    parts = list(_merged(_parts(model, length)))
    total = Part(
        "all",
        type(model).__name__,
        1,
        model.parameters_total,
        model.parameters_active,
        float(model.flops(np.array([length])).sum()) / length,
        model.cache_bytes(length) / length,
    )
    return Shown(dict(config.choices), length, parts, total, _grids(model, min(tokens, length)))


def _parts(model: Model, length: int) -> Iterator[Part]:
    for name, module in model.named_children():
        if isinstance(module, Stack):
            yield from _of_stack(module, length, f"{name}.")
        elif name == "embedding":
            yield _part(name, module, float(model.head_flops))
        elif not isinstance(model, Stack) and count(module):
            carried = getattr(module, "state_bytes", None) if name != "encoder" else None
            flops = _flops(module, length, across=hasattr(module, "cross_flops"))
            yield _part(name, module, flops, None if carried is None else carried / length)
    if isinstance(model, Stack):
        yield from _of_stack(model, length)


def _of_stack(stack: Stack, length: int, prefix: str = "") -> Iterator[Part]:
    for name, module in stack.named_children():
        if name not in ("embedding", "blocks") and count(module):
            yield _part(prefix + name, module, 0.0)
    for block in stack.blocks:
        size = next(block.parameters()).element_size()
        for name, module in block.named_children():
            flops = _flops(module, length, across=name == "cross")
            cached: Any = getattr(module, "cached", None) if name == "attention" and stack.causal else None
            kept = module.visibility.kept(length) * sum(int(np.prod(s)) for s in cached) if cached else 0  # type: ignore
            if flops or count(module):
                yield _part(prefix + name, module, flops, kept * size / length if cached else None)


def _flops(module: Any, length: int, across: bool) -> float:
    """Forward, for a token of a document of so many, and if it looks across at another, of one as long."""
    lengths = np.array([length])
    if across:
        return float(module.cross_flops(lengths, lengths).sum()) / length
    return float(module.flops(lengths).sum()) / length if hasattr(module, "flops") else 0.0


def _part(name: str, module: nn.Module, flops: float, cache_bytes: float | None = None) -> Part:
    parameters = count(module)
    active = getattr(module, "active_parameters", parameters)
    return Part(name, type(module).__name__, 1, parameters, int(active), flops, cache_bytes)


def _merged(parts: Iterator[Part]) -> Iterator[Part]:
    """Equal parts counted instead of repeated."""
    counts: dict[Part, int] = {}
    for part in parts:
        counts[part] = counts.get(part, 0) + 1
    for part, layers in counts.items():
        yield Part(**(asdict(part) | {"layers": layers}))


def _grids(model: nn.Module, tokens: int) -> list[tuple[list[int], str, list[str]]]:
    """For each kind of visibility the layers that have it, counted from 1, and rows of `■` where a token sees another."""
    found: dict[Any, tuple[list[int], Visibility]] = {}
    candidates: list[Any] = [getattr(module, "visibility", None) for module in model.modules()]
    for number, visibility in enumerate((v for v in candidates if isinstance(v, Visibility)), 1):
        found.setdefault(visibility.identity, ([], visibility))[0].append(number)
    layout = Layout.full(1, tokens)
    return [
        (
            layers,
            _spoken(visibility),
            ["".join("■" if s else "·" for s in row) for row in visibility.sees(layout, layout)[0].tolist()],
        )
        for layers, visibility in found.values()
    ]


def _spoken(visibility: Visibility) -> str:
    sizes = ", ".join(f"{k} {v}" for k, v in vars(visibility).items() if k in ("window", "stride"))
    return type(visibility).__name__.lower() + (f" ({sizes})" if sizes else "")


def _numbers(layers: list[int]) -> str:
    return f"Layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"


def _row(part: Part) -> list[str]:
    cache = "" if part.cache_bytes is None else scaled(part.cache_bytes)
    flops = scaled(part.flops) if part.flops else ""
    return [part.name, part.kind, str(part.layers), scaled(part.parameters), scaled(part.active), flops, cache]
