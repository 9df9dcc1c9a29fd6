"""Packings: how documents are laid into rows of equal length."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from lab.data.store import Tokens
from lab.layout import IGNORE, PADDING, Layout


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows to train or validate on.

    Attributes:
        tokens: `[rows, time]` int64.
        targets: `[rows, time]` int64, the token that follows each, -100 where nothing is to be predicted. Of tagged
            words the tag's number at the first token of each; of labelled texts `[rows]`, the label's number.
        layout: which document each token is from and where it stands.
        scored: how many targets the whole optimizer step predicts, over its ranks and accumulated
            micro-batches; the sum of a micro-batch's losses divided by it adds up to the step's mean loss. In
            validation: of this batch.
        counted: how many targets this batch predicts.
        read: in training, how many tokens the whole optimizer step reads: what a budget counts.
        lengths: `[segments]`, how many tokens see each other: the lengths of the documents' pieces in the
            rows, or of the rows where attention crosses documents. Padding is in none.
        segments: `[rows, time]` int64, which text of its example a token is from: 0, or 1 for the second.
        distances: `[rows, time]` int64, how many tokens before its target what answers it stands; 0 where nothing is
            asked. None where that is not known.
        examples: `[rows]`, the numbers of the examples, in `Prepared.examples` for validation; None for plain text.
    """

    tokens: Tensor
    targets: Tensor
    layout: Layout
    scored: int
    counted: int
    lengths: np.ndarray

    read: int = 0
    segments: Tensor | None = None
    distances: Tensor | None = None
    examples: np.ndarray | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same batch on another device."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor | Layout):
                moved[field.name] = value.to(device, non_blocking=non_blocking)
        return replace(self, **moved)

    def emptied(self) -> Self:
        """The same rows with nothing to predict."""
        nothing = torch.full_like(self.targets, IGNORE)
        return replace(self, targets=nothing, scored=0, counted=0, lengths=np.zeros(0, int), examples=np.zeros(0, int))


class Laid(Protocol):
    """Rows that batches are made of."""

    def __len__(self) -> int:
        """How many rows there are."""

    @property
    def waste(self) -> float:
        """The share of the rows' places that is padding."""

    def scored(self, indices: np.ndarray) -> int:
        """How many targets the rows with these numbers, `[rows]`, have in training."""

    def read(self, indices: np.ndarray) -> int:
        """How many tokens the rows with these numbers, `[rows]`, hold, padding left out."""

    def batch(self, indices: np.ndarray, scored: int | None = None) -> Batch:
        """The rows with these numbers, `[rows]`; `scored` is the whole step's, by default this batch's."""


class Packing(Protocol):
    """A way to lay documents into rows.

    Attributes:
        measures: positions tell the distance of two tokens that see each other.
        joins: documents share rows as if each had one to itself.
    """

    @property
    def measures(self) -> bool:
        """See above."""

    @property
    def joins(self) -> bool:
        """See above."""

    def rows(self, tokens: Tokens, context: int, training: bool) -> Rows:
        """Rows of `context` tokens each."""


@dataclass(frozen=True)
class Packed:
    """Documents one after the other as one stream, cut into rows: no padding but in the last row.

    A document that a row cuts goes on in the next row, without what it said before.

    Args:
        mask: attention stays within a document, else within the row.
        restart: positions begin at 0 in each document (and in each row), else in each row only.
    """

    mask: bool = True
    restart: bool = True

    @property
    def joins(self) -> bool:
        """Documents share rows as if each had one to itself."""
        return self.mask and self.restart

    @property
    def measures(self) -> bool:
        """Positions tell the distance of two tokens that see each other."""
        return self.mask or not self.restart

    def rows(self, tokens: Tokens, context: int, training: bool) -> Rows:
        """Rows of `context` tokens each. Training leaves out what doesn't fill a row, validation pads it."""
        total = len(tokens.ids)
        starts = np.arange(0, total - context + 1 if training else total, context)
        return Rows(tokens, context, starts, np.minimum(context, total - starts), training, self.mask, self.restart)


@dataclass(frozen=True)
class Padded:
    """One document a row, the rest of the row is padding; what is longer than a row goes on in the next."""

    measures = True
    joins = False

    def rows(self, tokens: Tokens, context: int, training: bool) -> Rows:
        """Rows of `context` tokens each."""
        lengths = np.diff(tokens.offsets)
        pieces = -(-lengths // context)
        first = np.cumsum(pieces) - pieces
        done = (np.arange(pieces.sum()) - np.repeat(first, pieces)) * context
        starts = np.repeat(tokens.offsets[:-1], pieces) + done
        return Rows(tokens, context, starts, np.minimum(context, np.repeat(lengths, pieces) - done), training)


@dataclass(frozen=True, eq=False)
class Rows:
    """All rows of a part, each a piece of the stream of documents: made when asked for.

    In training the last token of a document predicts the document token, so that a model learns where to end.
    In validation it predicts nothing: each token of the text, so each byte, is predicted exactly once, and
    nothing else.

    Attributes:
        tokens: the documents.
        context: tokens in a row.
        starts: `[rows]`, where in `tokens.ids` each row begins.
        lengths: `[rows]`, how many tokens it holds; the rest is padding.
        training: whether the rows are to learn from.
        mask: attention stays within a document.
        restart: positions begin at 0 in each document.
    """

    tokens: Tokens
    context: int
    starts: np.ndarray
    lengths: np.ndarray
    training: bool
    mask: bool = True
    restart: bool = True

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def waste(self) -> float:
        """The share of the rows' places that is padding."""
        return 1 - int(self.lengths.sum()) / max(1, len(self) * self.context)

    def scored(self, indices: np.ndarray) -> int:
        """How many targets these rows have in training: one for each token."""
        return self.read(indices)

    def read(self, indices: np.ndarray) -> int:
        """How many tokens these rows hold."""
        return int(self.lengths[indices].sum())

    def batch(self, indices: np.ndarray, scored: int | None = None) -> Batch:
        """The rows with these numbers, `[rows]`; `scored` is the whole step's, by default this batch's."""
        ids, offsets = self.tokens.ids, self.tokens.offsets
        columns = np.arange(self.context)
        places = self.starts[indices, None] + columns  # [rows, time], where in the stream
        present = columns < self.lengths[indices, None]
        # One token more than the rows hold: the target of the last. Behind the stream stand document tokens.
        stream = ids.take(np.append(places, places[:, -1:] + 1, axis=1), mode="clip").astype(np.int64)
        stream[:, :-1][~present] = self.tokens.document_id
        documents = np.searchsorted(offsets, places, side="right") - 1
        ends = places + 1 == offsets[np.minimum(documents, len(offsets) - 2) + 1]
        targets = np.where(ends, self.tokens.document_id if self.training else IGNORE, stream[:, 1:])
        targets[~present] = IGNORE

        numbers = np.where(present, documents - documents[:, :1], PADDING)
        begins = np.maximum(offsets[documents.clip(max=len(offsets) - 2)] - self.starts[indices, None], 0)
        positions = np.where(present & self.restart, columns - begins, columns)
        if not self.mask:
            numbers = np.where(present, 0, PADDING)
        counted = int((targets != IGNORE).sum())
        plain = bool((numbers == 0).all() and (positions == columns).all())
        return Batch(
            torch.from_numpy(stream[:, :-1].copy()),
            torch.from_numpy(targets),
            Layout(
                torch.from_numpy(numbers),
                torch.from_numpy(positions),
                span=self.context,
                padded=not present.all(),
                single=plain,
                plain=plain,
            ),
            counted if scored is None else scored,
            counted,
            _runs(numbers),
        )


def _runs(numbers: np.ndarray) -> np.ndarray:
    """Lengths of the runs of equal numbers in the rows of `[rows, time]`, padding left out."""
    begins = np.ones(numbers.shape, bool)
    begins[:, 1:] = numbers[:, 1:] != numbers[:, :-1]
    places = np.flatnonzero(begins)
    return np.diff(places, append=numbers.size)[numbers.ravel()[places] != PADDING]
