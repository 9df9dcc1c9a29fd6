"""Experts beside one feed-forward layer that costs a token as much, forward and backward, the balance loss included.

The router, the sorting, the way there and back, and matrix products over an eighth of the rows: all that a mixture adds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from benchmarks.measure import Finding, finding, main, take_turns
from lab.parts.experts import MixtureOfExperts
from lab.parts.feedforward import Dense, Gated

DIM, INNER = 256, 1024
GATED = partial(Gated, inner=INNER, equal_parameters=True)
DENSE = partial(Dense, inner=INNER)


def step(layer: nn.Module, tokens: int) -> Callable[[], None]:
    """Forward and backward of one layer on random tokens, gradients of the input and of all parameters."""
    x = torch.randn(tokens // 256, 256, DIM, requires_grad=True)
    upstream = torch.randn_like(x)
    wanted = [x, *layer.parameters()]

    def run() -> None:
        out = layer(x)
        auxiliary = getattr(layer, "auxiliary", None)
        ends = [out] if auxiliary is None else [out, auxiliary]
        torch.autograd.grad(ends, wanted, [upstream, None][: len(ends)])

    return run


def compare(what: str, mixture: MixtureOfExperts, dense: nn.Module, tokens: int, goal: float | None = None) -> Finding:
    """How many times as fast as the dense layer, and the active parameters of both."""
    pairs = 80 if tokens < 4096 else 20
    turns = take_turns(step(mixture, tokens), step(dense, tokens), pairs=pairs, warm_up=3)
    loads = mixture.balance.load
    words = f"{turns.words('experts', 'dense')}; active parameters {mixture.active_parameters:,} and "
    words += f"{sum(p.numel() for p in dense.parameters()):,}; busiest expert {float(loads.max()):.0%}"
    return finding("experts", f"{what}, {tokens:,} tokens", turns.ratios, at_least=goal, detail=words)


def run() -> list[Finding]:
    """The mixture of the goal at both sizes, then other designs."""
    torch.manual_seed(0)
    found = []
    for tokens, goal in ((2048, 0.85), (16384, 0.9)):
        mixture = MixtureOfExperts(DIM, GATED, experts=8, top_k=2)
        found.append(compare("8 gated, top-2", mixture, GATED(dim=DIM), tokens, goal))
    return found


if __name__ == "__main__":
    main(run)
