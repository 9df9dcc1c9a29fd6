"""Layers that differ: a list of options that cycles over the layers, or one option in every n-th of them."""

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


class Every:
    """Every n-th layer, beginning with the second, gets one option and the others another; with `step` 1 all get the one
    (Switch, Fedus et al. 2021, section 2, as Hugging Face counts).

    Args:
        step: how many layers there are to each that differs.
        chosen: of those layers.
        others: of the rest.

    Raises:
        ValueError: a step under 1.
    """

    def __init__(self, step: int, chosen: Callable[..., Any], others: Callable[..., Any]) -> None:
        if type(step) is not int or step < 1:
            raise ValueError(f"ffn.step: {step}; a whole number, at least 1")
        self.step, self.chosen, self.others = step, chosen, others

    def __call__(self, *, layer: int, **known: Any) -> Any:
        """The option of this layer, counted from 0, made."""
        return (self.chosen if layer % self.step == 1 % self.step else self.others)(layer=layer, **known)
