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
from lab.objectives.rank import closest, search
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
    special = "model.special=[cls,sep,mask,pad]"  # those of the encoder, so that both have one vocabulary
    config = lab.compose(*words, "model=bag_of_words", special, "objective=contrastive", "budget.steps=0")
    return lab.train(config, tmp_path_factory.mktemp("bag") / "run")


@pytest.mark.parametrize("pool", ["null", "mean"])
def test_candidates_are_those_of_the_first_stage_in_the_order_of_their_scores(words, bag, tmp_path, pool):
    config = lab.compose(
        *words, "model=encoder", "objective=rank", f"objective.first_stage={bag.folder}", "objective.depth=4",
        "objective.first_stage_weight=2", f"objective.pool={pool}", "init.std=0.3", "budget.steps=2",
    )  # fmt: skip
    run = lab.train(config, tmp_path / "run")
    assert run.status == "finished"
    examples = data_module(config).prepared.examples
    cosines = lab.similarities(*(lab.embed(bag, [e.texts[side] for e in examples]) for side in (0, 1)))
    tokenizer = run.tokenizer
    first, again, alone = [], [], []
    for number, example in enumerate(examples):
        # Of equal cosines the right answer comes last.
        order = sorted(range(len(examples)), key=lambda other: (-cosines[number, other], other == number, other))[:4]
        fits = []
        for candidate in order:
            texts = [example.texts[0], examples[candidate].texts[1]]
            one, two = (tokens.tolist() for tokens in tokenizer.encode(texts))
            row = [tokenizer.id("cls"), *one, tokenizer.id("sep"), *two, tokenizer.id("sep")]
            segments = [0] * (len(one) + 2) + [1] * (len(two) + 1)
            with torch.no_grad():
                vectors = run.model.vectors(torch.tensor([row]), segments=torch.tensor([segments]))[0]
            vector = vectors.mean(0) if pool == "mean" else vectors[0]
            fits.append(float(vector @ run.head["weight"][0]) + float(run.head["bias"][0]))
        first.append([number == order[0], number in order])
        scores = np.array(fits) + 2 * cosines[number, order]
        again.append(order[np.argmax(scores)] == number)
        alone.append(order[np.argmax(fits)] == number)
    before, reached = np.mean(first, axis=0)
    assert 0 < before < reached < 1
    assert len({before, np.mean(again), np.mean(alone)}) == 3
    assert run.result["val/first_stage_recall_at_1"] == pytest.approx(before)
    assert run.result["val/first_stage_recall_at_4"] == pytest.approx(reached)
    assert run.result["val/recall_at_1"] == pytest.approx(np.mean(again))
    assert run.result["val/first_stage_recall_at_1"] == bag.result["val/recall_at_1"]


def test_the_loss_is_of_the_right_answer_among_the_closest_wrong_ones(words, bag):
    config = lab.compose(
        *words, "model=encoder", "objective=rank", "objective.first_stage=x", "objective.negatives=2",
        "objective.first_stage_weight=3", "init.std=0.3",
    )  # fmt: skip
    data = data_module(config)
    tokens, tokenizer = data.prepared.train, data.prepared.tokenizer
    model = lab.build(config, vocab_size=tokenizer.vocab_size)
    objective = construct(config, "objective", model=model, optimizer=None, prepared=data.prepared, first_stage=bag)
    objective.head.weight.data.normal_()
    sides = [[tokenizer.decode(tokens.field(i, side)) for i in range(len(data.train_rows))] for side in (0, 1)]
    cosines = lab.similarities(*(lab.embed(bag, texts) for texts in sides))
    expected = 0.0
    with torch.no_grad():
        for query in (3, 5, 8, 9):
            order = np.argsort(-cosines[query], kind="stable")
            answers = np.array([query, *order[order != query][:2]])
            fits = objective.fits(tokens, np.full(3, query), answers)
            expected -= float((fits + 3 * torch.from_numpy(cosines[query, answers])).log_softmax(0)[0])
        batch = data.train_rows.batch(np.array([3, 5, 8, 9]))
        assert float(objective.nats(batch)) == pytest.approx(expected, rel=1e-4)
        sums, places = objective.evaluate(batch.emptied())
    assert (sums.tolist(), places) == ([0, 0], [])


@pytest.mark.parametrize("negatives", [1, 3, 1000])
def test_a_step_reads_the_wrong_answers_too(words, negatives):
    config = lab.compose(
        *words, "model=encoder", "objective=rank", "objective.first_stage=x", f"objective.negatives={negatives}"
    )
    rows = data_module(config).train_rows
    chosen = np.array([3, 5, 8])
    together = min(negatives, len(rows) - 1) + 1
    assert rows.read(chosen) == together * rows.batch(chosen).lengths.sum()


def test_a_search_finds_all_where_there_are_fewer(words, bag):
    config = lab.compose(*words, "model=encoder", "objective=rank", "objective.first_stage=x")
    held = data_module(config).prepared.validation
    found = search(bag, held, 1000)
    everything = set(range(len(held.lengths())))
    assert all(set(others) == everything - {query} for query, others in enumerate(found.others.tolist()))
    assert (np.diff(found.cosines[:, 1:]) <= 0).all()


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_the_closest_are_the_beginning_of_a_stable_sort(count):
    scores = np.random.default_rng(0).integers(0, 4, (50, 7)).astype(np.float32)
    np.testing.assert_array_equal(closest(scores, count), np.argsort(-scores, axis=1, kind="stable")[:, :count])


def test_pairs_that_do_not_fit_into_a_row_are_counted(words):
    rank = ("model=encoder", "objective=rank", "objective.first_stage=x")
    facts = data_module(lab.compose(*words, *rank, "model.context=11")).facts
    assert facts["train/cut_examples"] == len(data_module(lab.compose(*words, *rank)).train_rows)
    assert data_module(lab.compose(*words, *rank, "model.context=12")).facts["train/cut_examples"] == 0
    with pytest.raises(
        RequestError, match=r"^data\.too_long=refuse: .* examples \(train\) are longer than model.context=11"
    ):
        data_module(lab.compose(*words, *rank, "model.context=11", "data.too_long=refuse"))


def test_what_is_wrong_is_said(words, bag, tmp_path):
    asked = (*words, "model=encoder", "objective=rank")
    with pytest.raises(RequestError, match=r"^objective\.depth: 0; a whole number, at least 1$"):
        lab.compose(*asked, "objective.first_stage=x", "objective.depth=0")
    with pytest.raises(RequestError, match=r"^objective\.first_stage_weight: -1\.0; a number, at least 0$"):
        lab.compose(*asked, "objective.first_stage=x", "objective.first_stage_weight=-1")
    with pytest.raises(RequestError, match=r"^objective\.first_stage: null; needs the folder of the run that finds"):
        lab.compose(*asked)
    with pytest.raises(RequestError, match=r"objective\.first_stage=nowhere: no such folder"):
        lab.train(lab.compose(*asked, "objective.first_stage=nowhere", "budget.steps=1"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(RequestError, match=r"^objective\.pool: max; choose from first, mean, last$"):
        lab.compose(*asked, "objective.first_stage=x", "objective.pool=max")
    other = lab.compose(*words, "model=bag_of_words", "objective=contrastive", "budget.steps=0")
    first = lab.train(other, tmp_path / "other").folder
    with pytest.raises(
        RequestError, match=r"^objective\.first_stage=.*: its vocabulary is another, \d+ tokens there and"
    ):
        lab.train(lab.compose(*asked, f"objective.first_stage={first}", "budget.steps=1"), tmp_path / "run")
