"""Attention over patterns and documents on CUDA: FlexAttention skips blocks of pairs that nobody sees (Dong et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from lab.layout import Layout
from lab.parts.visibility import Visibility


def mask_of(layout: Layout, visibility: Visibility) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The visibility as a function of the indices of row, head, query and key, as FlexAttention asks it."""
    documents, places, padding = layout.documents, layout.places, layout.padding

    def seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        i, j = places[row, query], places[row, key]
        allowed = (documents[row, query] == documents[row, key]) & ~padding[row, key]
        if visibility.causal:
            allowed = allowed & (j <= i)
        near = visibility.near(i, j)
        return allowed if near is None else allowed & near

    return seen


def flexible_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, visibility: Visibility, scale: float
) -> Tensor:
    """Attention over the pairs that the visibility allows, within the rows of a layout.

    Args:
        query: `[batch, time, heads, width]`.
        key, value: `[batch, time, kv_heads, width]`; each serves `heads / kv_heads` query heads.
        layout: of all three.
        visibility: which pairs are scored.
        scale: of the scores.

    Returns:
        `[batch, time, heads, width]`; zeros for padding.
    """

    def make() -> BlockMask:
        batch, time = (1 if layout.plain else len(layout.documents)), layout.documents.shape[1]
        return create_block_mask(mask_of(layout, visibility), batch, None, time, time, device=str(query.device))

    mask = layout.once(("flex", visibility.identity), make)
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    out = _compiled()(q, k, v, block_mask=mask, scale=scale, enable_gqa=query.shape[2] != key.shape[2])
    return out.transpose(1, 2)


@cache
def _compiled() -> Callable[..., Tensor]:
    """Without compilation FlexAttention holds all scores."""
    return torch.compile(flex_attention)
