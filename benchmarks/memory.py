"""Peak memory of the loss over a large vocabulary, beside all logits in one piece, each in its own process."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import torch
import torch.nn.functional as F

from benchmarks.measure import Finding, finding, main, prepare_machine
from lab.parts.cross_entropy import ROWS, linear_cross_entropy
from lab.runs import machine

TOKENS, DIM, VOCABULARY = 4096, 256, 32_768


def peak_of(in_pieces: bool) -> int:
    """Bytes that loss and gradients take beyond inputs and weights at the most."""
    prepare_machine()
    torch.manual_seed(0)
    x = torch.randn(TOKENS, DIM, requires_grad=True)
    weight = torch.randn(VOCABULARY, DIM, requires_grad=True)
    targets = torch.randint(VOCABULARY, (TOKENS,))
    # What the first products set up once, such as buffers of the math library, is not the loss's.
    (x[:ROWS].detach() @ weight[:ROWS].detach().T).sum()
    machine.reset_peak_memory()
    before = machine.peak_memory()
    if in_pieces:
        loss = linear_cross_entropy(x, weight, targets)
    else:
        loss = F.cross_entropy(F.linear(x, weight), targets, reduction="sum")
    loss.backward()
    peak = machine.peak_memory()
    if before is None or peak is None:
        raise SystemExit("memory: this system has no /proc/self/status to read the peak from")
    return peak - before


def run() -> list[Finding]:
    """The peak beyond the gradients, in rows of logits; and how many times that of all logits."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as processes:
        ours, whole = processes.map(peak_of, [True, False])
    gradients = 4 * DIM * (TOKENS + VOCABULARY)
    row = 4 * VOCABULARY
    logits = 4 * TOKENS * VOCABULARY
    detail = f"{_mib(ours)} with gradients of {_mib(gradients)}; a piece of {ROWS} rows has {_mib(ROWS * row)}"
    whole_detail = f"{_mib(whole)} against {_mib(ours)}; all logits have {_mib(logits)}"
    return [
        finding(
            "memory",
            f"peak of the loss, in rows of {TOKENS:,} tokens' logits",
            [(ours - gradients) / row],
            at_most=768,
            detail=detail,
        ),
        finding("memory", "peak with all logits / ours", [whole / ours], detail=whole_detail),
    ]


def _mib(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"


if __name__ == "__main__":
    main(run)
