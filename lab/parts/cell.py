"""Cells: how a recurrent layer takes in the next token. Each is torch's fused layer, and can also be stepped.

Elman 1990 (tanh), Cho et al. 2014 (GRU), Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000 (LSTM).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from lab.parts import onednn

State = tuple[Tensor, ...]
"""What a layer carries from token to token, each `[rows, dim]`: its output, and of an LSTM its memory too."""


class Cell(nn.Module):
    """One layer in one direction.

    The maps of all gates are merged in one weight, but each is a matrix of its own to initial values and optimizers.

    Args:
        inputs: numbers in what it reads at each step.
        dim: numbers in what it gives.

    Attributes:
        gates: of its weights, in their order.
        carried: how many vectors its state has.
    """

    gates: ClassVar[tuple[str, ...]]
    carried: ClassVar[int] = 1
    hidden_size: int
    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def __init__(self, inputs: int, dim: int) -> None:
        super().__init__(inputs, dim, batch_first=True)  # of torch's layer

    def pieces(self, parameter: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Name and rows of each gate's part of a weight or bias, as views."""
        return zip(self.gates, parameter.chunk(len(self.gates)), strict=True)

    def run(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """All steps in one kernel: `[rows, time, inputs]` to `[rows, time, dim]`, and the state after the last; without one
        to begin with, from zeros.
        """
        raise NotImplementedError

    def update(self, given: Tensor, recalled: Tensor, state: State) -> State:
        """The state after one step.

        Args:
            given: `[rows, gates * dim]`, what the input adds to the gates, bias included.
            recalled: the same of the last output.
            state: before.
        """
        raise NotImplementedError

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs of the matrix products on documents of these lengths."""
        return 2 * (self.weight_ih_l0.numel() + self.weight_hh_l0.numel()) * lengths


class _Single(Cell):
    """A cell whose state is its output."""

    def run(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        y, last = self(x, None if state is None else state[0].unsqueeze(0).contiguous())
        return y, (last[0],)


class RNN(_Single, nn.RNN):
    """Elman's layer: `tanh` of a map of the input and one of the last output. Arguments as `Cell`."""

    gates = ("new",)

    def update(self, given: Tensor, recalled: Tensor, state: State) -> State:
        return ((given + recalled).tanh_(),)


class GRU(_Single, nn.GRU):
    """Gated recurrent unit, with the reset gate after the recurrent map, as torch and cuDNN have it. Arguments as `Cell`."""

    gates = ("reset", "update", "new")

    def update(self, given: Tensor, recalled: Tensor, state: State) -> State:
        (h,), dim = state, self.hidden_size
        reset, keep = (given[:, : 2 * dim] + recalled[:, : 2 * dim]).sigmoid_().chunk(2, dim=1)
        candidate = torch.addcmul(given[:, 2 * dim :], reset, recalled[:, 2 * dim :]).tanh_()
        return (torch.lerp(candidate.to(h.dtype), h, keep.to(h.dtype)),)  # mixed precision keeps the state whole


class LSTM(Cell, nn.LSTM):
    """Long short-term memory.

    Args:
        inputs, dim: as `Cell`.
        forget: what the forget gate's bias begins with; 1 lets memories last at first (Jozefowicz et al. 2015, section 5).
    """

    gates = ("input", "forget", "cell", "output")
    carried = 2

    def __init__(self, inputs: int, dim: int, forget: float = 1.0) -> None:
        super().__init__(inputs, dim)
        self.forget = forget

    def start_values(self) -> None:
        """What its initial values are beside those of `init`."""
        dict(self.pieces(self.bias_ih_l0))["forget"].fill_(self.forget)

    def run(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        begin = None if state is None else tuple(part.unsqueeze(0).contiguous() for part in state)
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and not onednn.halves():
            # Torch asks oneDNN for this layer in half precision even where it has none (2.13): there it stays single.
            with torch.autocast("cpu", enabled=False):
                weight = self.weight_hh_l0
                y, last = self(x.to(weight), None if begin is None else tuple(part.to(weight) for part in begin))
        else:
            y, last = self(x, begin)
        return y, tuple(part[0] for part in last)

    def update(self, given: Tensor, recalled: Tensor, state: State) -> State:
        dim, gates = self.hidden_size, given + recalled
        enter, forget = gates[:, : 2 * dim].sigmoid().chunk(2, dim=1)
        memory = torch.addcmul(enter * gates[:, 2 * dim : 3 * dim].tanh(), forget, state[1])
        return gates[:, 3 * dim :].sigmoid() * memory.tanh(), memory
