"""Attention over tiles, each by torch's fused CPU kernel: work and memory follow what is seen, not the square of the length.

A softmax over the union of tiles is put together from theirs by the logarithms of their sums, as ring attention does (Liu et
al. 2023); given the sums of the whole, the fused backward pass of each tile is that tile's part of the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lab.parts.function import Function
from lab.parts.visibility import Tile, Visibility

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True)
class Piece:
    """One tile of one or more rows.

    Attributes:
        rows: of the batch.
        tile: its slices count tokens of the row.
        first: no piece before it has any of its queries.
    """

    rows: slice
    tile: Tile
    first: bool


def pieces(visibility: Visibility, documents: Sequence[tuple[slice, int, int]]) -> list[Piece]:
    """The tiles of documents: rows, start and stop of each."""
    by_length: dict[int, list[tuple[Tile, bool]]] = {}
    found = []
    for rows, start, stop in documents:
        length = stop - start
        if length not in by_length:
            by_length[length] = _with_first(visibility, length)
        for tile, first in by_length[length]:
            moved = replace(tile, queries=_moved(tile.queries, start), keys=_moved(tile.keys, start))
            found.append(Piece(rows, moved, first))
    return found


def _with_first(visibility: Visibility, length: int) -> list[tuple[Tile, bool]]:
    covered = torch.zeros(length, dtype=torch.bool)
    found = []
    for tile in visibility.tiles(length):
        queries = _cut(covered.view(1, -1, 1), tile.queries, tile.columns)
        found.append((tile, not queries.any()))
        queries.fill_(True)
    return found


def _cut(x: Tensor, tokens: slice, columns: int) -> Tensor:
    """A view of some tokens, those of adjacent tiles as more heads: `[batch, time, heads, ...]`, the last ones contiguous, to
    `[batch, columns * heads, tokens, ...]`.
    """
    step = tokens.step or 1
    count = len(range(tokens.start, tokens.stop, step))
    x = x[:, tokens.start :]
    batch, time, *inner = x.stride()
    return x.as_strided((len(x), count, columns * x.shape[2], *x.shape[3:]), (batch, time * step, *inner)).transpose(
        1, 2
    )


def _moved(tokens: slice, start: int) -> slice:
    return slice(tokens.start + start, tokens.stop + start, tokens.step)


def tiled_attention(
    query: Tensor, key: Tensor, value: Tensor, sink: Tensor | None, plan: Sequence[Piece], scale: float
) -> Tensor:
    """Attention over the pairs that the pieces hold.

    Args:
        query, key, value: `[batch, time, heads, width]`, all of the same width.
        sink: `[heads]`, a score that every query has besides those of its keys, without a value; or none.
        plan: from `pieces`; no pair twice.
        scale: of the scores.

    Returns:
        `[batch, time, heads, width]`; zeros for queries that no piece has.
    """
    return _Tiled.run(query, key, value, sink, plan, scale)


class _Tiled(Function):
    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor, sink: Tensor | None, plan, scale: float) -> Tensor:
        if any(piece.tile.columns > 1 for piece in plan):
            query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        out = torch.zeros(query.shape, dtype=query.dtype, device=query.device)
        sums = torch.full(query.shape[:3], -torch.inf, dtype=_accumulated(query), device=query.device)
        for piece in plan:
            tile = piece.tile
            q, target, whole = (_cut(x[piece.rows], tile.queries, tile.columns) for x in (query, out, sums))
            k, v = (_cut(x[piece.rows], tile.keys, tile.columns) for x in (key, value))
            part, logs = _forward(q, k, v, is_causal=tile.causal, attn_mask=_mask(tile, query), scale=scale)
            if piece.first:
                target.copy_(part)
                whole.copy_(logs)
            else:
                joined = torch.logaddexp(whole, logs)
                share = (logs - joined).exp_().unsqueeze(-1).to(part.dtype)
                target.mul_((whole - joined).exp_().unsqueeze(-1)).addcmul_(part, share)
                whole.copy_(joined)
        if sink is not None:
            with_sink = torch.logaddexp(sums, sink.detach().to(sums.dtype))
            out.mul_((sums - with_sink).exp_().unsqueeze(-1))
            sums = with_sink
        ctx.save_for_backward(query, key, value, sink, out, sums)
        ctx.plan, ctx.scale = plan, scale
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor):
        query, key, value, sink, out, sums = ctx.saved_tensors
        gradient = gradient.contiguous()
        to_query, to_key, to_value = (torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in (query, key, value))
        for piece in ctx.plan:
            tile = piece.tile
            g, q, o, s = (_cut(x[piece.rows], tile.queries, tile.columns) for x in (gradient, query, out, sums))
            k, v = (_cut(x[piece.rows], tile.keys, tile.columns) for x in (key, value))
            mask = _mask(tile, query)
            parts = _backward(g, q, k, v, o, s.contiguous(), 0.0, tile.causal, attn_mask=mask, scale=ctx.scale)
            for whole, tokens, part in zip(
                (to_query, to_key, to_value), (tile.queries, tile.keys, tile.keys), parts, strict=True
            ):
                _cut(whole[piece.rows], tokens, tile.columns).add_(part)
        to_sink = None
        if sink is not None:
            # A sink takes a share of the softmax and gives nothing, so only what it takes from the others counts.
            share = (sink.detach().to(sums.dtype) - sums).exp_()
            to_sink = -(share * (gradient * out).sum(-1)).sum((0, 1)).to(sink.dtype)
        return to_query, to_key, to_value, to_sink, None, None


def _mask(tile: Tile, like: Tensor) -> Tensor | None:
    return None if tile.mask is None else tile.mask.to(like.dtype)


def _accumulated(x: Tensor) -> torch.dtype:
    return x.dtype if x.dtype == torch.float64 else torch.float32
