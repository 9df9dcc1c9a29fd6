"""Re-ranking of what a bag of words finds, by an encoder that reads query and candidate together."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch

import lab
from lab.config import construct
from lab.errors import RequestError
from lab.runs.train import data_module


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    draw = random.Random(0)
    rows = []
    for _ in range(120):
        answer = draw.sample(range(30), 5)
        query = [*draw.sample(answer, 2), *draw.sample(range(30), 2)]
        rows.append({"source": " ".join(f"w{n}" for n in query), "target": " ".join(f"w{n}" for n in answer)})
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (
        "preset=tiny", "data=pairs", f"data.path={path}", "split.validation=0.3", "split.max_bytes=null",
        "tokenizer=word", "model.dim=32", "model.layers=1", "batch.rows=8", "trainer.validations=1",
        "trainer.threads=1", "logger=none",
    )  # fmt: skip


@pytest.fixture(scope="module")
def bag(words, tmp_path_factory):
    config = lab.compose(*words, "model=bag_of_words", "objective=contrastive", "budget.steps=0")
    return lab.train(config, tmp_path_factory.mktemp("bag") / "run")


def test_candidates_are_those_of_the_first_stage_in_the_order_of_their_fit(words, bag, tmp_path):
    config = lab.compose(
        *words, "model=encoder", "objective=rank", f"objective.first_stage={bag.folder}", "objective.depth=4",
        "budget.steps=2",
    )  # fmt: skip
    run = lab.train(config, tmp_path / "run")
    assert run.status == "finished"
    data = data_module(config)
    examples = data.prepared.examples
    cosines = lab.similarities(*(lab.embed(bag, [e.texts[side] for e in examples]) for side in (0, 1)))
    objective = construct(config, "objective", model=run.model, optimizer=None, prepared=data.prepared, first_stage=bag)
    objective.eval()
    head = {k: v for k, v in _weights(run).items() if k.startswith("objective.head.")}
    objective.head.load_state_dict({k.removeprefix("objective.head."): v for k, v in head.items()})
    tokenizer = run.tokenizer
    first, again = [], []
    for number, example in enumerate(examples):
        found = np.argsort(-cosines[number], kind="stable")[:4]
        scores = []
        for candidate in found:
            texts = [example.texts[0], examples[candidate].texts[1]]
            one, two = (tokens.tolist() for tokens in tokenizer.encode(texts))
            row = [tokenizer.id("cls"), *one, tokenizer.id("sep"), *two, tokenizer.id("sep")]
            segments = [0] * (len(one) + 2) + [1] * (len(two) + 1)
            with torch.no_grad():
                vector = run.model.vectors(torch.tensor([row]), segments=torch.tensor([segments]))[0, 0]
                scores.append(float(objective.head(vector)))
        first.append([number == found[0], number in found])
        again.append(found[np.argmax(scores)] == number)
    before, reached = np.mean(first, axis=0)
    assert 0 < before < reached < 1
    assert run.result["val/first_stage_recall_at_1"] == pytest.approx(before)
    assert run.result["val/first_stage_recall_at_4"] == pytest.approx(reached)
    assert run.result["val/recall_at_1"] == pytest.approx(np.mean(again))
    assert run.result["val/first_stage_recall_at_1"] == pytest.approx(bag.result["val/recall_at_1"], abs=0.1)


def _weights(run):
    from safetensors.torch import load_file

    return load_file(run.folder / "checkpoints/model.safetensors")


def test_the_loss_is_of_the_right_answer_among_the_next_ones(words, bag):
    config = lab.compose(*words, "model=encoder", "objective=rank", "objective.first_stage=x", "objective.negatives=2")
    data = data_module(config)
    model = lab.build(config, vocab_size=data.prepared.tokenizer.vocab_size)
    objective = construct(config, "objective", model=model, optimizer=None, prepared=data.prepared, first_stage=bag)
    batch = data.train_rows.batch(np.array([3, 5, 8, 9]))
    expected = 0.0
    with torch.no_grad():
        for query, answers in {3: (3, 5, 8), 5: (5, 8, 9), 8: (8, 9, 3), 9: (9, 3, 5)}.items():
            alone = [objective.fits(data.prepared.train, np.array([query]), np.array([a]))[0] for a in answers]
            expected -= float(torch.stack(alone).log_softmax(0)[0])
        assert float(objective.nats(batch)) == pytest.approx(expected, rel=1e-4)
        sums, places = objective.evaluate(batch.emptied())
    assert (sums.tolist(), places) == ([0, 0], [])


def test_what_is_wrong_is_said(words, tmp_path):
    asked = (*words, "model=encoder", "objective=rank")
    with pytest.raises(RequestError, match=r"^objective\.depth: 0; a whole number, at least 1$"):
        lab.compose(*asked, "objective.first_stage=x", "objective.depth=0")
    with pytest.raises(RequestError, match=r"^objective\.first_stage: null; needs the folder of the run that finds"):
        lab.compose(*asked)
    with pytest.raises(RequestError, match=r"objective\.first_stage=nowhere: no such folder"):
        lab.train(lab.compose(*asked, "objective.first_stage=nowhere", "budget.steps=1"), tmp_path / "run")
