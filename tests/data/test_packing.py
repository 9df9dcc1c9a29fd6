"""Rows hold what a slow reference puts into them, and every byte is predicted exactly once in validation."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.data.packing import Packed, Padded
from lab.data.store import Split, Tokens, prepare
from lab.data.tokenizers import BPE, Byte
from lab.layout import IGNORE, PADDING, Layout
from tests.data.conftest import Texts, sentences

BEGIN = 0
Cell = tuple[int, int]  # a document and a place within it
lengths_of_documents = st.lists(st.integers(1, 12), min_size=1, max_size=12)
contexts = st.integers(1, 9)
flags = st.booleans()


def made(lengths: list[int]) -> Tokens:
    """Documents of these lengths, the document token included; no other token stands twice in the stream."""
    offsets = np.cumsum([0, *lengths])
    ids = np.arange(offsets[-1]) + 1
    ids[offsets[:-1]] = BEGIN
    return Tokens(ids.astype(np.uint16), offsets, BEGIN)


def reference(
    rows: list[list[Cell]], tokens: Tokens, context: int, mask: bool, restart: bool, training: bool
) -> np.ndarray:
    """What rows of these cells hold, token by token."""
    documents = np.split(tokens.ids, tokens.offsets[1:-1])
    table = []
    for row in rows:
        cells = []
        for column in range(context):
            if column >= len(row):
                cells.append((BEGIN, IGNORE, PADDING, column))
                continue
            document, place = row[column]
            last = place + 1 == len(documents[document])
            target = (BEGIN if training else IGNORE) if last else int(documents[document][place + 1])
            seen = sum(earlier[0] == document for earlier in row[:column])
            number = len({earlier[0] for earlier in row[: column + 1]}) - 1
            cells.append((int(documents[document][place]), target, number if mask else 0, seen if restart else column))
        table.append(cells)
    return np.array(table).reshape(len(rows), context, 4).transpose(2, 0, 1)


def compare(rows, wanted) -> None:
    batch = rows.batch(np.arange(len(rows)))
    for tensor, expected in zip(
        (batch.tokens, batch.targets, batch.layout.documents, batch.layout.positions), wanted, strict=True
    ):
        assert tensor.tolist() == expected.tolist()
    assert batch.scored == batch.counted == (wanted[1] != IGNORE).sum()
    numbers = wanted[2]
    runs = [Counter(row[row >= 0].tolist()) for row in numbers]
    assert batch.lengths.tolist() == [run[number] for run in runs for number in sorted(run)]
    assert batch.layout.padded == bool((numbers == PADDING).any())
    assert batch.layout.span > int(batch.layout.positions.max())
    one = (numbers == 0).all() and (wanted[3] == np.arange(rows.context)).all()
    assert batch.layout.plain == one


@given(lengths_of_documents, contexts, flags, flags, flags)
def test_packed_rows(lengths, context, mask, restart, training):
    tokens = made(lengths)
    stream = [(document, place) for document, length in enumerate(lengths) for place in range(length)]
    cut = [stream[start : start + context] for start in range(0, len(stream), context)]
    if training and len(cut[-1]) < context:
        cut.pop()
    rows = Packed(mask, restart).rows(tokens, context, training)
    assert len(rows) == len(cut)
    if cut:
        compare(rows, reference(cut, tokens, context, mask, restart, training))
        assert rows.waste == pytest.approx(1 - sum(map(len, cut)) / (len(cut) * context))


@given(lengths_of_documents, contexts, flags)
def test_padded_rows(lengths, context, training):
    tokens = made(lengths)
    cut = [
        [(document, place) for place in range(start, min(start + context, length))]
        for document, length in enumerate(lengths)
        for start in range(0, length, context)
    ]
    rows = Padded().rows(tokens, context, training)
    compare(rows, reference(cut, tokens, context, True, True, training))
    assert rows.waste == pytest.approx(1 - sum(lengths) / (len(cut) * context))


@given(lengths_of_documents, contexts, flags, flags)
def test_packed_rows_have_the_layout_of_their_lengths(lengths, context, mask, restart):
    """The same as `Layout.packed` of the pieces, which other parts are tested with."""
    rows = Packed(mask, restart).rows(made(lengths), context, training=False)
    pieces: list[list[int]] = [[] for _ in range(len(rows))]
    place = 0
    for length in lengths:
        while length:
            piece = min(length, context - place % context)
            pieces[place // context].append(piece)
            place, length = place + piece, length - piece
    layout = rows.batch(np.arange(len(rows))).layout
    wanted = Layout.packed(pieces, context, restart=restart, mask=mask)
    assert layout.documents.tolist() == wanted.documents.tolist()
    assert layout.positions.tolist() == wanted.positions.tolist()
    assert layout.plain == wanted.plain


@given(lengths_of_documents, contexts, flags, flags, st.randoms())
def test_any_rows_in_any_order(lengths, context, mask, training, random):
    rows = Packed(mask).rows(made(lengths), context, training)
    if not len(rows):
        return
    chosen = np.array([random.randrange(len(rows)) for _ in range(3)])
    together = rows.batch(chosen)
    for number, row in enumerate(chosen):
        alone = rows.batch(np.array([row]))
        assert together.tokens[number].tolist() == alone.tokens[0].tolist()
        assert together.targets[number].tolist() == alone.targets[0].tolist()
        assert together.layout.documents[number].tolist() == alone.layout.documents[0].tolist()
    if training:
        assert rows.scored(chosen) == together.scored


@pytest.mark.parametrize("packing", [Packed(), Packed(False, False), Padded()])
@pytest.mark.parametrize("recipe", [Byte(), BPE(300)])
@pytest.mark.parametrize("context", [7, 64])
def test_validation_predicts_every_byte_once(packing, recipe, context):
    texts = [*sentences(80), "naïve 猫 <|document|>\r\n"]
    prepared = prepare(Texts(texts), recipe, Split(0.3))
    rows = packing.rows(prepared.validation, context, training=False)
    targets = rows.batch(np.arange(len(rows))).targets.numpy().ravel()
    predicted = targets[targets != IGNORE]
    assert prepared.tokenizer.document_id not in predicted
    text = prepared.tokenizer.decode(predicted)
    assert len(text.encode()) == prepared.validation_bytes
    held = [
        prepared.tokenizer.decode(ids) for ids in np.split(prepared.validation.ids, prepared.validation.offsets[1:-1])
    ]
    assert text == "".join(held)


def test_training_learns_where_documents_end():
    batch = Packed().rows(made([3, 2, 4]), 9, training=True).batch(np.array([0]))
    assert batch.tokens.tolist() == [[0, 2, 3, 0, 5, 0, 7, 8, 9]]
    assert batch.targets.tolist() == [[2, 3, 0, 5, 0, 7, 8, 9, 0]]
    assert batch.layout.documents.tolist() == [[0, 0, 0, 1, 1, 2, 2, 2, 2]]
    assert batch.layout.positions.tolist() == [[0, 1, 2, 0, 1, 0, 1, 2, 3]]
    assert batch.lengths.tolist() == [3, 2, 4]


def test_a_row_costs_far_less_than_a_training_step():
    """16 rows of 256 tokens out of 10 million, in well under a millisecond."""
    tokens = made(np.random.default_rng(0).integers(2, 400, 50_000).tolist())
    rows = Packed().rows(tokens, 256, training=True)
    chosen = np.random.default_rng(1).integers(0, len(rows), (50, 16))
    times = []
    for indices in chosen:
        began = time.perf_counter()
        rows.batch(indices)
        times.append(time.perf_counter() - began)
    assert np.median(times) < 1e-3
