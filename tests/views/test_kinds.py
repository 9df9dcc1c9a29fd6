"""Kinds of tokens, told by hand, for tokenizers that mark words in different ways."""

import collections
import itertools

import numpy as np
import pytest

from lab.data.pieces import BPEWord, Char, Unigram, WordPiece
from lab.data.tokenizers import BPE, Byte, Word
from lab.views.kinds import KINDS, Kinds

TEXT = "the cat sat on the mat; the cat ran. the dog saw 12 cats, unbelievably. def get_x(self): return 3 "
TEXTS = [TEXT * 3, "the zebra"]


def told(recipe, text):
    tokenizer = recipe.train(iter(TEXTS))
    kinds = Kinds(tokenizer, np.concatenate(tokenizer.encode(TEXTS)))
    tokens = tokenizer.encode([text])[0]
    return [
        (tokenizer.piece(token), KINDS[kind])
        for token, kind in zip(tokens.tolist(), kinds.of(tokens).tolist(), strict=True)
    ]


def test_words_are_frequent_common_or_rare_by_their_share_of_the_text():
    assert dict(told(Word(60), "the cat sat zebra quark ; 12")) == {
        "the": "frequent words",
        "cat": "frequent words",
        "sat": "common words",
        "zebra": "rare words",
        "[UNK]": "special",
        ";": "punctuation",
        "12": "digits",
    }


def test_the_shares_are_those_of_a_slow_count():
    tokenizer = Word(60).train(iter(TEXTS))
    ids = np.concatenate(tokenizer.encode(TEXTS))
    many = collections.Counter(ids.tolist())
    found = Kinds(tokenizer, ids).table
    words = [t for t in range(tokenizer.vocab_size) if KINDS[found[t]].endswith(" words")]
    words.sort(key=lambda token: -many[token])
    total = sum(many[token] for token in words)
    before = [0, *itertools.accumulate(int(many[token]) for token in words)]
    for token, seen in zip(words, before, strict=False):
        share = seen / total
        expected = "frequent" if share < 0.5 else "common" if share < 0.9 else "rare"
        assert KINDS[found[token]] == f"{expected} words"


@pytest.mark.parametrize(
    "recipe", [BPE(300), Byte(), Unigram(60), WordPiece(60), BPEWord(60), Char(60)], ids=lambda r: r.option
)
def test_a_letter_after_a_letter_is_inside_a_word(recipe):
    found = told(recipe, "the unbelievably cat")
    text, inside = "", set()
    for piece, kind in found:
        if kind == "inside words":
            inside.add(piece)
            assert text[-1:].isalpha()
        text += piece
    begun = [piece for piece, kind in found if kind in KINDS[:3]]
    assert inside
    assert [piece.strip()[0] for piece in begun][-1] in "cat"
    assert sum(piece.strip()[:1] == "u" for piece in begun) <= 1


def test_signs_of_code_prose_and_neither():
    kinds = dict(told(Byte(), "a=1;(b) \n\N{ROCKET}"))
    assert kinds["="] == "code"
    assert kinds[";"] == kinds["("] == "punctuation"
    assert kinds["1"] == "digits"
    assert kinds["\n"] == "space"
    assert kinds["\\xF0"] == "other"


def test_special_tokens_are_a_kind():
    tokenizer = Byte().train(iter([]))
    kinds = Kinds(tokenizer, np.zeros(0, int))
    assert KINDS[kinds.of(np.array([tokenizer.document_id]))[0]] == "special"


def test_beginnings_are_counted_and_insides_are_not():
    tokenizer = Byte().train(iter([]))
    text = tokenizer.encode(["a" + "b" * 50 + " a" * 9 + " b"])[0]
    found = Kinds(tokenizer, text).of(tokenizer.encode(["a b"])[0])
    assert [KINDS[kind] for kind in found] == ["frequent words", "space", "rare words"]
