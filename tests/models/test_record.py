"""What is recorded is what was computed, and nothing changes by looking."""

import pytest
import torch

import lab
from lab.layout import Layout
from lab.options import groups
from lab.parts.cache import left_padded

SMALL = ("preset=tiny", "model.dim=32", "model.inner=48", "model.window=3", "model.stride=4", "model.context=24")


def build(*words):
    return lab.build(lab.compose(*SMALL, *words), vocab_size=50).eval()


@pytest.mark.parametrize(
    "word",
    [f"{group}={option}" for group in ("attention", "pattern", "position") for option in groups()[group]]
    + ["attention.sinks=true", "attention.softcap=5.0"],
)
def test_looking_changes_nothing_and_rows_sum_to_one(word):
    model = build(word)
    tokens = torch.randint(50, (2, 20), generator=torch.Generator().manual_seed(0))
    layout = Layout.packed([[8, 12], [20]])
    plain = model(tokens, layout)
    with lab.record(model, "attention.weights") as seen:
        watched = model(tokens, layout)
    assert (plain - watched).abs().max() <= 1e-5 * plain.abs().max()
    assert list(seen) == ["blocks.0.attention.weights", "blocks.1.attention.weights"]
    weights = seen["blocks.1.attention.weights"]
    assert weights.shape == (2, 4, 20, 20)
    rows = weights.sum(-1)
    if word == "attention.sinks=true":
        assert ((rows > 0) & (rows < 1)).all()
    else:
        torch.testing.assert_close(rows, torch.ones_like(rows))
    assert weights[0, :, 8:, :8].abs().max() == weights.triu(1).abs().max() == 0
    assert not model.blocks[0].attention.weights._forward_hooks


def test_every_pass_is_kept_and_a_cache_shows_all_keys():
    model = build()
    with lab.record(model, "blocks.0.attention.weights") as seen:
        lab.generate(model, [[1, 2, 3]], max_new_tokens=3)
    assert [w.shape[-2:] for w in seen.passes["blocks.0.attention.weights"]] == [(3, 3), (1, 4), (1, 5)]
    cache = model.new_cache(2, 8)
    with torch.no_grad(), lab.record(model, "attention.weights") as seen:
        model(torch.randint(50, (2, 5)), left_padded([5, 3]), cache)
    assert seen["blocks.0.attention.weights"][1, :, 4, :2].abs().max() == 0


def test_routing_and_the_stream_are_places_too():
    model = build("ffn=moe")
    with lab.record(model, "router", "blocks.*") as seen:
        model(torch.randint(50, (1, 10)))
    assert seen["blocks.0.ffn.router"].chosen.shape == (10, 2)
    assert seen["blocks.1"].shape == (1, 10, 32)
    assert not seen["blocks.1"].requires_grad


def test_a_place_that_is_not_there_is_named():
    with (
        pytest.raises(ValueError, match=r"nowhere: no such place; there are .*blocks\.0\.attention\.weights"),
        lab.record(build(), "nowhere"),
    ):
        pass
