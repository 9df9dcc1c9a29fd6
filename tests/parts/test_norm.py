"""Norms against torch's and their definitions."""

import pytest
import torch
from torch import nn

from lab.parts.norm import LayerNorm, NoNorm, RMSNorm


def test_rmsnorm_and_its_gradients_are_those_of_torch():
    ours, theirs = RMSNorm(12, eps=1e-3), nn.RMSNorm(12, eps=1e-3)
    with torch.no_grad():
        ours.weight.copy_(torch.randn(12))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, 12, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    pull = torch.randn(2, 5, 12)
    ours(x).backward(pull)
    theirs(y).backward(pull)
    assert torch.allclose(ours(x), theirs(y), atol=1e-6)
    assert torch.allclose(x.grad, y.grad, atol=1e-6)
    assert torch.allclose(ours.weight.grad, theirs.weight.grad, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_rmsnorm_of_half_precision_is_rounded_once(kind):
    """Under mixed precision the gain stays single; a whole model in half precision has it so too."""
    norm = RMSNorm(12).to(kind)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(12))
    exact = RMSNorm(12)
    exact.load_state_dict({"weight": norm.weight.float()})
    x = torch.randn(6, 12).bfloat16().requires_grad_()
    y = x.detach().float().requires_grad_()
    pull = torch.randn(6, 12).bfloat16()
    ours, theirs = norm(x), exact(y)
    ours.backward(pull)
    theirs.backward(pull.float())
    assert ours.dtype == x.grad.dtype == torch.bfloat16
    assert torch.equal(ours, theirs.bfloat16())
    assert torch.equal(x.grad, y.grad.bfloat16())
    assert torch.equal(norm.weight.grad, exact.weight.grad.to(kind))


@pytest.mark.parametrize("eps", [0.0, 1e-5, 2.0])
@pytest.mark.parametrize("tokens", [1, 3, 3000])
@torch.no_grad()
def test_rmsnorm_without_a_gradient_is_that_of_torch(tokens, eps):
    ours, theirs = RMSNorm(12, eps), nn.RMSNorm(12, eps)
    ours.weight.copy_(torch.randn(12))
    theirs.load_state_dict(ours.state_dict())
    for x in (torch.randn(1, tokens, 12), torch.zeros(1, tokens, 12), torch.zeros(0, 12)):
        assert torch.allclose(ours(x), theirs(x), atol=1e-6, equal_nan=True)


def test_rmsnorm_gives_a_root_mean_square_of_one():
    assert RMSNorm(64)(100 * torch.randn(3, 64)).square().mean(-1).tolist() == pytest.approx([1, 1, 1], rel=1e-4)


def test_layernorm_gives_zero_mean_and_unit_variance():
    x = LayerNorm(64)(5 + 3 * torch.randn(4, 64))
    assert torch.allclose(x.mean(-1), torch.zeros(4), atol=1e-5)
    assert torch.allclose(x.var(-1, unbiased=False), torch.ones(4), atol=1e-3)


def test_layernorm_has_a_bias_or_none():
    assert [name for name, _ in LayerNorm(8).named_parameters()] == ["weight", "bias"]
    assert [name for name, _ in LayerNorm(8, bias=False).named_parameters()] == ["weight"]


def test_no_norm_changes_nothing():
    x = torch.randn(2, 8)
    assert NoNorm(8)(x) is x
    assert not list(NoNorm(8).parameters())
