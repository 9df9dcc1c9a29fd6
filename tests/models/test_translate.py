"""Greedy and beam search, against all hypotheses there are and against computing every step anew."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lab
from lab.layout import Layout
from lab.models.translate import translate

BEGIN, END, VOCAB = 0, 1, 5


def model_of(seed, vocab=VOCAB):
    config = lab.compose("preset=tiny", "model=encoder_decoder", "objective=seq2seq", "data=reverse", "model.dim=16",
                         "model.layers=1", "model.heads=2", "model.kv_heads=1", f"seed={seed}")  # fmt: skip
    model = lab.build(config, vocab_size=vocab).double()
    with torch.no_grad():  # as they begin, all tokens score nearly alike
        for parameter in model.parameters():
            parameter.mul_(3.0) if parameter.ndim > 1 else None
    return model


def sources(seed):
    return torch.randint(VOCAB, (3, 6), generator=torch.Generator().manual_seed(seed)), Layout.packed([[6], [2], [4]])


def log_probability(model, source, target):
    """Of a whole target, read at once."""
    logits = model(source.unsqueeze(0), torch.tensor([[BEGIN, *target[:-1]]]))[0]
    return logits.log_softmax(-1)[range(len(target)), target].sum().item()


@settings(max_examples=12)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.6, 1.5]))
def test_a_wide_beam_finds_the_best_of_all_hypotheses(seed, penalty):
    model, (source, layout), limit = model_of(seed), sources(seed), 3
    words = [token for token in range(VOCAB) if token != END]
    ended = [[*some, END] for n in range(limit) for some in itertools.product(words, repeat=n)]
    every = ended + [list(some) for some in itertools.product(words, repeat=limit)]
    found = translate(model, source, layout, begin=BEGIN, end=END, limits=limit, beam=100, penalty=penalty)
    with torch.no_grad():
        for row, length in enumerate((6, 2, 4)):
            scores = [
                log_probability(model, source[row, :length], target) / ((5 + len(target)) / 6) ** penalty
                for target in every
            ]
            best = every[max(range(len(every)), key=scores.__getitem__)]
            assert found[row] == [token for token in best if token != END]


@settings(max_examples=12)
@given(st.integers(0, 10_000))
def test_greedy_takes_the_best_token_of_each_step_and_a_beam_of_one_is_greedy(seed):
    model, (source, layout), limits = model_of(seed), sources(seed), [4, 9, 6]
    found = translate(model, source, layout, begin=BEGIN, end=END, limits=limits)
    with torch.no_grad():
        for row, length in enumerate((6, 2, 4)):
            target = [BEGIN]
            while len(target) <= limits[row] and (len(target) == 1 or target[-1] != END):
                target.append(int(model(source[row : row + 1, :length], torch.tensor([target]))[0, -1].argmax()))
            assert found[row] == [token for token in target[1:] if token != END]
    from lab.models.translate import _beam

    with torch.no_grad():
        assert _beam(model, source, layout, BEGIN, END, limits, 1, 0.6) == found


def test_a_wider_beam_finds_no_worse_by_its_own_score():
    model, (source, layout) = model_of(3), sources(3)
    whole = {}
    for beam in (1, 4, 60):
        rows = translate(model, source, layout, begin=BEGIN, end=END, limits=3, beam=beam, penalty=0.0)
        with torch.no_grad():
            whole[beam] = [
                log_probability(model, source[row, :length], target + [END] * (len(target) < 3))
                for row, (length, target) in enumerate(zip((6, 2, 4), rows, strict=True))
            ]
    assert all(best >= one - 1e-9 for one, best in zip(whole[1], whole[60], strict=True))
    assert all(best >= some - 1e-9 for some, best in zip(whole[4], whole[60], strict=True))


def test_the_model_stays_in_its_mode_and_nothing_gives_nothing():
    model = model_of(0).train()
    assert translate(model, torch.zeros(0, 3, dtype=torch.long), begin=BEGIN, end=END, limits=3) == []
    translate(model, torch.zeros(1, 3, dtype=torch.long), begin=BEGIN, end=END, limits=3)
    assert model.training


@pytest.mark.parametrize("wrong", [{"limits": 0}, {"limits": [3]}, {"beam": 0}, {"penalty": -1.0}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"^(limits|beam): .* at least"):
        translate(
            model_of(0), torch.zeros(2, 3, dtype=torch.long), **{"begin": BEGIN, "end": END, "limits": 3, **wrong}
        )


@pytest.mark.parametrize("beam", [1, 3])
def test_rows_of_a_table_that_are_no_tokens_are_never_written(beam):
    model, (source, layout) = model_of(3), sources(3)
    table = model.embedding.table
    with torch.no_grad():  # rows beyond the vocabulary, which score higher than any token
        table.weight = torch.nn.Parameter(torch.cat([table.weight, 50 * table.weight]))
    found = translate(model, source, layout, begin=BEGIN, end=END, limits=6, beam=beam)
    assert max((token for row in found for token in row), default=0) < VOCAB


@pytest.mark.parametrize("beam", [1, 2])
def test_a_layout_that_translating_has_used_serves_training(beam):
    model, (source, layout) = model_of(0), sources(0)
    found = translate(model, source, layout, begin=BEGIN, end=END, limits=3, beam=beam)
    target = torch.tensor([[BEGIN, *row, *[END] * (3 - len(row))] for row in found])
    model(source, target, layout).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
