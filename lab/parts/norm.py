"""Normalisation of the residual stream."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.parts.function import Function

FEW = 1 << 14
"""Numbers up to which torch's own chain of operations is the faster one where no gradient is recorded: it is started once."""

NOTHING = torch.zeros((), device="cpu")
"""What a product of three is added to, so that it is one operation."""


class LayerNorm(nn.LayerNorm):
    """Zero mean and unit variance over the width, then a gain and a bias (Ba et al. 2016).

    Shapes: `[..., dim] -> [..., dim]`.
    """

    def __init__(self, dim: int, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__(dim, eps=_not_negative(eps), bias=bias)


class NoNorm(nn.Identity):
    """Leaves the stream as it is.

    Shapes: `[..., dim] -> [..., dim]`.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()


class RMSNorm(nn.Module):
    """Unit root mean square over the width, then a gain; no mean, no bias (Zhang and Sennrich 2019).

    Shapes: `[..., dim] -> [..., dim]`.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = _not_negative(eps)
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """`x / sqrt(mean(x^2) + eps) * weight`."""
        weight = self.weight
        if x.numel() > FEW or x.dtype != weight.dtype or torch.is_grad_enabled():
            return _UnitRootMeanSquare.run(x, weight, self.eps)
        if x.numel() != weight.numel() or not self.eps or x.dtype != torch.float32 or x.device.type != "cpu":
            return F.rms_norm(x, weight.shape, weight, self.eps)
        norm = torch.linalg.vector_norm(x).item()  # of one token, as a plain number: two operations to start in all
        return torch.addcmul(NOTHING, x, weight, value=(norm * norm / x.numel() + self.eps) ** -0.5)


class _UnitRootMeanSquare(Function):
    """Torch's own is a chain of small operations on the CPU; here both directions pass over memory half as often."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        precise = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=precise)
        scale = (norm.square() / x.shape[-1] + eps).rsqrt()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight, scale = ctx.saved_tensors
        gain, unit = weight.to(scale.dtype), x * scale  # in single precision at least, whatever kinds come in
        product = gradient * unit
        along = (product @ gain).unsqueeze(-1) / x.shape[-1]
        to_x = (gradient * gain).addcmul_(unit, along, value=-1).mul_(scale)
        return to_x.to(x.dtype), product.flatten(0, -2).sum(0).to(weight.dtype), None


def _not_negative(eps: float) -> float:
    if not eps >= 0:
        raise ValueError(f"norm.eps: {eps}; a number, 0 or more")
    return eps
