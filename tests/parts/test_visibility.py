"""Visibility against its definition, token by token."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lab.layout import Layout
from lab.parts.kernels import attend
from lab.parts.visibility import Full, Sliding

rows = st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=3), min_size=1, max_size=3)
patterns = st.one_of(
    st.builds(Full, causal=st.booleans()),
    st.builds(Sliding, window=st.integers(1, 9), causal=st.booleans()),
)


def slow(pattern, lengths, width):
    """`[rows, width, width]`: the definition, spelled out."""
    seen = np.zeros((len(lengths), width, width), dtype=bool)
    for row, pieces in enumerate(lengths):
        start = 0
        for length in pieces:
            for i in range(length):
                for j in range(length):
                    allowed = j <= i or not pattern.causal
                    near = abs(i - j) < pattern.window
                    seen[row, start + i, start + j] = allowed and near
            start += length
    return seen


@given(patterns, rows, st.booleans())
def test_who_sees_whom(pattern, lengths, restart):
    layout = Layout.packed(lengths, restart=restart)
    width = layout.documents.shape[1]
    assert (pattern.sees(layout, layout).numpy() == slow(pattern, lengths, width)).all()


@given(patterns, st.integers(1, 20))
def test_pairs_counts_the_visible_ones(pattern, length):
    layout = Layout.full(1, length)
    assert pattern.pairs(np.array([length])).tolist() == [int(pattern.sees(layout, layout).sum())]


@given(patterns, rows, st.sampled_from([(2, 2), (4, 2), (4, 1)]), st.booleans())
def test_attention_over_a_visibility_is_softmax_over_the_seen(pattern, lengths, heads, whole):
    layout = Layout.full(2, 9) if whole else Layout.packed(lengths)
    batch, time = layout.documents.shape
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(batch, time, heads[0], 8, generator=generator)
    key, value = torch.randn(2, batch, time, heads[1], 8, generator=generator)
    got = attend(query, key, value, layout, pattern)

    repeats = heads[0] // heads[1]
    k, v = key.repeat_interleave(repeats, 2), value.repeat_interleave(repeats, 2)
    scores = torch.einsum("bihd,bjhd->bhij", query, k) / 8**0.5
    seen = pattern.sees(layout, layout).unsqueeze(1)
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    expected = torch.einsum("bhij,bjhd->bihd", weights, v)
    real = ~layout.padding
    assert torch.allclose(got[real], expected[real], atol=1e-5)
    assert got.isfinite().all()


def test_a_window_of_four_sees_the_last_four_tokens():
    layout = Layout.full(1, 8)
    assert Sliding(window=4).sees(layout, layout)[0, 6].nonzero().flatten().tolist() == [3, 4, 5, 6]


def test_a_window_under_one_is_refused():
    with pytest.raises(ValueError, match=r"pattern.window: 0; .* at least 1"):
        Sliding(window=0)
