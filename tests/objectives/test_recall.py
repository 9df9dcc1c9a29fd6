"""Runs on synthetic tasks and on pairs: what they report is what their model does, and kinds that do not fit are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import lab
import lab.config
from lab.errors import RequestError
from lab.runs.train import data_module

TASK = (
    "preset=tiny", "objective=recall", "data.symbols=8", "data.train=64", "data.validation=40", "model.dim=32",
    "model.context=36", "batch.rows=16", "budget.steps=3", "trainer.validations=1", "trainer.threads=1", "logger=none",
)  # fmt: skip


@pytest.mark.parametrize("task", ["copy", "multi_recall"])
def test_accuracy_is_the_share_of_answers_that_the_model_gives(task, tmp_path):
    more = ("data.pairs=4",) if task == "multi_recall" else ()
    config = lab.compose(*TASK, f"data={task}", *more)
    run = lab.train(config, tmp_path / "run")
    assert run.status == "finished"
    assert run.result["headline"] == {"name": "val/accuracy", "unit": "share of answers", "direction": "max"}
    model = lab.load(run.folder).model
    data = data_module(config)
    right: dict[int, list[bool]] = {}
    nats = []
    for number in range(40):
        row = data.validation_rows.batch(np.array([number]))
        with torch.no_grad():
            scores = model(row.tokens, row.layout)[0].log_softmax(-1)
        for place, target in enumerate(row.targets[0].tolist()):
            if target != -100:
                right.setdefault(int(row.distances[0, place]), []).append(int(scores[place].argmax()) == target)
                nats.append(-float(scores[place, target]))
    every = [answer for answers in right.values() for answer in answers]
    assert run.result["val/accuracy"] == pytest.approx(np.mean(every))
    assert run.result["val/loss"] == pytest.approx(np.mean(nats), rel=1e-4)
    bands = {key: value for key, value in run.result.items() if key.startswith("val/accuracy/")}
    assert bands
    for key, value in bands.items():
        first, _, last = key.removeprefix("val/accuracy/distance_").partition("-")
        inside = [a for d, answers in right.items() if int(first) <= d <= int(last or first) for a in answers]
        assert value == pytest.approx(np.mean(inside))


def test_a_run_on_a_task_trains_on_answers_alone_and_resumes_with_its_tokenizer(tmp_path):
    config = lab.compose(*TASK, "data=recall", "budget.steps=2")
    run = lab.train(config, tmp_path / "run")
    data = data_module(config)
    batches = [data.training_batch(step) for step in (0, 1)]
    assert run.result["tokens_seen"] == sum(int((~batch.layout.padding).sum()) for batch in batches)
    assert [batch.scored for batch in batches] == [16, 16]  # one answer a row
    assert run.result["vocab_size"] == run.tokenizer.vocab_size == 10
    assert run.result["val/bpb"] is None


@pytest.fixture
def pairs(tmp_path):
    rows = [{"source": f"what is {n} and {n}", "target": f"it is {2 * n}"} for n in range(100)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ("preset=tiny", "tokenizer=byte", "data=pairs", f"data.path={path}", "split.validation=0.2", "model.dim=32",
            "budget.steps=2", "trainer.validations=1", "trainer.threads=1", "logger=none")  # fmt: skip


def test_a_decoder_learns_answers(pairs, tmp_path):
    run = lab.train(lab.compose(*pairs), tmp_path / "run")
    config = lab.compose(*pairs)
    texts = [example.texts[1] for example in data_module(config).prepared.examples]
    targets = sum(len(text) + 1 for text in texts)
    bits = run.result["val/loss"] * targets / np.log(2) / sum(map(len, texts))
    assert run.result["val/bpb"] == pytest.approx(bits)
    assert (run.result["train/cut_examples"], run.result["val/cut_examples"]) == (0, 0)
    assert 0 <= run.result["waste_share"] < 0.1


def test_what_is_cut_is_said_and_its_bits_per_byte_are_not_claimed(pairs, tmp_path, capsys):
    run = lab.train(lab.compose(*pairs, "model.context=20"), tmp_path / "run")
    cut = [run.result[f"{part}/cut_examples"] for part in ("train", "val")]
    said = "data.too_long=cut: {} training and {} validated examples are longer than model.context=20".format(*cut)
    assert said in capsys.readouterr().err
    assert run.result["val/cut_examples"] > 0
    assert run.result["val/bpb"] is None


def test_kinds_that_do_not_fit_are_refused(pairs, tmp_path):
    for words, message in {
        (*pairs, "objective=recall"): "objective=recall: trains on task, and data=pairs is pairs; add objective=causal",
        (*pairs, "data=labelled"): "data=labelled is labelled; add objective=classify",
    }.items():
        with pytest.raises(RequestError, match=message):
            lab.train(lab.compose(*words), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_rank_without_rows_adds_nothing(tmp_path):
    config = lab.compose(*TASK, "data=needle")
    data = data_module(config)
    model = lab.build(config, vocab_size=10)
    objective = lab.config.construct(config, "objective", model=model, optimizer=None)
    full = data.validation_rows.batch(np.arange(5))
    with torch.no_grad():
        (sums, _), (nothing, _) = (objective.evaluate(batch) for batch in (full, full.emptied()))
    assert nothing.shape == sums.shape
    assert nothing.abs().sum() == 0
    assert sums[1] == 5
