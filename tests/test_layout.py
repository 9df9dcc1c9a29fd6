"""A layout says what a row holds."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lab.layout import PADDING, Layout

rows = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=4)


def test_two_rows_of_eight_the_first_with_documents_of_five_and_three():
    layout = Layout.packed([[5, 3], [8]])
    assert layout.documents.tolist() == [[0] * 5 + [1] * 3, [0] * 8]
    assert layout.positions.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2], list(range(8))]
    assert not layout.plain
    assert not layout.padded


@given(rows, st.booleans(), st.booleans())
def test_every_token_is_of_its_document_at_its_place_and_the_rest_is_padding(lengths, restart, mask):
    layout = Layout.packed(lengths, restart=restart, mask=mask)
    width = max(map(sum, lengths))
    for row, pieces in enumerate(lengths):
        documents = [number if mask else 0 for number, length in enumerate(pieces) for _ in range(length)]
        places = [place for length in pieces for place in range(length)] if restart else list(range(sum(pieces)))
        assert layout.documents[row].tolist() == documents + [PADDING] * (width - sum(pieces))
        assert layout.positions[row, : sum(pieces)].tolist() == places
    assert layout.padded == bool(layout.padding.any())
    assert int(layout.positions.max()) < layout.span
    if layout.plain:
        assert (layout.documents == 0).all()
        assert (layout.positions == torch.arange(width)).all()


def test_documents_that_do_not_fit_and_empty_documents_are_refused():
    with pytest.raises(ValueError, match="do not fit a row of 4"):
        Layout.packed([[3, 2]], time=4)
    with pytest.raises(ValueError, match="at least 1 token"):
        Layout.packed([[3, 0]])


def test_what_is_derived_is_computed_once():
    calls = []
    layout = Layout.full(1, 3)
    assert layout.once("key", lambda: calls.append(1) or 7) == layout.once("key", lambda: calls.append(1) or 8) == 7
    assert calls == [1]
