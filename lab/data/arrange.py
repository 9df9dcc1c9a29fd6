"""Arrangements: how an example is laid into a row, or two, for a model. Rows are as long as the longest of their batch.

The special tokens are the tokenizer's: `cls` begins a row, `end` ends a text, `sep` stands between texts and after them.
Where the family asked for none, the document token does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lab.data.packing import Batch
from lab.data.store import Prepared, Tokens
from lab.errors import RequestError
from lab.layout import IGNORE, PADDING, Frame, Layout

if TYPE_CHECKING:
    from lab.data.tokenizers import Tokenizer


@dataclass(frozen=True, eq=False)
class PairBatch(Batch):
    """Rows of an encoder-decoder: `tokens`, `targets`, `layout` and `lengths` are of the target side.

    Attributes:
        source: `[rows, source time]` int64, the source, the end token last.
        source_layout: of the source.
        source_lengths: `[rows]`, tokens of the source.
    """

    source: Tensor = None  # type: ignore[assignment]
    source_layout: Layout = None  # type: ignore[assignment]
    source_lengths: np.ndarray = None  # type: ignore[assignment]

    def emptied(self) -> PairBatch:
        """The same rows with nothing to predict."""
        return replace(super().emptied(), source_lengths=np.zeros(0, int))


class Arranged(ABC):
    """The rows of one part of the examples.

    Args:
        prepared: the examples.
        part: `train` or `validation`.
        context: tokens that a row has at most.
        too_long: `cut` what is longer at its end, or `refuse`.

    Attributes:
        lengths: `[examples, sides]`, tokens of each side after cutting: what batches are sorted by.
        cut: how many examples were cut.

    Raises:
        RequestError: an example that is longer, if those are refused, or a context without room for text.
    """

    least = 4
    """Tokens that a row needs for special tokens and some text."""

    def __init__(self, prepared: Prepared, part: str, context: int, too_long: str = "cut") -> None:
        self.prepared, self.tokenizer, self.context = prepared, prepared.tokenizer, context
        self.tokens: Tokens = getattr(prepared, part)
        if context < self.least:
            raise RequestError(f"model.context={context}: too short for these examples; {self.least} at least")
        whole = self.measured()
        longer = (whole > context).any(axis=1)
        self.cut = int(longer.sum())
        self.lengths = np.minimum(whole, context)
        if self.cut and too_long == "refuse":
            raise RequestError(
                f"data.too_long=refuse: {self.cut:,} of {len(whole):,} examples ({part}) are longer than "
                f"model.context={context}, the longest {whole.max():,} tokens; raise model.context, or data.too_long=cut"
            )

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def waste(self) -> float:
        """The share of padding if all rows were one batch; batches of like length have less."""
        return wasted(self.lengths)

    @abstractmethod
    def measured(self) -> np.ndarray:
        """`[examples, sides]`, tokens of each side with its special ones, before cutting."""

    @abstractmethod
    def scored(self, indices: np.ndarray) -> int:
        """How many targets these examples have."""

    def read(self, indices: np.ndarray) -> int:
        """How many tokens these examples have, of all sides."""
        return int(self.lengths[indices].sum())

    @abstractmethod
    def batch(self, indices: np.ndarray, scored: int | None = None) -> Batch:
        """The rows with these numbers, `[rows]`; `scored` is the whole step's, by default this batch's."""

    @cached_property
    def padding(self) -> int:
        """The token that stands where nothing does."""
        return self.tokenizer.id("pad")

    def rows(self, arrays: Sequence[np.ndarray], fill: int | None = None) -> Tensor:
        """`[rows, time]` int64 of arrays of different length, the rest filled, with padding unless told."""
        return table(arrays, self.padding if fill is None else fill)


def table(arrays: Sequence[np.ndarray], fill: int) -> Tensor:
    """`[rows, time]` int64 of arrays of different length, the rest filled."""
    filled = np.full((len(arrays), max(map(len, arrays))), fill, np.int64)
    for row, array in zip(filled, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(filled)


def wasted(lengths: np.ndarray) -> float:
    """The share of padding if rows of these lengths, `[rows, sides]`, were one batch."""
    return 1 - float(lengths.sum() / (lengths.max(axis=0).sum() * len(lengths)))


def layout(lengths: np.ndarray) -> Layout:
    """Rows of one document each, of these lengths."""
    width = int(lengths.max())
    columns = np.arange(width)
    present = columns < lengths[:, None]
    full = bool(present.all())
    documents = torch.from_numpy(np.where(present, 0, PADDING))
    positions = torch.arange(width).expand(len(lengths), width)
    return Layout(documents, positions, span=width, padded=not full, single=full, plain=full)


def paired(
    sources: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    begin: int,
    end: int,
    padding: int,
    indices: np.ndarray,
    scored: int | None,
) -> PairBatch:
    """Rows of an encoder-decoder: source and end; beginning and target, which predict target and end.

    Args:
        sources, targets: tokens, `[time]` each.
        begin, end, padding: special tokens.
        indices: `[rows]`, the numbers of the examples.
        scored: targets of the whole step, by default this batch's.
    """
    reads, lengths = (np.array([len(row) + 1 for row in side]) for side in (sources, targets))
    counted = int(lengths.sum())
    return PairBatch(
        table([np.append(begin, target) for target in targets], padding),
        table([np.append(target, end) for target in targets], IGNORE),
        layout(lengths),
        counted if scored is None else scored,
        counted,
        lengths,
        examples=np.asarray(indices),
        source=table([np.append(source, end) for source in sources], padding),
        source_layout=layout(reads),
        source_lengths=reads,
    )


class Sides(Arranged):
    """Pairs for an encoder-decoder: source and end; document token and target, which predict target and end."""

    def measured(self) -> np.ndarray:
        return np.stack([self.tokens.lengths(0), self.tokens.lengths(1)], axis=1) + 1

    def scored(self, indices: np.ndarray) -> int:
        return int(self.lengths[indices, 1].sum())

    def batch(self, indices: np.ndarray, scored: int | None = None) -> PairBatch:
        sources, targets = ([self.tokens.field(i, side)[: self.context - 1] for i in indices] for side in (0, 1))
        special = self.tokenizer.document_id, self.tokenizer.id("end"), self.padding
        return paired(sources, targets, *special, indices, scored)


class Framed(Arranged):
    """Texts with the special tokens of a family around them.

    Args:
        frame: of the model's family.
        arranged: as `Arranged`.
    """

    def __init__(self, *arranged, frame: Frame = ("cls", "sep", "sep"), **more) -> None:
        self.frame = frame
        super().__init__(*arranged, **more)


class Both(Framed):
    """Pairs for a model that reads each side by itself, as search does: begin, text, end. One target a row: its own number."""

    @property
    def framing(self) -> int:
        """How many tokens stand around a text."""
        return framing(self.frame)

    def measured(self) -> np.ndarray:
        return np.stack([self.tokens.lengths(0), self.tokens.lengths(1)], axis=1) + self.framing

    def scored(self, indices: np.ndarray) -> int:
        return len(indices)

    def _side(self, i: int, side: int) -> np.ndarray:
        return framed(self.tokenizer, self.frame, [self.tokens.field(i, side)[: self.context - self.framing]])[0]

    def batch(self, indices: np.ndarray, scored: int | None = None) -> PairBatch:
        source, target = (self.rows([self._side(i, side) for i in indices]) for side in (0, 1))
        lengths = self.lengths[indices]
        return PairBatch(
            target,
            torch.arange(len(indices)),
            layout(lengths[:, 1]),
            len(indices) if scored is None else scored,
            len(indices),
            lengths[:, 1],
            examples=np.asarray(indices),
            source=source,
            source_layout=layout(lengths[:, 0]),
            source_lengths=lengths[:, 0],
        )


class Predicting(Arranged):
    """Rows of one text, each of whose tokens is to predict something or nothing."""

    @abstractmethod
    def row(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """What an example's row holds, and what each of its tokens is to predict: both `[time]`."""

    def batch(self, indices: np.ndarray, scored: int | None = None) -> Batch:
        inputs, targets = zip(*(self.row(i) for i in indices), strict=True)
        lengths = self.lengths[indices, 0]
        counted = sum(int((row != IGNORE).sum()) for row in targets)
        return Batch(
            self.rows(inputs),
            self.rows(targets, IGNORE),
            layout(lengths),
            counted if scored is None else scored,
            counted,
            lengths,
            examples=np.asarray(indices),
        )


class Answers(Predicting):
    """Pairs for a decoder: document token, source, separator, target, of which the target and the end are predicted.

    A source that leaves no room loses its end, so that at least half of the row is the target's.
    """

    def measured(self) -> np.ndarray:
        return (self.tokens.lengths(0) + self.tokens.lengths(1) + 2)[:, None]

    def _parts(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        source, target = self.tokens.field(i, 0), self.tokens.field(i, 1)
        room = self.context - 2
        target = target[: max(room - len(source), room - room // 2)]
        return source[: room - len(target)], target

    def scored(self, indices: np.ndarray) -> int:
        return sum(len(self._parts(i)[1]) + 1 for i in indices)

    def row(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        begin, end, separator = (self.tokenizer.id(role) for role in ("document", "end", "sep"))
        source, target = self._parts(i)
        inputs = np.concatenate(([begin], source, [separator], target))
        return inputs, np.concatenate((np.full(len(source) + 1, IGNORE), target, [end]))


class Sequences(Framed):
    """Labelled texts: begin, text, end; of pairs begin, text, between, second text, end. One target a row: the label."""

    @property
    def texts(self) -> int:
        """How many texts an example has."""
        return self.tokens.fields - 1

    @property
    def framing(self) -> int:
        """How many tokens stand around the texts."""
        return framing(self.frame, self.texts)

    @property
    def least(self) -> int:  # type: ignore[override]
        """With a token of each of two texts."""
        return self.framing + 2

    def measured(self) -> np.ndarray:
        return sum((self.tokens.lengths(i) for i in range(self.texts)), np.array([self.framing]))[:, None]

    def scored(self, indices: np.ndarray) -> int:
        return len(indices)

    def _kept(self, i: int) -> list[np.ndarray]:
        texts = [self.tokens.field(i, number) for number in range(self.texts)]
        return shortened(texts, self.context - self.framing)

    def targets(self, indices: np.ndarray) -> np.ndarray:
        """`[rows]`, what the rows of these examples are to give."""
        return np.array([int(self.tokens.field(i, self.texts)[0]) for i in indices])

    def batch(self, indices: np.ndarray, scored: int | None = None) -> Batch:
        rows = [framed(self.tokenizer, self.frame, self._kept(i)) for i in indices]
        lengths = self.lengths[indices, 0]
        return Batch(
            self.rows([tokens for tokens, _ in rows]),
            torch.from_numpy(self.targets(indices)),
            layout(lengths),
            len(indices) if scored is None else scored,
            len(indices),
            lengths,
            segments=self.rows([segments for _, segments in rows], 0),
            examples=np.asarray(indices),
        )


class Together(Sequences):
    """Pairs for a model that reads both sides in one row, as a re-ranker does. One target a row: its own number.

    Args:
        negatives: wrong answers that each query is read with besides, taken for as long as the right one.
        arranged: as `Sequences`.
    """

    def __init__(self, *arranged, negatives: int = 0, **settings) -> None:
        super().__init__(*arranged, **settings)
        self.negatives = min(negatives, len(self) - 1)

    def read(self, indices: np.ndarray) -> int:
        return super().read(indices) * (1 + self.negatives)

    @property
    def texts(self) -> int:
        return self.tokens.fields

    def targets(self, indices: np.ndarray) -> np.ndarray:
        return np.arange(len(indices))


def framing(frame: Frame, texts: int = 1) -> int:
    """How many tokens `framed` puts around one text or two."""
    begin, between, end = (role is not None for role in frame)
    return begin + between * (texts - 1) + end


def shortened(texts: Sequence[np.ndarray], room: int) -> list[np.ndarray]:
    """One or two texts in `room` tokens together: of two that are too long the longer is cut first, as BERT does."""
    if len(texts) == 1:
        return [texts[0][:room]]
    least = min(*map(len, texts), room // 2)
    first = room - least if len(texts[0]) > len(texts[1]) else least
    return [texts[0][:first], texts[1][: room - first]]


def framed(tokenizer: Tokenizer, frame: Frame, texts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """One or two texts as a row that is read, and which of them each of its tokens is of: both `[time]`.

    Args:
        tokenizer: knows the special tokens.
        frame: which of them stand where.
        texts: their tokens.
    """
    begin, *after = ([] if role is None else [tokenizer.id(role)] for role in frame)
    closing = [*after[:1] * (len(texts) - 1), after[1]]
    parts = [np.concatenate((text, more)) for text, more in zip(texts, closing, strict=True)]
    parts[0] = np.concatenate((begin, parts[0]))
    segments = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return np.concatenate(parts).astype(np.int64), segments


class Tags(Predicting):
    """Words with a tag each for an encoder: `cls`, tokens, `sep`. The targets are the tags, at the first token of a word."""

    def measured(self) -> np.ndarray:
        return (self.tokens.lengths(0) + 2)[:, None]

    def _tags(self, i: int) -> np.ndarray:
        return self.tokens.field(i, 1)[: self.context - 2]

    def scored(self, indices: np.ndarray) -> int:
        return sum(int((self._tags(i) > 0).sum()) for i in indices)

    def row(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        tags, tokens = self._tags(i), self.tokens.field(i, 0)[: self.context - 2]
        inputs = np.concatenate(([self.tokenizer.id("cls")], tokens, [self.tokenizer.id("sep")]))
        return inputs, np.concatenate(([IGNORE], np.where(tags > 0, tags - 1, IGNORE), [IGNORE]))
