"""Positions as a bias of scores: what two tokens are to each other depends on their distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lab.layout import Layout
from lab.parts.position import Position


class ALiBi(Position):
    """Scores fall linearly with the distance, each head at a speed of its own (Press et al. 2022, section 3).

    Two-sided, the distance either way.
    """

    distances = True

    def __init__(self, dim: int, head_dim: int, context: int, heads: int = 1, causal: bool = True) -> None:
        super().__init__(dim, head_dim, context, heads, causal)
        self.slopes = slopes(heads)

    def bias(self, query: Layout, key: Layout) -> Tensor:
        """`[1 or batch, heads, queries, keys]`."""
        away = _distance(query, key).abs().unsqueeze(1)
        return away * -torch.tensor(self.slopes, device=away.device).view(-1, 1, 1)


def slopes(heads: int) -> list[float]:
    """`2^(-8i / heads)` for heads counted from 1; where their number is no power of two, those of the power below, then every
    second one of the power above (the authors' code).
    """
    power = 2 ** math.floor(math.log2(heads))
    of = [[2 ** (-8 * i / n) for i in range(1, n + 1)] for n in (power, 2 * power)]
    return of[0] + of[1][0::2][: heads - power]


class T5Bias(Position):
    """A trained bias for each head and bucket of distances, shared by all layers (Raffel et al. 2020, section 2.1).

    Half of the buckets are of one distance each, the others grow logarithmically up to `reach`, and what lies beyond falls
    into the last. Two-sided, each side has half of the buckets.

    Args:
        buckets: how many distances are told apart.
        reach: distance from which on all are one.

    Raises:
        ValueError: too few buckets, or a reach that they cover one by one.
    """

    distances = True

    def __init__(
        self,
        dim: int,
        head_dim: int,
        context: int,
        heads: int = 1,
        causal: bool = True,
        buckets: int = 32,
        reach: int = 128,
    ) -> None:
        super().__init__(dim, head_dim, context, heads, causal)
        sides = 1 if causal else 2
        if buckets < 2 * sides or buckets % (2 * sides):
            raise ValueError(f"position.buckets: {buckets}; a multiple of {2 * sides}, at least that")
        self.buckets, self.exact = buckets // sides, buckets // sides // 2
        if reach <= self.exact:
            raise ValueError(f"position.reach: {reach}; more than {self.exact}, half of the buckets")
        self.reach = reach
        self.table = nn.Embedding(buckets, heads)

    def bucket(self, distance: Tensor) -> Tensor:
        """Of each distance `query - key`."""
        away = distance.clamp_min(0) if self.causal else distance.abs()
        grown = torch.log(away.float().clamp_min(1) / self.exact) / math.log(self.reach / self.exact)
        far = (self.exact + (grown * (self.buckets - self.exact)).long()).clamp_max(self.buckets - 1)
        found = torch.where(away < self.exact, away, far)
        return found if self.causal else found + self.buckets * (distance < 0)

    def bias(self, query: Layout, key: Layout) -> Tensor:
        """`[1 or batch, heads, queries, keys]`."""
        return self.table(self.bucket(_distance(query, key))).permute(0, 3, 1, 2)


def _distance(query: Layout, key: Layout) -> Tensor:
    """`[1 or batch, queries, keys]`: positions of queries less those of keys, where both are of one document."""
    if query is key:  # a document lies in one piece, so that its tokens' positions differ as their places in the row do
        index = torch.arange(query.documents.shape[1], device=query.documents.device)
        return (index.unsqueeze(1) - index).unsqueeze(0)
    i, j = (x.positions[:1] if x.single and not x.padded else x.positions for x in (query, key))
    return i.unsqueeze(2) - j.unsqueeze(1)
