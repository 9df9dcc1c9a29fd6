"""Kinds of tokens: punctuation, digits, parts of code, words by how frequent they are, what stands inside words.

One division for all that is summed up by kind: the loss of `lab probe`, the load of experts of `lab routing`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lab.data.tokenizers import Tokenizer

KINDS = (
    "frequent words", "common words", "rare words", "inside words",
    "punctuation", "digits", "code", "space", "other", "special",
)  # fmt: skip
"""Every token is of one: `Kinds.of` gives its place here.

Words are what begins one: tokens with letters, of which the frequent ones make up the first half of a text's words when the
most frequent come first, the common ones go up to nine tenths, and the rare ones are the rest, with those that it does not
have. `inside words` begin with a letter that follows a letter. `code` holds a sign that prose has no use for, or a capital
after a small letter; `other` is bytes that are no character by themselves and signs such as emoji; `special` the special
tokens and the unknown.
"""

FREQUENT, COMMON = 0.5, 0.9
WORD, INSIDE = KINDS.index("frequent words"), KINDS.index("inside words")
READ = 2**22  # tokens of a text that are counted at most
CODE = re.compile(r"[_=+*/\\<>\[\]{}|&^%$#@~`]|[a-z][A-Z]")
BYTES = re.compile(r"(\\x[0-9A-F]{2})+")


class Kinds:
    """The kinds of a tokenizer's tokens.

    Args:
        tokenizer: whose tokens they are.
        text: `[tokens]`, by whose beginning words are frequent or rare: what a model was trained on.
    """

    def __init__(self, tokenizer: Tokenizer, text: np.ndarray) -> None:
        size = tokenizer.vocab_size
        special = {*tokenizer.specials.values(), tokenizer.unknown_id}
        pieces = [tokenizer.piece(token) for token in range(size)]
        kinds = [
            "special" if token in special else _kind(text, tokenizer.byte_level) for token, text in enumerate(pieces)
        ]
        self.table = np.array([KINDS.index(kind) for kind in kinds], np.uint8)
        self._attaches, self._open = _seams(tokenizer, pieces, self.table == WORD)
        read = text[:READ].astype(np.int64)
        _divide(self.table, np.bincount(read[self.of(read) == WORD], minlength=size))

    def of(self, ids: np.ndarray) -> np.ndarray:
        """The kinds of tokens in their text, `[..., time]`, each a place in `KINDS`."""
        kinds = self.table[ids]
        inside = self._attaches[ids[..., 1:]] & self._open[ids[..., :-1]]
        kinds[..., 1:][inside] = INSIDE
        return kinds


def _kind(text: str, of_bytes: bool) -> str:
    """What one token is by itself; any word is frequent until counts divide them."""
    bare = text.strip()
    if not bare:
        return "space"
    if of_bytes and BYTES.fullmatch(bare):
        return "other"
    if CODE.search(bare):
        return "code"
    if any(letter.isalpha() for letter in bare):
        return "frequent words"
    if any(letter.isnumeric() for letter in bare):
        return "digits"
    return "punctuation" if all(unicodedata.category(sign).startswith("P") for sign in bare) else "other"


def _divide(table: np.ndarray, counts: np.ndarray) -> None:
    """Tell frequent, common and rare words apart, in place, by how often each `[vocab]` begins a word."""
    words = np.flatnonzero(table == WORD)
    order = words[np.argsort(-counts[words], kind="stable")]
    before = np.cumsum(counts[order]) - counts[order]
    share = before / max(1, counts[order].sum())
    rarity = np.where(counts[order] == 0, 2, (share >= FREQUENT).astype(int) + (share >= COMMON))
    table[order] = WORD + rarity


def _seams(tokenizer: Tokenizer, pieces: list[str], words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`[vocab]` each: tokens that go on with a word if it is open, and tokens that leave one open."""
    prefix, suffix = tokenizer.inside_prefix, tokenizer.word_suffix
    names = [tokenizer.inner.id_to_token(token) or "" for token in range(len(pieces))]
    begins = np.array([text[:1].isalpha() for text in pieces]) & words
    ends = np.array([text[-1:].isalpha() for text in pieces])
    if prefix:
        return begins & np.array([name.startswith(prefix) for name in names]), ends
    if suffix:
        return begins, ends & ~np.array([name.endswith(suffix) for name in names])
    return begins, ends & (not tokenizer.joins_with_spaces)
