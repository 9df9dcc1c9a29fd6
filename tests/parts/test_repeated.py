"""Products with weights kept in another layout, against torch's with the weights as they are."""

from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import build, compose, generate
from lab.parts import onednn, repeated
from lab.parts.kernels import linear, product
from lab.parts.repeated import known, repeating

SMALL = ["preset=tiny", "position=rope", "model.dim=32", "model.context=64", "attention=gqa"]


@pytest.fixture(autouse=True)
def _everywhere():
    """As on a processor where it pays, for weights of any size."""
    with (
        patch.object(onednn, "offered", lambda vectors: torch.backends.mkldnn.is_available()),
        patch.object(onednn, "intel", lambda: False),
        patch.object(repeated, "LARGE", 1),
        patch.object(repeated, "INTEL_LARGE", 1),
    ):
        yield


def tensors(rows, inputs, outputs):
    generator = torch.Generator().manual_seed(rows * inputs * outputs)
    shapes = ((1, rows, inputs), (outputs, inputs), (outputs,))
    return [torch.randn(*shape, generator=generator) for shape in shapes]


@settings(max_examples=60)
@given(st.integers(1, 70), st.integers(1, 40), st.integers(1, 1100), st.booleans(), st.sampled_from([1, 2, 3]))
@torch.no_grad()
def test_a_product_is_the_same_from_every_layout(rows, inputs, outputs, with_bias, cores):
    x, weight, bias = tensors(rows, inputs, outputs)
    given_ = (x, weight, bias) if with_bias else (x, weight)
    expected = F.linear(*given_)
    with patch.object(torch, "get_num_threads", lambda: cores), repeating([weight]):
        for _ in range(3):
            torch.testing.assert_close(linear(*given_), expected, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(product(x[0], *given_[1:]), expected[0], rtol=1e-4, atol=1e-4)
        assert bool(known(weight)._laid_out) == (rows <= repeated.FEW)
    assert known(weight) is None


@pytest.mark.parametrize("rows", range(1, 7))
@torch.no_grad()
def test_on_intels_processors_only_several_rows_are_given_other_layouts(rows):
    x, weight, bias = tensors(rows, 16, 24)
    with patch.object(onednn, "intel", lambda: True), repeating([weight]):
        for _ in range(3):
            torch.testing.assert_close(linear(x, weight, bias), F.linear(x, weight, bias))
        assert bool(known(weight)._laid_out) == (rows >= repeated.INTEL_ROWS)
        with patch.object(repeated, "INTEL_LARGE", weight.numel() + 1), repeating([another := weight.clone()]):
            assert known(another) is None


@torch.no_grad()
def test_a_weight_that_changes_is_laid_out_anew():
    x, weight, _ = tensors(1, 16, 24)
    with repeating([weight]):
        for factor in (1, 1, 1, 2, 3):
            weight.mul_(factor)
            torch.testing.assert_close(linear(x, weight), F.linear(x, weight))
        assert known(weight)._laid_out


@pytest.mark.parametrize("fused", [False, True])
def test_a_weight_that_an_optimizer_changes_is_laid_out_anew(fused):
    """Whose fused kernel leaves the version of a weight as it was."""
    x, weight, _ = tensors(1, 16, 24)
    optimizer = torch.optim.AdamW([weight.requires_grad_()], lr=0.5, fused=fused)
    weight.grad = torch.ones_like(weight)
    with repeating([weight]):
        for _ in range(3):
            with torch.no_grad():
                for _ in range(3):
                    torch.testing.assert_close(linear(x, weight), F.linear(x, weight))
            optimizer.step()


def test_a_gradient_is_recorded_all_the_same():
    x, weight, _ = tensors(2, 16, 24)
    weight.requires_grad_()
    with repeating([weight]):
        for _ in range(3):
            (got,) = torch.autograd.grad(linear(x, weight).sum(), weight)
            torch.testing.assert_close(got, x.sum((0, 1)).expand(24, 16))


def test_two_may_generate_with_one_weight_and_the_last_to_end_lets_it_go():
    weight = torch.randn(8, 8)
    first, second = repeating([weight]), repeating([weight])
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert known(weight) is not None
    second.__exit__(None, None, None)
    assert known(weight) is None


def test_nothing_is_kept_of_large_models_under_mixed_precision_or_of_other_numbers():
    weight = torch.randn(8, 8)
    with patch.object(repeated, "MOST", weight.nbytes - 1), repeating([weight]):
        assert known(weight) is None
    with torch.autocast("cpu", torch.bfloat16), repeating([weight]):
        assert known(weight) is None
    for other in (weight.double(), weight.bfloat16(), weight[:, :4], weight[0]):
        with repeating([other]):
            assert known(other) is None


@pytest.mark.parametrize("rows", [1, 3])
def test_a_model_generates_the_same(rows):
    model = build(compose(*SMALL), 300)
    prompt = [[5, 7, 9][row:] for row in range(rows)]
    layout = "Turned" if rows == 1 else "Blocked"
    with patch.object(repeated, layout, wraps=getattr(repeated, layout)) as laid_out:
        kept = generate(model, prompt, 40)
    assert laid_out.called
    assert repeated._known == {}
    with patch.object(repeated, "MOST", 0):
        assert generate(model, prompt, 40) == kept
