"""Experts beside one feed-forward layer that costs a token as much, forward and backward, the balance loss included.

The router, the sorting, the way there and back, and matrix products over a part of the rows: all that a mixture adds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from benchmarks.measure import Finding, finding, main, take_turns
from lab.parts.balance import Balance
from lab.parts.experts import MixtureOfExperts
from lab.parts.feedforward import Dense, Gated
from lab.parts.router import Router, SigmoidRouter

DIM, INNER = 256, 1024
GATED = partial(Gated, inner=INNER, equal_parameters=True)
DENSE = partial(Dense, inner=INNER)


def step(layer: nn.Module, tokens: int) -> Callable[[], None]:
    """Forward and backward of one layer, gradients of the input and of all parameters.

    New tokens each time, as in training: loads differ, and a product of a number of rows that is new is compiled first.
    """
    batches = [torch.randn(tokens // 256, 256, DIM, requires_grad=True) for _ in range(16)]
    upstream = torch.randn_like(batches[0])
    turn = itertools.cycle(batches)

    def run() -> None:
        x = next(turn)
        wanted = [x, *layer.parameters()]
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
    """The mixture of the goal at both sizes and three widths of an expert, then other designs at the narrowest.

    The widths: a layer of the lab in two halves (`ffn=moe expert=gated`), that layer (`ffn=moe_wide`), and 3.5 times the
    model's, which is Mixtral's (Jiang et al. 2024, table 1).
    """
    torch.manual_seed(0)
    found = []
    for width in (344, 680, 896):
        pair = partial(Gated, inner=2 * width)  # what one token meets
        for tokens, goal in ((2048, 0.85), (16384, 0.9)):
            mixture = MixtureOfExperts(DIM, pair, experts=8, top_k=2)
            found.append(compare(f"8 gated, {width} wide, top-2", mixture, pair(dim=DIM), tokens, goal))
    switch = MixtureOfExperts(DIM, DENSE, 8, 1, router=partial(Router, jitter=0.01), capacity=1.25)
    found.append(compare("8 dense, 1,024 wide, top-1, capacity 1.25", switch, DENSE(dim=DIM), 2048))
    biased = partial(Balance, loss=0.0, bias_rate=0.001)
    fine = MixtureOfExperts(DIM, GATED, 16, 3, router=SigmoidRouter, balance=biased, shared=1)
    found.append(compare("16 gated, 168 wide, top-3 and 1 shared, bias", fine, GATED(dim=DIM), 2048))
    return found


if __name__ == "__main__":
    main(run)
