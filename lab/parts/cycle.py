"""Layers that differ: a list of options that cycles over the layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class Cycle:
    """Layer `i` gets option `i` modulo their number (layers counted from 0): `[full, sliding]` makes every second one local.

    Args:
        options: called with what the model gives an option of this group.

    Raises:
        ValueError: no options.
    """

    def __init__(self, options: Sequence[Callable[..., Any]]) -> None:
        if not options:
            raise ValueError("options: a list that cycles over the layers holds at least 1 option")
        self.options = tuple(options)

    def __call__(self, *, layer: int, **known: Any) -> Any:
        """The option of this layer, made."""
        return self.options[layer % len(self.options)](layer=layer, **known)
