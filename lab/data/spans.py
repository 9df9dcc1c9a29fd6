"""Span corruption: spans of a text are replaced by sentinels, and are what is to be predicted (T5, Raffel et al. 2020, section
3.1.4). `Thank you for inviting me` may become `Thank <0> inviting <1>` with the target `<0> you for <1> me`.
"""

from __future__ import annotations

import numpy as np

from lab.data.arrange import PairBatch, paired, wasted
from lab.data.module import DataModule
from lab.data.packing import Packing, Rows
from lab.data.store import Prepared
from lab.data.tokenizers import Tokenizer
from lab.errors import RequestError

SHARE, MEAN = 0.15, 3.0
"""Of the tokens, that is taken out, and length of the spans, in T5."""


def counts(lengths: np.ndarray, share: float, mean: float) -> tuple[np.ndarray, np.ndarray]:
    """How many tokens of texts of these lengths, each at least 2, are taken out, and in how many spans."""
    noise = np.round(lengths * share).astype(int).clip(1, lengths - 1)
    spans = np.round(noise / mean).astype(int).clip(1, np.minimum(noise, lengths - noise))
    return noise, spans


def parted(random: np.random.Generator, items: int, pieces: int) -> np.ndarray:
    """`[pieces]` sizes, at least 1, of so many items in all; every way to part them has the same chance."""
    cuts = 1 + np.sort(random.choice(items - 1, pieces - 1, replace=False))
    return np.diff(cuts, prepend=0, append=items)


def corrupted(
    random: np.random.Generator, tokens: np.ndarray, noise: int, spans: int, sentinels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Source and target of a text, `[tokens]` each: it begins with what is kept and ends with what is taken out."""
    kept, taken = parted(random, len(tokens) - noise, spans), parted(random, noise, spans)
    pieces = np.split(tokens, np.cumsum(np.stack([kept, taken], axis=1).ravel())[:-1])
    marks = [sentinels[number : number + 1] for number in range(spans)]
    source = [part for pair in zip(pieces[::2], marks, strict=True) for part in pair]
    target = [part for pair in zip(marks, pieces[1::2], strict=True) for part in pair]
    return np.concatenate(source), np.concatenate(target)


class Corrupted:
    """Rows of text, corrupted. A row's number counts on from epoch to epoch, so that each epoch takes out other spans.

    What is taken out depends on the seed, the epoch and the row alone; how many tokens, on the row's length.

    Args:
        rows: the text; rows of one token are left out.
        tokenizer: has sentinels.
        share, mean: of the tokens that are taken out, and the length of their spans.
        seed: of the spans.

    Raises:
        RequestError: fewer sentinels than a row has spans.
    """

    def __init__(self, rows: Rows, tokenizer: Tokenizer, share: float, mean: float, seed: int) -> None:
        self.text, self.tokenizer, self.seed = rows, tokenizer, seed
        self.numbers = np.flatnonzero(rows.lengths >= 2)
        sizes = rows.lengths[self.numbers]
        self.noise, self.spans = counts(sizes, share, mean)
        most = int(self.spans.max(initial=0))
        if not len(tokenizer.sentinels):
            raise RequestError("objective=span: the tokenizer has no sentinels; add model.special=[end,pad,sentinels]")
        if most > len(tokenizer.sentinels):
            raise RequestError(
                f"objective.mean={mean}: {most} spans in a row of model.context={rows.context + 1}, and the tokenizer has "
                f"{len(tokenizer.sentinels)} sentinels; take longer spans or shorter rows"
            )
        self.lengths = np.stack([sizes - self.noise + self.spans, self.noise + self.spans], axis=1) + 1

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def waste(self) -> float:
        """The share of padding if all rows were one batch."""
        return wasted(self.lengths)

    def scored(self, indices: np.ndarray) -> int:
        """How many targets these rows have."""
        return int(self.lengths[indices % len(self), 1].sum())

    def read(self, indices: np.ndarray) -> int:
        """How many tokens these rows have, of both sides."""
        return int(self.lengths[indices % len(self)].sum())

    def batch(self, indices: np.ndarray, scored: int | None = None) -> PairBatch:
        """The rows with these numbers, `[rows]`; `scored` is the whole step's, by default this batch's."""
        sources, targets = zip(*(self._pair(*divmod(int(i), len(self))) for i in indices), strict=True)
        special = self.tokenizer.document_id, self.tokenizer.id("end"), self.tokenizer.id("pad")
        return paired(sources, targets, *special, indices, scored)

    def _pair(self, epoch: int, row: int) -> tuple[np.ndarray, np.ndarray]:
        number = self.numbers[row]
        start = self.text.starts[number]
        tokens = self.text.tokens.ids[start : start + self.text.lengths[number]].astype(np.int64)
        random = np.random.default_rng([self.seed, epoch, row])
        return corrupted(random, tokens, self.noise[row], self.spans[row], self.tokenizer.sentinels)


class SpanModule(DataModule):
    """Batches of corrupted text. What is validated is corrupted the same way whatever the seed, and with the share and the mean
    that are the default whatever they are in training, so that all are asked the same.

    Args:
        text: as `DataModule`; each row is one text here.
        share: of the tokens, that is taken out; over 0 and under 1.
        mean: length of the spans; at least 1.
        sizes: as `DataModule`.

    Raises:
        RequestError: rows too short for a span, or too few sentinels.
    """

    def __init__(self, *text, share: float = SHARE, mean: float = MEAN, **sizes) -> None:
        self.share, self.mean = share, mean
        super().__init__(*text, **sizes)

    def laid(self, prepared: Prepared, packing: Packing, context: int, seed: int, training: bool) -> Corrupted:
        if context < 4:
            raise RequestError(f"model.context={context}: too short for spans of text; 4 at least")
        # One token less than a row holds: the end follows.
        rows = packing.rows(prepared.train if training else prepared.validation, context - 1, training)
        if not training:
            return Corrupted(rows, prepared.tokenizer, SHARE, MEAN, 0)
        return Corrupted(rows, prepared.tokenizer, self.share, self.mean, seed)

    def step_rows(self, step: int) -> np.ndarray:
        """`[rows]`, which rows an optimizer step takes, counted on from epoch to epoch."""
        epochs = np.arange(step * self.rows, (step + 1) * self.rows) // len(self.train_rows)
        return super().step_rows(step) + epochs * len(self.train_rows)
