"""Labels as words: what is trained on, what is reported, and how that compares with counting by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

import lab
from lab.data.examples import Labelled
from lab.data.split import Split
from lab.data.store import prepare
from lab.data.text_to_text import TextToText
from lab.data.tokenizers import Byte, Word
from lab.errors import RequestError
from lab.runs.train import data_module

RUN = (
    "preset=tiny", "model=encoder_decoder", "objective=text_to_text", "data=text_to_text", "data.label=kind",
    "model.dim=32", "model.layers=1", "model.context=32", "batch.rows=16", "budget.steps=120", "optimizer.lr=0.02",
    "trainer.validations=1", "trainer.threads=1", "logger=none", "tokenizer=byte", "split.validation=0.3",
)  # fmt: skip


@pytest.fixture
def sounds(tmp_path):
    """Texts whose letter says what they are."""
    path = tmp_path / "sounds.jsonl"
    random = np.random.default_rng(0)
    rows = [{"text": random.choice([*"mwx"]) * int(random.integers(1, 12)), "more": "!"} for _ in range(200)]
    kinds = {"m": "a cat", "w": "a dog", "x": "none"}
    path.write_text("".join(json.dumps(row | {"kind": kinds[row["text"][0]]}) + "\n" for row in rows))
    return str(path)


def test_what_is_read_and_written(sounds):
    data = TextToText(sounds, label="kind")
    plain = Labelled(sounds, label="kind")
    example = next(data.examples())
    assert data.read(example) == (f"kind text: {example.texts[0]}", example.labels[0])
    assert data.scored(example) == example.labels
    made, labelled = (prepare(each, Byte(special=["end"]), Split(0.3)) for each in (data, plain))
    assert [e.texts for e in made.examples] == [e.texts for e in labelled.examples]  # the same are held out
    read = [made.tokenizer.decode(made.validation.field(0, side)) for side in (0, 1)]
    assert read == [f"kind text: {made.examples[0].texts[0]}", made.examples[0].labels[0]]
    both = TextToText(sounds, prefix="animal?", second="more", label="kind")
    assert both.asked(next(both.examples())) == f"animal? text: {example.texts[0]} more: !"
    assert TextToText(sounds, prefix="", label="kind").asked(example) == f"text: {example.texts[0]}"
    prints = {each.fingerprint() for each in (data, plain, both, TextToText(sounds, prefix="", label="kind"))}
    assert len(prints) == 4


def test_what_is_reported_is_how_often_the_label_is_written(sounds, tmp_path):
    config = lab.compose(*RUN, f"data.path={sounds}")
    run = lab.train(config, tmp_path / "run")
    assert run.status == "finished", run.result["error"]
    assert run.result["headline"]["name"] == "val/accuracy"
    loaded = lab.load(run.folder)
    examples = data_module(config).prepared.examples
    true = [example.labels[0] for example in examples]
    found = lab.translate(loaded, [f"kind text: {example.texts[0]}" for example in examples], most=9)
    known = [answer if answer in ("a cat", "a dog", "none") else "" for answer in found]
    assert run.result["val/accuracy"] == pytest.approx(accuracy_score(true, known))
    assert run.result["val/macro_f1"] == pytest.approx(f1_score(true, known, average="macro", zero_division=0))
    assert run.result["val/labels_written"] == pytest.approx(np.mean([answer != "" for answer in known]))
    assert run.result["val/accuracy"] > 0.4
    assert run.result["labels"] == ["a cat", "a dog", "none"]


def test_labels_that_a_tokenizer_cannot_tell_apart_are_refused(sounds):
    with pytest.raises(RequestError, match=r"^tokenizer: spells the labels a (cat|dog) and a (cat|dog) alike"):
        prepare(TextToText(sounds, label="kind"), Word(4, special=["end"]), Split(0.3))


def test_a_label_that_training_never_showed_is_refused(tmp_path):
    path = tmp_path / "kinds.jsonl"
    rows = [{"text": f"text {n}", "label": "odd" if n % 2 else "even", "part": "a"} for n in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"text": "x", "label": "new", "part": "b"}]))
    with pytest.raises(RequestError, match=r"^split: new to validate: no training example has that label; .*even, odd"):
        prepare(TextToText(str(path)), Byte(special=["end"]), Split(by="part", holdout="b"))


def test_what_does_not_fit_is_refused_with_the_words_to_add():
    with pytest.raises(RequestError, match=r"data=labelled is labelled; add .* or data=text_to_text$"):
        lab.compose("preset=t5_1_1", "objective=text_to_text", "data=labelled", "data.path=x.jsonl")
    with pytest.raises(RequestError, match=r"data=text_to_text is text_to_text; add objective=text_to_text$"):
        lab.compose("preset=t5_1_1", "data=text_to_text", "data.path=x.jsonl")
