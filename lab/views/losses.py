"""Where a model's loss is: by position, by kind of token, and in which sequences, over the text that its run validates on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lab.errors import RequestError
from lab.layout import IGNORE
from lab.views.kinds import KINDS, kinds
from lab.views.sides import hidden

if TYPE_CHECKING:
    from lab.data.packing import Batch
    from lab.runs.folder import Run

TOKENS = 20_000
"""That are predicted, unless told."""

ROWS = 16
"""That are read at a time."""

PIECE = 512
"""Places whose scores of the vocabulary are held at a time."""

SHORT = 8
"""Predicted tokens that a sequence has at least, to be among the worst."""


@dataclass(frozen=True)
class Group:
    """Tokens that are summed up: of a kind, or at some positions.

    Attributes:
        name: `punctuation`, or `5-8`.
        tokens: how many were predicted.
        loss: nats of each, as a mean.
    """

    name: str
    tokens: int
    loss: float


@dataclass(frozen=True)
class Sequence:
    """A document, or the piece of it that a row holds.

    Attributes:
        loss: nats of each predicted token, as a mean.
        tokens: how many were predicted.
        words: its tokens as text.
        losses: of each, none where it was not predicted.
    """

    loss: float
    tokens: int
    words: list[str]
    losses: list[float | None]


@dataclass(frozen=True)
class Losses:
    """What was found.

    Attributes:
        loss: nats of a predicted token, as a mean.
        tokens: predicted.
        whole: all of the validation text was read, so `loss` is what the run's record says.
        recorded: what that is; none for a model without a record.
        positions: by how many tokens of the document the model has read, or of an encoder stand up to there.
        kinds: of what was to be predicted.
        worst: sequences, the worst first.
    """

    loss: float
    tokens: int
    whole: bool
    recorded: float | None
    positions: list[Group]
    kinds: list[Group]
    worst: list[Sequence]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def losses(run: Run, tokens: int = TOKENS, worst: int = 5, code: bool = False) -> Losses:
    """The losses of a run's model over the text that it is validated on.

    Args:
        run: of a model that predicts tokens.
        tokens: to predict, as many as make whole rows; of more text rows are taken evenly.
        worst: sequences to show.
        code: the text is of programs, whose parts are kinds.

    Raises:
        RequestError: a model that predicts no tokens, or a number under 1.
    """
    from lab.config import trusted
    from lab.objectives.causal import Causal
    from lab.objectives.masked import Masked
    from lab.objectives.seq2seq import TeacherForcing
    from lab.runs.train import data_module

    if tokens < 1:
        raise RequestError(f"--tokens: {tokens}; at least 1")
    objective = trusted("objective._target_", run.config.objective._target_)
    if not issubclass(objective, Causal | Masked | TeacherForcing):
        raise RequestError(
            f"{run.folder}: objective={run.config.choices.objective} predicts no tokens of a text, so there is no loss of "
            "them to show"
        )
    data = data_module(run.config)
    if data.prepared.tokenizer.inner.get_vocab() != run.tokenizer.inner.get_vocab():
        raise RequestError(f"{run.folder}: its data gives another tokenizer now than the one that it was trained with")
    rows: Any = data.validation_rows
    order, whole = _taken(rows, tokens)
    found = _Found(run, code)
    for start in range(0, len(order), ROWS):
        batch = rows.batch(order[start : start + ROWS])
        if batch.counted:
            found.add(batch)
    return found.summed(whole, run.result.get("val/loss"), worst)


def _taken(rows: Any, tokens: int) -> tuple[np.ndarray, bool]:
    """Numbers of the rows to read, spread over all, and whether that is all of them."""
    every = np.arange(len(rows))
    some = rows.batch(every[:: max(1, len(rows) // 64)])
    each = max(1.0, some.counted / len(some.tokens))  # predictions in a row
    count = math.ceil(tokens / each)
    if count >= len(rows):
        return every, True
    return np.unique(np.linspace(0, len(rows) - 1, count).astype(int)), False


class _Found:
    """Nats of single tokens, with what they are summed up by."""

    def __init__(self, run: Run, code: bool) -> None:
        self.run, self.code = run, code
        self.nats: list[np.ndarray] = []
        self.targets: list[np.ndarray] = []
        self.before: list[np.ndarray] = []
        self.places: list[np.ndarray] = []
        self.sequences: list[tuple[float, int, np.ndarray, np.ndarray]] = []

    @torch.no_grad()
    def add(self, batch: Batch) -> None:
        """Predict what a batch asks for."""
        model: Any = self.run.model
        scored = batch.targets != IGNORE
        nats = torch.full(batch.targets.shape, math.nan)
        nats[scored] = _nats(model, hidden(model, batch)[scored], batch.targets[scored])
        masked = model.family == "encoder"
        text = torch.where(scored, batch.targets, batch.tokens) if masked else batch.tokens
        before = (
            torch.cat([torch.full_like(text[:, :1], self.run.tokenizer.document_id), text[:, :-1]], 1)
            if masked
            else text
        )
        for kept, values in ((self.targets, batch.targets), (self.before, before), (self.places, batch.layout.places)):
            kept.append(values[scored].numpy())
        self.nats.append(nats[scored].double().numpy())
        self._pieces(text.numpy(), nats.numpy(), batch, masked)

    def _pieces(self, text: np.ndarray, nats: np.ndarray, batch: Batch, masked: bool) -> None:
        """The pieces of documents in the rows of a batch, with the nats of each of their tokens."""
        for row, documents in enumerate(batch.layout.documents.numpy()):
            for document in np.unique(documents[documents >= 0]):
                places = np.flatnonzero(documents == document)
                told = nats[row, places]
                count = int((~np.isnan(told)).sum())
                if count:
                    shown = told if masked else np.concatenate([[math.nan], told[:-1]])  # beside the token itself
                    self.sequences.append((float(np.nanmean(told)), count, text[row, places], shown))

    def summed(self, whole: bool, recorded: float | None, worst: int) -> Losses:
        """All that was found."""
        if not self.nats:
            raise RequestError(f"{self.run.folder}: its validation text asks for no token")
        nats, targets, before, places = map(np.concatenate, (self.nats, self.targets, self.before, self.places))
        spelt = self.run.tokenizer.spelt
        ordered = sorted(self.sequences, key=lambda one: (one[1] < SHORT, -one[0]))[:worst]
        return Losses(
            float(nats.mean()),
            len(nats),
            whole,
            recorded,
            _by_position(nats, places),
            _by_kind(nats, kinds(self.run.tokenizer, targets, self.code, before)),
            [
                Sequence(
                    loss,
                    count,
                    [spelt(int(token)) for token in text],
                    [None if math.isnan(value) else float(value) for value in each],
                )
                for loss, count, text, each in ordered
            ],
        )


def _nats(model: Any, vectors: Tensor, targets: Tensor) -> Tensor:
    """`[places]`, the cross-entropy of each."""
    parts = [
        F.cross_entropy(model.embedding.logits(some).float(), truth, reduction="none")
        for some, truth in zip(vectors.split(PIECE), targets.split(PIECE), strict=True)
    ]
    return torch.cat(parts)


def _by_position(nats: np.ndarray, places: np.ndarray) -> list[Group]:
    """By the tokens read so far, from 1: 1, 2, 3-4, 5-8, and so on."""
    band = np.ceil(np.log2(places + 1)).astype(int)
    return [
        _group(str(2**b) if b < 2 else f"{2 ** (b - 1) + 1}-{2**b}", nats[band == b]) for b in np.unique(band).tolist()
    ]


def _by_kind(nats: np.ndarray, found: np.ndarray) -> list[Group]:
    return [_group(name, nats[found == k]) for k, name in enumerate(KINDS) if (found == k).any()]


def _group(name: str, nats: np.ndarray) -> Group:
    return Group(name, len(nats), float(nats.mean()))
