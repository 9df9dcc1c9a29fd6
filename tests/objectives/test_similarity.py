"""Similarity of scored pairs: Spearman's correlation as SciPy has it, a loss by its formula, and scores that are no numbers."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import lab
from lab.config import construct
from lab.errors import RequestError
from lab.runs.train import data_module

TOPICS = [[f"t{topic}w{n}" for n in range(6)] for topic in range(5)]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """The score is the share of the words that two texts have of one topic, which no word of them need say alike."""
    draw = random.Random(0)
    rows = []
    for _ in range(400):
        mine, other = draw.sample(TOPICS, 2)
        shared = draw.randint(0, 4)
        words = draw.choices(mine, k=shared) + draw.choices(other, k=4 - shared)
        rows.append(
            {"a": " ".join(draw.choices(mine, k=4)), "b": " ".join(words), "s": 1 + shared + draw.random() / 10}
        )
    path = tmp_path_factory.mktemp("scored") / "scored.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (
        "preset=tiny", "objective=similarity", "model=encoder", "data=scored", f"data.path={path}", "data.source=a",
        "data.target=b", "data.score=s", "split.validation=0.3", "split.max_bytes=null", "tokenizer=word",
        "tokenizer.vocab_size=40", "model.dim=32", "model.layers=1", "batch.rows=16", "budget.steps=80",
        "optimizer.lr=0.01", "trainer.validations=1", "trainer.threads=1", "logger=none",
    )  # fmt: skip


@pytest.mark.parametrize("model", ["encoder", "bag_of_words"])
def test_loss_and_correlation_are_those_of_the_cosines(model, scored):
    config = lab.compose(*scored, f"model={model}", "budget.steps=0")
    data = data_module(config)
    made = lab.build(config, vocab_size=data.prepared.tokenizer.vocab_size)
    objective = construct(config, "objective", model=made, optimizer=None, prepared=data.prepared).eval()
    held = data.prepared.examples
    batch = data.validation_rows.batch(np.arange(len(held)))
    true = [float(example.texts[2]) for example in held]
    assert batch.targets.tolist() == pytest.approx(true)
    trained = data.train_rows.scores(np.arange(len(data.train_rows)))
    with torch.no_grad():
        sums, outputs = objective.evaluate(batch)
        sides = [
            made.represent(*rows, pool="mean")
            for rows in ((batch.source, batch.source_layout), (batch.tokens, batch.layout))
        ]
    dense = [side if isinstance(side, torch.Tensor) else torch.from_numpy(side.numpy().toarray()) for side in sides]
    cosines = torch.nn.functional.cosine_similarity(*dense).numpy()
    wanted = (np.array(true) - trained.min()) / (trained.max() - trained.min())
    assert sums.tolist() == pytest.approx([((cosines - wanted) ** 2).sum(), len(held)], rel=1e-4)
    if model == "encoder":
        assert objective.nats(batch).item() == pytest.approx(float(sums[0]), rel=1e-4)
    assert np.allclose(outputs, np.stack([cosines, true], 1), atol=1e-5)
    expected = spearmanr(*np.array(outputs).T).statistic  # of these cosines: rounding parts ties
    assert objective.judge(outputs)["val/spearman"] == pytest.approx(expected)


def test_training_learns_what_is_alike_and_numbers_teach_the_tokenizer_nothing(scored, tmp_path):
    run = lab.train(lab.compose(*scored), tmp_path / "run")
    assert run.status == "finished", run.result["error"]
    assert run.result["headline"]["name"] == "val/spearman"
    before = lab.train(lab.compose(*scored, "budget.steps=0"), tmp_path / "before")
    assert run.result["val/spearman"] > max(0.6, before.result["val/spearman"] + 0.1)
    assert not any(token[0].isdigit() for token in run.tokenizer.inner.get_vocab())
    assert run.result["val/bpb"] is None


@pytest.mark.parametrize("value", ["much", None, True, float("nan"), [1]])
def test_a_score_that_is_no_number_is_refused(value, scored, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(json.dumps({"a": "x y", "b": "y z", "s": s}) + "\n" for s in (1, 2, value)))
    with pytest.raises(RequestError, match=r"^data\.score='s': .*line 3 holds .*; a number is needed$"):
        lab.train(lab.compose(*scored, f"data.path={path}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_plain_pairs_are_refused_with_the_words_to_add(scored):
    with pytest.raises(RequestError, match=r"^objective=similarity: trains on scored, and data=reverse is task; add "):
        lab.compose("model=encoder", "objective=similarity", "data=reverse")


def test_experts_are_balanced_over_both_texts(scored):
    config = lab.compose(*scored, "ffn=moe")
    data, objective = data_module(config), None
    made = lab.build(config, vocab_size=data.prepared.tokenizer.vocab_size).train()
    objective = construct(config, "objective", model=made, optimizer=None, prepared=data.prepared).train()
    batch = data.train_rows.batch(np.arange(8))
    (layer,) = made.expert_layers
    layer.balance.parts = objective.passes
    each = []
    for rows in ((batch.source, batch.source_layout), (batch.tokens, batch.layout)):
        made.represent(*rows, pool="mean")
        each.append(layer.auxiliary.item())
    assert each[0] != each[1]
    objective.nats(batch)
    assert layer.auxiliary.item() == pytest.approx(sum(each) / 2)
    assert layer.balance.done == 0  # one step, whose choices are all counted
    assert layer.balance.tally[:-3].sum() == layer.top_k * int((batch.lengths + batch.source_lengths).sum())
