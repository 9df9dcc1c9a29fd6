"""Pooling: one vector for a text from the vectors of its tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from lab.layout import Layout

POOLS = ("first", "mean", "last")
"""The first token's, as BERT trains it; the mean of all; the last token's, the only one that has read all where tokens see
earlier ones alone (GPT)."""


def pooled(vectors: Tensor, layout: Layout, pool: str) -> Tensor:
    """`[rows, time, dim]` to `[rows, dim]`; padding stands for nothing.

    Args:
        vectors: of the tokens.
        layout: of the tokens, one document a row.
        pool: one of `POOLS`.

    Raises:
        ValueError: another word.
    """
    check_pool(pool, "pool")
    if pool == "first" and not layout.padded:
        return vectors[:, 0]
    real = ~layout.padding
    if pool != "mean":
        columns = torch.arange(real.shape[1], device=real.device).expand_as(real)
        end, find = (real.shape[1], torch.amin) if pool == "first" else (-1, torch.amax)
        places = find(columns.masked_fill(~real, end), 1)
        return vectors[torch.arange(len(vectors), device=real.device), places]
    return (vectors * real.unsqueeze(-1)).sum(1) / real.sum(1, keepdim=True)


def check_pool(pool: str | None, key: str) -> None:
    """Raises `ValueError` for another word than there is; none, for what a family does, is accepted."""
    if pool is not None and pool not in POOLS:
        raise ValueError(f"{key}: {pool}; choose from {', '.join(POOLS)}")
