"""Feed-forward layers against their equations."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import lab
from lab.config import meta_model
from lab.errors import RequestError
from lab.parts.activation import ACTIVATIONS
from lab.parts.experts import MixtureOfExperts
from lab.parts.feedforward import Dense, Gated
from lab.parts.linear import count

EQUATIONS = {
    "relu": lambda x: x.clamp(min=0),
    "relu_squared": lambda x: x.clamp(min=0) ** 2,
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
    "gelu_tanh": lambda x: x * 0.5 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + torch.exp(-x)),
}


def test_every_activation_has_its_equation_here():
    assert set(EQUATIONS) == set(ACTIVATIONS)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_dense_is_equation_2(activation, bias):
    layer = Dense(dim=4, inner=8, activation=activation, bias=bias).double()
    x = torch.randn(3, 4, dtype=torch.float64)
    inside = EQUATIONS[activation](F.linear(x, layer.up.weight, layer.up.bias))
    assert torch.allclose(layer(x), F.linear(inside, layer.down.weight, layer.down.bias))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_gated_is_the_gate_times_the_map_and_so_is_its_gradient(activation, bias):
    layer = Gated(dim=4, inner=8, activation=activation, bias=bias).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    gate, up = F.linear(x, layer.project.weight, layer.project.bias).chunk(2, dim=-1)
    expected = F.linear(EQUATIONS[activation](gate) * up, layer.down.weight, layer.down.bias)
    assert torch.allclose(layer(x), expected)
    upstream = torch.randn_like(x)
    wanted = [x, *layer.parameters()]
    ours, theirs = (torch.autograd.grad(out, wanted, upstream, retain_graph=True) for out in (layer(x), expected))
    assert all(torch.allclose(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_gate_comes_first():
    layer = Gated(dim=4, inner=8)
    assert [name for name, _ in layer.project.pieces()] == ["gate", "up"]


def test_gated_keeps_its_gradients_under_mixed_precision():
    layer = Gated(dim=8, inner=16)
    x = torch.randn(5, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    found = torch.autograd.grad(out.float().sum(), x)[0]
    expected = torch.autograd.grad(layer(x).sum(), x)[0]
    assert torch.allclose(found, expected, atol=0.02)


def test_gated_with_equal_parameters_holds_what_dense_holds():
    dense, gated = Dense(dim=256, inner=1024), Gated(dim=256, inner=1024, equal_parameters=True)
    assert abs(count(gated) / count(dense) - 1) < 0.005
    assert gated.inner % 8 == 0


@pytest.mark.parametrize(
    "layer", [Dense(dim=16, inner=64), Gated(dim=16, inner=64), Gated(dim=16, inner=24, bias=True)]
)
def test_flops_are_those_that_torch_counts(layer):
    with FlopCounterMode(display=False) as counter:
        layer(torch.randn(3, 5, 16))
    assert counter.get_total_flops() == layer.flops(np.array([5, 5, 5])).sum()
    assert layer.active_parameters == sum(parameter.numel() for parameter in layer.parameters())


@pytest.mark.parametrize("make", [Dense, Gated])
def test_dropout_is_on_what_the_activation_gives(make):
    layer = make(dim=64, inner=64, dropout=0.25, bias=True)
    torch.nn.init.eye_(layer.down.weight)  # the layer's output is what the activation gives
    torch.nn.init.zeros_(layer.down.bias)
    x = torch.randn(200, 64)
    torch.manual_seed(0)
    inside, dropped = layer.eval()(x), layer.train()(x)
    kept = dropped != 0
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.02)
    assert torch.allclose(dropped[kept], inside[kept] / 0.75, rtol=1e-4)


@pytest.mark.parametrize("make", [Dense, Gated, MixtureOfExperts])
def test_the_gradient_knows_what_was_dropped(make):
    settings = {"inner": 8, "activation": "gelu", "dropout": 0.4, "bias": True}
    layer = make(dim=4, **settings) if make is not MixtureOfExperts else make(4, partial(Dense, **settings), 3, 2)
    layer.double()

    def drawn(x, *weights):
        torch.manual_seed(1)
        names = dict(zip((name for name, _ in layer.named_parameters()), weights, strict=True))
        return torch.func.functional_call(layer, names, x)

    x = torch.randn(1, 6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(drawn, (x, *layer.parameters()))
    assert not torch.equal(layer(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


@pytest.mark.parametrize(("word", "key"), [("ffn=gated", "ffn"), ("ffn=moe", "expert")])
def test_a_layer_that_does_not_say_what_it_costs_is_named(monkeypatch, word, key):
    config = lab.compose("preset=tiny", word)
    made = Gated if key == "ffn" else type(lab.build(config).blocks[0].ffn.experts[0])
    monkeypatch.setattr(made, "flops", None)
    for build in (lab.build, meta_model):
        with pytest.raises(RequestError, match=rf"^{key}: {made.__name__} has no flops\(lengths\), which gives"):
            build(config)


def test_unknown_activations_and_empty_layers_are_refused():
    with pytest.raises(
        ValueError, match=r"ffn.activation: tanh; choose from relu, relu_squared, gelu, gelu_tanh, silu"
    ):
        Dense(dim=4, inner=8, activation="tanh")
    with pytest.raises(ValueError, match=r"model.inner: 0; "):
        Gated(dim=4, inner=1, share=0.1)
    with pytest.raises(ValueError, match=r"ffn.dropout: 1; choose from 0 to under 1"):
        Dense(dim=4, inner=8, dropout=1)
