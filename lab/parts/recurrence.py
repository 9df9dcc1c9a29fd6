"""Recurrent layers, one over the other, that read the documents of rows apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from lab.layout import Layout
from lab.parts.cache import Cache
from lab.parts.cell import Cell, State
from lab.parts.kernels import linear
from lab.parts.stairs import Stairs, stairs
from lab.values import check_whole

READS = {"forward": (False,), "backward": (True,), "both": (False, True)}
"""Words for the directions in which a row is read, and whether each begins at the end."""


class Layer(nn.ModuleList):
    """The cells of a layer, one for each direction; a named place where `lab.record` sees `[batch, time, dim]`, what the
    layer gives, undefined at padding.
    """

    def forward(self, given: Tensor) -> Tensor:
        """The same."""
        return given


class Recurrence(nn.Module):
    """Layers of cells. In each, a document's state begins with zeros or, the row's first, with the one that was given.

    Args:
        inputs: numbers in what the first layer reads.
        dim: numbers in what each gives, over both directions.
        layers: how many.
        cell: called with `inputs`, `dim`, for each layer and direction.
        dropout: share of what a layer reads of the one below that is dropped (Zaremba et al. 2014).
        reads: `forward`, `backward` (as if the row were reversed: Sutskever et al. 2014, section 3.3) or `both`, of which
            each direction has half of the width (Schuster and Paliwal 1997).

    Raises:
        ValueError: a size under 1, another word, or an odd width for both directions.
    """

    def __init__(
        self,
        inputs: int,
        dim: int,
        layers: int,
        cell: Callable[..., Cell],
        dropout: float = 0.0,
        reads: str = "forward",
    ) -> None:
        super().__init__()
        check_whole("model", dim=dim, layers=layers)
        if not 0 <= dropout < 1:
            raise ValueError(f"model.dropout: {dropout}; a share, from 0 to under 1")
        if reads not in READS:
            raise ValueError(f"model.reads: {reads}; choose from {', '.join(READS)}")
        self.backwards = READS[reads]
        if dim % len(self.backwards):
            raise ValueError(f"model.dim: {dim}; reading both ways needs an even width")
        self.inputs, self.dim, self.dropout = inputs, dim, nn.Dropout(dropout)
        width = dim // len(self.backwards)
        self.layers = nn.ModuleList(
            Layer(cell(inputs=dim if layer else inputs, dim=width) for _ in self.backwards) for layer in range(layers)
        )

    def cells(self) -> list[Cell]:
        """Of all layers and directions."""
        return [cast(Cell, cell) for layer in self.layers for cell in cast(Layer, layer)]

    def forward(
        self, x: Tensor, layout: Layout | None = None, states: Sequence[State] | None = None, keep: bool = False
    ) -> tuple[Tensor, list[State]]:
        """`[batch, time, inputs]` to `[batch, time, dim]`, what stands at padding undefined; and the states.

        Args:
            x: what is read.
            layout: of the tokens; by default one document a row.
            states: of each layer, `[batch, dim]`, that the first document of each row begins with; zeros by default.
            keep: give the state of each layer after the last document of each row; else an empty list.
        """
        batch, time, _ = x.shape
        layout = layout or Layout.full(batch, time, x.device)
        if layout.padded and not layout.segments:
            return x.new_zeros(batch, time, self.dim), self.zeros(batch) if keep else []
        order, last = stairs(layout, exact=keep), []
        x = order.enter(x)
        for number, layer in enumerate(self.layers):
            x = self.dropout(x) if number else x
            begin = order.begin(None if states is None else states[number])
            x, state = self._layer(cast(Layer, layer), x, order, begin)
            last.append(order.end(state))
            if layer._forward_hooks:
                layer(order.leave(x, batch))
        return order.leave(x, batch), last if keep else []

    def _layer(self, cells: Layer, x: Tensor, order: Stairs, begin: State | None) -> tuple[Tensor, State]:
        width = self.dim // len(self.backwards)
        found = []
        for number, (cell, backward) in enumerate(zip(cells, self.backwards, strict=True)):
            part = None if begin is None else tuple(s.narrow(1, number * width, width) for s in begin)
            y, state = climb(cast(Cell, cell), order.flip(x) if backward else x, order, part)
            found.append((order.flip(y) if backward else y, state))
        if len(found) == 1:
            return found[0]
        (y, state), (z, other) = found
        return torch.cat([y, z], dim=1), tuple(torch.cat(pair, dim=1) for pair in zip(state, other, strict=True))

    def zeros(self, batch: int) -> list[State]:
        """States to begin with."""
        cell = self.cells()[0]
        return [tuple(cell.weight_hh_l0.new_zeros(cell.carried, batch, self.dim)) for _ in self.layers]

    @property
    def state_bytes(self) -> int:
        """Bytes of the states of one row."""
        cell = self.cells()[0]
        return len(self.layers) * cell.carried * self.dim * cell.weight_hh_l0.element_size()

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs of the matrix products on documents of these lengths."""
        return sum((cell.flops(np.asarray(lengths)) for cell in self.cells()), np.zeros(len(lengths), np.int64))


def climb(cell: Cell, x: Tensor, order: Stairs, state: State | None) -> tuple[Tensor, State]:
    """One direction of one layer over all stages: `[places, inputs]` to `[places, dim]`, and each document's last state."""
    found: list[Tensor] = []
    ended: list[State] = []
    for piece in order.pieces(x):
        going = len(piece)
        if state is not None and len(state[0]) > going:
            ended.append(tuple(part[going:] for part in state))
            state = tuple(part[:going] for part in state)
        y, state = cell.run(piece, state)
        found.append(y.flatten(0, 1))
    assert state is not None
    if not ended:
        return torch.cat(found) if len(found) > 1 else found[0], state
    return torch.cat(found), tuple(torch.cat(parts) for parts in zip(state, *reversed(ended), strict=True))


class Steps:
    """A forward recurrence one token at a time, for decoders that look at the source in between.

    What tokens add to the first layer's gates is computed for all of them at once; a step adds what was seen.

    Args:
        recurrence: reads tokens and, beside each, what is fed back: `inputs` is both.
        x: `[batch, time, numbers of a token]`.
    """

    def __init__(self, recurrence: Recurrence, x: Tensor) -> None:
        self.recurrence, self.cells = recurrence, recurrence.cells()
        weight, known = self.cells[0].weight_ih_l0, x.shape[-1]
        known_weight = weight[:, :known].contiguous()  # oneDNN is a thousand times slower on a slice
        self.given = linear(x.transpose(0, 1), known_weight, self.cells[0].bias_ih_l0).unbind(0)
        self.fed = weight[:, known:].t()
        self.found: list[list[Tensor]] = []

    def __call__(self, number: int, fed: Tensor, states: Sequence[State]) -> list[State]:
        """The states after a step, from those before; `fed` is `[batch, inputs - numbers of a token]`."""
        given = torch.addmm(self.given[number], fed, self.fed)
        after: list[State] = []
        for layer, (cell, state) in enumerate(zip(self.cells, states, strict=True)):
            if layer:
                given = linear(self.recurrence.dropout(after[-1][0]), cell.weight_ih_l0, cell.bias_ih_l0)
            recalled = linear(state[0], cell.weight_hh_l0, cell.bias_hh_l0)
            after.append(cell.update(given, recalled, state))
        self.found.append([state[0] for state in after])
        return after

    def outputs(self, layer: int = -1) -> Tensor:
        """`[batch, time, dim]`, what a layer gave at the steps so far."""
        return torch.stack([outputs[layer] for outputs in self.found], dim=1)

    def show(self) -> None:
        """Show who looks what each layer gave."""
        for number, layer in enumerate(self.recurrence.layers):
            if layer._forward_hooks:
                layer(self.outputs(number))


class LayerState:
    """The state of one layer, as a cache keeps it."""

    def __init__(self, state: State) -> None:
        self.kept, self.whole = list(state), None

    @property
    def bytes(self) -> int:
        """Memory that it holds."""
        return sum(part.numel() * part.element_size() for part in self.kept)

    def reorder(self, rows: Tensor) -> None:
        """Each row becomes a copy of the one with that number."""
        self.kept = [part[rows] for part in self.kept]


class StateCache(Cache):
    """The states of all layers, which take as much memory after many tokens as after one.

    Args:
        states: of each layer, to begin with.
        batch: rows.
    """

    ahead = 1  # the layout is cut to its last token at every step

    def __init__(self, states: Sequence[State], batch: int) -> None:
        super().__init__([LayerState(state) for state in states], batch, length=1 << 62)  # type: ignore[misc]

    def advance(self, tokens: Tensor, layout: Layout | None = None) -> Layout:
        """The layout of more tokens, as `Cache`; of it the last token's is kept."""
        before = self.layout
        layout = super().advance(tokens, layout)
        if before is not None:
            fresh = before.documents[:, -1:] != layout.documents[:, :1]
            if bool(fresh.any()):  # another document
                for layer in self.layers:
                    layer.kept = [part * ~fresh for part in layer.kept]
        time = layout.documents.shape[1]
        self.layout, self._ahead = layout.part(time - 1, time), None
        return layout
