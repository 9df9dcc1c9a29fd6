"""Attention written out, with whatever a score may hold: slow, plain, and what the fast ways are tested against."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lab.layout import Layout
from lab.parts.visibility import Visibility

QUERIES = 128
"""Queries whose scores are held at a time where attention is computed explicitly."""


class Scoring(NamedTuple):
    """How a pair of query and key is scored.

    Attributes:
        scale: of the product; none for `1 / sqrt(width)`.
        softcap: scores are squeezed into plus and minus this by `tanh` (Gemma 2, 2024, section 2); none for no limit.
        bias: what a position adds to the scaled scores, from the layouts of queries and keys; gives none for nothing.
        sink: `[heads]`, a score that every query has besides those of its keys, without a value (gpt-oss, 2025).
        dropout: share of the weights that are dropped.
        watch: called with the weights that were used, `[batch, heads, queries, keys]`; none where nobody asks for them.
    """

    scale: float | None = None
    softcap: float | None = None
    bias: Callable[[Layout, Layout], Tensor | None] | None = None
    sink: Tensor | None = None
    dropout: float = 0.0
    watch: Callable[[Tensor], object] | None = None

    @property
    def fused(self) -> bool:
        """Whether torch's fused CPU kernel can compute it."""
        return self.softcap is None and self.bias is None and not self.dropout and self.watch is None


PLAIN = Scoring()


def explicit_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    visibility: Visibility,
    scoring: Scoring = PLAIN,
    keys: Layout | None = None,
) -> Tensor:
    """What `attend` computes, written out, by blocks of queries: memory grows with the length, not with its square.

    Each block's scores are made again for its gradient.
    """
    groups = query.shape[2] // key.shape[2]
    key, value = key.repeat_interleave(groups, dim=2), value.repeat_interleave(groups, dim=2)
    if scoring.watch is not None:  # whole, for whoever looks at it
        return _explicit(query, key, value, layout, layout if keys is None else keys, visibility, scoring)
    queries, length = query.shape[1], key.shape[1]
    done = []
    for start in range(0, queries, QUERIES):
        stop = min(start + QUERIES, queries)
        # Places in a document only bound places in a row where both are of the same tokens.
        first, last = visibility.reach(start, stop, length) if keys is None else (0, length)
        block = (
            query[:, start:stop],
            key[:, first:last],
            value[:, first:last],
            layout.part(start, stop),
            (layout if keys is None else keys).part(first, last),
            visibility,
            scoring,
        )
        again = torch.is_grad_enabled() and queries > QUERIES
        done.append(checkpoint(_explicit, *block, use_reentrant=False) if again else _explicit(*block))
    return torch.cat(done, dim=1)


def _explicit(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, keys: Layout, visibility: Visibility, scoring: Scoring
) -> Tensor:
    weights = attention_weights(query, key, layout, keys, visibility, scoring).to(value.dtype)
    if scoring.dropout:
        weights = F.dropout(weights, scoring.dropout)
    if scoring.watch is not None:
        scoring.watch(weights)
    return torch.einsum("bhij,bjhd->bihd", weights, value)


def attention_weights(
    query: Tensor, key: Tensor, layout: Layout, keys: Layout, visibility: Visibility, scoring: Scoring = PLAIN
) -> Tensor:
    """The softmax over what each query sees: `[batch, heads, queries, keys]` float32, at least; a sink's share is left out."""
    scale = query.shape[-1] ** -0.5 if scoring.scale is None else scoring.scale
    scores = torch.einsum("bihd,bjhd->bhij", query * scale, key)
    scores = scores if scores.dtype == torch.float64 else scores.float()
    if scoring.softcap is not None:
        scores = scoring.softcap * torch.tanh(scores / scoring.softcap)
    bias = None if scoring.bias is None else scoring.bias(layout, keys)
    if bias is not None:
        scores = scores + bias
    scores = scores.masked_fill(~seen_pairs(layout, keys, visibility).unsqueeze(1), -torch.inf)
    if scoring.sink is None:
        return scores.softmax(dim=-1)
    sink = scoring.sink.to(scores.dtype).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
    return torch.cat([scores, sink], dim=-1).softmax(dim=-1)[..., :-1]


def seen_pairs(query: Layout, key: Layout, visibility: Visibility) -> Tensor:
    """`[batch, queries, keys]` bool: what is seen; padding sees everything, or its softmax would have nothing to sum over."""
    seen = visibility.sees(query, key)
    return seen | query.padding.unsqueeze(-1) if query.padded else seen
