"""Attention. Sharing keys and values between query heads gives multi-head, grouped-query and multi-query attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lab.layout import Layout
from lab.parts.cache import LayerCache
from lab.parts.explicit import Scoring
from lab.parts.kernels import attend, linear
from lab.parts.linear import Linear, Merged
from lab.parts.position import Position
from lab.parts.visibility import Full, Visibility
from lab.values import is_number


@dataclass(frozen=True, eq=False)
class Memory:
    """What cross-attention looks at.

    Attributes:
        states: `[batch, keys, dim]`, what left an encoder.
        layout: of its tokens.
    """

    states: Tensor
    layout: Layout


def width_of_heads(dim: int, heads: int, head_dim: int | None = None) -> int:
    """Width of each of `heads` heads in a model of width `dim`: as given, or an equal part.

    Raises:
        ValueError: no heads, a width under 1, or heads that do not divide the width where none is given.
    """
    if head_dim is not None:
        if type(head_dim) is not int or head_dim < 1:
            raise ValueError(
                f"model.head_dim: {head_dim}; a whole number, at least 1, or null for model.dim / model.heads"
            )
        return head_dim
    if heads < 1 or dim % heads:
        raise ValueError(
            f"model.heads: {heads} does not divide model.dim {dim}; model.head_dim gives heads a width of their own"
        )
    return dim // heads


class Scored(nn.Module):
    """What every attention says of its scores.

    Args:
        heads: of the queries.
        visibility: who sees whom.
        rotates: the position turns queries and keys.
        scale: scores are multiplied by it; none for `1 / sqrt(width of a head)`.
        softcap: scores are squeezed into plus and minus this by `tanh` (Gemma 2, 2024, section 2); none for no limit.
        sinks: each head has a trained score that takes a share of the attention and gives nothing (gpt-oss, 2025).
        dropout: share of the attention weights that are dropped while training (Vaswani et al. 2017's code).

    Attributes:
        score_dim: numbers of a query that meet those of a key.
        turned: how many of them a position may turn.
        weights: a named place, where `lab.record` sees the attention weights of a pass, `[batch, heads, queries, keys]`.
            Fused kernels keep none, so while somebody looks they are computed explicitly.

    Raises:
        ValueError: a value out of range.
    """

    score_dim: int
    turned: int

    def __init__(
        self,
        heads: int,
        visibility: Visibility,
        rotates: bool = True,
        scale: float | None = None,
        softcap: float | None = None,
        sinks: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value in {"scale": scale, "softcap": softcap}.items():
            if value is not None and not (is_number(value) and value > 0):
                raise ValueError(f"attention.{name}: {value}; a number over 0, or null")
        if not 0 <= dropout < 1:
            raise ValueError(f"attention.dropout: {dropout}; choose from 0 to under 1")
        self.heads, self.visibility, self.rotates = heads, visibility, rotates
        self.scale, self.softcap, self.dropout = scale, softcap, dropout
        self.sinks = nn.Parameter(torch.zeros(heads)) if sinks else None
        self.weights = nn.Identity()

    def extra_repr(self) -> str:
        """What its printed form says of it."""
        return f"heads={self.heads}"

    def scoring(self, position: Position | None, scale: float | None = None) -> Scoring:
        """How scores are made under a position."""
        bias = None if position is None or type(position).bias is Position.bias else position.bias
        dropout = self.dropout if self.training else 0.0
        watch = self.weights if self.weights._forward_hooks else None
        return Scoring(self.scale if scale is None else scale, self.softcap, bias, self.sinks, dropout, watch)


class Attention(Scored):
    """Attention with `kv_heads` keys and values for `heads` queries (multi-head: Vaswani et al. 2017, section 3.2.2;
    multi-query, `kv_heads=1`: Shazeer 2019; grouped-query: Ainslie et al. 2023).

    Args:
        dim: width of the model.
        heads: of the queries.
        kv_heads: of keys and values; each serves `heads / kv_heads` query heads.
        visibility: who sees whom.
        head_dim: width of a head; none for `dim / heads`.
        norm: makes a norm from `dim`.
        qk_norm: queries and keys are normalised head by head, before they turn (Henry et al. 2020; Gemma 3, Qwen 3).
        bias: the projections have one.
        settings: of the scores, see `Scored`.

    Shapes: `[batch, time, dim] -> [batch, time, dim]`.

    Raises:
        ValueError: heads of no width of their own that do not divide the model's, or `kv_heads` that do not divide `heads`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        kv_heads: int,
        visibility: Visibility,
        head_dim: int | None = None,
        norm: Callable[..., nn.Module] | None = None,
        qk_norm: bool = False,
        bias: bool = False,
        **settings,
    ) -> None:
        super().__init__(heads, visibility, **settings)
        self.head_dim = width_of_heads(dim, heads, head_dim)
        if kv_heads < 1 or heads % kv_heads:
            raise ValueError(f"attention.kv_heads: {kv_heads} does not divide model.heads {heads}")
        self.kv_heads, self.score_dim, self.turned = kv_heads, self.head_dim, self.head_dim
        own, shared = heads * self.head_dim, kv_heads * self.head_dim
        self.project = Merged(dim, {"query": own, "key": shared, "value": shared}, bias=bias)
        self.output = Linear(own, dim, bias=bias)
        self.output.writes_residual = True  # type: ignore[assignment]
        if qk_norm and norm is None:
            raise ValueError("attention.qk_norm: true; takes a norm")
        self.query_norm = norm(dim=self.head_dim) if qk_norm and norm else None
        self.key_norm = norm(dim=self.head_dim) if qk_norm and norm else None

    def extra_repr(self) -> str:
        """What its printed form says of it."""
        return f"heads={self.heads}, kv_heads={self.kv_heads}"

    def forward(self, x: Tensor, layout: Layout, position: Position, cache: LayerCache | None = None) -> Tensor:
        """Attend within the rows of `x`, and to the tokens before them that the cache holds."""
        projected = self.project(x).view(*x.shape[:2], -1, self.head_dim)
        if self.query_norm is None or self.key_norm is None:
            # Queries and keys are turned together: one pass over memory.
            turning, value = projected.split_with_sizes([self.heads + self.kv_heads, self.kv_heads], dim=2)
            query, key = position.rotate(turning, layout).split_with_sizes([self.heads, self.kv_heads], dim=2)
        else:
            query, key, value = projected.split([self.heads, self.kv_heads, self.kv_heads], dim=2)
            query = position.rotate(self.query_norm(query), layout)
            key = position.rotate(self.key_norm(key), layout)
        keys = None
        if cache is not None:
            (key, value), keys = cache.extend(key, value)
        out = attend(query, key, value, layout, self.visibility, self.scoring(position), keys)
        return self.output(out.flatten(2))

    def cross(self, x: Tensor, layout: Layout, memory: Memory, cache: LayerCache | None = None) -> Tensor:
        """Attend from `x` to all of the memory that is of the same document; without position.

        With a cache, keys and values of the memory are computed once.
        """
        query = linear(x, *self._of(slice(0, self.heads))).unflatten(-1, (-1, self.head_dim))
        if self.query_norm is not None:
            query = self.query_norm(query)
        key, value = cache.across(lambda: self._remembered(memory)) if cache else self._remembered(memory)
        out = attend(query, key, value, layout, Full(causal=False), self.scoring(None), memory.layout)
        return self.output(out.flatten(2))

    def _remembered(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """Keys and values of a memory, `[batch, keys, kv_heads, head_dim]` each."""
        both = linear(memory.states, *self._of(slice(self.heads, None))).unflatten(-1, (-1, self.head_dim))
        key, value = both.split(self.kv_heads, dim=2)
        return key if self.key_norm is None else self.key_norm(key), value

    def cross_flops(self, lengths: np.ndarray, memories: np.ndarray) -> np.ndarray:
        """Forward FLOPs of `cross` from documents of these lengths to memories of those."""
        shared = 2 * self.kv_heads * self.head_dim * self.project.weight.shape[1]
        own = self.project.weight.numel() - shared + self.output.weight.numel()
        lengths, memories = np.asarray(lengths), np.asarray(memories)
        return 2 * own * lengths + 2 * shared * memories + 4 * self.heads * self.head_dim * lengths * memories

    def _of(self, heads: slice) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of some heads of the merged projection."""
        rows = slice(heads.start * self.head_dim, None if heads.stop is None else heads.stop * self.head_dim)
        return self.project.weight[rows], None if self.project.bias is None else self.project.bias[rows]

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs on documents of these lengths: projections, and scores and sums over the visible pairs."""
        weights = self.project.weight.numel() + self.output.weight.numel()
        return 2 * weights * np.asarray(lengths) + 4 * self.heads * self.head_dim * self.visibility.pairs(lengths)

    @property
    def cached(self) -> list[tuple[int, ...]]:
        """Shapes of what is kept for each past token while generating."""
        return [(self.kv_heads, self.head_dim)] * 2


class GroupedQueryAttention(Attention):
    """Attention whose groups of query heads share keys and values.

    Raises:
        ValueError: no sharing, that is `kv_heads` not under `heads`.
    """

    def __init__(self, dim: int, heads: int, kv_heads: int, visibility: Visibility, **settings) -> None:
        if kv_heads >= heads:
            raise ValueError(
                f"model.kv_heads: {kv_heads}; attention=gqa shares keys and values, which takes fewer than model.heads {heads}"
                " (attention=mha has one for each head)"
            )
        super().__init__(dim, heads, kv_heads, visibility, **settings)
