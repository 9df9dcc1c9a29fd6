"""The loss over a vocabulary, computed in pieces, against torch's in one piece."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.parts import kernels
from lab.parts.kernels import IGNORE, linear_cross_entropy


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(2, 30), st.integers(1, 16), st.floats(0, 0.9), st.sampled_from([None, 1.5]))
def test_loss_and_gradients_are_those_of_the_whole(rows, vocab, piece, ignored, softcap):
    generator = torch.Generator().manual_seed(rows * vocab)
    x = torch.randn(rows, 6, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(vocab, 6, generator=generator, dtype=torch.float64).requires_grad_()
    targets = torch.randint(vocab, (rows,), generator=generator)
    targets[torch.rand(rows, generator=generator) < ignored] = IGNORE
    kernels_rows, kernels.ROWS = kernels.ROWS, piece
    try:
        loss = linear_cross_entropy(x, weight, targets, softcap)
        got = torch.autograd.grad(loss * 3, (x, weight))
    finally:
        kernels.ROWS = kernels_rows
    logits = x @ weight.T
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    whole = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
    expected = torch.autograd.grad(whole * 3, (x, weight))
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
