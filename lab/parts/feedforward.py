"""The feed-forward layer: what a block does to each token alone."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from lab.layout import Layout
from lab.parts.activation import ACTIVATIONS, gated
from lab.parts.linear import Linear, Merged, count, matmul_flops


class FeedForward(nn.Module):
    """What both kinds share: sizes, costs, and the activation by name."""

    def __init__(self, inner: int, activation: str) -> None:
        super().__init__()
        if inner < 1:
            raise ValueError(f"model.inner: {inner}; a feed-forward layer is at least 1 wide")
        if activation not in ACTIVATIONS:
            raise ValueError(f"ffn.activation: {activation}; choose from {', '.join(ACTIVATIONS)}")
        self.inner = inner
        self.activation = ACTIVATIONS[activation]

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs on documents of these lengths."""
        return matmul_flops(self) * np.asarray(lengths)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token uses."""
        return count(self)


class Dense(FeedForward):
    """Two linear maps with an activation between (Vaswani et al. 2017, equation 2).

    Args:
        dim: width of the model.
        inner: width between the two maps.
        activation: relu (2017), relu_squared (Primer), gelu (BERT), gelu_tanh (GPT-2), silu.
        bias: both maps have one.
        share: the part of `inner` that is built; an expert has one share of several.

    Shapes: `[..., dim] -> [..., dim]`.
    """

    def __init__(
        self,
        dim: int,
        inner: int,
        activation: str = "gelu",
        bias: bool = False,
        share: float = 1.0,
        layer: int = 0,
    ) -> None:
        super().__init__(round(inner * share), activation)
        self.up = Linear(dim, self.inner, bias=bias)
        self.down = Linear(self.inner, dim, bias=bias)
        self.down.writes_residual = True  # type: ignore[assignment]

    def forward(self, x: Tensor, layout: Layout | None = None) -> Tensor:
        """Each token through both maps."""
        return self.down(self.activation(self.up(x)))


class Gated(FeedForward):
    """A gate times a linear map, then back (GLU variants, Shazeer 2020; SwiGLU with `silu`).

    Args:
        dim: width of the model.
        inner: width between the maps.
        activation: of the gate: silu (SwiGLU), gelu (GEGLU), relu (ReGLU) or another.
        bias: all maps have one.
        equal_parameters: build two thirds of `inner`, so that three matrices hold what a dense layer's two do; to the
            nearest multiple of 8, which matrix products want.
        share: the part of `inner` that is built; an expert has one share of several.

    Shapes: `[..., dim] -> [..., dim]`.
    """

    def __init__(
        self,
        dim: int,
        inner: int,
        activation: str = "silu",
        bias: bool = False,
        equal_parameters: bool = False,
        share: float = 1.0,
        layer: int = 0,
    ) -> None:
        width = inner * share
        if equal_parameters:
            width *= 2 / 3
            width = 8 * round(width / 8) or width
        super().__init__(round(width), activation)
        self.project = Merged(dim, {"gate": self.inner, "up": self.inner}, bias=bias)
        self.down = Linear(self.inner, dim, bias=bias)
        self.down.writes_residual = True  # type: ignore[assignment]

    def forward(self, x: Tensor, layout: Layout | None = None) -> Tensor:
        """Each token through gate and map."""
        return self.down(gated(self.project(x), self.activation))
