"""How a block computes, found by letting it: the way from the stream that enters to the one that leaves.

The block's own `forward` runs on a value that only remembers what was done with it, with stand-ins for its layers. So whatever
a block does with calls, sums and factors is drawn as it is, also one that somebody adds.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, eq=False)
class Value:
    """What a layer made of another value, a sum of two, one times a factor, or what enters."""

    layer: str = ""
    of: tuple[Value, ...] = ()
    factor: float = 1.0

    def __add__(self, other: Value) -> Value:
        return Value("+", (self, other))

    def __mul__(self, factor: float) -> Value:
        return Value("*", (self,), factor)

    __rmul__ = __mul__


@dataclass(frozen=True)
class Step:
    """One step of the stream: a layer upon it, or several branches that leave it and are added to it again.

    Attributes:
        on: the layer upon the stream; empty where branches are added.
        branches: of each the layers on its way.
        factor: what the stream is multiplied by before the branches are added.
    """

    on: str = ""
    branches: tuple[tuple[str, ...], ...] = ()
    factor: float = 1.0


class _StandIn(nn.Module):
    """A layer that only says that it was there; dropout is not worth a word."""

    def __init__(self, name: str, layer: nn.Module) -> None:
        super().__init__()
        self.name, self.silent = name, isinstance(layer, nn.Dropout)

    def forward(self, x: Value, *others: Any) -> Value:
        return x if self.silent else Value(self.name, (x,))

    cross = forward


def steps(block: nn.Module) -> list[Step]:
    """The steps of a block, from the stream that enters on.

    Raises:
        ValueError: it computes otherwise than by calls, sums and factors.
    """
    twin: Any = copy.copy(block)
    twin._modules = {name: _StandIn(name, layer) for name, layer in block.named_children()}
    enters = Value()
    try:
        return _steps(twin.forward(enters, None, None), enters)
    except (TypeError, AttributeError) as error:
        raise ValueError(
            f"{type(block).__name__}: computes otherwise than by layers, sums and factors ({error})"
        ) from None


def _steps(value: Value, enters: Value) -> list[Step]:
    if value is enters:
        return []
    if value.layer != "+":
        return [*_steps(value.of[0], enters), Step(on=value.layer)]
    stream, branch = value.of
    factor = 1.0
    if stream.layer == "*":
        stream, factor = stream.of[0], stream.factor
    way, before = [], branch
    while before is not stream and before.layer not in ("", "+"):
        way.append(before.layer)
        before = before.of[0]
    path = tuple(reversed(way))
    if before is stream:
        return [*_steps(stream, enters), Step(branches=(path,), factor=factor)]
    earlier = _steps(stream, enters)
    beside = 0  # sums that stand side by side: this branch leaves the stream before all of them
    while before is not stream and stream.layer == "+":
        stream, beside = stream.of[0], beside + 1
    if before is not stream or len(earlier[-1].branches) != beside:
        raise TypeError("a branch that does not leave the stream")
    return [*earlier[:-1], Step(branches=(*earlier[-1].branches, path), factor=earlier[-1].factor)]
