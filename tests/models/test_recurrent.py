"""A recurrent language model, against loops of torch's cells: documents apart, generation, costs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lab
from lab.layout import Layout
from lab.options import groups
from lab.parts.cache import left_padded
from lab.parts.recurrence import Recurrence
from lab.parts.stairs import cuts, stairs
from tests.models.flops import counted

CELLS = groups()["cell"]
SLOW = {"rnn": torch.nn.RNNCell, "gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}


def build(cell: str, *words: str):
    config = lab.compose("model=recurrent", f"cell={cell}", "model.dim=12", "init=fan_in", *words)
    return lab.build(config, vocab_size=20).double().eval()


def loop(cell: str, fused, x):
    """A layer and direction token by token: `[time, inputs]` to `[time, dim]`, and the last state."""
    slow = SLOW[cell](fused.input_size, fused.hidden_size).double()
    slow.load_state_dict({name.removesuffix("_l0"): value for name, value in fused.state_dict().items()})
    state, found = None, []
    for token in x:
        state = slow(token[None], state)
        found.append((state[0] if cell == "lstm" else state)[0])
    return torch.stack(found), state if cell == "lstm" else (state,)


def slowly(cell: str, recurrence: Recurrence, x):
    """All layers of one document."""
    last = []
    for layer in recurrence.layers:
        outputs, states = [], []
        for fused, backward in zip(layer, recurrence.backwards, strict=True):
            y, state = loop(cell, fused, x.flip(0) if backward else x)
            outputs.append(y.flip(0) if backward else y)
            states.append(state)
        x = torch.cat(outputs, dim=-1)
        last.append([torch.cat(parts, dim=-1) for parts in zip(*states, strict=True)])
    return x, last


rows_of_documents = st.lists(st.lists(st.integers(1, 9), max_size=3), min_size=1, max_size=4).filter(any)


@pytest.mark.parametrize(("cell", "reads"), itertools.product(CELLS, ["forward", "backward", "both"]))
@settings(max_examples=12)
@given(lengths=rows_of_documents, seed=st.integers(0, 9))
def test_documents_are_read_apart_as_a_loop_of_cells_reads_them(cell, reads, lengths, seed):
    torch.manual_seed(seed)
    made = {"rnn": lab.parts.cell.RNN, "gru": lab.parts.cell.GRU, "lstm": lab.parts.cell.LSTM}[cell]
    recurrence = Recurrence(5, 6, 2, made, reads=reads).double()
    layout = Layout.packed(lengths)
    x = torch.randn(len(lengths), layout.documents.shape[1], 5, dtype=torch.double)
    with torch.no_grad():
        loosely, _ = recurrence(x, layout)
        y, last = recurrence(x, layout, keep=True)
        ends = {}
        for row, start, stop in layout.segments:
            expected, ends[row] = slowly(cell, recurrence, x[row, start:stop])
            torch.testing.assert_close(y[row, start:stop], expected)
            torch.testing.assert_close(loosely[row, start:stop], expected)
    for row, states in ends.items():
        for found, expected_state in zip(last, states, strict=True):
            for part, other in zip(found, expected_state, strict=True):
                torch.testing.assert_close(part[row], other[0])


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=30), spare=st.integers(-1, 80))
def test_stages_waste_no_more_than_they_may(lengths, spare):
    ends = cuts(np.array(lengths), spare)
    assert ends == sorted(set(ends))
    assert ends[-1] == max(lengths)
    for end in ends:
        inside = [end - n for n in lengths if next(e for e in ends if e >= n) == end]
        assert sum(inside) <= max(spare, 0)


def test_exact_stages_hold_each_token_once():
    layout = Layout.packed([[3, 5], [8], [2]])
    order = stairs(layout, exact=True)
    assert sum(documents * steps for documents, steps in order.stages) == len(order.into.unique()) == 18
    assert stairs(layout, exact=True) is order
    assert stairs(Layout.full(3, 7), exact=True).stages == [(3, 7)]


@pytest.mark.parametrize("cell", CELLS)
def test_a_model_is_causal_and_sealed_and_generates_what_it_computes(cell):
    model = build(cell)
    tokens = torch.randint(20, (2, 14), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(tokens)
        changed = tokens.clone()
        changed[:, 9] = (changed[:, 9] + 1) % 20
        torch.testing.assert_close(model(changed)[:, :9], logits[:, :9])
        assert not torch.allclose(model(changed)[:, 9:], logits[:, 9:])
        packed = model(tokens, Layout.packed([[6, 8], [14]]))
        torch.testing.assert_close(packed[0, 6:], model(tokens[:1, 6:])[0])
        stream = model(tokens, Layout.packed([[6, 8], [14]], restart=False, mask=False))
        torch.testing.assert_close(stream, logits)

        cache = model.new_cache(2, 14)
        found = [model(tokens[:, :6], left_padded([6, 4]), cache)]
        found += [model(tokens[:, i : i + 2], cache=cache) for i in range(6, 14, 2)]
        together = torch.cat(found, dim=1)
        torch.testing.assert_close(together[0], logits[0])
        torch.testing.assert_close(together[1, 2:], model(tokens[1:, 2:])[0])
        assert cache.bytes == 2 * model.cache_bytes(14) == 2 * model.cache_bytes(10**6)
    prompts = [[1, 2, 3, 4], [5, 6]]
    kept, again = (lab.generate(model, prompts, 8, cache=cache) for cache in (True, False))
    assert kept == again


def test_a_cache_takes_up_a_document_or_begins_another():
    model = build("lstm")
    tokens = torch.randint(20, (1, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        cache = model.new_cache(1, 9)
        model(tokens[:, :4], cache=cache)
        more = Layout.packed([[2, 3]])  # document 0 goes on, document 1 begins
        after = model(tokens[:, 4:], more, cache)
        torch.testing.assert_close(after[0, :2], model(tokens[:, :6])[0, 4:])
        torch.testing.assert_close(after[0, 2:], model(tokens[:, 6:])[0])
        other = model(tokens[:, :3], Layout.full(1, 3), cache)  # document 0 again, though 1 was the last
        torch.testing.assert_close(other, model(tokens[:, :3]))


@pytest.mark.parametrize("embedding", ["tied", "bert"])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_reach_every_parameter(cell, embedding):
    model = build(cell, "model.dropout=0.1", f"embedding={embedding}").train()
    tokens = torch.randint(20, (2, 14))
    model.loss(tokens, tokens, Layout.packed([[6, 8], [11]])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_what_enters_is_dropped_as_the_embedding_says():
    model = build("gru", "embedding.dropout=0.9").train()
    entering = model.exits(torch.randint(20, (4, 14)))[0]
    assert (entering == 0).double().mean() == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize("cell", CELLS)
def test_rows_of_a_cache_can_be_reordered(cell):
    model = build(cell)
    tokens, rows = torch.randint(20, (3, 9)), torch.tensor([2, 0, 0])
    cache = model.new_cache(3)
    model.hidden(tokens[:, :5], cache=cache)
    cache.reorder(rows)
    found = model.hidden(tokens[rows, 5:], cache=cache)
    torch.testing.assert_close(found, model.hidden(tokens)[rows, 5:])


@pytest.mark.parametrize("cell", CELLS)
def test_flops_are_those_that_torch_counts(cell):
    model = build(cell)
    tokens = torch.randint(20, (2, 16))
    assert counted(lambda: model(tokens)) == model.flops(np.array([16, 16])).sum()


def test_each_gate_begins_as_a_matrix_of_its_own_and_the_forget_gate_open():
    small, large = (build("lstm", "init=xavier", f"model.dim={dim}") for dim in (16, 256))
    cell = large.recurrence.cells()[0]
    for _, gate in cell.pieces(cell.weight_hh_l0):
        assert gate.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)
    assert dict(cell.pieces(cell.bias_ih_l0))["forget"].eq(1).all()
    assert cell.bias_ih_l0.sum() == 256
    assert not cell.bias_hh_l0.any()
    assert small.parameters_total == 20 * 16 + 2 * (2 * 4 * 16 * 16 + 2 * 4 * 16)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model.dropout=1",), r"model\.dropout: 1"),
        (("objective=classify", "data=labelled", "data.path=x", "data.text=x", "data.label=x"), "model=encoder"),
    ],
)
def test_what_does_not_fit_is_refused(words, message):
    with pytest.raises(lab.errors.RequestError, match=message):
        lab.compose("model=recurrent", *words)
