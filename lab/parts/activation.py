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

    def gradient(self, upstream: Tensor, x: Tensor) -> Tensor:
        """Of the input, from that of the result, which is overwritten."""
        return self.backward(upstream, x, upstream)


@dataclass(frozen=True)
class Gate:
    """`activation(gate) * up` of the two halves `gate, up` of the last dimension (Shazeer 2020)."""

    activation: Activation

    def __call__(self, x: Tensor) -> Tensor:
        """`[..., 2 * inner] -> [..., inner]`."""
        gate, up = x.chunk(2, dim=-1)
        return self.activation(gate).mul_(up)

    def gradient(self, upstream: Tensor, x: Tensor) -> Tensor:
        """Of the input, from that of the result."""
        gate, up = x.chunk(2, dim=-1)
        into = torch.empty_like(x)
        to_gate, to_up = into.chunk(2, dim=-1)
        torch.mul(upstream, self.activation(gate), out=to_up)
        torch.mul(upstream, up, out=to_gate)
        self.activation.backward(to_gate, gate, to_gate)
        return into


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
