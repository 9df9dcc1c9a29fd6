"""Feed-forward layers and mixtures of experts against their equations."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lab.layout import Layout
from lab.parts.experts import MixtureOfExperts
from lab.parts.feedforward import Dense, Gated
from lab.parts.linear import count


def test_dense_is_equation_2():
    layer = Dense(dim=4, inner=8, activation="relu", bias=True)
    x = torch.randn(3, 4)
    expected = torch.relu(x @ layer.up.weight.T + layer.up.bias) @ layer.down.weight.T + layer.down.bias
    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_gated_is_the_gate_times_the_map():
    layer = Gated(dim=4, inner=8)
    x = torch.randn(3, 4)
    (_, gate), (_, up) = layer.project.pieces()
    assert torch.allclose(layer(x), (F.silu(x @ gate.T) * (x @ up.T)) @ layer.down.weight.T, atol=1e-6)


def test_gated_with_equal_parameters_holds_what_dense_holds():
    dense, gated = Dense(dim=256, inner=1024), Gated(dim=256, inner=1024, equal_parameters=True)
    assert abs(count(gated) / count(dense) - 1) < 0.005
    assert gated.inner % 8 == 0


def slow_mixture(layer, tokens):
    """Each token by itself."""
    out = torch.zeros_like(tokens)
    for i, token in enumerate(tokens):
        probabilities = layer.router(token).softmax(-1)
        best = probabilities.argsort(descending=True)[: layer.top_k]
        for expert in best:
            out[i] += probabilities[expert] / probabilities[best].sum() * layer.experts[expert](token[None])[0]
    return out


@pytest.mark.parametrize("top_k", [1, 2, 4])
@pytest.mark.parametrize("expert", [partial(Gated, inner=16), partial(Dense, inner=16)])
def test_a_mixture_is_the_weighted_sum_of_the_chosen_experts(top_k, expert):
    layer = MixtureOfExperts(8, expert, experts=4, top_k=top_k)
    x = torch.randn(2, 5, 8)
    assert torch.allclose(layer(x).flatten(0, 1), slow_mixture(layer, x.flatten(0, 1)), atol=1e-6)


def test_padding_meets_no_expert_and_is_not_counted():
    layer = MixtureOfExperts(8, partial(Dense, inner=16), experts=4, top_k=1)
    x = torch.randn(1, 6, 8)
    out = layer(x, Layout.packed([[4]], time=6))
    load = layer.load.clone()
    assert torch.equal(out[0, 4:], torch.zeros(2, 8))
    assert torch.allclose(out[:, :4], layer(x[:, :4]), atol=1e-6)
    assert torch.equal(load, layer.load)


def test_the_balance_loss_is_one_when_balanced_and_the_number_of_experts_when_all_go_to_one():
    layer = MixtureOfExperts(4, partial(Dense, inner=4), experts=4, top_k=1, balance=1.0)
    with torch.no_grad():
        layer.router.weight.copy_(torch.eye(4) * 100)
    layer(torch.eye(4).repeat(8, 1)[None])
    assert layer.auxiliary.item() == pytest.approx(1.0, abs=1e-5)
    layer(torch.eye(4)[:1].repeat(8, 1)[None])
    assert layer.auxiliary.item() == pytest.approx(4.0, abs=1e-5)
    assert layer.load.tolist() == [1, 0, 0, 0]
    layer.eval()
    layer(torch.eye(4)[None])
    assert layer.auxiliary is None


def test_a_mixture_with_equal_active_width_costs_a_token_what_one_layer_costs():
    expert = partial(Dense, inner=64)
    layer = MixtureOfExperts(16, expert, experts=8, top_k=2)
    assert layer.active_parameters == count(layer.router) + count(expert(dim=16))
    router = 2 * 16 * 8 * 10
    assert layer.flops(np.array([10])) == router + expert(dim=16).flops(np.array([10]))


def test_more_experts_chosen_than_there_are_is_refused():
    with pytest.raises(ValueError, match=r"ffn.top_k: 5; choose from 1 to ffn.experts 4"):
        MixtureOfExperts(8, partial(Dense, inner=8), experts=4, top_k=5)
