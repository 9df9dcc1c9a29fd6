"""Masking: which tokens of a row a model has to guess, and what stands in their place (BERT, Devlin et al. 2019, section 3.1).

What is drawn depends on the seed, the step and the row's number alone: devices, micro-batches and resumed runs see the same.
How many tokens a row hides depends on its length alone, so every rank knows how many the whole step has. What training hides
is a choice; validation hides as BERT does whatever was chosen, so that all answer the same questions.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from lab.data.arrange import framed, layout, table, wasted
from lab.data.packing import Batch, Laid, Packing
from lab.data.store import Prepared, Tokens
from lab.data.tokenizers import Tokenizer
from lab.errors import RequestError
from lab.layout import IGNORE, Frame

FRAME: Frame = ("cls", "sep", "sep")
"""Of two pieces of text in a row."""


@dataclass(frozen=True)
class Masking:
    """Documents laid into rows by a packing, each ended by a separator, with tokens hidden.

    Args:
        share: of a row's tokens that are to be guessed, special ones apart; at least one.
        mask: the share of those in whose place the mask token stands.
        random: the share of those in whose place a token drawn from the vocabulary stands. The rest stay as they are.
        dynamic: a row hides others each time it is read (RoBERTa, Liu et al. 2019, section 4.1), else always the same.

    Raises:
        RequestError: a share out of range.
    """

    share: float = 0.15
    mask: float = 0.8
    random: float = 0.1
    dynamic: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise RequestError(f"objective.masking.share: {self.share}; a share of the tokens, over 0 and under 1")
        for name, share in {"mask": self.mask, "random": self.random}.items():
            if not 0 <= share <= 1:
                raise RequestError(f"objective.masking.{name}: {share}; a share of what is guessed, from 0 to 1")
        if self.mask + self.random > 1 + 1e-9:
            raise RequestError(
                f"objective.masking.random: {self.random}; with objective.masking.mask of {self.mask} more than all"
            )

    def counts(self, tokens: np.ndarray) -> np.ndarray:
        """How many tokens rows hide that have so many to choose from: `[rows]` to the same."""
        return np.where(tokens > 0, np.maximum(1, np.rint(self.share * tokens)), 0).astype(np.int64)

    def rows(self, prepared: Prepared, part: str, packing: Packing, context: int, seed: int) -> MaskedRows:
        """The rows of a part, `train` or `validation`; what validation hides is always the same, and as `Masking()` says."""
        training, tokenizer = part == "train", prepared.tokenizer
        tokens = closed(getattr(prepared, part), tokenizer.id("sep"))
        laid = packing.rows(tokens, context, training)
        # Each document has its first and its last token, which are not guessed, in some rows.
        begins = _inside(tokens.offsets[:-1], laid.starts, laid.lengths)
        ends = _inside(tokens.offsets[1:] - 1, laid.starts, laid.lengths)
        hidden = self if training else Masking()
        return MaskedRows(hidden, laid, laid.lengths - begins - ends, tokenizer, (seed,) if training else ())


def _inside(places: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """`[rows]`, how many of the ascending places lie in each row."""
    return np.searchsorted(places, starts + lengths) - np.searchsorted(places, starts)


class Closed:
    """Tokens of documents with one more after each, made where they are asked for: what a packing needs of an array."""

    def __init__(self, tokens: Tokens, last: int) -> None:
        self.tokens, self.last = tokens, last
        self.offsets = tokens.offsets + np.arange(len(tokens.offsets))

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def take(self, places: np.ndarray, mode: Literal["clip"] = "clip") -> np.ndarray:
        """Those at these places; beyond the end, the last one."""
        places = np.minimum(places, len(self) - 1)
        documents = np.searchsorted(self.offsets, places, side="right") - 1
        ends = places + 1 == self.offsets[documents + 1]
        return np.where(ends, self.last, self.tokens.ids.take(places - documents, mode=mode))


def closed(tokens: Tokens, last: int) -> Tokens:
    """The same documents, each with this token at its end."""
    ids: Any = Closed(tokens, last)
    return replace(tokens, ids=ids, offsets=ids.offsets)


class Redrawn:
    """Rows whose draws may be others at every step.

    Attributes:
        masking: what is hidden, and whether every step draws anew.
        key: what draws depend on beside the row's number.
    """

    masking: Masking
    key: tuple[int, ...]

    def at(self, step: int) -> Self:
        """The rows as an optimizer step reads them."""
        if not self.masking.dynamic:
            return self
        here = copy.copy(self)
        here.key = (*self.key, step)
        return here


class MaskedRows(Redrawn):
    """Rows with tokens hidden.

    Args:
        masking: what is hidden.
        laid: the rows as they are.
        choosable: `[rows]`, how many of a row's tokens may be hidden.
        tokenizer: says which those are.
        key: what draws depend on beside the row's number.
    """

    def __init__(
        self, masking: Masking, laid: Laid, choosable: np.ndarray, tokenizer: Tokenizer, key: tuple[int, ...]
    ) -> None:
        self.masking, self.laid, self.key = masking, laid, key
        self.counts = masking.counts(choosable)
        self.hiding = Hiding(masking, tokenizer)

    def __len__(self) -> int:
        return len(self.laid)

    @property
    def waste(self) -> float:
        """The share of the rows' places that is padding."""
        return self.laid.waste

    def scored(self, indices: np.ndarray) -> int:
        """How many tokens these rows hide."""
        return int(self.counts[indices].sum())

    def read(self, indices: np.ndarray) -> int:
        """How many tokens these rows hold."""
        return self.laid.read(indices)

    def batch(self, indices: np.ndarray, scored: int | None = None) -> Batch:
        """The rows with these numbers, `[rows]`; `scored` is the whole step's, by default this batch's."""
        plain = self.laid.batch(indices)
        tokens, padding = plain.tokens.numpy(), plain.layout.padding.numpy()
        targets = np.full_like(tokens, IGNORE)
        for row, index in enumerate(indices):
            draws = np.random.default_rng([*self.key, int(index)])
            self.hiding.hide(draws, tokens[row], targets[row], int(self.counts[index]), ~padding[row])
        counted = self.scored(indices)
        return replace(
            plain,
            targets=torch.from_numpy(targets),
            scored=counted if scored is None else scored,
            counted=counted,
        )


class Hiding:
    """What stands in the place of hidden tokens.

    Raises:
        RequestError: a tokenizer without a mask token.
    """

    def __init__(self, masking: Masking, tokenizer: Tokenizer) -> None:
        self.masking, self.mask = masking, tokenizer.id("mask")
        self.never = np.unique([tokenizer.id(role) for role in ("document", "cls", "sep", "pad")])
        self.ordinary = np.setdiff1d(np.arange(tokenizer.vocab_size), [*tokenizer.specials.values()])

    def hide(
        self, draws: np.random.Generator, tokens: np.ndarray, targets: np.ndarray, count: int, present: np.ndarray
    ) -> None:
        """Hide so many tokens of a row, `[time]`, in place, and make them its targets."""
        chosen = draws.choice(np.flatnonzero(present & ~np.isin(tokens, self.never)), count, replace=False)
        targets[chosen] = tokens[chosen]
        fate, others = draws.random(count), draws.choice(self.ordinary, count)
        kept = np.where(fate < self.masking.mask + self.masking.random, others, tokens[chosen])
        tokens[chosen] = np.where(fate < self.masking.mask, self.mask, kept)


@dataclass(frozen=True, eq=False)
class PairedBatch(Batch):
    """Rows of two pieces of text.

    Attributes:
        follows: `[rows]` int64, 1 where the second piece follows the first in its document, 0 where it is of another
            document, -100 where that is not asked.
        pairs: how many rows the whole optimizer step has; in validation: this batch.
    """

    follows: Tensor = None  # type: ignore[assignment]
    pairs: int = 0

    def emptied(self) -> PairedBatch:
        """The same rows with nothing to predict."""
        return replace(super().emptied(), follows=torch.full_like(self.follows, IGNORE), pairs=0)


@dataclass(frozen=True)
class NextSentence(Masking):
    """Two pieces of text a row, with tokens hidden: half of the time the second follows the first, else it is of another
    document (BERT, section 3.1, task 2): `[CLS] first [SEP] second [SEP]`.

    A document is cut into chunks that fill a row, and a chunk in its middle. Another packing than that has no place here. The
    second piece is as long as the shorter one of the two that it is drawn from, so that no length tells which it is.
    """

    def rows(self, prepared: Prepared, part: str, packing: Packing, context: int, seed: int) -> PairedRows:  # type: ignore[override]
        """The rows of a part, `train` or `validation`; what validation draws is always the same, as `Masking.rows`."""
        hidden, key = (self, (seed,)) if part == "train" else (NextSentence(), ())
        return PairedRows(hidden, getattr(prepared, part), prepared.tokenizer, context, key)


@dataclass(frozen=True)
class _Pair:
    """What a row of two pieces is made of.

    Attributes:
        draws: of what is hidden in it.
        first, second: tokens of the pieces.
        begins: where the second begins among all tokens; the first begins where its chunk does.
        follows: whether the second is of the same chunk.
    """

    draws: np.random.Generator
    first: int
    begins: int
    second: int
    follows: bool


def _tokens(drawn: list[_Pair]) -> np.ndarray:
    """`[rows]`, how many tokens rows have without special ones."""
    return np.array([pair.first + pair.second for pair in drawn])


class PairedRows(Redrawn):
    """Rows of two halves of chunks.

    Args:
        masking: what is hidden.
        tokens: the documents.
        tokenizer: of them.
        context: tokens in a row at most.
        key: what draws depend on beside the row's number.

    Raises:
        RequestError: fewer than two documents that can be cut, or rows too short.
    """

    def __init__(
        self, masking: Masking, tokens: Tokens, tokenizer: Tokenizer, context: int, key: tuple[int, ...]
    ) -> None:
        room = context - 3
        if room < 2:
            raise RequestError(f"model.context={context}: too short for pairs of pieces; 5 at least")
        self.masking, self.tokens, self.tokenizer, self.key = masking, tokens, tokenizer, key
        self.hiding = Hiding(masking, tokenizer)
        lengths = np.diff(tokens.offsets) - 1  # without the document token
        chunks = -(-lengths // room)
        documents = np.repeat(np.arange(len(lengths)), chunks)
        done = (np.arange(chunks.sum()) - np.repeat(np.cumsum(chunks) - chunks, chunks)) * room
        sizes = np.minimum(room, lengths[documents] - done)
        whole = sizes > 1
        self.starts, self.sizes = (tokens.offsets[documents] + 1 + done)[whole], sizes[whole]
        documents = documents[whole]
        if len(np.unique(documents)) < 2:
            raise RequestError("objective: next sentences need two documents of two tokens or more in each part")
        # Where the chunks of each chunk's own document begin and end.
        self.first, self.last = np.searchsorted(documents, documents), np.searchsorted(documents, documents, "right")

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def waste(self) -> float:
        """The share of padding if all rows were as long as the longest."""
        return wasted((self.sizes + 3)[:, None])

    def _drawn(self, indices: np.ndarray) -> list[_Pair]:
        """What each row is made of."""
        drawn = []
        for index in map(int, indices):
            draws = np.random.default_rng([*self.key, index])
            own = int(self.last[index] - self.first[index])
            other = int(draws.integers(len(self) - own))
            other += own if other >= self.first[index] else 0
            one, two = int(self.sizes[index]), int(self.sizes[other])
            follows = bool(draws.random() < 0.5)
            second = index if follows else other
            begins = int(self.starts[second] + self.sizes[second] // 2)
            drawn.append(_Pair(draws, one // 2, begins, min(one - one // 2, two - two // 2), follows))
        return drawn

    def scored(self, indices: np.ndarray) -> int:
        """How many tokens these rows hide."""
        return int(self.masking.counts(_tokens(self._drawn(indices))).sum())

    def read(self, indices: np.ndarray) -> int:
        """How many tokens these rows hold."""
        return int((_tokens(self._drawn(indices)) + 3).sum())

    def batch(self, indices: np.ndarray, scored: int | None = None) -> PairedBatch:
        """The rows with these numbers, `[rows]`; `scored` is the whole step's, by default this batch's."""
        drawn = self._drawn(indices)
        free = _tokens(drawn)
        lengths, counts = free + 3, self.masking.counts(free)
        rows = []
        for start, pair in zip(self.starts[indices], drawn, strict=True):
            places = (start, pair.first), (pair.begins, pair.second)
            rows.append(framed(self.tokenizer, FRAME, [self.tokens.ids[at : at + size] for at, size in places]))
        tokens = table([tokens for tokens, _ in rows], self.tokenizer.id("pad")).numpy()
        targets = np.full_like(tokens, IGNORE)
        for row, pair in enumerate(drawn):
            present = np.arange(tokens.shape[1]) < lengths[row]
            self.hiding.hide(pair.draws, tokens[row], targets[row], int(counts[row]), present)
        counted = int(counts.sum())
        return PairedBatch(
            torch.from_numpy(tokens),
            torch.from_numpy(targets),
            layout(lengths),
            counted if scored is None else scored,
            counted,
            lengths,
            segments=table([segments for _, segments in rows], 0),
            follows=torch.tensor([int(pair.follows) for pair in drawn]),
            pairs=len(indices),
        )
