"""Filters against those of transformers, draws against their distribution, and streaming, caching and sliding against each
other.
"""

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

import lab
from lab.models import generate, sampling
from lab.models.sampling import Sampling

VOCAB = 23


def random_logits(seed, rows=4):
    return 3 * torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 30), st.floats(0.01, 1.0))
def test_filters_keep_what_those_of_transformers_keep(seed, k, p):
    logits = random_logits(seed)
    ids = torch.zeros(4, 1, dtype=torch.long)
    for mine, theirs in (
        (sampling.top_k(logits, k), transformers.TopKLogitsWarper(k)),
        (sampling.top_p(logits, p), transformers.TopPLogitsWarper(p)),
        (sampling.min_p(logits, p), transformers.MinPLogitsWarper(p)),
    ):
        torch.testing.assert_close(mine, theirs(ids, logits), rtol=0, atol=0)
        assert torch.equal(mine.argmax(-1), logits.argmax(-1))


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.5, 3.0))
def test_the_penalty_is_that_of_transformers_and_all_together_come_in_its_order(seed, penalty):
    logits = random_logits(seed)
    before = torch.randint(VOCAB, (4, 6), generator=torch.Generator().manual_seed(seed))
    chosen = Sampling(temperature=0.7, top_k=9, top_p=0.8, min_p=0.1, repetition=penalty)
    theirs = transformers.LogitsProcessorList(
        [
            transformers.RepetitionPenaltyLogitsProcessor(penalty),
            transformers.TemperatureLogitsWarper(0.7),
            transformers.TopKLogitsWarper(9),
            transformers.TopPLogitsWarper(0.8),
            transformers.MinPLogitsWarper(0.1),
        ]
    )
    seen = chosen.seen(before.tolist(), VOCAB)
    torch.testing.assert_close(sampling.repetition(logits, seen, penalty), theirs[0](before, logits))
    torch.testing.assert_close(chosen.filtered(logits, seen), theirs(before, logits.clone()))


def test_tokens_as_good_as_the_last_of_top_k_stay_and_a_tiny_nucleus_holds_the_best():
    logits = torch.tensor([[2.0, 1.0, 1.0, 0.0]])
    assert sampling.top_k(logits, 2).isfinite().tolist() == [[True, True, True, False]]
    assert sampling.top_p(logits, 1e-9).isfinite().tolist() == [[True, False, False, False]]
    assert torch.equal(sampling.top_p(logits, 1.0), logits)


def test_draws_are_distributed_as_the_filtered_scores_say():
    chosen = Sampling(temperature=1.3, top_k=6, min_p=0.02, seed=5)
    logits = random_logits(2, rows=1).expand(20_000, -1)
    draws = chosen.choose(logits, chosen.drawing())[:, 0]
    expected = (logits[0] / 1.3).softmax(0)
    kept = expected.topk(6).indices
    kept = kept[expected[kept] >= 0.02 * expected.max()]
    counts = torch.bincount(draws, minlength=VOCAB)
    assert counts[kept].sum() == 20_000
    shares = (expected[kept] / expected[kept].sum()).double()
    assert chisquare(counts[kept].numpy(), (20_000 * shares / shares.sum()).numpy()).pvalue > 0.001
    assert torch.equal(draws, chosen.choose(logits, chosen.drawing())[:, 0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -0.1}, "temperature: -0.1; 0"),
        ({"temperature": float("nan")}, "temperature: nan"),
        ({"top_k": 0}, "top_k: 0; at least 1"),
        ({"top_p": 0.0}, r"top_p: 0.0; a probability over 0, at most 1"),
        ({"top_p": 1.1}, "top_p: 1.1"),
        ({"min_p": -1.0}, "min_p: -1.0"),
        ({"repetition": 0.0}, "repetition: 0.0; over 0"),
        ({"seed": -1}, "seed: -1"),
    ],
)
def test_values_out_of_range_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**values)


def model_of(kind, context=16):
    words = {"recurrent": ("model=recurrent",), "learned": ("position=learned",), "rope": ()}[kind]
    model = lab.build(lab.compose("preset=tiny", *words, f"model.context={context}", "seed=3"), vocab_size=VOCAB)
    with torch.no_grad():  # as they begin, all tokens score nearly alike
        for parameter in model.parameters():
            parameter.mul_(3.0) if parameter.ndim > 1 else None
    return model.double()


PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
DRAWN = {"temperature": 1.1, "top_k": 12, "top_p": 0.95, "min_p": 0.01, "repetition": 1.2, "seed": 4}


@pytest.mark.parametrize("kind", ["rope", "learned", "recurrent"])
@pytest.mark.parametrize("slide", [False, True])
@pytest.mark.parametrize("drawn", [{}, DRAWN])
def test_streaming_gives_what_generate_gives_with_and_without_a_cache(kind, slide, drawn):
    model = model_of(kind)
    whole = lab.generate(model, PROMPTS, 30, slide=slide, **drawn)
    assert whole == lab.generate(model, PROMPTS, 30, cache=False, slide=slide, **drawn)
    steps = list(generate.stream(model, PROMPTS, 30, Sampling(**drawn), slide=slide))
    assert [[step[row] for step in steps if step[row] is not None] for row in range(3)] == whole
    # A row of 16 tokens can be read; one more is what it says last.
    full = [30] * 3 if slide or kind == "recurrent" else [17 - len(prompt) for prompt in PROMPTS]
    assert [len(answer) for answer in whole] == full


def test_a_row_that_slides_is_computed_from_its_newer_half():
    model = model_of("learned")
    (answer,) = lab.generate(model, [PROMPTS[0]], 30, slide=True)
    row = list(PROMPTS[0])
    with torch.no_grad():
        for token in answer:
            row = row[-8:] if len(row) > 16 else row
            assert token == model(torch.tensor([row]))[0, -1].argmax()
            row.append(token)


def test_a_repetition_penalty_forbids_in_the_limit_and_several_tokens_can_end_an_answer():
    model = model_of("rope", context=64)
    (answer,) = lab.generate(model, [[1, 2]], 15, repetition=1e9)
    assert len({1, 2, *answer}) == 17
    (whole,) = lab.generate(model, [[1, 2]], 15)
    ends = {whole[4], whole[7]}
    first = min(whole.index(end) for end in ends)
    assert lab.generate(model, [[1, 2]], 15, stop=ends) == [whole[:first]]


def test_a_model_trains_on_after_a_stream_that_nobody_finished():
    model = model_of("rope").train()
    steps = generate.stream(model, PROMPTS, 5, Sampling())
    next(steps)
    steps.close()
    assert model.training
    with pytest.raises(ValueError, match="a prompt of 17; the model takes rows of at most 16"):
        lab.generate(model, [[1] * 17], 1)


def test_streams_on_one_model_leave_it_as_it_was_before_the_first():
    model = lab.build(lab.compose("preset=tiny", "model.dropout=0.5"), vocab_size=40).train()
    alone = lab.generate(model, [[3, 4]], 20)
    first, second = (generate.stream(model, [[3, 4]], 20, Sampling()) for _ in range(2))
    next(first)
    written = [next(second)]
    first.close()
    assert not model.training
    assert [token for (token,) in (*written, *second)] == alone[0]
    assert model.training


@pytest.mark.parametrize("settings", [{"temperature": 1e-40}, {"temperature": 1.0, "repetition": 1e-6}])
def test_values_near_nothing_are_drawn_with(settings):
    model = lab.build(lab.compose("preset=tiny"), vocab_size=40)
    (answer,) = lab.generate(model, [[3, 4]], 5, **settings)
    assert len(answer) == 5
    if settings["temperature"] < 1:
        assert [answer] == lab.generate(model, [[3, 4]], 5)


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 1.0}, {"repetition": 1.3}, {"temperature": 2.0, "repetition": 2.0}]
)
def test_rows_of_a_table_that_are_no_tokens_are_never_written(settings):
    words = ("preset=tiny", "model.dim=32", "model.layers=1", "model.context=16", "embedding.rows=512",
             "tokenizer.vocab_size=300")  # fmt: skip
    model = lab.build(lab.compose(*words), vocab_size=VOCAB)
    answers = lab.generate(model, [[1, 2, 3], [4]], 12, **settings)
    assert max(token for answer in answers for token in answer) < VOCAB
