"""The bag of words against scikit-learn: its weights, its similarities, and a linear classifier on top."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression

import lab
from lab.data.arrange import layout
from lab.data.store import Tokens
from lab.errors import RequestError
from lab.models import bag_of_words
from lab.models.bag_of_words import BagOfWords
from lab.parts.sparse import SparseClassifier
from lab.runs.train import data_module

VOCABULARY = 12
TEXTS = st.lists(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=9), min_size=1, max_size=6)


def prepared(texts: list[list[int]]) -> SimpleNamespace:
    """Texts with a label each, whose numbers are no tokens."""
    arrays = [np.array(part) for text in texts for part in (text, [VOCABULARY - 1])]
    tokens = Tokens(np.concatenate(arrays), np.cumsum([0, *map(len, arrays)]), document_id=0, fields=2)
    return SimpleNamespace(train=tokens, labels=("a", "b"))


def rows(texts: list[list[int]]) -> tuple[torch.Tensor, object]:
    lengths = np.array([len(text) for text in texts])
    padded = [text + [0] * (lengths.max() - len(text)) for text in texts]
    return torch.tensor(padded), layout(lengths)


def vectorizer(**settings) -> TfidfVectorizer | CountVectorizer:
    kind = TfidfVectorizer if "norm" in settings else CountVectorizer
    return kind(analyzer=list, lowercase=False, vocabulary=list(range(VOCABULARY)), **settings)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"weighting": "counts", "normalised": False}, {}),
        ({"weighting": "binary", "normalised": False}, {"binary": True}),
        ({"weighting": "counts"}, {"norm": "l2", "use_idf": False}),
        ({"weighting": "tfidf"}, {"norm": "l2"}),
        ({"weighting": "tfidf", "normalised": False}, {"norm": None}),
        ({"weighting": "tfidf", "sublinear": True}, {"norm": "l2", "sublinear_tf": True}),
    ],
    ids=str,
)
@given(train=TEXTS, texts=TEXTS)
def test_weights_are_those_of_scikit_learn(ours, theirs, train, texts):
    model = BagOfWords(VOCABULARY, context=9, **ours)
    model.count(prepared(train))
    found = model.represent(*rows(texts)).numpy().toarray()
    expected = vectorizer(**theirs).fit(train).transform(texts).toarray()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_score_of_a_pair_is_no_text():
    arrays = [np.array(part) for score in (1, 2, 3) for part in ([4, 5], [5], [score] * 4)]
    tokens = Tokens(np.concatenate(arrays), np.cumsum([0, *map(len, arrays)]), document_id=0, fields=3)
    model = BagOfWords(VOCABULARY, context=9)
    model.count(SimpleNamespace(train=tokens, labels=()))
    having = [0, 0, 0, 0, 3, 6] + [0] * 6
    assert model.inverse_frequency.tolist() == pytest.approx([np.log(7 / (1 + count)) + 1 for count in having])


def test_documents_are_counted_in_pieces_as_in_one(monkeypatch):
    texts = [[random.Random(n).randrange(VOCABULARY) for _ in range(1 + n % 7)] for n in range(50)]
    whole = bag_of_words.document_frequencies(prepared(texts).train, range(1), VOCABULARY)
    monkeypatch.setattr(bag_of_words, "PIECE", 5)
    pieces = bag_of_words.document_frequencies(prepared(texts).train, range(1), VOCABULARY)
    assert whole[0] == pieces[0] == 50
    assert whole[1].tolist() == pieces[1].tolist() == [sum(t in text for text in texts) for t in range(VOCABULARY)]


@given(TEXTS)
def test_the_sparse_classifier_is_the_linear_map_of_the_dense_rows(texts):
    head = SparseClassifier(VOCABULARY, 3)
    bags = BagOfWords(VOCABULARY, context=9, weighting="counts").represent(*rows(texts))
    dense = torch.from_numpy(bags.numpy().toarray())
    torch.testing.assert_close(head(bags), dense @ head.table.weight + head.bias)


def test_a_word_of_another_weighting_is_refused():
    with pytest.raises(RequestError, match=r"^model\.weighting: bm25; choose from counts, binary, tfidf$"):
        lab.compose("model=bag_of_words", "objective=classify", "data=labelled", "data.path=x", "model.weighting=bm25")


def test_what_it_goes_with_is_said():
    with pytest.raises(RequestError, match=r"add objective=classify data=\w+ or objective=contrastive data="):
        lab.compose("model=bag_of_words")


def test_a_trained_one_is_as_good_as_logistic_regression(tmp_path):
    """Two kinds of texts that share most of their words."""
    draw = random.Random(0)
    words = [f"w{n}" for n in range(60)]
    kinds = {"a": [3] * 10 + [1] * 50, "b": [1] * 50 + [3] * 10}
    examples = [
        {"text": " ".join(draw.choices(words, weights, k=12)), "label": kind}
        for _ in range(400)
        for kind, weights in kinds.items()
    ]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(example) + "\n" for example in examples))
    run = lab.train(
        lab.compose(
            "model=bag_of_words", "objective=classify", "data=labelled", f"data.path={path}", "tokenizer=word",
            "tokenizer.vocab_size=70", "split.validation=0.3", "split.max_bytes=null", "batch.rows=32",
            "budget.steps=150", "optimizer.lr=0.03", "trainer.validations=1", "trainer.threads=1", "logger=none",
        ),
        tmp_path / "run",
    )  # fmt: skip
    assert run.status == "finished"
    held = data_module(run.config).prepared.examples
    texts, true = [example.texts[0] for example in held], [example.labels[0] for example in held]
    learnt = [example for example in examples if example["text"] not in set(texts)]
    theirs = TfidfVectorizer(token_pattern=r"\w+")
    machine = LogisticRegression(C=10).fit(
        theirs.fit_transform([e["text"] for e in learnt]), [e["label"] for e in learnt]
    )
    accuracy = machine.score(theirs.transform(texts), true)
    assert 0.6 < accuracy < 0.99
    assert run.result["val/accuracy"] == pytest.approx(accuracy, abs=0.04)
    # What was counted is kept with the weights, and a loaded run classifies as it did in training.
    frequencies = dict(zip(theirs.get_feature_names_out(), theirs.idf_, strict=True))
    for word in ("w0", "w30"):
        token = run.tokenizer.inner.token_to_id(word)
        assert float(lab.load(run.folder).model.inverse_frequency[token]) == pytest.approx(frequencies[word], rel=1e-5)
    guesses = [next(iter(chances)) for chances in lab.classify(lab.load(run.folder), texts)]
    assert np.mean([g == t for g, t in zip(guesses, true, strict=True)]) == pytest.approx(run.result["val/accuracy"])
    assert run.result["parameters"] == run.result["vocab_size"] * 2 + 2
