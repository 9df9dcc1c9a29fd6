"""Contrastive search: the loss by its formula, metrics over all held-out pairs, and models that are judged untrained."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

import lab
from lab.config import construct
from lab.errors import RequestError
from lab.objectives.rank import search
from lab.runs.train import data_module

WORDS = [f"w{n}" for n in range(200)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A query is half of its answer's words, in another order, and some of their own."""
    draw = random.Random(0)
    rows = []
    for _ in range(200):
        answer = draw.sample(WORDS, draw.randint(4, 9))
        query = [*draw.sample(answer, len(answer) // 2), *draw.sample(WORDS, 3)]
        rows.append({"source": " ".join(query), "target": " ".join(answer)})
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (
        "preset=tiny", "objective=contrastive", "data=pairs", f"data.path={path}", "split.validation=0.3",
        "split.max_bytes=null", "tokenizer=word", "tokenizer.vocab_size=220", "model.dim=32", "model.layers=1",
        "batch.rows=16", "budget.steps=2", "trainer.validations=1", "trainer.threads=1", "logger=none",
    )  # fmt: skip


def objective_of(config):
    data = data_module(config)
    model = lab.build(config, vocab_size=data.prepared.tokenizer.vocab_size)
    return data, construct(config, "objective", model=model, optimizer=None, prepared=data.prepared).eval()


@pytest.mark.parametrize("model", ["encoder", "decoder"])
def test_the_loss_is_the_cross_entropy_of_cosines_in_both_directions(model, pairs):
    data, objective = objective_of(lab.compose(*pairs, f"model={model}", "objective.temperature=0.2"))
    batch = data.train_rows.batch(np.arange(5))
    prepared, frame = data.prepared, objective.model.frame

    def vector(row, side):
        ids = [prepared.tokenizer.id(role) for role in (frame[0],)] + prepared.train.field(row, side).tolist()
        ids += [prepared.tokenizer.id(frame[2])] if frame[2] else []
        return objective.model.vectors(torch.tensor([ids]))[0].mean(0)

    with torch.no_grad():
        queries, answers = (torch.stack([vector(row, side) for row in range(5)]) for side in (0, 1))
        cosines = torch.nn.functional.cosine_similarity(queries[:, None], answers[None], dim=-1) / 0.2
        expected = -(cosines.log_softmax(1).diagonal() + cosines.log_softmax(0).diagonal()).sum() / 2
        torch.testing.assert_close(objective.nats(batch), expected, rtol=1e-4, atol=1e-4)
        sums, _ = objective.evaluate(batch)
    assert sums.tolist() == pytest.approx([float(expected), 5], rel=1e-4)
    assert batch.counted == 5
    assert data.train_rows.read(np.arange(5)) == int(batch.lengths.sum() + batch.source_lengths.sum())


@pytest.fixture
def repeated(pairs, tmp_path):
    """Many queries with few answers, and a few queries that are asked twice."""
    answers = [" ".join(WORDS[5 * n : 5 * n + 5]) for n in range(8)]
    rows = [{"source": f"{answers[n % 8]} {WORDS[60 + n // 3 % 40]}", "target": answers[n % 8]} for n in range(160)]
    path = tmp_path / "repeated.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (*pairs, f"data.path={path}")


def test_what_says_the_same_as_the_right_answer_is_right(repeated, tmp_path):
    run = lab.train(lab.compose(*repeated, "model=bag_of_words", "budget.steps=0"), tmp_path / "run")
    assert run.result["val/recall_at_1"] == 1
    assert run.result["val/mrr"] == 1
    found = search(lab.load(run.folder), data_module(run.config).prepared.validation, 10, None)
    held = [example.texts[1] for example in data_module(run.config).prepared.examples]
    for query, others in enumerate(found.others):
        assert held[query] not in {held[other] for other in others}


def test_the_loss_counts_no_right_answer_as_wrong(repeated):
    data, objective = objective_of(lab.compose(*repeated, "model=encoder", "objective.temperature=0.2"))
    batch = data.train_rows.batch(np.arange(12))
    with torch.no_grad():
        queries, answers = (torch.nn.functional.normalize(side, dim=-1) for side in objective.sides(batch))
        scores = (queries @ answers.T / 0.2).tolist()
        read = [[data.prepared.train.field(row, side).tolist() for row in range(12)] for side in (0, 1)]
        expected, passed_over = 0.0, 0
        for one in range(12):
            wrong = [n for n in range(12) if all(side[n] != side[one] for side in read)]
            passed_over += 11 - len(wrong)
            for others in ([scores[one][n] for n in wrong], [scores[n][one] for n in wrong]):
                whole = math.log(sum(map(math.exp, [scores[one][one], *others])))
                expected += (whole - scores[one][one]) / 2
        assert passed_over > 0
        assert float(objective.nats(batch)) == pytest.approx(expected, rel=1e-4)
        assert objective.evaluate(batch)[0].tolist() == pytest.approx([expected, 12], rel=1e-4)


def test_training_brings_together_what_shares_no_word(pairs, tmp_path):
    draw = random.Random(1)
    rows = [[f"{word}" for word in draw.sample(range(12), 3)] for _ in range(300)]
    path = tmp_path / "foreign.jsonl"
    path.write_text(
        "".join(
            json.dumps({"source": " ".join(f"a{w}" for w in row), "target": " ".join(f"b{w}" for w in row)}) + "\n"
            for row in rows
        )
    )
    words = (*pairs, f"data.path={path}", "model=encoder", "optimizer.lr=0.01")
    before, after = (
        lab.train(lab.compose(*words, f"budget.steps={steps}"), tmp_path / str(steps)).result for steps in (0, 80)
    )
    assert before["val/recall_at_10"] < 0.4
    assert after["val/recall_at_10"] > 0.8
    assert after["val/loss"] < before["val/loss"]
    assert after["headline"] == {"name": "val/recall_at_1", "unit": "share of queries", "direction": "max"}
    assert after["val/bpb"] is None


def test_a_bag_of_words_is_judged_untrained_as_scikit_learn_would(pairs, tmp_path):
    run = lab.train(lab.compose(*pairs, "model=bag_of_words", "budget.steps=0"), tmp_path / "run")
    assert run.status == "finished"
    prepared = data_module(run.config).prepared
    theirs = TfidfVectorizer(token_pattern=r"\w+")
    theirs.fit(
        prepared.tokenizer.decode(prepared.train.field(row, side))
        for row in range(len(prepared.train.lengths()))
        for side in (0, 1)
    )
    queries, answers = (theirs.transform(e.texts[side] for e in prepared.examples) for side in (0, 1))
    scores = (queries @ answers.T).toarray()
    places = np.array([(row > own + 1e-6).sum() for row, own in zip(scores, scores.diagonal(), strict=True)])
    assert 0.2 < (places == 0).mean() < 1
    assert run.result["val/recall_at_1"] == pytest.approx((places == 0).mean(), abs=0.02)
    assert run.result["val/recall_at_10"] == pytest.approx((places < 10).mean(), abs=0.02)
    assert run.result["val/mrr"] == pytest.approx((1 / (1 + places)).mean(), abs=0.02)


def test_no_steps_judge_what_a_run_starts_with_and_change_nothing(pairs, tmp_path):
    trained = lab.train(lab.compose(*pairs, "model=encoder", "budget.steps=3"), tmp_path / "trained")
    words = (*pairs, "model=encoder", f"start={trained.folder}", "budget.steps=0")
    judged = lab.train(lab.compose(*words), tmp_path / "judged")
    for key in ("val/loss", "val/recall_at_1", "val/mrr"):
        assert judged.result[key] == pytest.approx(trained.result[key])
    assert [judged.result[key] for key in ("steps", "tokens_seen", "flops", "train/loss")] == [0, 0, 0, None]
    assert judged.result["tokens_per_second"] is None
    before, after = (run.model.state_dict() for run in (trained, judged))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (judged.folder / "metrics.csv").read_text().count("\n") == 2


def test_a_share_without_rows_adds_nothing(pairs):
    data, objective = objective_of(lab.compose(*pairs, "model=encoder"))
    sums, outputs = objective.evaluate(data.validation_rows.batch(np.arange(3)).emptied())
    assert sums.tolist() == [0, 0]
    assert outputs == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("objective.temperature=0",), r"^objective\.temperature: 0(\.0)?; a number over 0$"),
        (("objective.pool=sum",), r"^objective\.pool: sum; choose from first, mean, last$"),
        (("model=bag_of_words",), r"holds nothing that objective=contrastive could train; add budget\.steps=0$"),
        (("model=bag_of_words", "budget.steps=0", "trainer=ddp"), r"^trainer\.strategy: ddp; model=bag_of_words takes"),
        (("data=labelled",), "objective=contrastive: trains on pairs, and data=labelled is labelled; add objective=cl"),
    ],
)
def test_what_is_wrong_is_said(words, message, pairs):
    with pytest.raises(RequestError, match=message):
        lab.compose(*pairs, *words)
