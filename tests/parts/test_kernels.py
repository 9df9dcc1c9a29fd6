"""The loss over a vocabulary, computed in pieces, against torch's in one piece."""

from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.layout import IGNORE
from lab.parts import cross_entropy, kernels, onednn
from lab.parts.cross_entropy import linear_cross_entropy
from lab.parts.kernels import linear


@settings(max_examples=40)
@given(st.integers(16, 70), st.integers(1, 40), st.integers(1, 40), st.booleans(), st.booleans())
def test_a_product_by_onednn_is_that_of_torch(rows, inputs, outputs, with_bias, transposed):
    generator = torch.Generator().manual_seed(rows * inputs * outputs)
    x = torch.randn(2, rows, inputs, generator=generator)
    weight = torch.randn(inputs, outputs, generator=generator).T if transposed else torch.randn(outputs, inputs)
    bias = torch.randn(outputs, generator=generator) if with_bias else None
    given_ = [t.requires_grad_() for t in (x, weight, bias) if t is not None]
    pull = torch.randn(outputs, 2 * rows, generator=generator).T.unflatten(0, (2, rows))  # columns contiguous
    with patch.object(onednn, "preferred", torch.backends.mkldnn.is_available):
        ours = linear(x, weight, bias)
        got = torch.autograd.grad(ours, given_, pull)
    theirs = F.linear(x, weight, bias)
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    for mine, other in zip(got, torch.autograd.grad(theirs, given_, pull), strict=True):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-4)


@settings(max_examples=40)
@given(st.integers(1, 15), st.integers(1, 9), st.sampled_from([8, 24, 64]), st.booleans())
def test_a_product_of_few_rows_with_slices_of_a_weight_is_the_whole(rows, inputs, outputs, with_bias):
    generator = torch.Generator().manual_seed(rows * inputs * outputs)
    x, weight, bias, pull = (
        torch.randn(*shape, generator=generator)
        for shape in ((rows, inputs), (outputs, inputs), (outputs,), (rows, outputs))
    )
    given_ = [t.requires_grad_() for t in ((x, weight, bias) if with_bias else (x, weight))]
    with (
        patch.object(onednn, "intel", lambda: False),
        patch.object(kernels, "LARGE", 1),
        patch.object(torch, "bmm", wraps=torch.bmm) as slices,
    ):
        ours = linear(*given_)
    assert slices.called
    torch.testing.assert_close(ours, F.linear(*given_))
    theirs = torch.autograd.grad(F.linear(*given_), given_, pull)
    torch.testing.assert_close(torch.autograd.grad(ours, given_, pull), theirs)


@pytest.mark.parametrize("intel", [False, True])
@pytest.mark.parametrize("rows", [2, 20])
def test_mixed_precision_gives_one_kind(rows, intel):
    x, weight, bias = torch.randn(rows, 16), torch.randn(24, 16), torch.randn(24)
    with (
        patch.object(onednn, "intel", lambda: intel),
        patch.object(kernels, "LARGE", 1),
        torch.autocast("cpu", torch.bfloat16),
    ):
        assert linear(x, weight, bias).dtype == torch.bfloat16


def test_onednn_is_for_single_precision_and_for_many_rows():
    few, many = torch.randn(15, 8), torch.randn(16, 8)
    with patch.object(onednn, "preferred", lambda: True):
        assert not onednn.fits(few, few)
        assert onednn.fits(many, few)
        assert onednn.fits(many, few.T)
        assert not onednn.fits(many[:, :4], few[:, :4])
        assert not onednn.fits(many.double(), few.double())
        with torch.autocast("cpu", torch.bfloat16):
            assert not onednn.fits(many, few)


@given(st.integers(16, 100_000))
def test_few_numbers_of_rows_are_told_apart(rows):
    more = onednn.rounded(rows)
    assert 0 <= more - rows < max(16, rows / 16)
    assert onednn.rounded(more) == more
    assert len({onednn.rounded(n) for n in range(rows, 2 * rows, max(1, rows // 500))}) <= 34


@settings(max_examples=40)
@given(
    *(st.integers(1, 40), st.integers(2, 30), st.integers(1, 16), st.floats(0, 0.9)),
    *(st.sampled_from([None, 1.5]), st.sampled_from([0.0, 0.1, 0.7]), st.booleans()),
)
def test_loss_and_gradients_are_those_of_the_whole(rows, vocab, piece, ignored, softcap, smoothing, biased):
    generator = torch.Generator().manual_seed(rows * vocab)
    x = torch.randn(rows, 6, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(vocab, 6, generator=generator, dtype=torch.float64).requires_grad_()
    bias = torch.randn(vocab, generator=generator, dtype=torch.float64).requires_grad_() if biased else None
    learnt = [tensor for tensor in (x, weight, bias) if tensor is not None]
    targets = torch.randint(vocab, (rows,), generator=generator)
    targets[torch.rand(rows, generator=generator) < ignored] = IGNORE
    with patch.multiple(cross_entropy, ROWS=piece, spare_rows=lambda rows, like: rows % 3):
        loss = linear_cross_entropy(x, weight, targets, softcap, smoothing, bias)
        got = torch.autograd.grad(loss * 3, learnt)
    logits = F.linear(x, weight, bias)
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    whole = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing)
    expected = torch.autograd.grad(whole * 3, learnt)
    assert loss.item() == pytest.approx(whole.item(), rel=1e-5, abs=1e-6)
    for mine, theirs in zip(got, expected, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_without_gradients_nothing_is_kept():
    x, weight = torch.randn(8, 4), torch.randn(10, 4, requires_grad=True)
    with torch.no_grad():
        loss = linear_cross_entropy(x, weight, torch.zeros(8, dtype=torch.long))
    assert loss.grad_fn is None


def test_under_bfloat16_the_loss_stays_close_and_float32():
    x, weight = torch.randn(32, 16), torch.randn(50, 16)
    targets = torch.randint(50, (32,))
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(x, weight, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(F.cross_entropy(x @ weight.T, targets, reduction="sum").item(), rel=0.02)


def test_a_second_backward_pass_is_refused_and_not_wrong():
    x = torch.randn(8, 4, requires_grad=True)
    loss = linear_cross_entropy(x, torch.randn(10, 4, requires_grad=True), torch.zeros(8, dtype=torch.long))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_the_loss_of_doubles_is_a_double():
    x, weight, targets = torch.randn(300, 8).double(), torch.randn(40, 8).double(), torch.randint(40, (300,))
    targets[::7] = IGNORE
    expected = F.cross_entropy(x @ weight.T, targets, reduction="sum", ignore_index=IGNORE)
    assert linear_cross_entropy(x, weight, targets).item() == pytest.approx(expected.item(), rel=1e-13)
