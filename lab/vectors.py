"""Vectors of words, sentences and documents, from a model of any family that reads text, and how alike they are.

run = lab.load("runs/masked")
lab.embed(run, ["In the beginning", "It came to pass"])
lab.word_in(run, "He sat by the bank of the river.", "bank")
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from lab.console import say
from lab.data.arrange import framed, framing, layout, shortened, table
from lab.data.examples import check_too_long
from lab.errors import RequestError
from lab.layout import Layout
from lab.models.pooling import check_pool
from lab.parts.sparse import SparseRows

if TYPE_CHECKING:
    from lab.data.tokenizers import Tokenizer

Vectors: TypeAlias = Any
"""`[rows, dim]`, a NumPy array, or a `scipy.sparse.csr_array` of a bag of words."""

Row: TypeAlias = tuple[np.ndarray, np.ndarray]
"""What a model reads of a text, or two: tokens and segments, both `[time]`."""

BLOCK = 512  # queries that are compared with all others at once


class Reader(Protocol):
    """What can read text: a run, or anything else with a model and its tokenizer."""

    @property
    def model(self) -> Any:
        """Of any family that gives vectors."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The one that the model was trained with."""


@torch.no_grad()
def embed(
    run: Reader, texts: Sequence[str], pool: str = "mean", too_long: str = "cut", batch_tokens: int = 16384
) -> Vectors:
    """One vector for each text: a word, a sentence or a document.

    Args:
        run: what reads them; its model is put into evaluation mode.
        texts: in any order; those of like length are read together.
        pool: what stands for a text, as in `lab.models.pooling`; a bag of words is always the sum of its tokens.
        too_long: of a text longer than the model: `cut`, which says how many were, or `refuse`.
        batch_tokens: tokens read at once, padding included.

    Returns:
        `[texts, dim]` float32; of a bag of words `[texts, vocab]`, sparse.

    Raises:
        RequestError: a text that gives no token, or is too long if those are refused; a family without vectors.
        ValueError: another pool.
    """
    check_pool(pool, "pool")
    if isinstance(texts, str):
        raise RequestError("texts: a list of texts is needed")
    return _embed(run, _rows(run, [(text,) for text in texts], too_long), pool, batch_tokens)


@torch.no_grad()
def embed_tokens(
    run: Reader, texts: Sequence[np.ndarray], pool: str | None = "mean", batch_tokens: int = 16384
) -> Vectors:
    """As `embed`, for texts that are tokens of the run's tokenizer already, `[time]` each; what is longer than the model is
    cut without a word.
    """
    frame, room = run.model.frame, run.model.context - framing(run.model.frame)
    rows = [framed(run.tokenizer, frame, shortened([text], room)) for text in texts]
    return _embed(run, rows, pool, batch_tokens)


def _embed(run: Reader, rows: Sequence[Row], pool: str | None, batch_tokens: int) -> Vectors:
    parts, order = [], []
    for numbers, tokens, laid, _ in _together(run, rows, batch_tokens):
        parts.append(arrays(_represented(run.model, tokens, laid, pool)))
        order.append(numbers)
    return stacked(parts)[np.argsort(np.concatenate(order))]


def read(
    run: Reader, texts: Sequence[Sequence[str]], too_long: str = "cut", batch_tokens: int = 16384
) -> Iterator[tuple[np.ndarray, Tensor, Layout, Tensor]]:
    """Lay texts out as a run's model reads them, those of like length together.

    Args:
        run: its model is put into evaluation mode.
        texts: of one text, or two, each.
        too_long, batch_tokens: as for `embed`.

    Yields:
        `[rows]`, the numbers of the texts, and on the model's device their tokens, layout and segments.

    Raises:
        RequestError: as `embed`.
    """
    yield from _together(run, _rows(run, texts, too_long), batch_tokens)


def _together(
    run: Reader, rows: Sequence[Row], batch_tokens: int
) -> Iterator[tuple[np.ndarray, Tensor, Layout, Tensor]]:
    """As `read`, of rows."""
    lengths = np.array([len(tokens) for tokens, _ in rows])
    device = next(iter(run.model.eval().state_dict().values())).device
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        numbers = order[start : start + max(1, batch_tokens // int(lengths[order[start]]))]
        both = zip(*(rows[number] for number in numbers), strict=True)
        tokens, segments = (table(side, 0).to(device) for side in both)  # padding may be any token
        yield numbers, tokens, layout(lengths[numbers]).to(device), segments
        start += len(numbers)


def _rows(run: Reader, texts: Sequence[Sequence[str]], too_long: str) -> list[Row]:
    """The tokens that stand for each text, or two, cut to the model, and their segments."""
    check_too_long(too_long)
    if not len(texts):
        raise RequestError("texts: none")
    encoded = iter(run.tokenizer.encode([text for some in texts for text in some]))
    frame, context = run.model.frame, run.model.context
    rows, longer = [], 0
    for some in texts:
        tokens = [next(encoded) for _ in some]
        empty = next((text for text, of_text in zip(some, tokens, strict=True) if not len(of_text)), None)
        if empty is not None:
            raise RequestError(f"texts: {empty!r} gives no token")
        room = context - framing(frame, len(some))
        longer += sum(map(len, tokens)) > room
        rows.append(framed(run.tokenizer, frame, shortened(tokens, room)))
    if longer and too_long == "refuse":
        raise RequestError(f"texts: {longer} of {len(texts)} are longer than model.context={context}")
    if longer:
        say(f"texts: {longer} of {len(texts)} are longer than model.context={context}, and were cut")
    return rows


def _represented(model: Any, tokens: Tensor, laid: Layout, pool: str | None) -> Any:
    try:
        return model.represent(tokens, laid, pool=pool)
    except NotImplementedError:
        raise RequestError(f"{type(model).__name__}: a family without vectors of texts") from None


def arrays(vectors: Tensor | SparseRows) -> Vectors:
    """What a model gives for rows, as NumPy and SciPy take it."""
    return vectors.to("cpu").numpy() if isinstance(vectors, SparseRows) else vectors.float().cpu().numpy()


def stacked(parts: Sequence[Vectors]) -> Vectors:
    """All rows, one part after the other."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return scipy.sparse.csr_array(scipy.sparse.vstack(parts))


def unit(vectors: Vectors) -> Vectors:
    """The same directions with length 1; nothing stays nothing."""
    if isinstance(vectors, np.ndarray):
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    lengths = np.sqrt(vectors.multiply(vectors).sum(axis=1))
    return scipy.sparse.csr_array(scipy.sparse.diags_array(1 / np.maximum(lengths, 1e-12)) @ vectors)


def similarities(queries: Vectors, others: Vectors | None = None) -> np.ndarray:
    """`[queries, others]`, the cosine of each two vectors; among the queries where there are no others."""
    others = queries if others is None else others
    return np.concatenate(list(compared(unit(queries), unit(others))))


def compared(queries: Vectors, others: Vectors) -> Iterator[np.ndarray]:
    """The products of some queries after the other with all others, `[some, others]`, in dense pieces."""
    for start in range(0, queries.shape[0], BLOCK):
        product = queries[start : start + BLOCK] @ others.T
        yield product if isinstance(product, np.ndarray) else product.toarray()


@torch.no_grad()
def word_in(run: Reader, text: str, word: str, occurrence: int = 0) -> np.ndarray:
    """What stands for a word in its text, `[dim]`: the mean of the vectors of its tokens.

    Static vectors are the same in every text where the word becomes the same tokens; contextual ones tell its senses apart:
    `similarities(np.stack([word_in(run, text, "bank") for text in texts]))`.

    Args:
        run: what reads the text; not a bag of words, which knows no places.
        text: the sentence.
        word: spelt as there; a whole word.
        occurrence: which one, counted from 0.

    Raises:
        RequestError: the word is not there, or behind the tokens that the model reads; a family without vectors of tokens.
    """
    found = [match.span() for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text)]
    if not found:
        raise RequestError(f"word: {word!r} does not stand in {text[:80]!r} as a whole word")
    if not -len(found) <= occurrence < len(found):
        raise RequestError(f"word: {word!r} is {len(found)} times in {text[:80]!r}; number {occurrence} was asked for")
    first, last = found[occurrence]
    tokens = torch.from_numpy(_rows(run, [(text,)], "cut")[0][0]).unsqueeze(0)
    spans = run.tokenizer.inner.encode(text, add_special_tokens=False).offsets
    before = int(run.model.frame[0] is not None)
    end = tokens.shape[1] - int(run.model.frame[2] is not None)
    places = [i + before for i, (start, stop) in enumerate(spans) if start < last and stop > first]
    if not places or places[-1] >= end:
        raise RequestError(f"word: {word!r} stands behind the tokens that model.context={run.model.context} reads")
    model = run.model.eval()
    try:
        vectors = model.vectors(tokens.to(next(iter(model.state_dict().values())).device))
    except NotImplementedError:
        raise RequestError(f"{type(model).__name__}: a family without vectors of tokens") from None
    return vectors[0, places].float().mean(0).cpu().numpy()
