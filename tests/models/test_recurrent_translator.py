"""A recurrent encoder-decoder, against loops of torch's cells with attention as the papers write it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lab
from lab.errors import RequestError
from lab.layout import Layout
from lab.models.translate import translate
from lab.options import groups
from lab.parts import onednn
from lab.parts.cell import LSTM
from tests.models.flops import counted
from tests.models.test_recurrent import SLOW, slowly

CELLS, ALIGNMENTS = groups()["cell"], groups()["alignment"]
LOOKING = [option for option in ALIGNMENTS if option not in ("none", "repeated")]
BASE = (
    "model=recurrent_translator",
    "objective=seq2seq",
    "data=reverse",
    "init=fan_in",
    "model.dim=12",
    "model.layers=2",
)
SOURCE, TARGET = (torch.randint(1, 20, shape, generator=torch.Generator().manual_seed(0)) for shape in ((3, 9), (3, 7)))


def build(alignment: str, cell: str = "lstm", *words: str):
    config = lab.compose(*BASE, f"alignment={alignment}", f"cell={cell}", *words)
    return lab.build(config, vocab_size=20).double().eval()


def written(model, alignment: str, cell: str, source, target):
    """What is known after each token of one target, and the weights, one step at a time."""
    x, y = model.embedding.table.weight[source], model.embedding.table.weight[target]
    h, states = slowly(cell, model.encoder, x)
    p = dict(model.looks.named_parameters())
    cells = []
    for layer in model.decoder.layers:
        cells.append(SLOW[cell](layer[0].input_size, layer[0].hidden_size).double())
        cells[-1].load_state_dict({name.removesuffix("_l0"): value for name, value in layer[0].state_dict().items()})
    state, vector, fed = states, states[-1][0][0], torch.zeros(12, dtype=torch.double)
    known, weights = [], []

    def step(inputs):
        for number, slow in enumerate(cells):
            new = slow(inputs[None], tuple(state[number]) if cell == "lstm" else state[number][0])
            state[number] = new if cell == "lstm" else (new,)
            inputs = state[number][0][0]
        return inputs

    for token in y:
        if alignment == "bahdanau":
            s = state[-1][0][0]
            e = [p["score.weight"][0] @ torch.tanh(p["query.weight"] @ s + p["key.weight"] @ one) for one in h]
            a = torch.stack(e).softmax(0)
            context = a @ h
            s = step(torch.cat([token, context]))
            t = p["combine.weight"] @ torch.cat([s, token, context]) + p["combine.bias"]
            known.append(torch.maximum(t[0::2], t[1::2]))
        elif alignment.startswith("luong"):
            s = step(torch.cat([token, fed]) if alignment == "luong_feeding" else token)
            a = torch.stack(
                [(p["query.weight"] @ s if alignment == "luong_general" else s) @ one for one in h]
            ).softmax(0)
            fed = torch.tanh(p["combine.weight"] @ torch.cat([a @ h, s]))
            known.append(fed)
        else:
            known.append(step(torch.cat([token, vector]) if alignment == "repeated" else token))
            a = torch.zeros(0)
        weights.append(a)
    return torch.stack(known), torch.stack(weights)


@pytest.mark.parametrize(("alignment", "cell"), itertools.product(ALIGNMENTS, CELLS))
@settings(max_examples=4)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 7)), min_size=3, max_size=3),
    reads=st.sampled_from(["forward", "backward", "both"]),
)
def test_it_computes_what_the_papers_say_and_padding_changes_nothing(alignment, cell, sizes, reads):
    model = build(alignment, cell, f"model.reads={reads}")
    layouts = [
        Layout.packed([[n] for n in side], time=width)
        for side, width in zip(zip(*sizes, strict=True), (9, 7), strict=True)
    ]
    with torch.no_grad():
        found = model.hidden(SOURCE, TARGET, *layouts)
        for row, (source, target) in enumerate(sizes):
            expected, weights = written(model, alignment, cell, SOURCE[row, :source], TARGET[row, :target])
            torch.testing.assert_close(found[row, :target], expected)
            if alignment in LOOKING:
                drawn = model.alignment(SOURCE, TARGET, *layouts)
                assert drawn.shape == (3, 7, 9)
                torch.testing.assert_close(drawn[row, :target, :source], weights)
                torch.testing.assert_close(drawn.sum(-1), torch.ones(3, 7).double())
                assert not drawn[row, :, source:].any()


@pytest.mark.parametrize(("alignment", "cell"), itertools.product(ALIGNMENTS, ["gru", "lstm"]))
def test_steps_give_what_the_whole_gives_in_any_order_of_rows(alignment, cell):
    model = build(alignment, cell)
    layout = Layout.packed([[9], [4], [6]])
    with torch.no_grad():
        whole = model.hidden(SOURCE, TARGET, layout)
        state = model.begin(SOURCE, layout, 7)
        found = [model.step(TARGET[:, :1], state), model.step(TARGET[:, 1:4], state)]
        rows = torch.tensor([2, 0, 0])
        state.reorder(rows)
        found = [torch.cat(found, dim=1)[rows], *(model.step(TARGET[rows, i : i + 1], state) for i in range(4, 7))]
        expected = model.hidden(SOURCE[rows], TARGET[rows], layout.rows(rows))
    torch.testing.assert_close(torch.cat(found, dim=1), expected)
    assert not torch.allclose(whole, expected)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_beams_and_padding_leave_translations_alone(alignment):
    model = build(alignment)
    settings = {"begin": 0, "end": 0, "limits": 6}
    found = translate(model, SOURCE, Layout.packed([[9], [4], [6]]), beam=1, **settings)
    alone = [translate(model, SOURCE[row : row + 1, :n], **settings)[0] for row, n in enumerate((9, 4, 6))]
    assert found == alone
    beams = translate(model, SOURCE, Layout.packed([[9], [4], [6]]), beam=3, **settings)
    assert beams == [translate(model, SOURCE[r : r + 1, :n], beam=3, **settings)[0] for r, n in enumerate((9, 4, 6))]


@pytest.mark.parametrize("alignment", ["none", "repeated"])
def test_the_single_vector_is_all_that_is_known_of_the_source(alignment):
    """With the states of another source, of another length, the target is written as after that one."""
    model = build(alignment)
    with torch.no_grad():
        state, other = model.begin(SOURCE), model.begin(SOURCE[:, :4].flip(1))
        numbers = sum(part.numel() for layer in state.states for part in layer) + sum(
            kept.numel() for kept in state.source.values() if kept is not state.states[-1][0]
        )
        assert numbers == 3 * 2 * 2 * 12  # rows, layers, output and memory, width: whatever the length
        expected = model.step(TARGET, other)
        state.states, state.source = model.begin(SOURCE[:, :4].flip(1)).states, other.source
        assert torch.equal(model.step(TARGET, state), expected)
    with pytest.raises(ValueError, match="there are no weights to show"):
        model.alignment(SOURCE, TARGET)


@pytest.mark.parametrize(("alignment", "cell"), itertools.product(ALIGNMENTS, CELLS))
def test_mixed_precision_changes_little(alignment, cell):
    model = build(alignment, cell).float()
    expected = model(SOURCE, TARGET)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(SOURCE, TARGET)
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.05)


def test_mixed_precision_leaves_single_what_the_processor_can_not_halve(monkeypatch):
    monkeypatch.setattr(onednn, "halves", lambda: False)
    cell = LSTM(12, 12)
    x = torch.randn(3, 5, 12).bfloat16()
    expected, state = cell.run(x.float())
    with torch.autocast("cpu", torch.bfloat16):
        found, after = cell.run(x)
        further, _ = cell.run(x, after)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert torch.equal(further, cell.run(x.float(), state)[0])


def test_a_row_of_padding_alone_knows_nothing_of_others():
    model = build("none")
    sources = SOURCE[:2].clone()
    layout = Layout.packed([[], [9]])
    before = model(sources, TARGET[:2], layout)
    sources[1] = SOURCE[2]
    after = model(sources, TARGET[:2], layout)
    torch.testing.assert_close(after[0], before[0])
    assert not torch.allclose(after[1], before[1])


@pytest.mark.parametrize(("alignment", "cell"), itertools.product(ALIGNMENTS, CELLS))
def test_flops_and_gradients(alignment, cell):
    model = build(alignment, cell, "model.dropout=0.1")
    layouts = Layout.packed([[9], [4], [6]]), Layout.packed([[7], [7], [2]])
    uncounted = (
        2 * 3 * 7 * 9 * 12 if alignment == "bahdanau" else 0
    )  # torch leaves out a matrix times a vector: the scores
    expected = model.pair_flops(np.full(3, 7), np.full(3, 9)).sum()
    assert counted(lambda: model(SOURCE, TARGET)) + uncounted == expected
    model.train()
    model(SOURCE, TARGET, *layouts)[~layouts[1].padding].square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_rows_that_hold_several_documents_or_begin_with_padding_are_refused():
    model = build("luong")
    with pytest.raises(ValueError, match="a row of a source holds one document, and here some row holds 2"):
        model(SOURCE, TARGET, Layout.packed([[4, 5], [9], [9]]))
    with pytest.raises(ValueError, match="a row of a target begins with a token"):
        model(SOURCE, TARGET, None, lab.parts.cache.left_padded([7, 3, 4]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model.reads=up",), "model.reads: up; choose from forward, backward, both"),
        (("model.dim=15",), "model.dim: 15; reading both ways needs an even width"),
        (("objective=causal",), "objective=causal: trains .*; add objective=seq2seq"),
    ],
)
def test_what_does_not_fit_is_refused(words, message):
    with pytest.raises(RequestError, match=message):
        lab.compose(*BASE, *words)
