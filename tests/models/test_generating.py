"""A model while it generates, and after."""

from __future__ import annotations

import copy

import torch

import lab
from lab.models.generating import generating


def held(model):
    return {path: set(vars(module)) for path, module in model.named_modules()}


def test_a_model_is_after_generating_what_it_was():
    model = lab.build(lab.compose("preset=tiny", "ffn=moe"), vocab_size=50)
    before, weights = held(model), copy.deepcopy(model.state_dict())
    with generating(model):
        assert not model.training
        with generating(model):
            assert not model.training
        assert "blocks" in vars(model)  # the first still generates
        assert list(model.state_dict()) == list(weights)
        assert [name for name, _ in model.named_parameters()] == [n for n, _ in model.named_parameters()]
    assert model.training
    assert held(model) == before
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())


def test_a_weight_that_is_replaced_while_a_model_generates_is_the_one_that_counts():
    model = lab.build(lab.compose("preset=tiny"), vocab_size=50)
    tokens = torch.tensor([[1, 2, 3]])
    with generating(model), torch.inference_mode():
        first = model(tokens)
        model.blocks[0].attention.output.weight = torch.nn.Parameter(
            torch.zeros_like(model.blocks[0].attention.output.weight)
        )
        second = model(tokens)
    assert not torch.equal(first, second)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(tokens), second)
