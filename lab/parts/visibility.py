"""Who sees whom. A visibility answers "may query i see key j" exactly; every fast path in `kernels.py` is tested against it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lab.layout import Layout


class Visibility:
    """Full attention: within its document a token sees every earlier one and itself (or every one, if not causal).

    Patterns narrow that down by overriding `near` and `pairs`.
    """

    window: float = float("inf")

    def __init__(self, causal: bool = True, layer: int = 0) -> None:
        self.causal = causal
        self.layer = layer

    def near(self, query: Tensor, key: Tensor) -> Tensor | None:
        """Which of the allowed pairs the pattern keeps, from the places of both in their document; none for all.

        Shapes: `[batch, queries, 1]` and `[batch, 1, keys]` to `[batch, queries, keys]`.
        """
        return None

    def sees(self, query: Layout, key: Layout) -> Tensor:
        """`[batch, queries, keys]` bool: may query i see key j. Rows of padding see nothing and are seen by none."""
        i, j = _place(query).unsqueeze(2), _place(key).unsqueeze(1)
        seen = (query.documents.unsqueeze(2) == key.documents.unsqueeze(1)) & ~key.padding.unsqueeze(1)
        if self.causal:
            seen &= j <= i
        near = self.near(i, j)
        return seen if near is None else seen & near

    def pairs(self, lengths: np.ndarray) -> np.ndarray:
        """How many pairs of query and key are visible in documents of these lengths."""
        lengths = np.asarray(lengths, dtype=np.int64)
        return lengths * (lengths + 1) // 2 if self.causal else lengths**2


class Full(Visibility):
    """Everything that causality and documents allow."""


class Sliding(Visibility):
    """The last `window` tokens, the token itself counted (Longformer, Beltagy et al. 2020; Mistral 7B 2023).

    Two-sided: tokens at a distance under `window`.
    """

    def __init__(self, window: int, causal: bool = True, layer: int = 0) -> None:
        super().__init__(causal, layer)
        if window < 1:
            raise ValueError(f"pattern.window: {window}; a window has at least 1 token, the token itself")
        self.window = window

    def near(self, query: Tensor, key: Tensor) -> Tensor:
        """Pairs closer than the window."""
        return (query - key).abs() < self.window

    def pairs(self, lengths: np.ndarray) -> np.ndarray:
        """Visible pairs: a full triangle up to the window, then `window` a token."""
        lengths = np.asarray(lengths, dtype=np.int64)
        inside = np.minimum(lengths, self.window)
        causal = inside * (inside + 1) // 2 + (lengths - inside) * self.window
        return causal if self.causal else 2 * causal - lengths


def _place(layout: Layout) -> Tensor:
    """`[batch, time]`: how many tokens of its own document precede each token, whatever its position encoding counts."""

    def count() -> Tensor:
        time = layout.documents.shape[1]
        index = torch.arange(time, device=layout.documents.device).expand_as(layout.documents)
        if layout.plain:
            return index
        begins = torch.ones_like(layout.documents, dtype=torch.bool)
        begins[:, 1:] = layout.documents[:, 1:] != layout.documents[:, :-1]
        return index - torch.where(begins, index, 0).cummax(dim=1).values

    return layout.once("place", count)
