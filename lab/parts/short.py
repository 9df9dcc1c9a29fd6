"""Attention of short rows, written out as batched matrix products.

In a row of a few hundred tokens torch's fused CPU kernel scores what causality hides, since its blocks are longer than that,
and it knows no bias that learns, no soft-cap and no dropout. Here a block of queries meets the keys that it can reach, of all
rows and heads at once, and its weights are kept for the gradient: for each token and head up to as many numbers as the row has
tokens, which is why rows must be short.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lab.parts.function import Function
from lab.parts.visibility import Tile

KEPT = 4
"""Tensors of a tile that its gradient needs: queries, squeezed scores, weights, and which of them hold."""


def short_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tiles: Sequence[Tile],
    scale: float,
    softcap: float | None = None,
    bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention over the pairs that the tiles hold.

    Args:
        query: `[batch, time, heads, width]`.
        key: `[batch, time, kv_heads, width]`; each serves `heads / kv_heads` query heads.
        value: `[batch, time, kv_heads, value width]`.
        tiles: of all rows, masks `[1 or batch, 1, queries, keys]`; one for each query, which sees a key at least.
        scale: of the scores.
        softcap: scores are squeezed into plus and minus this by `tanh`; none for no limit.
        bias: broadcastable to `[batch, heads, time, time]`, added to what comes of that; none for nothing.
        dropout: share of the weights that are dropped.

    Returns:
        `[batch, time, heads, value width]`.
    """
    if bias is not None:
        time = query.shape[1]
        bias = bias.expand(torch.broadcast_shapes(bias.shape, (1, 1, time, time)))
    return _Short.run(query, key, value, bias, tiles, scale, softcap, dropout, torch.is_grad_enabled())


class _Short(Function):
    @staticmethod
    def forward(
        ctx,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        tiles: Sequence[Tile],
        scale: float,
        softcap: float | None,
        dropout: float,
        learn: bool,
    ) -> Tensor:
        batch, _, heads, _ = query.shape
        kv_heads, kept = key.shape[2], []
        keys, values = (_by_head(x, kv_heads).flatten(0, 2) for x in (key, value))
        out = query.new_empty(*query.shape[:3], value.shape[-1])
        for tile in tiles:
            own = _by_head(query[:, tile.queries], kv_heads)
            # Scaled into its new order, in one pass.
            queries = torch.mul(own, scale, out=query.new_empty(own.shape)).flatten(2, 3).flatten(0, 1)
            scores, squeezed = torch.bmm(queries, keys[:, tile.keys].mT), None
            if softcap is not None:
                squeezed = scores.div_(softcap).tanh_()
                scores = squeezed * softcap
            by_row = scores.view(batch, heads, own.shape[3], scores.shape[-1])
            if bias is not None:
                by_row += bias[:, :, tile.queries, tile.keys]
            if tile.mask is not None:
                by_row += tile.mask
            used = weights = torch.softmax(scores, dim=-1, out=scores)
            held = None
            if dropout:
                used, held = torch.native_dropout(weights, dropout, True)
            target = _by_head(out[:, tile.queries], kv_heads)
            target.copy_(torch.bmm(used, values[:, tile.keys]).view(target.shape))
            if learn:
                kept += [queries, squeezed, weights, held]
        ctx.save_for_backward(keys, values, out, *kept)
        ctx.tiles, ctx.scale, ctx.kv_heads, ctx.dropout = tiles, scale, kv_heads, dropout
        ctx.bias_shape = None if bias is None else bias.shape
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):
        keys, values, out, *kept = ctx.saved_tensors
        batch, _, heads, _ = out.shape
        to_query = out.new_empty(*out.shape[:3], keys.shape[-1])
        to_keys, to_values = torch.zeros_like(keys), torch.zeros_like(values)
        to_bias = out.new_zeros(ctx.bias_shape) if ctx.needs_input_grad[3] else None
        # What the softmax takes back from each score of a query: the mean of its weights' gradients, by weight.
        taken = (gradient * out).sum(-1, keepdim=True)
        by_tile = (kept[i::KEPT] for i in range(KEPT))
        for tile, queries, squeezed, weights, held in zip(ctx.tiles, *by_tile, strict=True):
            g, t = (
                _by_head(x[:, tile.queries], ctx.kv_heads).reshape(*queries.shape[:2], x.shape[-1])
                for x in (gradient, taken)
            )
            to_scores, used = torch.bmm(g, values[:, tile.keys].mT), weights
            if held is not None:
                to_scores, used = (
                    torch.ops.aten.native_dropout_backward(x, held, 1 / (1 - ctx.dropout)) for x in (to_scores, weights)
                )
            to_values[:, tile.keys] += torch.bmm(used.mT, g)
            to_scores.sub_(t).mul_(weights)
            if to_bias is not None:
                into = to_bias[:, :, tile.queries, tile.keys]
                into.copy_(to_scores.view(batch, heads, *into.shape[2:]).sum_to_size(into.shape))
            if squeezed is not None:
                to_scores = torch.ops.aten.tanh_backward(to_scores, squeezed)
            target = _by_head(to_query[:, tile.queries], ctx.kv_heads)
            torch.mul(torch.bmm(to_scores, keys[:, tile.keys]).view(target.shape), ctx.scale, out=target)
            to_keys[:, tile.keys] += torch.bmm(to_scores.mT, queries)
        to_key, to_value = (x.view(batch, ctx.kv_heads, *x.shape[1:]).transpose(1, 2) for x in (to_keys, to_values))
        return to_query, to_key, to_value, to_bias, None, None, None, None, None


def _by_head(x: Tensor, kv_heads: int) -> Tensor:
    """`[batch, tokens, heads, width]` as `[batch, kv_heads, heads / kv_heads, tokens, width]`, a view."""
    return x.unflatten(2, (kv_heads, -1)).permute(0, 2, 3, 1, 4)
