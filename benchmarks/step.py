"""A training step, loss included, beside Hugging Face's models of the same computation."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import lab
from benchmarks import peers
from benchmarks.measure import Finding, finding, main, matrix_product_rate, take_turns

ROWS = 8


def step_of(
    model: nn.Module, loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer | None
) -> Callable[[], None]:
    """Forward and backward, and an update where there is an optimizer."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        loss().backward()
        if optimizer is not None:
            optimizer.step()

    return step


def compare(name: str, overrides: list[str], make_peer: Callable[..., Any], with_adamw: bool) -> list[Finding]:
    """Time both, and say how close ours comes to what the machine's matrix product can do."""
    torch.manual_seed(0)
    stream = torch.randint(peers.VOCABULARY, (ROWS, peers.TIME + 1))
    tokens, targets = stream[:, :-1].contiguous(), stream[:, 1:].contiguous()
    ours: Any = lab.build(lab.compose(*overrides)).train()
    peer = make_peer(ours).train()
    peers.assert_same(copy.deepcopy(ours), peer, tokens, targets)

    def optimizer(model: nn.Module) -> torch.optim.Optimizer | None:
        return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True) if with_adamw else None

    rate = matrix_product_rate()
    turns = take_turns(
        step_of(ours, lambda: ours.loss(tokens, targets), optimizer(ours)),
        step_of(peer, lambda: peers.loss_of(peer, tokens, targets), optimizer(peer)),
    )
    what = f"{name}{', with AdamW' if with_adamw else ''}: their time / ours"
    found = [finding("step", what, turns.ratios, at_least=1.0, detail=turns.words("ours", "Hugging Face"))]
    if not with_adamw:
        flops = 3 * float(np.sum(ours.flops(np.full(ROWS, peers.TIME))))
        shares = [flops / seconds / rate for seconds in turns.ours]
        reached = flops / statistics.median(turns.ours)
        detail = f"{flops / 1e9:.1f} GFLOP at {reached / 1e9:.0f} of {rate / 1e9:.0f} GFLOP/s"
        found.append(finding("step", f"{name}: share of the matrix product's rate", shares, detail=detail))
    return found


def run() -> list[Finding]:
    """Against GPT-2 as it comes, GPT-2 with its activation in one kernel, and Llama."""
    found = []
    for with_adamw in (False, True):
        found += compare("GPT-2", peers.GPT2, peers.gpt2, with_adamw)
        found += compare(
            "GPT-2, fused GELU", peers.GPT2, lambda ours: peers.gpt2(ours, "gelu_pytorch_tanh"), with_adamw
        )
        found += compare("Llama", peers.LLAMA, peers.llama, with_adamw)
    return found


if __name__ == "__main__":
    main(run)
