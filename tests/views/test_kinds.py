"""Kinds of tokens, told by hand, for tokenizers that mark words in different ways."""

import collections
import itertools

import numpy as np
import pytest

from lab.data.pieces import BPEWord, Char, Unigram, WordPiece
from lab.data.tokenizers import BPE, Byte, Word
from lab.views.kinds import KINDS, kinds

TEXT = "the cat sat on the mat; the cat ran. the dog saw 12 cats, unbelievably. def get_x(self): return 3 "
TEXTS = [TEXT * 3, "the zebra"]


def told(recipe, text=None):
    """The pieces of a text with their kinds."""
    tokenizer = recipe.train(iter(TEXTS))
    ids = np.concatenate(tokenizer.encode(TEXTS if text is None else [text]))
    return [(tokenizer.piece(int(token)), KINDS[kind]) for token, kind in zip(ids, kinds(tokenizer, ids), strict=True)]


def test_words_are_common_or_rare_by_their_share_of_the_text():
    """A slow count of whole words says the same."""
    found = dict(told(Word(60)))
    assert found[";"] == "punctuation"
    assert found["12"] == "digits"
    counts = collections.Counter(piece for piece, kind in told(Word(60)) if kind.endswith(" words"))
    ordered = sorted(counts, key=lambda word: -counts[word])
    total, before = sum(counts.values()), [0, *itertools.accumulate(counts[word] for word in ordered)]
    for word, seen in zip(ordered, before, strict=False):
        if len([w for w in ordered if counts[w] == counts[word]]) == 1:  # no tie whose order is open
            share = seen / total
            assert found[word] == ("common" if share < 0.5 else "middle" if share < 0.9 else "rare") + " words"
    assert found["the"] == "common words"
    assert found["zebra"] == "rare words"


@pytest.mark.parametrize(
    "recipe", [BPE(300), Byte(), Unigram(60), WordPiece(60), BPEWord(60), Char(60)], ids=lambda r: r.option
)
def test_a_letter_after_a_letter_is_inside_a_word(recipe):
    words = ["the", "unbelievably", "cat"]
    joined: list[str] = []
    for piece, kind in told(recipe, " ".join(words)):
        if kind == "inside words":
            joined[-1] += piece
        elif piece.strip():
            joined.append(piece.strip())
    assert joined == words


def test_whole_words_are_never_inside():
    assert "inside words" not in dict(told(Word(60))).values()


def test_beginnings_are_counted_and_insides_are_not():
    tokenizer = Byte().train(iter([]))
    ids = tokenizer.encode(["a" + "b" * 50 + " a" * 9 + " b"])[0]
    found = [KINDS[kind] for kind in kinds(tokenizer, ids)]
    assert found[0] == found[52] == "common words"
    assert found[1] == "inside words"
    assert found[-1] == "rare words"


def test_what_stands_before_may_be_said():
    tokenizer = Byte().train(iter([]))
    ids = tokenizer.encode(["ab"])[0]
    assert [KINDS[k] for k in kinds(tokenizer, ids, before=ids[::-1])] == ["inside words", "inside words"]
    begins = kinds(tokenizer, ids, before=np.full(2, tokenizer.document_id))
    assert "inside words" not in [KINDS[k] for k in begins]
