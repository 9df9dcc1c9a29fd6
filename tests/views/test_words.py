"""Neighbours and analogies over a table of embeddings, and words that a vocabulary lacks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from lab.data.tokenizers import BPE, Word
from lab.errors import RequestError
from lab.views.embeddings import near as neighbours_of
from lab.views.words import analogy


def neighbours(run, word, count=10):
    return neighbours_of(run, [word], count)[word]


TEXTS = ["king queen man woman", "bread wine water", "King Jerusalem kingdom"]


def run(tokenizer, table=None):
    """What these functions read of a run."""
    size = tokenizer.vocab_size
    weight = torch.randn(size, 8, generator=torch.Generator().manual_seed(1)) if table is None else table
    embedding = SimpleNamespace(table=SimpleNamespace(weight=weight))
    config = OmegaConf.create({"choices": {"model": "bag"}})
    model = SimpleNamespace(embedding=embedding)
    return SimpleNamespace(outline=model, model=model, tokenizer=tokenizer, folder=Path("r"), config=config)


@pytest.fixture(scope="module")
def words():
    return Word(vocab_size=30).train(iter(TEXTS * 3))


def test_the_nearest_words_are_those_of_the_largest_cosines(words):
    one = run(words)
    table, index = one.model.embedding.table.weight.numpy(), words.inner.get_vocab()
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    known = [word for word in index if word not in words.specials]
    expected = sorted((w for w in known if w != "king"), key=lambda w: -unit[index["king"]] @ unit[index[w]])
    found = neighbours(one, "king", 4)
    assert [word for word, _ in found] == expected[:4]
    assert [cosine for _, cosine in found] == pytest.approx(
        [unit[index["king"]] @ unit[index[w]] for w in expected[:4]]
    )
    assert len(neighbours(one, "king", 1000)) == len(known) - 1


def test_an_analogy_is_found_where_the_table_holds_it(words):
    index = words.inner.get_vocab()
    table = torch.randn(len(index), 8, generator=torch.Generator().manual_seed(1))
    royal, female = torch.eye(8)[:2]
    for word, vector in {"man": 0, "king": royal, "woman": female, "queen": royal + female}.items():
        table[index[word]] = 3 * torch.eye(8)[2] + vector
    assert analogy(run(words, table), "man", "king", "woman", 1)[0][0] == "queen"


@pytest.mark.parametrize(
    ("word", "near"),
    [("kingdum", "kingdom"), ("jerusalem", "Jerusalem"), ("[UNK]", ""), ("<|document|>", ""), ("king queen", "")],
)
def test_an_unknown_word_is_refused_with_the_nearest_spellings(words, word, near):
    with pytest.raises(RequestError) as refused:
        neighbours(run(words), word)
    assert str(refused.value).startswith(f"{word!r}: not a word of this vocabulary of {words.vocab_size}")
    assert near in str(refused.value)


def test_tokens_after_a_space_are_words_of_byte_level_tokenizers():
    tokenizer = BPE(vocab_size=300).train(iter(["the king and the queen"] * 50))
    found = neighbours(run(tokenizer), "king", 300)
    assert "queen" in [word for word, _ in found]


def test_what_has_no_table_and_counts_under_one_are_refused(words):
    bare = run(words)
    with pytest.raises(RequestError, match=r"^-k: 0; how many neighbours, 1 or more"):
        neighbours(bare, "king", 0)
    bare.outline = SimpleNamespace()
    with pytest.raises(RequestError, match=r"^r: model=bag has no table of embeddings"):
        neighbours(bare, "king")
