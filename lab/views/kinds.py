"""Kinds of token: what a token is by its spelling, and of words how frequent they are in the text at hand."""

from __future__ import annotations

import keyword
import unicodedata
from collections.abc import Sequence

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
    "common words", "middle words", "rare words", "digits", "punctuation", "white space", "keywords", "operators", "brackets",
    "bytes", "special",
)  # fmt: skip
"""In the order in which they are shown."""


def kinds(tokenizer: Tokenizer, ids: np.ndarray, code: bool = False) -> np.ndarray:
    """`[tokens]`, the place in `KINDS` of each token of a text, `ids`.

    Args:
        tokenizer: that the numbers are of.
        ids: `[tokens]`, the text.
        code: the text is a program, whose keywords, operators and brackets are told apart.
    """
    types, places, counts = np.unique(ids, return_inverse=True, return_counts=True)
    names = [kind(tokenizer, int(token), code) for token in types]
    for place, name in _classes(names, counts):
        names[place] = name
    return np.array([KINDS.index(name) for name in names])[places.reshape(-1)]


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
    before = (np.cumsum(counts[order]) - counts[order]) / counts[order].sum()
    return [
        (int(place), "common words" if share < COMMON else "middle words" if share < MIDDLE else "rare words")
        for place, share in zip(order, before, strict=True)
    ]
