"""Where the time of a block goes: matrix products, attention, and the rest (norms, rotation, activation, sums)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import lab
from benchmarks import peers
from benchmarks.measure import Finding, finding, main
from lab.layout import Layout

ROWS = 8
KINDS = {
    "products": {"mkldnn::_linear_pointwise", "aten::mm", "aten::addmm", "aten::addmm_"},
    "attention": {
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
        "_Short",
        "_ShortBackward",
    },
}
"""Operations of each, and all that they call."""


def shares(overrides: list[str], steps: int = 30) -> tuple[float, float, list[tuple[str, float]]]:
    """Of forward and backward of the second block: products, attention, and the rest by name, the largest first."""
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
    spent = Counter[str]()
    for event in seen.events() or ():
        spent[_kind(event)] += event.self_cpu_time_total
    total = sum(spent.values())
    rest = [(name, time / total) for name, time in spent.most_common() if name not in KINDS]
    return spent["products"] / total, spent["attention"] / total, rest


def _kind(event: Any) -> str:
    """The kind of an operation or of what called it; its own name for none."""
    inside = event
    while inside is not None:
        for kind, names in KINDS.items():
            if inside.name in names:
                return kind
        inside = inside.cpu_parent
    return event.name


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
