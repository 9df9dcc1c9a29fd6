"""Tokenizers: recipes that are trained on text, and the tokenizer they give.

A recipe is a dataclass of settings with `train(texts)`; a new one is a class and a YAML file in conf/tokenizer.
What it gives is a `tokenizers.Tokenizer` of the Hugging Face library, kept in its own format, in which one
special token stands at the beginning of every document: `<|document|>`, or `[CLS]` where the model's family
asks for that. Text that spells a special token out is text and never that token.
"""

from __future__ import annotations

import inspect
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from lab.atomic import write_atomically
from lab.data.corpora import digest
from lab.data.special import DOCUMENT, SENTINELS, SPELLINGS, UNKNOWN, made, spelt
from lab.errors import RequestError
from lab.values import is_whole

__all__ = ["BPE", "DOCUMENT", "FILE", "UNKNOWN", "Byte", "Recipe", "Tokenizer", "Word"]

FILE = "tokenizer.json"


def _byte_letters() -> list[str]:
    """The visible character that byte-level tokenizers write for each byte, as GPT-2 introduced them."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(spare)) for byte in range(256)]


BYTE_LETTERS = _byte_letters()
_BYTES = {letter: byte for byte, letter in enumerate(BYTE_LETTERS)}
_BYTE_NAME = re.compile("<0x[0-9A-F]{2}>")


class Tokenizer:
    """Text to token numbers and back.

    Args:
        inner: a tokenizer of the Hugging Face library.

    Attributes:
        specials: the special tokens and their numbers.
    """

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        inner.encode_special_tokens = True  # special tokens spelt out in a text are text
        inner.no_truncation()
        inner.no_padding()
        self.inner = inner
        added = inner.get_added_tokens_decoder()
        self.specials: dict[str, int] = {t.content: i for i, t in added.items() if t.special}

    @cached_property
    def document_id(self) -> int:
        """The number of the token that begins a document, the first that there is of those known.

        Raises:
            RequestError: there is none.
        """
        begin = spelt("document", self.specials)
        if begin is None:
            known = ", ".join(SPELLINGS["document"])
            raise RequestError(f"tokenizer: has no token {known}, which every document begins with")
        return self.specials[begin]

    @cached_property
    def begin(self) -> list[int]:
        """What its file says a text begins with, as transformers reads it."""
        whole, text = (self.inner.encode("a", add_special_tokens=special).ids for special in (True, False))
        return whole[: whole.index(text[0])] if text else []

    @classmethod
    def load(cls, path: str | Path, begins: bool = True) -> Tokenizer:
        """The tokenizer of a file, or of the `tokenizer.json` in a folder.

        Args:
            path: of the file or the folder.
            begins: one without a token that begins documents is refused.

        Raises:
            RequestError: the file is missing or damaged.
        """
        file = Path(path, FILE) if Path(path).is_dir() else Path(path)
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"{file}: can't be read as a tokenizer ({error})") from error
        try:
            made = cls(tokenizers.Tokenizer.from_str(text))
            if begins:
                _ = made.document_id
            return made
        except RequestError as error:
            raise RequestError(f"{file}: {error}") from error
        except Exception as error:  # the library raises nothing more special
            raise RequestError(f"{file}: not a tokenizer file, or a damaged one ({error})") from error

    def save(self, path: str | Path) -> None:
        """Writes the file, or `tokenizer.json` into a folder: whole or not at all."""
        file = Path(path, FILE) if Path(path).is_dir() else Path(path)
        write_atomically(file, self.inner.to_str(pretty=True))

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest number, the document token included: some published vocabularies have gaps."""
        return max(self.inner.get_vocab().values(), default=-1) + 1

    @cached_property
    def dtype(self) -> np.dtype:
        """The smallest of uint16 and uint32 that holds every token number."""
        return np.dtype(np.uint16 if self.vocab_size <= 2**16 else np.uint32)

    def id(self, role: str) -> int:
        """The number of the token that plays a role: `cls`, `sep`, `mask`, `pad`, `end`, `unknown`, `document`.

        The document token stands in for `cls`, `sep`, `pad` and `end` where there are none.

        Raises:
            RequestError: no token plays it.
        """
        token = spelt(role, self.specials)
        if role == "document" or (token is None and role in ("cls", "sep", "pad", "end")):
            return self.document_id
        if token is None:
            raise RequestError(
                f"tokenizer: has no {' or '.join(SPELLINGS[role])}; "
                f"model.special lists what a tokenizer is made with, and {role} is needed there"
            )
        return self.specials[token]

    @cached_property
    def sentinels(self) -> np.ndarray:
        """`[sentinels]`, the numbers of <extra_id_0>, <extra_id_1>, ...; empty where there are none."""
        return np.array([self.specials[token] for token in SENTINELS if token in self.specials], np.int64)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """For each text its token numbers, `[tokens]` of `dtype`, without the document token."""
        encodings = self.inner.encode_batch_fast(list(texts), add_special_tokens=False)
        found = [np.array(encoding.ids, dtype=self.dtype) for encoding in encodings]
        if len(self._disguised) and self.unknown_id is not None:
            for tokens in found:
                tokens[np.isin(tokens, self._disguised)] = self.unknown_id
        return found

    @cached_property
    def _disguised(self) -> np.ndarray:
        """Special tokens that are pieces as well, as in published Unigram models, whose score no other spelling beats."""
        if not isinstance(self.inner.model, models.Unigram):
            return np.empty(0, int)
        pieces = self.inner.get_vocab(with_added_tokens=False)
        return np.array([i for token, i in self.specials.items() if token in pieces and i != self.unknown_id], int)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token numbers; document tokens give nothing, bytes that are no UTF-8 give U+FFFD."""
        return self.inner.decode([int(i) for i in ids if i != self.document_id], skip_special_tokens=False)

    def spelt(self, token: int) -> str:
        """What one token says to a reader: its text, a special token's name, or bytes that are no character in hexadecimal."""
        name = self.inner.id_to_token(token) or ""
        if self._falls_back and _BYTE_NAME.fullmatch(name):
            raw = bytes.fromhex(name[3:5])
        elif self._spelt is not None or name in self.specials:
            return name
        else:
            try:
                raw = bytes(_BYTES[letter] for letter in name)
            except KeyError:  # an added token, which is text as it stands
                return name
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "".join(f"\\x{byte:02X}" for byte in raw)

    def piece(self, token: int) -> str:
        """What one token stands for in a text, without what marks its place in a word; else as `spelt`."""
        return self.spelt(token) if self._spelt is None else self._spelt[token]

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
        """How many UTF-8 bytes of the texts no token stands for: unknown words, dropped white space, changed letters.

        A byte is kept where a known token covers it and spells what it covers; all are where `decode` gives the
        text back and adds no space of its own.
        """
        if self.lossless:
            return 0
        lost = 0
        for text, encoding in zip(texts, self.inner.encode_batch(list(texts), add_special_tokens=False), strict=True):
            if not self.joins_with_spaces and self.unknown_id not in encoding.ids and self.decode(encoding.ids) == text:
                continue
            known, end = 0, 0
            for token, (first, last) in zip(encoding.ids, encoding.offsets, strict=True):
                covered = text[max(first, end) : last]
                if token != self.unknown_id and self._spells(token, covered):
                    known += len(covered.encode())
                    end = max(end, last)
            lost += len(text.encode()) - known
        return lost

    def unknown(self, text: str) -> list[str]:
        """The parts of a text that no token stands for, white space apart, each once and in order."""
        if self.lossless:
            return []
        encoding = self.inner.encode(text, add_special_tokens=False)
        found, end = [], 0
        for token, (first, last) in zip(encoding.ids, encoding.offsets, strict=True):
            found.append(text[end:first])
            if token == self.unknown_id:
                found.append(text[first:last])
            end = max(end, last)
        found.append(text[end:])
        return list(dict.fromkeys(part for part in map(str.strip, found) if part))

    def _spells(self, token: int, text: str) -> bool:
        return self._spelt is None or self._spelt[token] == text

    @cached_property
    def _steps(self) -> dict:
        return json.loads(self.inner.to_str())

    @cached_property
    def joins_with_spaces(self) -> bool:
        """Its tokens stand apart: white space between them is not in any."""
        return (self._steps["decoder"] or {}).get("type") in (None, "WordPiece", "BPEDecoder")

    @cached_property
    def unknown_id(self) -> int | None:
        """The number of the token that stands for what the tokenizer does not know; none where there is no such token."""
        model = self._steps["model"]
        unknown = model.get("unk_token")
        return model.get("unk_id") if unknown is None else self.inner.token_to_id(unknown)

    @cached_property
    def byte_level(self) -> bool:
        """Its tokens are of bytes, whose letters are not the text's."""
        return "ByteLevel" in json.dumps([self._steps["pre_tokenizer"], self._steps["decoder"]])

    @cached_property
    def _falls_back(self) -> bool:
        """What it does not know it spells by tokens of bytes, as sentencepiece's does."""
        return bool(self._steps["model"].get("byte_fallback"))

    @cached_property
    def inside_prefix(self) -> str:
        """What the name of a token inside a word begins with; empty where nothing marks it."""
        return self._steps["model"].get("continuing_subword_prefix") or ""

    @cached_property
    def word_suffix(self) -> str:
        """What the name of the last token of a word ends with; empty where nothing marks it."""
        return self._steps["model"].get("end_of_word_suffix") or ""

    @cached_property
    def _spelt(self) -> list[str] | None:
        """What each token spells inside a text, None for tokenizers of bytes."""
        if self.byte_level:
            return None
        pieces = [self.inner.id_to_token(token) or "" for token in range(self.vocab_size)]
        prefix, suffix = self.inside_prefix, self.word_suffix
        if (self._steps["decoder"] or {}).get("type") == "Metaspace":
            pieces = [piece.replace("\N{LOWER ONE EIGHTH BLOCK}", " ") for piece in pieces]
        return [piece.removeprefix(prefix).removesuffix(suffix) for piece in pieces]


@dataclass(frozen=True)
class Recipe(ABC):
    """How to make a tokenizer.

    Args:
        vocab_size: how many tokens to make at most, special ones included; text that is too short or too
            uniform yields fewer.
        special: roles of special tokens beside the document token, of `lab.data.special.ROLES`.

    Raises:
        RequestError: `vocab_size` is no whole number, or smaller than `smallest` and the special tokens; an
            unknown role.
    """

    vocab_size: int
    special: Sequence[str] = field(default=(), kw_only=True)

    smallest: ClassVar[int] = 3
    """Tokens that it has at least, without `special`."""

    open_ended: ClassVar[bool] = False
    """Whether fewer tokens than `vocab_size` are the rule, because the text or a file says how many there are."""

    def __post_init__(self) -> None:
        if not is_whole(self.vocab_size):
            raise RequestError(f"tokenizer.vocab_size={self.vocab_size}: needs a whole number")
        object.__setattr__(self, "special", tuple(self.special))
        least = self.smallest + len(self.tokens) - 1
        if self.vocab_size < least:
            with_them = f" with special tokens for {', '.join(self.special)}" if self.special else ""
            raise RequestError(
                f"tokenizer.vocab_size={self.vocab_size}: tokenizer={self.option} needs {least} or more{with_them}"
            )

    @property
    def option(self) -> str:
        """Its name in conf/tokenizer: `bpe_word` for `BPEWord`."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(self).__name__).lower()

    @property
    def tokens(self) -> list[str]:
        """The special tokens, the one that begins documents first."""
        return made(self.special)

    @abstractmethod
    def train(self, texts: Iterator[str]) -> Tokenizer:
        """The tokenizer for these texts: the same for the same texts."""

    def fingerprint(self) -> str:
        """Changes with the recipe's settings, the code of its class and those that it builds on, and the version of the
        library; functions elsewhere that it calls are not looked into.
        """
        classes = [kind for kind in type(self).__mro__ if issubclass(kind, Recipe) and kind is not Recipe]
        return digest(tuple(map(_code, classes)), tuple(asdict(self).items()), tokenizers.__version__)


def _code(kind: type) -> str:
    """The code of a class, where there is a file of it, else its name."""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return kind.__qualname__


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
            special_tokens=self.tokens,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator(texts, trainer)
        return Tokenizer(inner)


@dataclass(frozen=True)
class Byte(Recipe):
    """The bytes of UTF-8: token 0 is the document token, token 1 + b is byte b. Learns and loses nothing.

    Special tokens come after the bytes, and on top of `vocab_size`.
    """

    vocab_size: int = 257

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vocab_size != 257:
            raise RequestError(
                f"tokenizer.vocab_size={self.vocab_size}: tokenizer=byte has 257, one a byte and one more"
            )

    def train(self, texts: Iterator[str]) -> Tokenizer:
        begin, *others = self.tokens
        vocabulary = {begin: 0} | {letter: 1 + byte for byte, letter in enumerate(BYTE_LETTERS)}
        inner = tokenizers.Tokenizer(models.BPE(vocabulary, merges=[]))
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        inner.add_special_tokens([begin, *others])
        return Tokenizer(inner)


@dataclass(frozen=True)
class Word(Recipe):
    """The most frequent words and punctuation marks; others become [UNK], and white space is dropped."""

    def train(self, texts: Iterator[str]) -> Tokenizer:
        inner = tokenizers.Tokenizer(models.WordLevel({}, unk_token=UNKNOWN))
        inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True)
        trainer = trainers.WordLevelTrainer(
            vocab_size=self.vocab_size, special_tokens=[self.tokens[0], UNKNOWN, *self.tokens[1:]], show_progress=False
        )
        inner.train_from_iterator(texts, trainer)
        return Tokenizer(inner)
