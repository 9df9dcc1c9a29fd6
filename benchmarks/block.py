"""Where the time of a block goes: matrix products, the attention kernel, and the rest (norms, rotation, activation, sums)."""

from __future__ import annotations

from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import lab
from benchmarks import peers
from benchmarks.measure import Finding, finding, main
from lab.layout import Layout

ROWS = 8
PRODUCTS = ("mkldnn::_linear_pointwise", "aten::mm", "aten::addmm", "aten::addmm_")
ATTENTION = (
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
)


def shares(overrides: list[str], steps: int = 30) -> tuple[float, float, list[tuple[str, float]]]:
    """Of forward and backward of the second block: products, attention kernel, and the largest of the rest by name."""
    model: Any = lab.build(lab.compose(*overrides)).train()
    block, layout = model.blocks[1], Layout.full(ROWS, peers.TIME)
    x = torch.randn(ROWS, peers.TIME, peers.DIM, requires_grad=True)
    upstream = torch.randn_like(x)

    def step() -> None:
        torch.autograd.grad(block(x, layout, model.position), [x, *block.parameters()], upstream)

    for _ in range(5):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(steps):
            step()
    events = seen.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    products = sum(event.cpu_time_total for event in events if event.key in PRODUCTS)
    attention = sum(event.cpu_time_total for event in events if event.key in ATTENTION)
    rest = sorted(
        ((event.key, event.self_cpu_time_total / total) for event in events if event.key not in PRODUCTS + ATTENTION),
        key=lambda pair: -pair[1],
    )
    return products / total, attention / total, rest


def run() -> list[Finding]:
    """The blocks of GPT-2 and of Llama."""
    found = []
    for name, overrides in {"GPT-2": peers.GPT2, "Llama": peers.LLAMA}.items():
        rounds = [shares(overrides) for _ in range(5)]
        products, attention, rest = rounds[-1]
        words = f"products {products:.0%}, attention {attention:.0%}; then " + ", ".join(
            f"{key.rpartition('::')[2]} {share:.1%}" for key, share in rest[:7]
        )
        glue = [1 - products - attention for products, attention, _ in rounds]
        found.append(finding("block", f"{name}'s block: share of the rest", glue, at_most=0.15, detail=words))
    return found


if __name__ == "__main__":
    main(run)
