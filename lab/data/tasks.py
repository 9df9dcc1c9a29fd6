"""Synthetic tasks: made on the spot, they need no files and tell architectures apart in minutes.

A task is a class that draws rows of symbols with targets only where an answer is asked, and says how far before each
answer what it repeats stands, so that accuracy can be reported by distance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import ClassVar

import numpy as np
import tokenizers
import torch
from tokenizers import models, pre_tokenizers

from lab.data.arrange import layout
from lab.data.corpora import digest
from lab.data.packing import Batch
from lab.data.special import DOCUMENT
from lab.data.store import Prepared, Tokens
from lab.data.tokenizers import Tokenizer
from lab.errors import RequestError
from lab.layout import IGNORE
from lab.values import is_whole

BEGIN, ASK = 0, 1
"""The document token, and the symbol that asks for an answer."""


@dataclass(frozen=True)
class Drawn:
    """Rows of a task.

    Attributes:
        sequence: `[rows, time + 1]` int64 symbols: a row's tokens, and one more that only is a target.
        asked: `[rows, time + 1]` bool, which symbols are answers.
        sources: `[rows, time + 1]`, where the symbol that an answer repeats stands.
        lengths: `[rows]`, tokens of each row; what follows is padding.
    """

    sequence: np.ndarray
    asked: np.ndarray
    sources: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class Task(ABC):
    """A task.

    Args:
        length: tokens in a row at most.
        symbols: how many symbols there are, beside the two that begin a row and ask.
        train, validation: rows of each part.
        seed: of the rows; the seed of a run decides their order alone.

    Raises:
        RequestError: rows too short, too few symbols or rows.
    """

    length: int = 64
    symbols: int = 64
    train: int = 20_000
    validation: int = 1_000
    seed: int = 0

    kind: ClassVar[str] = "task"
    shortest: ClassVar[int] = 6
    fewest: ClassVar[int] = 4

    def __post_init__(self) -> None:
        least = {"length": self.shortest, "symbols": self.fewest, "seed": 0}
        for key in (field.name for field in fields(self) if field.type == "int"):
            value = getattr(self, key)
            if not is_whole(value) or value < least.get(key, 1):
                raise RequestError(f"data.{key}={value}: needs a whole number, {least.get(key, 1)} or more")

    @abstractmethod
    def draw(self, random: np.random.Generator, rows: int) -> Drawn:
        """So many rows. Symbols are numbered from 2 on."""

    def drawn(self, training: bool) -> Drawn:
        """What a part is made of: always the same."""
        count = self.train if training else self.validation
        return self.draw(np.random.default_rng([self.seed, training]), count)

    def part(self, training: bool) -> TaskRows:
        """The rows of a part."""
        return TaskRows(self.drawn(training))

    def prepared(self, train: TaskRows, validation: TaskRows) -> Prepared:
        """What a run's record takes from its data; the tokenizer writes symbols as words."""
        return Prepared(
            train.tokens,
            validation.tokens,
            self.tokenizer(),
            data_fingerprint=digest(type(self).__name__, tuple(asdict(self).items())),
            validation_bytes=0,
            lost_share=0.0,
            folder=Path(),
        )

    def tokenizer(self) -> Tokenizer:
        """Writes symbols as `s0`, `s1`, ..., and the one that asks as `?`."""
        names = {DOCUMENT: BEGIN, "?": ASK} | {f"s{number}": 2 + number for number in range(self.symbols)}
        inner = tokenizers.Tokenizer(models.WordLevel(names, unk_token="?"))
        inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        inner.add_special_tokens([DOCUMENT])
        return Tokenizer(inner)


class TaskRows:
    """Rows of a task, as batches are made of them."""

    def __init__(self, drawn: Drawn) -> None:
        self.drawn = drawn
        self.width = drawn.sequence.shape[1] - 1
        self.answers = drawn.asked.sum(axis=1)

    def __len__(self) -> int:
        return len(self.drawn.sequence)

    @property
    def tokens(self) -> Tokens:
        """The rows one after the other, padding included."""
        return Tokens(self.drawn.sequence[:, :-1].ravel(), np.arange(len(self) + 1) * self.width, BEGIN)

    @property
    def waste(self) -> float:
        """The share of the rows' places that is padding."""
        return 1 - float(self.drawn.lengths.mean()) / self.width

    def seen(self, other: TaskRows) -> float:
        """The share of the answers of another part whose row stands in this one too: memory alone gives those."""
        known = {row.tobytes() for row in self.drawn.sequence}
        there = np.array([row.tobytes() in known for row in other.drawn.sequence])
        return float(other.answers[there].sum() / max(1, other.answers.sum()))

    def scored(self, indices: np.ndarray) -> int:
        """How many answers these rows ask for."""
        return int(self.answers[indices].sum())

    def read(self, indices: np.ndarray) -> int:
        """How many symbols these rows hold."""
        return int(self.drawn.lengths[indices].sum())

    def batch(self, indices: np.ndarray, scored: int | None = None) -> Batch:
        """The rows with these numbers, `[rows]`; `scored` is the whole step's, by default this batch's."""
        drawn, lengths = self.drawn, self.drawn.lengths[indices]
        width = int(lengths.max())
        sequence, asked = drawn.sequence[indices, : width + 1], drawn.asked[indices, 1 : width + 1]
        distances = np.arange(1, width + 1) - drawn.sources[indices, 1 : width + 1]
        counted = int(asked.sum())
        return Batch(
            torch.from_numpy(sequence[:, :-1].copy()),
            torch.from_numpy(np.where(asked, sequence[:, 1:], IGNORE)),
            layout(lengths),
            counted if scored is None else scored,
            counted,
            lengths,
            distances=torch.from_numpy(np.where(asked, distances, 0)),
        )


@dataclass(frozen=True)
class Copy(Task):
    """Symbols, the sign that asks, and the same symbols again: `a b c ? a b c`. The number of symbols differs by row."""

    backwards: ClassVar[bool] = False

    def draw(self, random: np.random.Generator, rows: int) -> Drawn:
        most = (self.length - 1) // 2
        counts = random.integers(1, most + 1, rows)[:, None]
        text = random.integers(2, 2 + self.symbols, (rows, most))
        places = np.arange(2 * most + 2)
        answer = places - counts - 2  # which answer stands at a place
        asked = (answer >= 0) & (answer < counts)
        sources = np.where(asked, counts - answer if self.backwards else 1 + answer, 0)
        read = np.where(asked, sources, places) - 1
        sequence = np.take_along_axis(text, read.clip(0, most - 1), axis=1)
        sequence = np.where(places == 0, BEGIN, np.where(places == counts + 1, ASK, sequence))
        sequence = np.where(places > 2 * counts + 1, BEGIN, sequence)
        return Drawn(sequence, asked, sources, 2 * counts[:, 0] + 1)


@dataclass(frozen=True)
class Reverse(Copy):
    """Symbols, the sign that asks, and the symbols from the last to the first: `a b c ? c b a`."""

    backwards = True


@dataclass(frozen=True)
class Induction(Task):
    """Symbols drawn at random, and the same again (Olsson et al. 2022, arXiv 2209.11895): `a b c a b c`.

    Each repeated symbol but the first is asked for: it follows what it followed before. Symbols of a row differ.
    """

    def draw(self, random: np.random.Generator, rows: int) -> Drawn:
        most = min(self.length // 2, self.symbols)
        counts = random.integers(2, most + 1, rows)[:, None]
        text = 2 + random.permuted(np.tile(np.arange(self.symbols), (rows, 1)), axis=1)[:, :most]
        places = np.arange(2 * most + 1)
        sequence = np.take_along_axis(text, (places - 1) % counts, axis=1)
        inside = (places >= 1) & (places <= 2 * counts)
        asked = (places > counts + 1) & inside
        return Drawn(np.where(inside, sequence, BEGIN), asked, np.where(asked, places - counts, 0), 2 * counts[:, 0])


@dataclass(frozen=True)
class Recall(Task):
    """Associative recall (Ba et al. 2016, arXiv 1610.06258): pairs of key and value, then one key: `a 1 b 2 c 3 ? b` → 2.

    Keys are the first half of the symbols and differ within a row, values are the other half. The number of pairs
    differs by row.
    """

    def draw(self, random: np.random.Generator, rows: int) -> Drawn:
        keys = self.symbols // 2
        most = min((self.length - 3) // 2, keys)
        counts = random.integers(1, most + 1, rows)
        pairs = _pairs(random, rows, keys, most, self.symbols)
        time = 2 * most + 4
        sequence = np.zeros((rows, time), np.int64)
        sequence[:, 1 : 2 * most + 1] = pairs.reshape(rows, -1)
        sequence[np.arange(time) > 2 * counts[:, None]] = BEGIN
        every, asked_for = np.arange(rows), random.integers(0, counts)
        ends = 2 * counts + 1
        sequence[every, ends] = ASK
        sequence[every, ends + 1] = pairs[every, asked_for, 0]
        sequence[every, ends + 2] = pairs[every, asked_for, 1]
        asked, sources = np.zeros((rows, time), bool), np.zeros((rows, time), np.int64)
        asked[every, ends + 2] = True
        sources[every, ends + 2] = 2 * asked_for + 2
        return Drawn(sequence, asked, sources, ends + 2)


@dataclass(frozen=True)
class MultiRecall(Task):
    """Multi-query associative recall (Arora et al. 2023, arXiv 2312.04927): pairs, then each key once more, at a distance.

    After the pairs stand values drawn at random, and among them every key; its value is asked for there. How long a key
    waits follows a power law, as in section 3.2: most come soon, some late.

    Args:
        pairs: of key and value in a row.
        power: exponent of the law; the chance of the slot `i` falls as `i ** (power - 1)`.
    """

    pairs: int = 8
    power: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.power, int | float) or not 0 < self.power <= 1:
            raise RequestError(f"data.power={self.power}: needs a number over 0, at most 1")
        if self.pairs > self.symbols // 2 or 4 * self.pairs + 1 > self.length:
            raise RequestError(
                f"data.pairs={self.pairs}: needs data.symbols of {2 * self.pairs} or more (there are {self.symbols}) "
                f"and data.length of {4 * self.pairs + 1} or more (it is {self.length})"
            )

    def draw(self, random: np.random.Generator, rows: int) -> Drawn:
        keys, time = self.symbols // 2, self.length + 1
        pairs = _pairs(random, rows, keys, self.pairs, self.symbols)
        sequence = random.integers(2 + keys, 2 + self.symbols, (rows, time))
        sequence[:, 0] = BEGIN
        first = 2 * self.pairs + 1
        sequence[:, 1:first] = pairs.reshape(rows, -1)
        slots = (time - first) // 2
        weights = (self.power - 1) * np.log(np.arange(1, slots + 1))
        # The largest of weights plus Gumbel noise are a weighted draw without replacement.
        chosen = np.argsort(-(weights + random.gumbel(size=(rows, slots))), axis=1)[:, : self.pairs]
        queries = first + 2 * chosen
        every = np.arange(rows)[:, None]
        sequence[every, queries] = pairs[:, :, 0]
        sequence[every, queries + 1] = pairs[:, :, 1]
        asked, sources = np.zeros((rows, time), bool), np.zeros((rows, time), np.int64)
        asked[every, queries + 1] = True
        sources[every, queries + 1] = 2 * np.arange(self.pairs) + 2
        return Drawn(sequence, asked, sources, np.full(rows, self.length))


@dataclass(frozen=True)
class Needle(Task):
    """A needle at a distance: noise with one key and its value in it, and at the end the key: `. . b 2 . . . ? b` → 2.

    Noise and values are the second half of the symbols, keys the first. The distance is drawn evenly over its
    logarithm, so that each band of distances has as many rows.
    """

    def draw(self, random: np.random.Generator, rows: int) -> Drawn:
        keys, time = self.symbols // 2, self.length + 1
        sequence = random.integers(2 + keys, 2 + self.symbols, (rows, time))
        sequence[:, 0], sequence[:, -3] = BEGIN, ASK
        distances = np.floor(3 * ((time - 2) / 3) ** random.random(rows)).astype(np.int64).clip(3, time - 3)
        every, places = np.arange(rows), time - 1 - distances
        key = random.integers(2, 2 + keys, rows)
        sequence[every, places - 1] = key
        sequence[:, -2] = key
        sequence[:, -1] = sequence[every, places]
        asked, sources = np.zeros((rows, time), bool), np.zeros((rows, time), np.int64)
        asked[:, -1] = True
        sources[:, -1] = places
        return Drawn(sequence, asked, sources, np.full(rows, self.length))


def _pairs(random: np.random.Generator, rows: int, keys: int, count: int, symbols: int) -> np.ndarray:
    """`[rows, count, 2]`: keys that differ within a row, and values."""
    key = 2 + random.permuted(np.tile(np.arange(keys), (rows, 1)), axis=1)[:, :count]
    return np.stack([key, random.integers(2 + keys, 2 + symbols, (rows, count))], axis=2)
