"""Attention. Sharing keys and values between query heads gives multi-head, grouped-query and multi-query attention."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from lab.layout import Layout
from lab.parts.kernels import attend
from lab.parts.linear import Merged
from lab.parts.position import Position
from lab.parts.visibility import Visibility


class Attention(nn.Module):
    """Attention with `kv_heads` keys and values for `heads` queries (multi-head: Vaswani et al. 2017, section 3.2.2;
    multi-query, `kv_heads=1`: Shazeer 2019; grouped-query: Ainslie et al. 2023).

    Shapes: `[batch, time, dim] -> [batch, time, dim]`.

    Raises:
        ValueError: heads that do not divide the width, or `kv_heads` that do not divide `heads`.
    """

    def __init__(self, dim: int, heads: int, kv_heads: int, visibility: Visibility, bias: bool = False) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"model.heads: {heads} does not divide model.dim {dim}")
        if kv_heads < 1 or heads % kv_heads:
            raise ValueError(f"attention.kv_heads: {kv_heads} does not divide model.heads {heads}")
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, dim // heads
        self.visibility = visibility
        shared = kv_heads * self.head_dim
        self.project = Merged(dim, {"query": dim, "key": shared, "value": shared}, bias=bias)
        self.output = nn.Linear(dim, dim, bias=bias)
        self.output.writes_residual = True  # type: ignore[assignment]

    def forward(self, x: Tensor, layout: Layout, position: Position) -> Tensor:
        """Attend within the rows of `x`."""
        projected = self.project(x).unflatten(-1, (-1, self.head_dim))
        # Queries and keys are turned together: one pass over memory.
        turning, value = projected.split([self.heads + self.kv_heads, self.kv_heads], dim=2)
        query, key = position.rotate(turning, layout).split([self.heads, self.kv_heads], dim=2)
        return self.output(attend(query, key, value, layout, self.visibility).flatten(2))

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs on documents of these lengths: projections, and scores and sums over the visible pairs."""
        weights = self.project.weight.numel() + self.output.weight.numel()
        return 2 * weights * np.asarray(lengths) + 4 * self.heads * self.head_dim * self.visibility.pairs(lengths)

    @property
    def cache_width(self) -> int:
        """Numbers kept for each past token while generating."""
        return 2 * self.kv_heads * self.head_dim


class GroupedQueryAttention(Attention):
    """Attention whose groups of query heads share keys and values.

    Raises:
        ValueError: no sharing, that is `kv_heads` not under `heads`.
    """

    def __init__(self, dim: int, heads: int, kv_heads: int, visibility: Visibility, bias: bool = False) -> None:
        if kv_heads >= heads:
            raise ValueError(
                f"model.kv_heads: {kv_heads}; attention=gqa shares keys and values, which takes fewer than model.heads {heads}"
                " (attention=mha has one for each head)"
            )
        super().__init__(dim, heads, kv_heads, visibility, bias)
