"""Matrix products in single precision by oneDNN, on processors where it outruns the library that torch calls.

Torch multiplies float32 matrices on x86 with MKL, which leaves half of the vector width unused on processors that are not
Intel's. oneDNN, which torch ships for lower precisions, compiles its loops for the processor that it finds.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from lab.parts.function import Function

ROWS = 16
"""Under so many rows a product waits for memory, and oneDNN's start shows."""


@cache
def intel() -> bool:
    """Whether this is an x86 processor of Intel's, for which MKL was written."""
    return "GenuineIntel" in _facts()


@cache
def offered(vectors: str) -> bool:
    """Whether torch has oneDNN for this processor, and it these vector instructions, as `/proc/cpuinfo` names them. A fact of
    the machine, not a measurement, so that numbers do not depend on the moment.
    """
    has = vectors in _facts() and torch.backends.mkldnn.is_available()
    return has and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@cache
def halves() -> bool:
    """Whether oneDNN computes in bfloat16 on this processor."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _facts() -> str:
    """What Linux says of the processor; nothing elsewhere."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def preferred() -> bool:
    """Whether oneDNN outruns MKL for many rows: with vectors of 512 bits, of which MKL uses half. With 256 they are equal."""
    return offered("avx512f") and not intel()


def fits(x: Tensor, weight: Tensor) -> bool:
    """Whether `product` takes these, and is worth it. A part of a weight's columns is copied number by number: not that."""
    return (
        preferred()
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and x.numel() >= ROWS * x.shape[-1]
        and (weight.is_contiguous() or weight.mT.is_contiguous())
        and not torch.is_autocast_enabled("cpu")
    )


def rounded(rows: int) -> int:
    """A number of rows not far above, one of 32 between a power of two and the next.

    oneDNN compiles its loops for each shape and keeps the last thousand: rows whose number is another at every step would
    cost their compilation each time.
    """
    step = max(ROWS, 1 << max(0, rows.bit_length() - 6))
    return -(-rows // step) * step


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias`, without gradient.

    Args:
        x: `[rows, inputs]` float32, rows or columns contiguous.
        weight: `[outputs, inputs]`, the same.
        bias: `[outputs]`.

    Returns:
        `[rows, outputs]`.
    """
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def outer(left: Tensor, right: Tensor) -> Tensor:
    """`left.T @ right`: `[rows, n]` and `[rows, m]` float32 to `[n, m]`, perhaps with contiguous columns.

    The first operand of `product` is copied if its rows are not contiguous, so the narrower one is turned.
    """
    if left.shape[1] <= right.shape[1]:
        return product(left.T, right.T)
    return product(right.T, left.T).T


class LinearByOneDNN(Function):
    """`x @ weight.T + bias` of `[..., inputs]`, and its gradients."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight = ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        to_x = product(flat, weight.T).view_as(x) if ctx.needs_input_grad[0] else None
        to_weight = outer(flat, x.reshape(-1, x.shape[-1])) if ctx.needs_input_grad[1] else None
        to_bias = flat.sum(0) if ctx.needs_input_grad[2] else None
        return to_x, to_weight, to_bias
