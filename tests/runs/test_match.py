"""Equal cost by construction: as near as a size allows, the baseline as it was, and what can't be had refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.config import compose, meta_model
from lab.errors import RequestError
from lab.runs.match import Costs, match, nearest
from lab.runs.train import train


@pytest.fixture(scope="module")
def plain(small):
    return [word for word in small if word != "budget.steps=3"]


@given(
    step=st.integers(1, 8),
    own=st.integers(1, 12),
    slope=st.integers(1, 50),
    coarse=st.integers(1, 5),
    base=st.integers(0, 1000),
    wanted=st.integers(1, 5_000),
)
def test_the_nearest_of_all_sizes_that_can_be_built(step, own, slope, coarse, base, wanted):
    """Against a look at every size. The cost may stay the same over several, as where a width is rounded."""
    own *= step

    def cost(size):
        return base + slope * step * (size // step // coarse) if size > 0 and size % step == 0 else None

    costs = {size: cost(size) for size in range(step, 5_001 * coarse + own, step)}
    nearest_cost = min(abs(c - wanted) for c in costs.values())
    try:
        found = nearest(cost, wanted, own)
    except ValueError as error:
        assert "the least" in str(error)
        assert min(costs.values()) - wanted == nearest_cost > (cost(2 * step) - cost(step)) / 2
        return
    assert abs(cost(found) - wanted) == nearest_cost
    if abs(cost(own) - wanted) == nearest_cost:
        assert found == own


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("attention=mqa", "parameters"),
        ("ffn=gated_wide", "parameters"),
        ("ffn=moe", "parameters_active"),
        ("ffn=moe_alternating", "parameters"),
    ],
)
def test_parameters_within_a_step_of_the_width(plain, word, what):
    """No width nearby comes closer, counted in the weights; the baseline is left alone."""
    base, variant = [*plain, "model.inner=96"], [*plain, "model.inner=96", word]
    mine, other = match([base, variant], 0, what)
    assert (mine.words, mine.ratio) == ((), 1)

    def count(words):
        model = meta_model(compose(*words), 257)  # bytes, and the document token
        total = sum(weight.numel() for weight in model.parameters())
        idle = [expert for layer in model.expert_layers for expert in list(layer.experts)[layer.top_k :]]
        return total - (what != "parameters") * sum(weight.numel() for each in idle for weight in each.parameters())

    assert count(base) == mine.cost
    assert count([*variant, *other.words]) == other.cost
    width = int(dict(word.split("=") for word in [*variant, *other.words])["model.inner"])
    near = [count([*variant, f"model.inner={one}"]) for one in range(max(width - 3, 8), width + 4)]
    assert abs(other.cost - mine.cost) == min(abs(one - mine.cost) for one in near)


def test_what_is_matched_is_what_the_run_records(small, tmp_path):
    base = [*small, "attention=mha"]
    fits = match([base, [*small, "attention=mqa"]], 0, "parameters")
    results = [
        train(compose(*words, *fit.words), tmp_path / str(place)).result
        for place, (words, fit) in enumerate(zip([base, [*small, "attention=mqa"]], fits, strict=True))
    ]
    assert [result["parameters"] for result in results] == [fit.cost for fit in fits]
    assert fits[1].ratio == pytest.approx(1, abs=0.01)


def test_flops_by_the_budget_come_to_within_a_step(small, tmp_path):
    words = [[*small, "budget.steps=20"], [*small, "budget.steps=20", "ffn=gated_wide", "model.inner=512"]]
    fits = match(words, 0, "flops")
    results = [
        train(compose(*each, *fit.words), tmp_path / str(place)).result
        for place, (each, fit) in enumerate(zip(words, fits, strict=True))
    ]
    step = results[1]["flops"] / results[1]["steps"]
    assert fits[0].words == ()
    assert results[0]["flops"] == pytest.approx(fits[0].cost, rel=0.05)
    assert results[1]["steps"] < 20
    assert 0 <= results[1]["flops"] - fits[1].wanted < step
    assert results[1]["flops"] == pytest.approx(fits[1].cost, rel=0.02)
    assert fits[1].ratio > 1.02  # a few steps of a larger model do not come out even, and it is said beforehand


def test_flops_by_a_width(plain):
    base, fit = match([plain, [*plain, "attention=mqa"]], 0, "flops", "model.inner")
    assert base.words == ()
    assert fit.words[0].startswith("model.inner=")
    assert fit.ratio == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("parts", [1, 2])
def test_tokens_and_time(plain, parts):
    """Whatever the micro-batches of a step."""
    base = [*plain, f"batch.accumulate={parts}", "budget.steps=8"]
    fewer = [*plain, f"batch.accumulate={parts}", "budget.steps=2"]
    _, fit = match([base, fewer], 0, "tokens")
    config = compose(*fewer, *fit.words)
    assert config.budget.tokens == 8 * config.batch.rows * config.model.context
    many = [*plain, f"batch.accumulate={parts}", "budget.steps=80"]  # a step more or less is little
    _, slow = match([many, [*many, "model.layers=12"]], 0, "time")
    assert compose(*many, *slow.words).budget.tokens < 0.8 * 10 * config.budget.tokens
    assert slow.ratio == pytest.approx(1, abs=0.3)
    assert Costs(config).steps == 8
    minutes = match([[*plain, "budget.minutes=3"], base], 0, "time")
    assert minutes[1].words == ("budget.minutes=3",)


def test_time_is_that_of_steps_all_over_a_training(plain, monkeypatch):
    """Examples come sorted by their lengths: the first step may be the shortest, or the longest."""

    def trial(self):
        slow = self.config.model.layers == 12
        return lambda number: (10.0 if slow and number < 50 else 2.0, 1.0 if number < 50 else 3.0)

    monkeypatch.setattr(Costs, "trial", trial)
    base = [*plain, "budget.steps=1000"]
    _, slow = match([base, [*base, "model.layers=12"]], 0, "time")
    config = compose(*base)
    tokens = 1000 * config.batch.rows * config.model.context
    # Half of the steps take 10 in place of 2, and as many tokens as all.
    assert compose(*base, *slow.words).budget.tokens == pytest.approx(tokens * 4 / 12, rel=0.01)


@pytest.mark.parametrize(
    ("words", "what", "size", "said"),
    [
        ("ffn=dense", "parameter", None, "match: 'parameter' can't be matched; choose from parameters"),
        ("ffn=dense", "parameters", "budget", "a budget does not change it; name a size, such as model.inner"),
        ("ffn=dense", "tokens", "model.inner", "goes by the budget, not by model.inner"),
        ("ffn=dense", "parameters", "model.iner", "did you mean model.inner"),
        ("ffn=dense", "parameters", "model.context", "is no size of this model"),
        ("ffn=dense", "parameters", "model.window", "no size costs the"),
        ("embedding=untied model.inner=8", "parameters", None, "the least, 1, costs"),
        ("ffn=dense", "flops", None, "the baseline's budget is in minutes"),
    ],
)
def test_what_cannot_be_matched_is_refused(plain, words, what, size, said):
    base = [*plain, "tokenizer=bpe", "tokenizer.vocab_size=600", "model.inner=8"]
    if "minutes" in said:
        base = [*base, "budget.minutes=1"]
    with pytest.raises(RequestError, match="match") as refusal:
        match([base, [*base, *words.split()]], 0, what, size)
    assert said in str(refusal.value)
