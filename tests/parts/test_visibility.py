"""Visibility against its definition, token by token."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lab.layout import Layout
from lab.parts.visibility import Fixed, Full, Sliding, Strided, Visibility


class Dilated(Visibility):
    """A pattern of one's own, by `near` alone."""

    def __init__(self, step, causal=True, layer=0):
        super().__init__(causal, layer)
        self.step = step

    def near(self, query, key):
        return (query - key).abs() % self.step == 0


small = st.integers(1, 9)
rows = st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=3), min_size=1, max_size=3)
patterns = st.one_of(
    st.builds(Full, causal=st.booleans()),
    st.builds(Sliding, window=small, causal=st.booleans()),
    st.builds(Strided, window=small, stride=small, causal=st.booleans()),
    st.builds(Fixed, stride=small, causal=st.booleans()),
    st.builds(Dilated, step=small, causal=st.booleans()),
)


def defined(pattern, i, j):
    """May token i see token j of its document, counted from 1: the words of the papers."""
    if pattern.causal and j > i:
        return False
    if isinstance(pattern, Dilated):
        return abs(i - j) % pattern.step == 0
    if isinstance(pattern, Sliding):
        return abs(i - j) < pattern.window
    if isinstance(pattern, Strided):
        return abs(i - j) < pattern.window or abs(i - j) % pattern.stride == 0
    if isinstance(pattern, Fixed):
        begins = (i - 1) // pattern.stride * pattern.stride + 1
        block = range(begins, begins + pattern.stride)
        since_last_multiple = pattern.causal and (i - 1) // pattern.stride * pattern.stride <= j
        return j in block or since_last_multiple or j % pattern.stride == 0
    return True


def slow(pattern, lengths, width):
    """`[rows, width, width]`: the definition, spelled out."""
    seen = np.zeros((len(lengths), width, width), dtype=bool)
    for row, pieces in enumerate(lengths):
        start = 0
        for length in pieces:
            for i in range(length):
                for j in range(length):
                    seen[row, start + i, start + j] = defined(pattern, i + 1, j + 1)
            start += length
    return seen


@given(patterns, rows, st.booleans())
def test_who_sees_whom(pattern, lengths, restart):
    layout = Layout.packed(lengths, restart=restart)
    width = layout.documents.shape[1]
    assert (pattern.sees(layout, layout).numpy() == slow(pattern, lengths, width)).all()


@given(patterns, st.integers(1, 40))
def test_pairs_counts_the_visible_ones(pattern, length):
    assert pattern.pairs(np.array([length, 1])).tolist() == [slow(pattern, [[length]], length).sum(), 1]


@given(patterns, st.integers(1, 150))
def test_tiles_hold_each_visible_pair_once(pattern, length):
    times = torch.zeros(length, length)
    for tile in pattern.tiles(length):
        for shift in range(tile.columns):
            queries, keys = (
                torch.arange(length)[x.start + shift : x.stop + shift : x.step] for x in (tile.queries, tile.keys)
            )
            held = torch.ones(len(queries), len(keys)) if tile.mask is None else (tile.mask == 0).float()
            times[queries.unsqueeze(1), keys] += held.tril() if tile.causal else held
    layout = Layout.full(1, length)
    assert torch.equal(times, pattern.sees(layout, layout)[0].float())


@given(patterns, st.integers(1, 60), st.data())
def test_nothing_beyond_its_reach_is_seen(pattern, length, data):
    start = data.draw(st.integers(0, length - 1))
    stop = data.draw(st.integers(start + 1, length))
    layout = Layout.full(1, length)
    first, last = pattern.reach(start, stop, length)
    seen = pattern.sees(layout, layout)[0, start:stop]
    assert not seen[:, :first].any()
    assert not seen[:, last:].any()


def sees(pattern, token, length=20):
    layout = Layout.full(1, length)
    return [j + 1 for j in pattern.sees(layout, layout)[0, token - 1].nonzero().flatten().tolist()]


def test_the_worked_examples():
    assert sees(Sliding(window=4), 7) == [4, 5, 6, 7]
    assert sees(Strided(window=4, stride=4), 16) == [4, 8, 12, 13, 14, 15, 16]
    assert sees(Fixed(stride=4), 8) == [4, 5, 6, 7, 8]
    assert sees(Fixed(stride=4), 9) == [4, 8, 9]
    assert sees(Fixed(stride=4), 3) == [1, 2, 3]
    assert sees(Strided(window=2, stride=5, causal=False), 8) == [3, 7, 8, 9, 13, 18]
    assert sees(Fixed(stride=4, causal=False), 6, 10) == [4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sliding(window=0), "pattern.window: 0; a whole number, at least 1"),
        (lambda: Strided(window=1, stride=0), "pattern.stride: 0; a whole number, at least 1"),
        (lambda: Fixed(stride=-1), "pattern.stride: -1; a whole number, at least 1"),
    ],
)
def test_a_window_or_stride_under_one_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
