"""Attention over patterns and documents beside full causal attention at the same length, forward and backward.

What no fused CPU kernel computes (biases, soft-caps, dropout) is printed beside it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.measure import Finding, finding, main, take_turns
from lab.layout import Layout
from lab.parts.explicit import PLAIN, Scoring
from lab.parts.kernels import attend
from lab.parts.visibility import Fixed, Full, Sliding, Strided, Visibility

HEADS, WIDTH = 8, 32


def step(layout: Layout, visibility: Visibility, scoring: Scoring = PLAIN) -> Callable[[], None]:
    """Forward and backward of one attention on random queries, keys and values."""
    batch, time = layout.documents.shape
    query, key, value = (torch.randn(batch, time, HEADS, WIDTH, requires_grad=True) for _ in range(3))
    upstream = torch.randn(batch, time, HEADS, WIDTH)

    def run() -> None:
        torch.autograd.grad(attend(query, key, value, layout, visibility, scoring), (query, key, value), upstream)

    return run


def packed(rows: int, time: int, mean: int) -> Layout:
    """Rows filled with documents of random lengths, the last one cut."""
    generator = np.random.default_rng(0)
    lengths: list[list[int]] = [[] for _ in range(rows)]
    for row in lengths:
        while (free := time - sum(row)) > 0:
            row.append(min(free, 1 + int(generator.exponential(mean))))
    return Layout.packed(lengths)


def beside_full(what: str, ours: Callable[[], None], rows: int, time: int, at_least: float | None = None) -> Finding:
    """How many times as fast as full causal attention over rows of the same length."""
    turns = take_turns(ours, step(Layout.full(rows, time), Full()), pairs=8 if time > 4000 else 40, warm_up=2)
    return finding("attention", what, turns.ratios, at_least=at_least, detail=turns.words(theirs="full"))


def fused(rows: int, time: int) -> Callable[[], None]:
    """Forward and backward of full causal attention by torch's own kernel."""
    inputs = [torch.randn(rows, time, HEADS, WIDTH, requires_grad=True) for _ in range(3)]
    upstream = torch.randn(rows, time, HEADS, WIDTH)

    def run() -> None:
        query, key, value = (x.transpose(1, 2) for x in inputs)
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        torch.autograd.grad(out.transpose(1, 2), inputs, upstream)

    return run


def run() -> list[Finding]:
    """Short rows beside torch's kernel, patterns, documents, then what no fused kernel computes."""
    found = []
    for time, rows in ((128, 16), (256, 8), (512, 4)):
        turns = take_turns(step(Layout.full(rows, time), Full()), fused(rows, time), pairs=40, warm_up=2)
        found.append(finding("attention", f"full, {time} tokens: torch's kernel", turns.ratios, detail=turns.words()))
    for time, rows in ((8192, 1), (1024, 2)):
        for pattern, goal in (
            (Sliding(time // 64), 4.0 if time == 8192 else 1.0),
            (Sliding(time // 8), 1.0),
            (Strided(128, 128), 2.0 if time == 8192 else None),
            (Fixed(128), 2.0 if time == 8192 else None),
        ):
            sizes = ", ".join(f"{k} {v}" for k, v in vars(pattern).items() if k in ("window", "stride"))
            name = f"{type(pattern).__name__.lower()} ({sizes}), {time:,} tokens"
            found.append(beside_full(name, step(Layout.full(rows, time), pattern), rows, time, goal))
    for time, rows, mean, goal in ((256, 8, 64, 0.95), (256, 8, 128, 0.95), (1024, 2, 200, 1.0), (4096, 1, 800, 1.0)):
        name = f"documents of {mean}, rows of {time:,}"
        found.append(beside_full(name, step(packed(rows, time, mean), Full()), rows, time, goal))
    for time, rows in ((256, 8), (1024, 2)):
        for name, scoring in {
            "bias": Scoring(
                bias=lambda q, k: (k.positions.unsqueeze(1) - q.positions.unsqueeze(2)).unsqueeze(1).float()
            ),
            "soft-cap": Scoring(softcap=50.0),
            "dropout": Scoring(dropout=0.1),
        }.items():
            ours = step(Layout.full(rows, time), Full(), scoring)
            found.append(beside_full(f"{name}, {time:,} tokens", ours, rows, time))
    return found


if __name__ == "__main__":
    main(run)
