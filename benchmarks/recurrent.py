"""Recurrent models: each cell beside a loop of torch's cells and beside torch's own layer, on rows and on packed documents;
and decoders that must step beside one that runs fused.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import lab
from benchmarks.measure import Finding, finding, main, take_turns
from lab.layout import Layout

ROWS, TIME, DIM, LAYERS = 16, 128, 256, 2
CELLS: dict[str, tuple[Any, Any]] = {
    "rnn": (nn.RNN, nn.RNNCell),
    "gru": (nn.GRU, nn.GRUCell),
    "lstm": (nn.LSTM, nn.LSTMCell),
}
DOCUMENTS = [[40, 88], [128], [17, 60, 51], [100, 28]] * (ROWS // 4)


def training(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Forward and backward."""

    def step() -> None:
        model.zero_grad()
        loss().backward()

    return step


class Loop(nn.Module):
    """Layers of torch's cells, token by token."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.cells = nn.ModuleList(cell(DIM, DIM) for _ in range(LAYERS))

    def forward(self, x: Tensor) -> Tensor:
        states: list[Any] = [None] * LAYERS
        found = []
        for token in x.unbind(1):
            for number, cell in enumerate(self.cells):
                states[number] = cell(token, states[number])
                token = states[number][0] if isinstance(cell, nn.LSTMCell) else states[number]
            found.append(token)
        return torch.stack(found, dim=1)


def of_cell(name: str) -> list[Finding]:
    """Recurrent layers, forward and backward, without embedding and head."""
    fused, cell = CELLS[name]
    words = ("model=recurrent", f"cell={name}", f"model.dim={DIM}", f"model.layers={LAYERS}", "init=fan_in")
    ours: Any = lab.build(lab.compose(*words), vocab_size=64).train().recurrence
    bare, loop = fused(DIM, DIM, LAYERS, batch_first=True), Loop(cell)
    x = torch.randn(ROWS, TIME, DIM)
    layout = Layout.packed(DOCUMENTS)
    pieces = [x[row, start:stop] for row, start, stop in layout.segments]
    lengths = torch.tensor([len(piece) for piece in pieces])
    padded = nn.utils.rnn.pad_sequence(pieces, batch_first=True)

    def packed() -> Tensor:
        return bare(pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False))[0].data.sum()

    whole = training(ours, lambda: ours(x)[0].sum())
    apart = training(ours, lambda: ours(x, layout)[0].sum())
    found = []
    for what, work, other, goal in (
        ("a loop of torch's cells / ours", whole, training(loop, lambda: loop(x).sum()), 0.95),
        ("torch's layer / ours", whole, training(bare, lambda: bare(x)[0].sum()), 0.95),
        ("torch's packed sequence / ours, documents apart", apart, training(bare, packed), 0.95),
    ):
        turns = take_turns(work, other, pairs=8, warm_up=2)
        rate = ROWS * TIME / statistics.median(turns.ours)
        detail = f"{turns.words()}; {rate:,.0f} tokens/s"
        found.append(finding("recurrent", f"{name}: {what}", turns.ratios, at_least=goal, detail=detail))
    return found


def of_alignment(name: str, cell: str = "lstm", rows: int = 32, time: int = 32) -> Finding:
    """A training step of a translator, loss included, beside the same with Luong's attention after a fused decoder."""

    def step(alignment: str) -> Callable[[], None]:
        words = ("model=recurrent_translator", "objective=seq2seq", "data=reverse", "init=fan_in", "model.dim=192")
        model: Any = lab.build(lab.compose(*words, f"alignment={alignment}", f"cell={cell}"), vocab_size=2000).train()
        source, target = torch.randint(2000, (2, rows, time))
        return training(model, lambda: model.embedding.loss(model.hidden(source, target), target))

    turns = take_turns(step(name), step("luong"), pairs=8, warm_up=2)
    rate = rows * time / statistics.median(turns.ours)
    detail = f"{turns.words(ours=name, theirs='luong')}; {rate:,.0f} target tokens/s"
    return finding("recurrent", f"{cell}: luong's time / {name}'s", turns.ratios, detail=detail)


def run() -> list[Finding]:
    """Cells, then alignments."""
    cells = [found for name in CELLS for found in of_cell(name)]
    return [
        *cells,
        *(of_alignment(name) for name in ("none", "bahdanau", "luong_feeding")),
        of_alignment("bahdanau", "gru"),
    ]


if __name__ == "__main__":
    main(run)
