"""Rows of a table: values and gradients are those of plain indexing, whatever is read and how often."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.parts.rows import gathered, looked_up, products, summed

ROWS, DIM = 7, 3


def table(random):
    return torch.randn(ROWS, DIM, dtype=torch.float64, generator=random).requires_grad_()


def gradient(out, of, random):
    """What comes back to a table from a random gradient."""
    pulled = torch.randn(out.shape, dtype=out.dtype, generator=random)
    return torch.autograd.grad(out, of, pulled, materialize_grads=True)


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=40)
def test_looking_up_is_indexing(seed, sparse):
    random = torch.Generator().manual_seed(seed)
    held = table(random)
    places = torch.randint(ROWS, (2, seed % 9), generator=random)
    found, expected = looked_up(held, places, sparse), held[places]
    assert torch.equal(found, expected)
    (mine,), (theirs,) = (gradient(out, held, torch.Generator().manual_seed(seed)) for out in (found, expected))
    assert mine.is_sparse == sparse
    assert torch.allclose(mine.to_dense(), theirs)


@given(st.integers(0, 10**6), st.booleans(), st.booleans())
@settings(max_examples=40)
def test_sums_are_those_of_a_loop_empty_ones_too(seed, sparse, weighted):
    random = torch.Generator().manual_seed(seed)
    held, sums, read = table(random), 1 + seed % 5, seed % 11
    places = torch.randint(ROWS, (read,), generator=random)
    owners = torch.randint(sums, (read,), generator=random).sort().values
    weights = torch.rand(read, dtype=torch.float64, generator=random) if weighted else None
    found = summed(held, places, owners, sums, weights, sparse)
    expected = torch.zeros(sums, DIM, dtype=torch.float64) + 0 * held.sum()
    for at in range(read):
        row = torch.nn.functional.one_hot(owners[at], sums)[:, None] * held[places[at]]
        expected = expected + (row if weights is None else row * weights[at])
    assert torch.allclose(found, expected)
    (mine,), (theirs,) = (gradient(out, held, torch.Generator().manual_seed(seed)) for out in (found, expected))
    assert torch.allclose(mine.to_dense(), theirs)


@given(st.integers(0, 10**6))
@settings(max_examples=40)
def test_products_are_those_of_the_rows_that_are_paired(seed):
    random = torch.Generator().manual_seed(seed)
    left, right = table(random), table(random)
    pairs = torch.randint(ROWS, (2, seed % 12), generator=random)
    found, expected = products(left, right, pairs), (left[pairs[0]] * right[pairs[1]]).sum(-1)
    assert torch.allclose(found, expected)
    both = [gradient(out, (left, right), torch.Generator().manual_seed(seed)) for out in (found, expected)]
    for mine, theirs in zip(*both, strict=True):
        assert torch.allclose(mine, theirs)


@pytest.mark.parametrize("rows", [[0, 2, 5], [5, 0, 5, 2], [3, 3], []])
def test_a_gradient_is_gathered_into_each_row_once(rows):
    values = torch.arange(float(len(rows)) * DIM).view(len(rows), DIM) + 1
    pieces = torch.sparse_coo_tensor(torch.tensor([rows], dtype=torch.int64), values, (ROWS, DIM))
    found = gathered(pieces)
    assert found.is_coalesced()
    assert found.indices()[0].tolist() == sorted(set(rows))
    assert torch.equal(found.to_dense(), pieces.to_dense())


def test_products_stay_single_under_mixed_precision():
    random = torch.Generator().manual_seed(0)
    left, right = (torch.randn(ROWS, DIM, generator=random).requires_grad_() for _ in range(2))
    pairs = torch.randint(ROWS, (2, 9), generator=random)
    plain = products(left, right, pairs)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = products(left, right, pairs)
    assert torch.equal(mixed, plain)
    assert gradient(mixed, left, random)[0].isfinite().all()
