"""Kinds of token: what a token is by its spelling, and of words how frequent they are in the text at hand."""

from __future__ import annotations

import keyword
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from lab.data.tokenizers import Tokenizer

COMMON, MIDDLE = 0.5, 0.9
"""The most frequent words that make up half of all words in a text are common; up to nine tenths they are middle, then rare."""

KEYWORDS = {
    *keyword.kwlist, *keyword.softkwlist, "bool", "case", "catch", "char", "const", "default", "delete", "do", "double", "enum",
    "export", "extends", "false", "final", "float", "fn", "func", "function", "implements", "impl", "int", "interface", "let",
    "long", "mut", "namespace", "new", "null", "print", "private", "protected", "pub", "public", "self", "static", "struct",
    "super", "switch", "template", "this", "throw", "true", "typedef", "typeof", "unsigned", "use", "using", "var", "void",
}  # fmt: skip
"""Words that mean something to a programming language: Python, and the family of C."""

OPERATORS = frozenset("+-*/%=<>!&|^~@")
BRACKETS = frozenset("()[]{}")

KINDS = (
    "common words", "middle words", "rare words", "inside words", "digits", "punctuation", "white space", "keywords",
    "operators", "brackets", "bytes", "special",
)  # fmt: skip
"""In the order in which they are shown. `inside words` begin with a letter that follows a letter of the same word."""


def kinds(tokenizer: Tokenizer, ids: np.ndarray, code: bool = False, before: np.ndarray | None = None) -> np.ndarray:
    """`[tokens]`, the place in `KINDS` of each token of a text, `ids`.

    Args:
        tokenizer: that the numbers are of.
        ids: `[tokens]`, the text.
        code: the text is a program, whose keywords, operators and brackets are told apart.
        before: `[tokens]`, the token before each, where that is not the one before it in `ids`.
    """
    if before is None:
        before = np.concatenate([[tokenizer.document_id], ids[:-1]])
    types, places = np.unique(ids, return_inverse=True)
    places = places.reshape(-1)
    names = [kind(tokenizer, int(token), code) for token in types]
    word = np.array([name == "words" for name in names], bool)[places]
    inside = word & _each(tokenizer, _attaches, ids) & _each(tokenizer, _open, before)
    counts = np.bincount(places[~inside], minlength=len(types))
    for place, name in _classes(names, counts):
        names[place] = name
    found = np.array([KINDS.index(name) for name in names], int)[places]
    return np.where(inside, KINDS.index("inside words"), found)


def _each(tokenizer: Tokenizer, says: Callable[[Tokenizer, int], bool], ids: np.ndarray) -> np.ndarray:
    types, places = np.unique(ids, return_inverse=True)
    return np.array([says(tokenizer, int(token)) for token in types], bool)[places.reshape(-1)]


def _attaches(tokenizer: Tokenizer, token: int) -> bool:
    """It goes on with a word that the token before it leaves open."""
    name, mark = tokenizer.inner.id_to_token(token) or "", tokenizer.inside_prefix
    return name.startswith(mark) if mark else tokenizer.piece(token)[:1].isalpha()


def _open(tokenizer: Tokenizer, token: int) -> bool:
    """The next token may go on with its word."""
    name, mark = tokenizer.inner.id_to_token(token) or "", tokenizer.word_suffix
    if token in tokenizer.specials.values() or not tokenizer.piece(token)[-1:].isalpha():
        return False
    apart = tokenizer.joins_with_spaces and not tokenizer.inside_prefix
    return not name.endswith(mark) if mark else not apart


def kind(tokenizer: Tokenizer, token: int, code: bool = False) -> str:
    """What a token is by its spelling: one of `KINDS`, or `words` of any frequency."""
    if token in tokenizer.specials.values():
        return "special"
    name = tokenizer.spelt(token)
    text = tokenizer.decode([token]) or name
    if "\N{REPLACEMENT CHARACTER}" in text or name.startswith("\\x"):
        return "bytes"
    text = text.strip() if text.strip() else text
    if code and text in KEYWORDS:
        return "keywords"
    if any(character.isalpha() for character in text):
        return "words"
    if text.isspace() or not text:
        return "white space"
    if code and set(text) <= BRACKETS:
        return "brackets"
    if code and set(text) <= OPERATORS:
        return "operators"
    if any(character.isnumeric() for character in text):
        return "digits"
    return "punctuation" if all(unicodedata.category(c)[0] in "PSM" for c in text) else "bytes"


def _classes(names: Sequence[str], counts: np.ndarray) -> list[tuple[int, str]]:
    """The class of each type that is a word."""
    words = np.flatnonzero([name == "words" for name in names])
    if not len(words):
        return []
    order = words[np.argsort(-counts[words], kind="stable")]
    before = (np.cumsum(counts[order]) - counts[order]) / max(1, counts[order].sum())
    return [
        (int(place), "common words" if share < COMMON else "middle words" if share < MIDDLE else "rare words")
        for place, share in zip(order, before, strict=True)
    ]
