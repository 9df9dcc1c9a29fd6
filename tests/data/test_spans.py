"""Span corruption: both sides together are the text; how much is taken out is as asked, whoever asks for it and when."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lab
from lab.data.spans import corrupted, counts, parted
from lab.errors import RequestError
from lab.runs.train import data_module

SENTINELS = np.arange(1000, 1100)


def restored(source, target):
    """The text, by filling each sentinel's place with what follows it in the target."""
    spans, text = {}, []
    for token in target:
        if token >= 1000:
            spans[token] = now = []
        else:
            now.append(token)
    for token in source:
        text += spans[token] if token >= 1000 else [token]
    return text, spans


@given(st.integers(2, 300), st.floats(0.05, 0.9), st.floats(1, 8), st.integers(0, 2**32))
def test_both_sides_give_the_text_back(length, share, mean, seed):
    tokens = np.random.default_rng(seed).integers(0, 1000, length)
    noise, spans = (int(x[0]) for x in counts(np.array([length]), share, mean))
    source, target = corrupted(np.random.default_rng(seed), tokens, noise, spans, np.arange(1000, 1400))
    text, taken = restored(source.tolist(), target.tolist())
    assert text == tokens.tolist()
    assert list(taken) == list(range(1000, 1000 + spans))  # in order, each once
    assert all(taken.values())
    assert (len(source), len(target)) == (length - noise + spans, noise + spans)
    assert source[0] < 1000 <= target[0]
    assert source[-1] >= 1000
    # The published code's rule, in plain numbers.
    assert noise == min(max(round(length * share), 1), length - 1)
    assert spans == min(max(round(noise / mean), 1), noise, length - noise)


def test_every_way_to_part_has_the_same_chance():
    random = np.random.default_rng(0)
    drawn = [tuple(parted(random, 5, 3)) for _ in range(6000)]
    ways = {(a, b, 5 - a - b) for a in range(1, 4) for b in range(1, 5 - a)}
    assert set(drawn) == ways
    assert all(abs(drawn.count(way) - 1000) < 150 for way in ways)


@pytest.fixture
def words(corpus):
    return ("preset=t5_1_1", "data=files", f"data.path={corpus}", "tokenizer=byte", "model.context=64", "batch.rows=8")


def test_rows_of_text_lose_the_share_that_is_asked_for(words):
    data = data_module(lab.compose(*words))
    first = data.prepared.tokenizer.sentinels[0]
    taken = spans = given_ = 0
    for micro in range(5):
        batch = data.training_batch(micro)
        assert batch.scored == batch.counted == int((batch.targets != -100).sum())
        assert batch.read == batch.lengths.sum() + batch.source_lengths.sum()
        marks = int((batch.targets >= first).sum())
        taken, spans = taken + batch.counted - marks - 8, spans + marks
        given_ += int(batch.source_lengths.sum()) - marks - 8
    assert taken / (taken + given_) == pytest.approx(0.15, abs=0.01)
    assert taken / spans == pytest.approx(3, abs=0.1)


def test_what_is_taken_out_depends_on_seed_epoch_and_row_alone(words):
    one = data_module(lab.compose(*words))
    parts = data_module(lab.compose(*words, "batch.accumulate=2"))
    steps = len(one.train_rows) // 8 + 3  # into the second epoch
    for step in (0, steps):
        whole = one.training_batch(step)
        halves = [parts.training_batch(2 * step + half) for half in (0, 1)]
        rows = [
            row[:length].tolist()
            for part in halves
            for row, length in zip(part.source, part.source_lengths, strict=True)
        ]
        assert rows == [row[:length].tolist() for row, length in zip(whole.source, whole.source_lengths, strict=True)]
        assert all(half.scored == whole.scored for half in halves)
    row = one.train_rows
    same, again, later = (row.batch(np.array([number])).source for number in (3, 3, 3 + len(row)))
    assert same.equal(again)
    assert not same.equal(later)
    other = data_module(lab.compose(*words, "seed=1"))
    assert not same.equal(other.train_rows.batch(np.array([3])).source)
    more = data_module(lab.compose(*words, "objective.share=0.3", "objective.mean=6"))
    for each in (other, more):
        assert one.validation_rows.batch(np.array([0])).source.equal(each.validation_rows.batch(np.array([0])).source)


@pytest.mark.parametrize(
    ("wrong", "message"),
    {
        "objective.share=0": r"^objective\.share: 0.*over 0 and under 1",
        "objective.smoothing=1": r"^objective\.smoothing: 1",
        "objective.mean=0.5": r"^objective\.mean: 0\.5; tokens of a span, at least 1",
        "model.special=[end,pad]": r"^objective=span: .* add model\.special=\[end,pad,sentinels\]",
        "objective.share=0.5 objective.mean=1 model.context=256": r"^objective\.mean=1.*: 127 spans .*=256, and .* has 100",
    }.items(),
)  # fmt: skip
def test_what_cannot_be_corrupted_is_refused(words, wrong, message):
    with pytest.raises(RequestError, match=message):
        data_module(lab.compose(*words, *wrong.split()))


def test_a_run_on_spans_is_judged_by_their_loss(words, tmp_path):
    run = lab.train(
        lab.compose(*words, "budget.steps=3", "model.dim=32", "trainer.threads=1", "logger=none"), tmp_path / "r"
    )
    assert run.status == "finished", run.result["error"]
    assert run.result["headline"]["name"] == "val/loss"
    assert run.result["val/bpb"] is None
