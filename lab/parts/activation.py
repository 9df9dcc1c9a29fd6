"""Activations by name: what a feed-forward layer does to each number between its maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten


@dataclass(frozen=True)
class Activation:
    """A function of one number, and its gradient for layers that fuse it with what follows.

    Attributes:
        function: of a tensor, number by number.
        backward: called with the gradient of the result, the input and `out`, where the input's gradient is written;
            `out` may be the first.
    """

    function: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        """`[...] -> [...]`."""
        return self.function(x)


def _gelu_backward(approximate: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda g, x, out: aten.gelu_backward.grad_input(g, x, approximate=approximate, grad_input=out)


ACTIVATIONS = {
    "relu": Activation(F.relu, lambda g, x, out: aten.threshold_backward.grad_input(g, x, 0, grad_input=out)),
    # Primer (So et al. 2021, section 3).
    "relu_squared": Activation(lambda x: F.relu(x).square(), lambda g, x, out: torch.mul(g, F.relu(x) * 2, out=out)),
    # Hendrycks and Gimpel 2016: x times the normal distribution's share below x, exact and by tanh.
    "gelu": Activation(F.gelu, _gelu_backward("none")),
    "gelu_tanh": Activation(lambda x: F.gelu(x, approximate="tanh"), _gelu_backward("tanh")),
    "silu": Activation(F.silu, lambda g, x, out: aten.silu_backward.grad_input(g, x, grad_input=out)),
}


def gated(x: Tensor, activation: Activation) -> Tensor:
    """`activation(gate) * up` of the two halves `gate, up` of the last dimension: `[..., 2 * inner] -> [..., inner]`.

    Keeps nothing for its gradient but `x`.
    """
    return _Gated.apply(x, activation)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, activation: Activation) -> Tensor:
        ctx.save_for_backward(x)
        ctx.activation = activation
        gate, up = x.chunk(2, dim=-1)
        return activation(gate).mul_(up)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):
        (x,) = ctx.saved_tensors
        gate, up = x.chunk(2, dim=-1)
        into = torch.empty_like(x)
        gate_gradient, up_gradient = into.chunk(2, dim=-1)
        torch.mul(gradient, ctx.activation(gate), out=up_gradient)
        torch.mul(gradient, up, out=gate_gradient)
        ctx.activation.backward(gate_gradient, gate, gate_gradient)
        return into, None
