"""Experts as published models count them: a limit at all times, experts in every n-th block, a single one that counts fully."""

from functools import partial

import pytest
import torch

import lab
from lab.layout import Layout
from lab.parts.cycle import Every
from lab.parts.experts import MixtureOfExperts
from lab.parts.feedforward import Dense
from lab.parts.router import Router

DENSE = partial(Dense, inner=16)


def mixture(experts=4, **settings):
    torch.manual_seed(0)
    return MixtureOfExperts(8, DENSE, experts=experts, **settings)


@pytest.mark.parametrize("training", [True, False])
def test_a_limit_takes_the_first_tokens_of_each_document_at_all_times(training):
    layer, free = (mixture(top_k=1, limit=limit).train(training) for limit in (1, None))
    layout = Layout.packed([[9, 5], [11]], 14)
    x = torch.randn(2, 14, 8)
    out, whole = layer(x, layout), free(x, layout)
    for row, start, stop in ((0, 0, 9), (0, 9, 14), (1, 0, 11)):
        taken = [0] * 4
        for place in range(start, stop):
            expert = int(layer.router(x[row, place][None]).chosen)
            taken[expert] += 1
            expected = whole[row, place] if taken[expert] == 1 else torch.zeros(8)
            torch.testing.assert_close(out[row, place], expected)
        assert max(taken) > 1
        alone = layer(x[row : row + 1, start:stop])
        torch.testing.assert_close(out[row, start:stop], alone[0])
    assert not out[1, 11:].any()


def test_a_limit_follows_the_rows_of_a_cache():
    config = lab.compose("preset=tiny", "ffn=moe_switch_limited", "ffn.chosen.limit=2", "model.dim=32")
    model = lab.build(config, vocab_size=50).double().eval()
    tokens = torch.randint(50, (3, 10), generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([2, 2, 0])
    cache = model.new_cache(3, 10)
    with torch.no_grad():
        model(tokens[:, :9], cache=cache)
        cache.reorder(rows)
        following = tokens[rows][:, 9:]
        found = model(following, cache=cache)
        whole = model(torch.cat([tokens[rows][:, :9], following], dim=1))
    torch.testing.assert_close(found[:, 0], whole[:, -1])


def test_a_limit_goes_with_a_capacity():
    layer = mixture(top_k=1, limit=3, capacity=1.0)
    x = torch.randn(1, 16, 8)
    served = (layer(x)[0] != 0).any(-1)
    assert served.sum() == sum(min(3, 4, int(n)) for n in layer.router(x[0]).chosen.flatten().bincount(minlength=4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limit": 0}, r"ffn\.limit: 0; a whole number, at least 1, or null"),
        ({"limit": 1.5}, r"ffn\.limit: 1\.5; a whole number"),
        ({"jitter": 1.0}, r"ffn\.jitter: 1\.0; choose from 0 to under 1"),
        ({"limit": 2, "top_k": 2}, r"ffn\.limit: 2; with ffn\.top_k 2 later tokens would count"),
    ],
)
def test_values_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        mixture(**{"top_k": 1} | settings)


def test_a_single_expert_counts_by_its_score_unless_it_counts_fully():
    torch.manual_seed(0)
    x = torch.randn(5, 8)
    for alone in (False, True):
        router = Router(8, 4, top_k=1, alone=alone)
        expected = torch.ones(5) if alone else router.linear(x).softmax(-1).amax(-1)
        torch.testing.assert_close(router(x).weights[:, 0], expected)


def test_noise_reaches_the_experts_while_training_alone():
    layer = mixture(top_k=4, experts=4, jitter=0.5)
    x = torch.ones(1, 6, 8)
    torch.manual_seed(1)
    noisy = layer(x)
    torch.manual_seed(1)
    seen = torch.empty(1, 6, 8).uniform_(0.5, 1.5)
    layer.eval()
    torch.testing.assert_close(noisy, layer(seen))
    assert torch.equal(layer(x)[0, 0], layer(x)[0, 5])


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_every_nth_layer_beginning_with_the_second(step):
    made = Every(step, lambda layer: "chosen", lambda layer: "other")
    layers = [made(layer=layer) == "chosen" for layer in range(7)]
    assert layers == [layer % step == 1 or step == 1 for layer in range(7)]


def test_a_step_is_a_number():
    with pytest.raises(ValueError, match=r"ffn\.step: 0; a whole number, at least 1"):
        Every(0, DENSE, DENSE)
