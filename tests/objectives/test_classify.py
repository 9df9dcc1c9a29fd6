"""Classification and tagging, end to end on tiny files: families, pairs, what a record keeps, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import lab
from lab.config import construct
from lab.data.arrange import Sequences
from lab.errors import RequestError
from lab.runs.train import data_module

QUICK = (
    "preset=tiny", "objective=classify", "data=labelled", "split.validation=0.3", "split.max_bytes=null", "model.dim=32",
    "model.layers=1", "batch.rows=16", "trainer.validations=1", "trainer.threads=1", "logger=none",
)  # fmt: skip


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def animals(tmp_path):
    """Texts whose label is their first word's."""
    sounds = {"cat": ("meow", "purr"), "dog": ("woof", "growl")}
    rows = [
        {"text": f"{sound} says number {n}" + " again" * (n % 2), "label": label}
        for n in range(40)
        for label, of_label in sounds.items()
        for sound in of_label
    ]
    return (*QUICK, f"data.path={write(tmp_path / 'animals.jsonl', rows)}", "tokenizer=word", "tokenizer.vocab_size=30")


@pytest.mark.parametrize("model", ["encoder", "decoder", "bag_of_words"])
def test_a_family_learns_labels_and_a_loaded_run_gives_them(model, animals, tmp_path):
    lr = 0.1 if model == "bag_of_words" else 0.01
    run = lab.train(lab.compose(*animals, f"model={model}", "budget.steps=25", f"optimizer.lr={lr}"), tmp_path / "run")
    assert run.status == "finished"
    assert run.result["val/accuracy"] == run.result["val/macro_f1"] == 1
    assert run.result["labels"] == ["cat", "dog"]
    one, other = lab.classify(lab.load(run.folder), ["growl", "purr says purr purr purr"])
    assert list(one) == ["dog", "cat"]
    assert list(other) == ["cat", "dog"]
    assert sum(one.values()) == pytest.approx(1)


def test_a_decoder_is_asked_at_its_last_token_and_an_encoder_at_its_first(animals):
    for model, place in {"decoder": -1, "encoder": 0}.items():
        config = lab.compose(*animals, f"model={model}")
        data = data_module(config)
        whole = data.validation_rows.batch(np.arange(6))
        assert whole.layout.padded
        made = lab.build(config, vocab_size=data.prepared.tokenizer.vocab_size)
        objective = construct(config, "objective", model=made, optimizer=None, prepared=data.prepared)
        objective.eval()
        for row in range(6):
            alone = data.validation_rows.batch(np.array([row]))
            vectors = made.hidden(alone.tokens)[0]
            torch.testing.assert_close(objective.logits(whole)[row], objective.head(vectors[place]))
        first = whole.tokens[0, 0]
        assert first == data.prepared.tokenizer.id("cls" if model == "encoder" else "document")


def test_pairs_are_read_together_with_their_segments(tmp_path):
    colours = ("red", "green", "blue", "black")
    rows = [
        {"one": f"{a} {n}", "two": f"{n} {b}", "same": "yes" if a == b else "no"}
        for n in range(8)
        for a in colours
        for b in colours
    ]
    words = (
        *QUICK, f"data.path={write(tmp_path / 'pairs.jsonl', rows)}", "data.text=one", "data.second=two",
        "data.label=same", "tokenizer=word", "tokenizer.vocab_size=30", "model=encoder", "budget.steps=2",
    )  # fmt: skip
    run = lab.train(lab.compose(*words), tmp_path / "run")
    data = data_module(run.config)
    batch = data.validation_rows.batch(np.arange(1))
    cls, sep = (data.prepared.tokenizer.id(role) for role in ("cls", "sep"))
    assert [batch.tokens[0, place].item() for place in (0, 3, 6)] == [cls, sep, sep]
    assert batch.segments[0].tolist() == [0] * 4 + [1] * 3
    example = data.prepared.examples[0]
    (chances,) = lab.classify(run, [example.texts])
    with torch.no_grad():
        vector = run.model.vectors(batch.tokens, batch.layout, batch.segments)[0, 0]
    from safetensors.torch import load_file

    head = load_file(run.folder / "checkpoints/model.safetensors")
    scores = head["objective.head.weight"] @ vector + head["objective.head.bias"]
    assert chances["yes"] == pytest.approx(float(scores.softmax(-1)[1]), abs=1e-5)


def test_dropout_is_on_what_stands_for_a_text_while_training(animals):
    config = lab.compose(*animals, "model=bag_of_words", "objective.dropout=0.5")
    data = data_module(config)
    model = lab.build(config, vocab_size=data.prepared.tokenizer.vocab_size)
    objective = construct(config, "objective", model=model, optimizer=None, prepared=data.prepared)
    batch = data.validation_rows.batch(np.arange(6))
    assert not torch.equal(objective.train().logits(batch), objective.logits(batch))
    assert torch.equal(objective.eval().logits(batch), objective.logits(batch))


@pytest.mark.parametrize("model", ["encoder", "decoder", "bag_of_words"])
def test_what_is_too_long_is_cut_to_the_model(model, animals):
    config = lab.compose(*animals, f"model={model}", "model.context=5")
    rows = data_module(config).validation_rows
    room = {"encoder": 3, "decoder": 4, "bag_of_words": 5}[model]
    lengths = rows.tokens.lengths(0)
    assert set(lengths) == {4, 5}
    assert isinstance(rows, Sequences)
    assert rows.cut == (lengths > room).sum()
    for number in range(2):
        batch = rows.batch(np.array([number]))
        assert batch.tokens.shape[1] == min(5, 5 - room + lengths[number])


def test_what_is_wrong_is_said(animals, tmp_path):
    for words, message in {
        ("objective.pool=max",): r"^objective\.pool: max; choose from first, mean, last$",
        ("objective.dropout=1.5",): r"^objective\.dropout: 1\.5; a share, from 0 and under 1$",
    }.items():
        with pytest.raises(RequestError, match=message):
            lab.compose(*animals, "model=encoder", *words)
    rows = [{"text": f"text {n}", "label": str(n), "of": "a" if n < 30 else "b"} for n in range(40)]
    words = (*QUICK, f"data.path={write(tmp_path / 'new.jsonl', rows)}", "split.by=of", "split.holdout=b")
    with pytest.raises(RequestError, match=r"30, 31.* to validate: no training example has that label"):
        lab.train(lab.compose(*words, "tokenizer=byte"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


CONLL = "".join(
    f"{name} B-PER\n{family} I-PER\nlives O\nin O\n{city} B-LOC\n\n"
    for name in ("Ann", "Bob", "Eve", "Dan")
    for family in ("Smith", "Jones", "Brown")
    for city in ("Rome", "Oslo", "Cairo", "Lima")
)
TAGGED = (
    "preset=tiny", "model=encoder", "objective=tag", "data=conll", "split.validation=0.3", "split.max_bytes=null",
    "model.dim=32", "batch.rows=8", "tokenizer=wordpiece", "tokenizer.vocab_size=60", "budget.steps=60",
    "optimizer.lr=0.01", "trainer.validations=1", "trainer.threads=1", "logger=none",
)  # fmt: skip


def test_entities_are_found_word_by_word(tmp_path):
    path = tmp_path / "people.txt"
    path.write_text(CONLL)
    run = lab.train(lab.compose(*TAGGED, f"data.path={path}"), tmp_path / "run")
    assert run.result["labels"] == ["B-LOC", "B-PER", "I-PER", "O"]
    assert run.result["val/entity_f1"] > 0.8  # the split depends on the folder; who finds nothing has 0
    assert run.result["headline"]["name"] == "val/entity_f1"
    assert {"val/entity_f1/PER", "val/entity_f1/LOC", "val/accuracy"} <= run.result.keys()
    # A word has as many tokens as it may; its tag stands at the first.
    batch = data_module(run.config).validation_rows.batch(np.arange(1))
    assert (batch.targets != -100).sum() == 5 < batch.tokens.shape[1] - 2


def test_parts_of_speech_are_judged_word_by_word(tmp_path):
    """They are no entities: of two that are mistaken for each other everywhere, nothing is found."""
    path = tmp_path / "words.txt"
    path.write_text(CONLL.replace("B-PER", "NN").replace("I-PER", "NNP").replace("B-LOC", "NNP").replace(" O", " IN"))
    run = lab.train(lab.compose(*TAGGED, f"data.path={path}"), tmp_path / "run")
    assert run.result["headline"] == {"name": "val/accuracy", "unit": "share of words", "direction": "max"}
    assert run.result["val/accuracy"] > 0.8
    assert not [key for key in run.result if key.startswith("val/entity")]


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "people.txt"
    path.write_text(CONLL.replace("Oslo B-LOC", "Oslo", 1))
    with pytest.raises(RequestError, match=r"people\.txt, line 11: 1 columns, the lines before have 2: 'Oslo'"):
        lab.train(lab.compose(*TAGGED, f"data.path={path}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
