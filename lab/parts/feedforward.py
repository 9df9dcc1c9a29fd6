"""The feed-forward layer: what a block does to each token alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from lab.layout import Layout
from lab.parts.activation import ACTIVATIONS, Activation, Gate
from lab.parts.cache import LayerCache
from lab.parts.function import Function
from lab.parts.kernels import in_precision, outer, product
from lab.parts.linear import Linear, Merged, count, matmul_flops

Weights = tuple[Tensor, Tensor | None, Tensor, Tensor | None]
"""Weight and bias of the map up, weight and bias of the map down; none for no bias."""


class FeedForward(nn.Module):
    """A map up, a function of each token's numbers, a map down: what both kinds share. A kind says which maps, and which
    function `between` them.

    Output and gradients are plain functions of tensors, so that whoever runs several layers, as a mixture of experts does,
    has one node in the graph for all of them.

    Args:
        inner: width between the maps.
        activation: its name.
        dropout: share of what the function gives that is dropped while training (Raffel et al. 2020, section 2.1).

    Shapes: `[..., dim] -> [..., dim]`.

    Raises:
        ValueError: a width under 1, another activation, a share out of range.
    """

    between: Activation | Gate

    def __init__(self, inner: int, activation: str, dropout: float = 0.0) -> None:
        super().__init__()
        if inner < 1:
            raise ValueError(f"model.inner: {inner}; a feed-forward layer is at least 1 wide")
        if not 0 <= dropout < 1:
            raise ValueError(f"ffn.dropout: {dropout}; choose from 0 to under 1")
        if activation not in ACTIVATIONS:
            raise ValueError(f"ffn.activation: {activation}; choose from {', '.join(ACTIVATIONS)}")
        self.inner, self.dropout = inner, dropout
        self.activation = ACTIVATIONS[activation]
        self.activation_name = activation

    def extra_repr(self) -> str:
        """What its printed form says of it."""
        return self.activation_name

    @property
    def maps(self) -> tuple[Linear, Linear]:
        """Up and down."""
        raise NotImplementedError

    def forward(self, x: Tensor, layout: Layout | None = None, cache: LayerCache | None = None) -> Tensor:
        """Each token through both maps."""
        return _Apply.run(self, *in_precision(x, *self.weights()))

    def weights(self) -> Weights:
        """What `compute` takes."""
        up, down = self.maps
        return up.weight, up.bias, down.weight, down.bias

    def compute(self, x: Tensor, weights: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:
        """`[tokens, dim]` to the same, and what `gradients` needs of it."""
        up, up_bias, down, down_bias = weights
        hidden = product(x, up, up_bias)
        inside = self.between(hidden)
        if not (self.training and self.dropout):
            return product(inside, down, down_bias), (x, hidden, inside)
        inside, kept = torch.native_dropout(inside, self.dropout, True)
        return product(inside, down, down_bias), (x, hidden, inside, kept)

    def gradients(self, upstream: Tensor, kept: tuple[Tensor, ...], weights: Weights) -> tuple[Tensor, Weights]:
        """Of the input and of the weights, from that of the output: `[tokens, dim]`."""
        x, hidden, inside, *dropped = kept
        up, up_bias, down, down_bias = weights
        to_inside = product(upstream, down.T)
        if dropped:
            to_inside = torch.ops.aten.native_dropout_backward(to_inside, dropped[0], 1 / (1 - self.dropout))
        to_hidden = self.between.gradient(to_inside, hidden)
        to_up_bias = None if up_bias is None else to_hidden.sum(0)
        to_down_bias = None if down_bias is None else upstream.sum(0)
        return product(to_hidden, up.T), (outer(to_hidden, x), to_up_bias, outer(upstream, inside), to_down_bias)

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
        dropout: as `FeedForward`.

    Shapes: `[..., dim] -> [..., dim]`.
    """

    def __init__(
        self,
        dim: int,
        inner: int,
        activation: str = "gelu",
        bias: bool = False,
        share: float = 1.0,
        dropout: float = 0.0,
        layer: int = 0,
    ) -> None:
        super().__init__(round(inner * share), activation, dropout)
        self.up = Linear(dim, self.inner, bias=bias)
        self.down = Linear(self.inner, dim, bias=bias)
        self.down.writes_residual = True  # type: ignore[assignment]
        self.between = self.activation

    @property
    def maps(self) -> tuple[Linear, Linear]:
        """Up and down."""
        return self.up, self.down


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
        dropout: as `FeedForward`.

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
        dropout: float = 0.0,
        layer: int = 0,
    ) -> None:
        width = inner * share
        if equal_parameters:
            width *= 2 / 3
            width = 8 * round(width / 8) or width
        super().__init__(round(width), activation, dropout)
        self.project = Merged(dim, {"gate": self.inner, "up": self.inner}, bias=bias)
        self.down = Linear(self.inner, dim, bias=bias)
        self.down.writes_residual = True  # type: ignore[assignment]
        self.between = Gate(self.activation)

    @property
    def maps(self) -> tuple[Linear, Linear]:
        """Gate and map as one, and down."""
        return self.project, self.down


class _Apply(Function):
    """One layer on `[..., dim]`."""

    @staticmethod
    def forward(ctx, layer: FeedForward, x: Tensor, *weights) -> Tensor:
        out, kept = layer.compute(x.reshape(-1, x.shape[-1]), weights)
        ctx.layer, ctx.kept = layer, len(kept)
        ctx.save_for_backward(*kept, *weights)
        return out.view_as(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream: Tensor):
        saved = ctx.saved_tensors  # read once, or activation checkpointing refuses
        flat = upstream.reshape(-1, upstream.shape[-1])
        to_x, to_weights = ctx.layer.gradients(flat, saved[: ctx.kept], saved[ctx.kept :])
        return None, to_x.view_as(upstream), *to_weights
