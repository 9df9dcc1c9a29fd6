"""Heads of a width of their own: what they compute, keep and cost follows from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lab as api
from lab.errors import RequestError
from lab.models.generate import generate
from lab.parts.visibility import Full
from tests.models.flops import counted

SMALL = ("preset=tiny", "model.dim=20", "model.heads=3", "model.kv_heads=1", "model.context=32", "model.layers=2")


def built(*words):
    return api.build(api.compose(*SMALL, "model.head_dim=8", *words), vocab_size=50).eval()


@pytest.mark.parametrize("attention", ["mha", "gqa", "mqa", "mla"])
def test_a_width_of_their_own(attention):
    model = built(f"attention={attention}")
    tokens = torch.randint(50, (2, 12), generator=torch.Generator().manual_seed(0))
    assert model(tokens).shape == (2, 12, 50)
    for block in model.blocks:
        block.attention.visibility = Full(causal=False)  # torch counts all pairs
    assert counted(lambda: model(tokens)) == model.flops(np.array([12, 12])).sum()


@pytest.mark.parametrize("attention", ["mha", "gqa", "mqa", "mla"])
def test_generation_keeps_what_it_needs(attention):
    model = built(f"attention={attention}")
    tokens = torch.randint(50, (1, 5), generator=torch.Generator().manual_seed(0))
    with_cache, without = (generate(model, tokens.tolist(), 12, cache=kept)[0] for kept in (True, False))
    assert with_cache == without


def test_shapes_and_cache():
    model = built("attention=gqa")
    attention = model.blocks[0].attention
    assert attention.project.weight.shape == ((3 + 2) * 8, 20)
    assert attention.output.weight.shape == (20, 24)
    assert model.cache_bytes(10) == 4 * 2 * 2 * 8 * 10
    cache = model.new_cache(1, 10)
    assert cache.bytes == model.cache_bytes(10)


def test_null_is_an_equal_part():
    words = ("preset=tiny", "model.dim=24", "model.heads=3", "model.kv_heads=1")
    one, other = (api.build(api.compose(*words, f"model.head_dim={w}"), vocab_size=50) for w in ("null", "8"))
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.head_dim=0"], r"model\.head_dim: 0; a whole number, at least 1"),
        (["model.head_dim=2.5"], r"model\.head_dim: 2\.5; a whole number"),
        (
            ["model.head_dim=null"],
            r"model\.heads: 3 does not divide model\.dim 20; model\.head_dim gives heads a width",
        ),
        (["model.head_dim=7"], r"head width .* must be even, got 7"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_width_that_cannot_be(words, message):
    with pytest.raises(RequestError, match=message):
        api.build(api.compose(*SMALL, *words), vocab_size=50)
