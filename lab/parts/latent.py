"""Multi-head latent attention: keys and values of all heads are made from one small vector a token, which is what is cached."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lab.layout import Layout
from lab.parts.attention import Memory, Scored, width_of_heads
from lab.parts.cache import LayerCache
from lab.parts.kernels import attend
from lab.parts.linear import Linear, Merged, matmul_flops
from lab.parts.position import Position
from lab.parts.visibility import Full, Visibility
from lab.values import check_whole, is_whole


class LatentAttention(Scored):
    """Multi-head latent attention (DeepSeek-V2, 2024, section 2.1).

    Each token leaves a latent of `kv_rank` numbers, from which every head makes its key and value, and a key of `rope_dim`
    numbers that turns with the position and is shared by all heads. While generating, the maps from the latent are taken into
    the query and the output, so that attention works on the cache as it is (section 2.1.2).

    Args:
        dim: width of the model.
        heads: of queries, keys and values.
        visibility: who sees whom.
        head_dim: width of the part of a head that does not turn; none for `dim / heads`.
        norm: makes a norm from `dim`, for the latents.
        kv_rank: width of the latent of keys and values; null for 4 heads' widths, as published.
        q_rank: width of the latent of queries; null for queries straight from the stream.
        rope_dim: width of the part of queries and keys that turns; null for half a head's width, as published;
            counts as 0 where the position does not rotate.
        value_dim: width of a head's value; null for `head_dim`.
        bias: the output has one.
        settings: of the scores, see `Scored`.

    Shapes: `[batch, time, dim] -> [batch, time, dim]`.

    Raises:
        ValueError: heads of no width of their own that do not divide the model's, a width under 1, or an odd `rope_dim`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        visibility: Visibility,
        norm: Callable[..., nn.Module],
        head_dim: int | None = None,
        kv_rank: int | None = None,
        q_rank: int | None = None,
        rope_dim: int | None = None,
        value_dim: int | None = None,
        bias: bool = False,
        **settings,
    ) -> None:
        super().__init__(heads, visibility, **settings)
        for name, value in {"kv_rank": kv_rank, "q_rank": q_rank, "value_dim": value_dim}.items():
            if value is not None:
                check_whole("attention", **{name: value})
        if rope_dim is not None and (not is_whole(rope_dim) or rope_dim < 0 or rope_dim % 2):
            raise ValueError(f"attention.rope_dim: {rope_dim}; an even number, 0 or more, or null")
        self.plain_dim = width_of_heads(dim, heads, head_dim)
        rope_dim = max(2, self.plain_dim // 4 * 2) if rope_dim is None else rope_dim
        self.rope_dim = self.turned = rope_dim if self.rotates else 0
        self.score_dim = self.plain_dim + self.rope_dim
        self.value_dim = value_dim or self.plain_dim
        self.kv_rank = kv_rank = kv_rank or 4 * self.plain_dim

        self.down = Merged(dim, {"latent": kv_rank} | ({"key": self.rope_dim} if self.rope_dim else {}))
        self.latent_norm = norm(dim=kv_rank)
        self.up = Merged(kv_rank, {"key": heads * self.plain_dim, "value": heads * self.value_dim})
        self.query_down = None if q_rank is None else Linear(dim, q_rank, bias=False)
        self.query_norm = None if q_rank is None else norm(dim=q_rank)
        self.query_up = Linear(q_rank or dim, heads * (self.plain_dim + self.rope_dim), bias=False)
        self.output = Linear(heads * self.value_dim, dim, bias=bias)
        self.output.writes_residual = True  # type: ignore[assignment]

    def forward(self, x: Tensor, layout: Layout, position: Position, cache: LayerCache | None = None) -> Tensor:
        """Attend within the rows of `x`, and to the tokens before them that the cache holds."""
        plain, turned = self._queries(x, layout, position)
        latent, *shared = self.down(x).split(list(self.down.outputs.values()), dim=-1)
        latent = self.latent_norm(latent)
        key = position.rotate(shared[0].unsqueeze(2), layout) if shared else latent.new_empty(*latent.shape[:2], 1, 0)
        scoring = self.scoring(position, self.scale or self.score_dim**-0.5)
        held, seen = (None, None) if cache is None else cache.extend(latent, key.squeeze(2))
        if held is None or seen is None:
            keys, values = self._made(latent)
            keys = torch.cat([keys, key.expand(-1, -1, self.heads, -1)], dim=-1)
            out = attend(torch.cat([plain, turned], dim=-1), keys, values, layout, self.visibility, scoring)
        else:
            latents, turning = held
            query = torch.cat([self._taken_in(plain), turned], dim=-1)
            keys = torch.cat([latents, turning], dim=-1).unsqueeze(2)
            out = self._values(attend(query, keys, latents.unsqueeze(2), layout, self.visibility, scoring, seen))
        return self.output(out.flatten(2))

    def cross(self, x: Tensor, layout: Layout, memory: Memory, cache: LayerCache | None = None) -> Tensor:
        """Attend from `x` to all of the memory that is of the same document; without position.

        With a cache, the latents of the memory are computed once.
        """
        query, _ = self._queries(x, layout, None)
        scoring, visibility = self.scoring(None, self.scale or self.score_dim**-0.5), Full(causal=False)
        if cache is None:
            keys, values = self._made(self.latent_norm(self.down(memory.states)))
            out = attend(query, keys, values, layout, visibility, scoring, memory.layout)
        else:
            (latents,) = cache.across(lambda: (self.latent_norm(self.down(memory.states)),))
            keys = latents.unsqueeze(2)
            mixed = attend(self._taken_in(query), keys, keys, layout, visibility, scoring, memory.layout)
            out = self._values(mixed)
        return self.output(out.flatten(2))

    def _made(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Keys, without what turns, and values of all heads."""
        keys, values = self.up(latent).split(list(self.up.outputs.values()), dim=-1)
        return keys.unflatten(-1, (self.heads, -1)), values.unflatten(-1, (self.heads, -1))

    def _taken_in(self, query: Tensor) -> Tensor:
        """Queries that meet latents as `query` would meet the keys made from them."""
        return torch.einsum("bthd,hdr->bthr", query, self._maps[0])

    def _values(self, mixed: Tensor) -> Tensor:
        """Values from sums of latents."""
        return torch.einsum("bthr,hdr->bthd", mixed, self._maps[1])

    @property
    def _maps(self) -> list[Tensor]:
        """From the latent to each head's key and value, `[heads, width, kv_rank]` each."""
        return [rows.unflatten(0, (self.heads, -1)) for _, rows in self.up.pieces()]

    def _queries(self, x: Tensor, layout: Layout, position: Position | None) -> tuple[Tensor, Tensor]:
        """Of each head the part that does not turn, and the part that does, turned."""
        if self.query_down is not None and self.query_norm is not None:
            x = self.query_norm(self.query_down(x))
        plain, turning = self.query_up(x).unflatten(-1, (self.heads, -1)).split([self.plain_dim, self.rope_dim], dim=-1)
        return plain, position.rotate(turning, layout) if self.rope_dim and position else turning

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs on documents of these lengths while training: projections, scores and sums over the visible pairs."""
        pair = 2 * self.heads * (self.score_dim + self.value_dim)
        return matmul_flops(self) * np.asarray(lengths) + pair * self.visibility.pairs(lengths)

    def cross_flops(self, lengths: np.ndarray, memories: np.ndarray) -> np.ndarray:
        """Forward FLOPs of `cross`, while training, from documents of these lengths to memories of those."""
        lengths, memories = np.asarray(lengths), np.asarray(memories)
        shared = 2 * (self.down.weight.numel() + self.up.weight.numel())
        pair = 2 * self.heads * (self.score_dim + self.value_dim)
        return (matmul_flops(self) - shared) * lengths + shared * memories + pair * lengths * memories

    @property
    def cached(self) -> list[tuple[int, ...]]:
        """Shapes of what is kept for each past token while generating."""
        return [(self.kv_rank,), (self.rope_dim,)]
