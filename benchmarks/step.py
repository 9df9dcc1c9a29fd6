"""A training step, loss included, beside Hugging Face's models of the same computation and x-transformers' of the same
shape.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import lab
from benchmarks import peers, x_peers
from benchmarks.measure import Finding, finding, main, matrix_product_rate, take_turns

ROWS = 8


def step_of(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Forward and backward."""

    def step() -> None:
        model.zero_grad()
        loss().backward()

    return step


def compare(
    name: str, overrides: list[str], make_peer: Callable[..., Any], goal: float, same: bool = True
) -> list[Finding]:
    """Time both, and say how close ours comes to what the machine's matrix product can do."""
    torch.manual_seed(0)
    stream = torch.randint(peers.VOCABULARY, (ROWS, peers.TIME + 1))
    tokens, targets = stream[:, :-1].contiguous(), stream[:, 1:].contiguous()
    ours: Any = lab.build(lab.compose(*overrides)).train()
    peer = make_peer(ours).train()
    if same:
        peers.assert_same(copy.deepcopy(ours), peer, tokens, targets)

    rate = matrix_product_rate()
    turns = take_turns(
        step_of(ours, lambda: ours.loss(tokens, targets)),
        step_of(peer, lambda: peers.loss_of(peer, tokens, targets)),
        pairs=30,
    )
    flops = 3 * float(np.sum(ours.flops(np.full(ROWS, peers.TIME))))
    reached = [flops / seconds for seconds in turns.ours]
    median = statistics.median(reached)
    words = f"{flops / 1e9:.1f} GFLOP at {median / 1e9:.0f} of {rate / 1e9:.0f} GFLOP/s"
    return [
        finding("step", f"{name}: their time / ours", turns.ratios, at_least=goal, detail=turns.words()),
        finding("step", f"{name}: share of the matrix product's rate", [r / rate for r in reached], detail=words),
    ]


def run() -> list[Finding]:
    """Against Hugging Face's GPT-2 as it comes, the same with its activation in one kernel, Llama, and x-transformers."""
    return [
        *compare("GPT-2", peers.GPT2, peers.gpt2, 1.1),
        *compare("GPT-2, fused GELU", peers.GPT2, lambda ours: peers.gpt2(ours, "gelu_pytorch_tanh"), 1.1),
        *compare("GPT-2's shape in x-transformers", peers.GPT2, x_peers.gpt2, 1.0, same=False),
        *compare("Llama", peers.LLAMA, peers.llama, 1.1),
        *compare("Llama's shape in x-transformers", peers.LLAMA, x_peers.llama, 1.0, same=False),
    ]


if __name__ == "__main__":
    main(run)
