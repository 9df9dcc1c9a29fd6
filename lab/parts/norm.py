"""Normalisation of the residual stream."""

from __future__ import annotations

from torch import nn


class LayerNorm(nn.LayerNorm):
    """Zero mean and unit variance over the width, then a gain and a bias (Ba et al. 2016).

    Shapes: `[..., dim] -> [..., dim]`.
    """

    def __init__(self, dim: int, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__(dim, eps=eps, bias=bias)


class RMSNorm(nn.RMSNorm):
    """Unit root mean square over the width, then a gain; no mean, no bias (Zhang and Sennrich 2019).

    Shapes: `[..., dim] -> [..., dim]`.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__(dim, eps=eps)
