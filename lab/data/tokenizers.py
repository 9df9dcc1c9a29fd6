"""Tokenizers: recipes that are trained on text, and the tokenizer they give.

A recipe is a dataclass of settings with `train(texts)`; a new one is a class here and a YAML file in
conf/tokenizer. What it gives is a `tokenizers.Tokenizer` of the Hugging Face library, kept in its own format,
in which one special token, `<|document|>`, stands at the beginning of every document. Text that spells it out
is text and never that token.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from lab.data.corpora import digest
from lab.data.disk import replace_file
from lab.errors import RequestError

DOCUMENT = "<|document|>"
UNKNOWN = "[UNK]"
FILE = "tokenizer.json"


class Tokenizer:
    """Text to token numbers and back.

    Args:
        inner: a tokenizer of the Hugging Face library.
        document: its special token that begins a document.

    Raises:
        RequestError: `inner` has no such token.
    """

    def __init__(self, inner: tokenizers.Tokenizer, document: str = DOCUMENT) -> None:
        inner.encode_special_tokens = True  # special tokens spelt out in a text are text
        self.inner = inner
        found = inner.token_to_id(document)
        if found is None:
            raise RequestError(f"tokenizer: has no token {document}, which every document begins with")
        self.document_id: int = found

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """The tokenizer of a file, or of the `tokenizer.json` in a folder.

        Raises:
            RequestError: the file is missing or damaged.
        """
        file = Path(path, FILE) if Path(path).is_dir() else Path(path)
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"{file}: can't be read as a tokenizer ({error})") from error
        try:
            return cls(tokenizers.Tokenizer.from_str(text))
        except RequestError as error:
            raise RequestError(f"{file}: {error}") from error
        except Exception as error:  # the library raises nothing more special
            raise RequestError(f"{file}: not a tokenizer file, or a damaged one ({error})") from error

    def save(self, path: str | Path) -> None:
        """Writes the file, or `tokenizer.json` into a folder: whole or not at all."""
        file = Path(path, FILE) if Path(path).is_dir() else Path(path)
        replace_file(file, self.inner.to_str(pretty=True).encode())

    @cached_property
    def vocab_size(self) -> int:
        """How many numbers there are, the document token included."""
        return self.inner.get_vocab_size()

    @cached_property
    def dtype(self) -> np.dtype:
        """The smallest of uint16 and uint32 that holds every token number."""
        return np.dtype(np.uint16 if self.vocab_size <= 2**16 else np.uint32)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """For each text its token numbers, `[tokens]` of `dtype`, without the document token."""
        encodings = self.inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=self.dtype) for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token numbers; document tokens give nothing, bytes that are no UTF-8 give U+FFFD."""
        return self.inner.decode([int(i) for i in ids if i != self.document_id], skip_special_tokens=False)

    @cached_property
    def lossless(self) -> bool:
        """Whether every text comes back from `decode(encode(text))` byte by byte.

        Byte-level tokenizers are built so, if they have all bytes and change nothing beforehand.
        """
        steps = json.loads(self.inner.to_str())
        pre = steps["pre_tokenizer"] or {}
        splits = pre.get("pretokenizers", [pre])
        return (
            steps["normalizer"] is None
            and all(s.get("type") in ("ByteLevel", "Split", "Digits") for s in splits)
            and all(s.get("behavior") != "Removed" and not s.get("add_prefix_space") for s in splits)
            and any(s.get("type") == "ByteLevel" for s in splits)
            and (steps["decoder"] or {}).get("type") == "ByteLevel"
            and set(pre_tokenizers.ByteLevel.alphabet()) <= self.inner.get_vocab().keys()
        )

    def lost_bytes(self, texts: Sequence[str]) -> int:
        """How many UTF-8 bytes of the texts no token stands for: unknown words, dropped white space."""
        if self.lossless:
            return 0
        unknown = getattr(self.inner.model, "unk_token", None)
        unknown_id = None if unknown is None else self.inner.token_to_id(unknown)
        lost = 0
        for text, encoding in zip(texts, self.inner.encode_batch(list(texts), add_special_tokens=False), strict=True):
            known, end = 0, 0
            for token, (first, last) in zip(encoding.ids, encoding.offsets, strict=True):
                if token != unknown_id:
                    known += len(text[max(first, end) : last].encode())
                    end = max(end, last)
            lost += len(text.encode()) - known
        return lost


@dataclass(frozen=True)
class Recipe(ABC):
    """How to make a tokenizer.

    Args:
        vocab_size: how many tokens to make at most, the document token included; text that is too short or
            too uniform yields fewer.

    Raises:
        RequestError: `vocab_size` is no whole number, or smaller than `smallest`.
    """

    vocab_size: int

    smallest = 3

    def __post_init__(self) -> None:
        if isinstance(self.vocab_size, bool) or not isinstance(self.vocab_size, int):
            raise RequestError(f"tokenizer.vocab_size={self.vocab_size}: needs a whole number")
        if self.vocab_size < self.smallest:
            raise RequestError(
                f"tokenizer.vocab_size={self.vocab_size}: tokenizer={type(self).__name__.lower()} needs "
                f"{self.smallest} or more"
            )

    @abstractmethod
    def train(self, texts: Iterator[str]) -> Tokenizer:
        """The tokenizer for these texts: the same for the same texts."""

    def fingerprint(self) -> str:
        """Changes with the recipe, its settings and the version of the library."""
        return digest(type(self).__name__, tuple(asdict(self).items()), tokenizers.__version__)


@dataclass(frozen=True)
class BPE(Recipe):
    """Byte-pair encoding (Sennrich et al., arXiv 1508.07909) over bytes and within words, as in GPT-2."""

    smallest = 257

    def train(self, texts: Iterator[str]) -> Tokenizer:
        inner = tokenizers.Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            min_frequency=2,
            special_tokens=[DOCUMENT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator(texts, trainer)
        return Tokenizer(inner)


@dataclass(frozen=True)
class Byte(Recipe):
    """The bytes of UTF-8: token 0 is the document token, token 1 + b is byte b. Learns and loses nothing."""

    vocab_size: int = 257

    smallest = 257

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vocab_size != 257:
            raise RequestError(
                f"tokenizer.vocab_size={self.vocab_size}: tokenizer=byte has 257, one a byte and one more"
            )

    def train(self, texts: Iterator[str]) -> Tokenizer:
        vocabulary = {DOCUMENT: 0} | {letter: 1 + byte for byte, letter in enumerate(_byte_letters())}
        inner = tokenizers.Tokenizer(models.BPE(vocabulary, merges=[]))
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        inner.add_special_tokens([DOCUMENT])
        return Tokenizer(inner)


def _byte_letters() -> list[str]:
    """The visible character that byte-level tokenizers write for each byte, as GPT-2 introduced them."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(spare)) for byte in range(256)]


@dataclass(frozen=True)
class Word(Recipe):
    """The most frequent words and punctuation marks; others become [UNK], and white space is dropped."""

    def train(self, texts: Iterator[str]) -> Tokenizer:
        inner = tokenizers.Tokenizer(models.WordLevel({}, unk_token=UNKNOWN))
        inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True)
        trainer = trainers.WordLevelTrainer(
            vocab_size=self.vocab_size, special_tokens=[DOCUMENT, UNKNOWN], show_progress=False
        )
        inner.train_from_iterator(texts, trainer)
        return Tokenizer(inner)
