"""Vectors of texts: what the model gives for each by itself, whatever is read beside it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import lab
import lab.models.model
from lab.data.pieces import WordPiece
from lab.data.tokenizers import Word
from lab.errors import RequestError
from lab.layout import Layout
from lab.models.pooling import pooled
from lab.options import groups
from lab.vectors import similarities

TEXTS = ["the bank of the river", "river", "a bank that lends money to the king", "the king sat by the river bank"]
SIZES = ("model.dim=32", "model.context=16", "model.layers=1")


def reader(model: str, *words: str) -> SimpleNamespace:
    """An untrained model with a tokenizer."""
    config = lab.compose(f"model={model}", *words, *SIZES)
    recipe = WordPiece if model == "encoder" else Word
    tokenizer = recipe(vocab_size=60, special=tuple(config.model.special)).train(iter(TEXTS))
    return SimpleNamespace(model=lab.build(config, vocab_size=tokenizer.vocab_size), tokenizer=tokenizer)


@pytest.fixture(scope="module")
def encoder():
    return reader("encoder", "objective=classify", "data=labelled", "data.path=x")


@pytest.fixture(scope="module")
def decoder():
    return reader("decoder")


FRAMES = {
    "decoder": ("document", None), "encoder": ("cls", "sep"), "encoder_decoder": (None, "end"), "recurrent": ("document", None),
    "recurrent_translator": (None, "end"), "word_vectors": (None, None),
}  # fmt: skip
"""What stands around a text, by family; a bag of words has a test of its own."""


def test_every_family_has_its_frame_here():
    assert {*FRAMES, "bag_of_words"} == set(groups()["model"])


@pytest.mark.parametrize("model", FRAMES)
def test_a_text_has_its_vector_whatever_is_read_beside_it(model):
    kinds = {"encoder": ("masked", "docs"), "word_vectors": ("skip_gram", "docs"), "decoder": ("causal", "docs")}
    objective, data = kinds.get(model.replace("recurrent", "decoder"), ("seq2seq", "copy"))
    run = reader(model, f"objective={objective}", f"data={data}", "tokenizer=word")
    before, after = ([run.tokenizer.id(role)] if role else [] for role in FRAMES[model])
    for pool in ("first", "mean", "last"):
        together = lab.embed(run, TEXTS, pool, batch_tokens=30)
        assert together.shape == (4, 32)
        for text, vector in zip(TEXTS, together, strict=True):
            tokens = torch.tensor([[*before, *run.tokenizer.encode([text])[0].tolist(), *after]])
            with torch.no_grad():
                vectors = run.model.vectors(tokens)[0]
            expected = {"first": vectors[0], "mean": vectors.mean(0), "last": vectors[-1]}[pool]
            np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_pooling_leaves_padding_out():
    vectors = torch.arange(24.0).reshape(2, 4, 3)
    laid = Layout.packed([[2], [4]])
    assert pooled(vectors, laid, "mean")[0].tolist() == vectors[0, :2].mean(0).tolist()
    assert torch.equal(pooled(vectors, laid, "last"), torch.stack([vectors[0, 1], vectors[1, 3]]))
    with pytest.raises(ValueError, match=r"^pool: max; choose from first, mean, last$"):
        pooled(vectors, laid, "max")


def test_a_bag_of_words_gives_sparse_vectors_of_the_whole_vocabulary():
    run = reader("bag_of_words", "objective=classify", "data=labelled", "data.path=x", "model.weighting=counts")
    found = lab.embed(run, TEXTS, batch_tokens=8)
    assert found.shape == (4, run.tokenizer.vocab_size)
    for text, row in zip(TEXTS, found.toarray(), strict=True):
        counts = np.bincount(run.tokenizer.encode([text])[0], minlength=len(row))
        np.testing.assert_allclose(row, counts / np.linalg.norm(counts), rtol=1e-6)
    dense = found.toarray()
    np.testing.assert_allclose(similarities(found), dense @ dense.T, atol=1e-6)
    with pytest.raises(RequestError, match="BagOfWords: a family without vectors of tokens"):
        lab.word_in(run, TEXTS[0], "bank")


def test_cosines_are_those_of_the_definition():
    one, two = np.random.default_rng(0).normal(size=(2, 5, 7))
    expected = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in two] for a in one]
    np.testing.assert_allclose(similarities(one, two), expected)
    assert not similarities(np.zeros((1, 7)), two).any()


def test_a_word_has_another_vector_in_another_text_where_the_model_sees_the_text(encoder):
    senses = [lab.word_in(encoder, text, "bank") for text in (TEXTS[0], TEXTS[2])]
    assert similarities(np.stack(senses))[0, 1] < 0.999
    tokens = torch.from_numpy(encoder.tokenizer.encode([TEXTS[0]])[0].astype(np.int64))
    cls, sep = (torch.tensor([encoder.tokenizer.id(role)]) for role in ("cls", "sep"))
    encoding = encoder.tokenizer.inner.encode(TEXTS[0], add_special_tokens=False)
    places = [1 + place for place, word in enumerate(encoding.word_ids) if word == 1]
    with torch.no_grad():
        expected = encoder.model.hidden(torch.cat([cls, tokens, sep])[None])[0, places].mean(0)
    np.testing.assert_allclose(senses[0], expected, atol=1e-5)


def test_a_static_word_is_the_same_everywhere(decoder):
    static = SimpleNamespace(tokenizer=decoder.tokenizer, model=Table(decoder.tokenizer.vocab_size))
    senses = np.stack([lab.word_in(static, text, "bank") for text in (TEXTS[0], TEXTS[2])])
    assert similarities(senses)[0, 1] == pytest.approx(1)
    table = static.model.table.weight[decoder.tokenizer.inner.token_to_id("bank")]
    np.testing.assert_array_equal(senses[0], table.detach().numpy())


class Table(lab.models.model.Model):
    """A vector a token."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.table, self.context = torch.nn.Embedding(vocab_size, 8), 16

    def vectors(self, tokens, layout=None, segments=None):
        return self.table(tokens)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda run: lab.embed(run, []), "texts: none"),
        (lambda run: lab.embed(run, "river"), "texts: a list of texts is needed"),
        (lambda run: lab.embed(run, ["river", " "]), "texts: ' ' gives no token"),
        (lambda run: lab.embed(run, ["river " * 20, "a"], too_long="refuse"), "texts: 1 of 2 are longer than model.co"),
        (
            lambda run: lab.word_in(run, TEXTS[0], "ban"),
            "word: 'ban' does not stand in 'the bank of the river' as a whole word",
        ),
        (lambda run: lab.word_in(run, TEXTS[0], "the", 2), "word: 'the' is 2 times in"),
        (lambda run: lab.word_in(run, "river " * 20 + "king", "king"), "word: 'king' stands behind the tokens that"),
    ],
)
def test_what_cannot_be_read_is_said(decoder, ask, message):
    with pytest.raises(RequestError, match=message):
        ask(decoder)


def test_what_is_cut_is_said(decoder, capsys):
    cut, whole = lab.embed(decoder, ["river " * 20, "river " * 15], "last")
    np.testing.assert_array_equal(cut, whole)
    assert "texts: 1 of 2 are longer than model.context=16, and were cut" in capsys.readouterr().err
