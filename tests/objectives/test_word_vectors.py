"""Word vectors: what is drawn follows its formulas, losses and gradients those of a slow loop, and runs find who belongs
together.
"""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

import lab
from lab.config import construct
from lab.errors import RequestError
from lab.objectives.negative_sampling import ROW, closer, cumulative, drawn, kept_share
from lab.objectives.windows import Windows, compacted, near
from lab.runs import folder as files
from lab.runs.signals import Stop
from lab.runs.start import start
from lab.runs.train import continue_run, data_module

TOPICS = 6, 8
"""Topics, and words of each."""


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    """Documents of one topic each, drawn from its words and from `the`, which is everywhere."""
    random = np.random.default_rng(0)
    texts = []
    for number in range(600):
        words = [f"t{number % TOPICS[0]}w{random.integers(TOPICS[1])}" for _ in range(12)]
        texts.append(" ".join(f"the {word}" for word in words))
    path = tmp_path_factory.mktemp("topics") / "topics.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return (
        "preset=word2vec", "data=files", f"data.path={path}", "model.dim=16", "model.context=32", "batch.rows=8",
        "tokenizer.vocab_size=51", "budget.steps=6", "trainer.validations=1", "trainer.threads=1", "logger=none",
        "split.validation=0.1",
    )  # fmt: skip


def made(words, *more):
    """The objective of a run, and the run's batches."""
    config = lab.compose(*words, *more)
    data = data_module(config)
    model = lab.build(config, vocab_size=data.prepared.tokenizer.vocab_size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(20)  # scores that matter
    return construct(config, "objective", model=model, optimizer=None, prepared=data.prepared), data


# What is drawn


def test_frequent_words_are_kept_as_in_word2vec():
    counts = np.array([0, 5000, 900, 90, 10], float)
    for sample in (0.001, 0.05):
        threshold = sample * counts.sum()
        expected = [min(1, (math.sqrt(n / threshold) + 1) * threshold / n) if n else 0 for n in counts]
        assert kept_share(counts, sample) == pytest.approx(expected)
    assert kept_share(counts, None).tolist() == [0, 1, 1, 1, 1]


def test_noise_is_drawn_by_counts_to_the_power_of_three_quarters(topics):
    objective, data = made(topics)
    ids = data.prepared.train.ids
    counts = np.bincount(ids, minlength=51).astype(float)
    counts[list(data.prepared.tokenizer.specials.values())] = 0
    batch = data.training_batch(0)
    found = np.zeros(51)
    for step in range(40):
        found += np.bincount(objective.draw(batch, step).noise.flatten().numpy(), minlength=51)
    expected = counts**0.75
    assert not found[expected == 0].any()
    there = expected > 0
    assert chisquare(found[there], found.sum() * (expected / expected.sum())[there]).pvalue > 1e-3


def test_words_are_read_and_windows_cut_as_often_as_they_should(topics):
    objective, data = made(topics, "objective.sample=0.01", "objective.window=3")
    batch = data.training_batch(0)
    tokens = batch.tokens.numpy()
    read, tries = np.zeros(51), 200
    found, expected = np.zeros(4), np.zeros(4)
    for step in range(tries):
        windows = objective.draw(batch, step)
        read += np.bincount(windows.words[windows.weight > 0].numpy(), minlength=51)
        _, first, second = windows.near.nonzero(as_tuple=True)
        found += np.bincount((first - second).abs().numpy(), minlength=4)
        neighbours = windows.near.diagonal(1, 1, 2)  # within a document every window holds the next word
        for distance in (1, 2, 3):
            expected[distance] += 2 * neighbours.unfold(1, distance, 1).prod(-1).sum() * (4 - distance) / 3
    there = np.bincount(tokens.flatten(), minlength=51)
    rate = read / np.maximum(there * tries, 1)
    spread = 5 * np.sqrt(0.25 / np.maximum(there * tries, 1))
    assert (np.abs(rate - objective.kept.numpy()) < spread)[there > 0].all()
    assert found == pytest.approx(expected, rel=0.02)
    assert objective.kept.min() == 0 < objective.kept[2] < 1


@given(st.integers(0, 10**6))
@settings(max_examples=40)
def test_windows_are_those_of_a_plain_enumeration(seed):
    random = np.random.default_rng(seed)
    rows, time = random.integers(1, 4), random.integers(1, 12)
    words, kept = random.integers(2, 50, (rows, time)), random.random((rows, time)) < 0.6
    documents = np.cumsum(random.random((rows, time)) < 0.2, axis=1)
    radius = random.integers(1, 4, (rows, time))
    moved, places, radii = compacted(*map(torch.from_numpy, (kept, words, documents, radius)))
    pairs, distances = near(places, radii, 3)
    assert ((pairs[0] - pairs[1]).abs() == distances).all()
    filler = torch.zeros_like(moved)
    found = Windows(moved, filler, pairs, None, filler).near
    for row in range(rows):
        expected = []
        for document in range(documents.max() + 1):
            read = [i for i in range(time) if kept[row, i] and documents[row, i] == document]
            for at, i in enumerate(read):
                around = range(max(0, at - radius[row, i]), min(len(read), at + radius[row, i] + 1))
                expected += [(words[row, i], words[row, read[other]]) for other in around if other != at]
        pairs = [(int(moved[row, i]), int(moved[row, j])) for i, j in found[row].nonzero().tolist()]
        assert pairs == expected


def test_what_is_drawn_does_not_depend_on_the_parts_of_a_step(topics):
    objective, data = made(topics)
    whole = data.training_batch(5)
    together = objective.losses(objective.draw(whole, 5))
    rows = np.split(data.step_rows(5), 4)
    apart = [objective.losses(objective.draw(data.train_rows.batch(r), 5, i, 4)) for i, r in enumerate(rows)]
    assert sum(nats.item() for nats, _ in apart) == pytest.approx(together[0].item(), rel=1e-5)
    assert sum(int(pairs) for _, pairs in apart) == int(together[1])
    fifth = objective.draw(whole, 5).noise
    torch.manual_seed(4)  # as each rank does, with another number
    assert torch.equal(fifth, objective.draw(whole, 5).noise)
    assert not torch.equal(fifth, objective.draw(whole, 6).noise)
    objective.seed += 1
    assert not torch.equal(fifth, objective.draw(whole, 5).noise)


# What is minimised


def slow(objective, windows, cbow):
    """Nats and pairs, one at a time."""
    table, head = objective.model.embedding.table.weight, objective.model.embedding.head.weight
    nats, pairs = torch.zeros(()), 0
    sigmoid, noise = torch.nn.functional.logsigmoid, windows.noise.shape[1]
    for row, words in enumerate(windows.words):
        for i in range(len(words)):
            window = windows.near[row, i].nonzero().flatten().tolist()
            examples = [(table[words[i]], words[j]) for j in window]
            if cbow:
                examples = [(table[words[window]].mean(0), words[i])] if window else []
            for vector, word in examples:
                against = sigmoid(-(head[windows.noise[row]] @ vector)).sum() * objective.negatives / noise
                nats = nats - sigmoid(vector @ head[word]) - against
                pairs += 1
    return nats, pairs


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", ["skip_gram", "cbow"])
def test_losses_and_gradients_are_those_of_a_slow_loop(topics, name, sparse):
    words = ("objective=cbow", "objective.corrected=true") if name == "cbow" else ()
    objective, data = made(topics, *words, "batch.rows=2", "objective.shared=8", "objective.sample=0.05")
    windows = objective.draw(data.training_batch(0), 0)
    tables = [objective.model.embedding.table.weight, objective.model.embedding.head.weight]
    expected, pairs = slow(objective, windows, name == "cbow")
    gradients = torch.autograd.grad(expected, tables)
    objective.sparse = sparse
    nats, found = objective.losses(windows)
    assert nats.item() == pytest.approx(expected.item(), rel=1e-5)
    assert int(found) == pairs > 20
    nats.backward()
    for table, gradient in zip(tables, gradients, strict=True):
        assert table.grad.is_sparse == sparse
        assert torch.allclose(table.grad.to_dense() if sparse else table.grad, gradient, atol=1e-4)


def test_in_word2vec_every_word_of_a_window_gets_the_whole_gradient_of_the_mean(topics):
    grown = {}
    for corrected in ("false", "true"):
        objective, _ = made(topics, "objective=cbow", f"objective.corrected={corrected}")
        words = torch.tensor([[5, 6, 7]])
        only_first = torch.tensor([[0, 0], [1, 2]])
        nats, _ = objective.losses(Windows(words, torch.ones(1, 3), only_first, None, torch.tensor([[9, 10]])))
        nats.backward()
        grown[corrected] = objective.model.embedding.table.weight.grad
    assert grown["true"].abs().sum() > 0
    assert torch.allclose(grown["false"], 2 * grown["true"])


def test_closeness_is_the_share_of_noise_that_a_pair_beats():
    random = torch.Generator().manual_seed(0)
    table = torch.randn(12, 4, generator=random)
    words, noise = torch.randint(12, (2, 5), generator=random), torch.randint(12, (2, 7), generator=random)
    weights = torch.rand(2, 5, 5, generator=random)
    won = total = 0.0
    cosine = torch.nn.functional.cosine_similarity
    for row in range(2):
        for i, j in np.ndindex(5, 5):
            a, b = table[words[row, i]], table[words[row, j]]
            others = [n for n in noise[row] if n != words[row, i]]
            if words[row, i] != words[row, j]:
                gaps = [float(cosine(a, b, 0) - cosine(a, table[n], 0)) for n in others]
                beaten = [0.5 if abs(gap) < 1e-6 else float(gap > 0) for gap in gaps]
                won += float(weights[row, i, j]) * np.mean(beaten)
                total += float(weights[row, i, j])
    pairs = torch.cartesian_prod(torch.arange(10), torch.arange(5)).T
    pairs[1] += pairs[0] // 5 * 5
    found = closer(table, Windows(words, torch.ones(2, 5), pairs, weights.flatten(), noise))
    # The same word in the window and in the noise is a tie, but for what rounding makes of it.
    assert float(found[0]) == pytest.approx(won, abs=0.2)
    assert float(found[1]) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_gradient_of_a_row_is_clipped_whatever_it_is_made_of(topics, sparse):
    objective, _ = made(topics)
    for parameter in objective.parameters():
        pieces = torch.sparse_coo_tensor([[3, 5, 3]], [[30.0] * 16, [1.0] * 16, [20.0] * 16], parameter.shape)
        parameter.grad = pieces if sparse else pieces.to_dense()
    objective.configure_gradient_clipping(None)
    assert float(objective.gradient_norm) == pytest.approx(math.sqrt(2 * (200**2 + 4**2)))
    for parameter in objective.parameters():
        norms = (parameter.grad.to_dense() if sparse else parameter.grad).norm(dim=1)
        assert norms[[3, 5]].tolist() == pytest.approx([ROW, 4])
        assert norms.count_nonzero() == 2


# Runs


@pytest.mark.parametrize("name", ["skip_gram", "cbow"])
def test_a_run_brings_words_of_a_topic_together(topics, name, tmp_path):
    # Of so few words each is in most pairs of a step: too much at once for SGD, whose gradient is their sum.
    words = (*topics, f"objective={name}", "objective.sample=0.01", "optimizer=adamw", "optimizer.lr=0.01")
    run = lab.train(lab.compose(*words, "budget.steps=400"), tmp_path / "run")
    assert run.result["headline"]["name"] == "val/auc"
    assert run.result["val/auc"] > 0.8
    assert run.result["val/bpb"] is None
    assert run.result["flops"] > 0
    table, index = run.model.embedding.table.weight.detach(), run.tokenizer.inner.get_vocab()
    unit = torch.nn.functional.normalize(table, dim=1)
    for topic in range(TOPICS[0]):
        mine = [index[f"t{topic}w{i}"] for i in range(TOPICS[1])]
        nearest = (unit[mine[0]] @ unit.T).argsort(descending=True)[: TOPICS[1]].tolist()
        assert len(set(nearest) & set(mine)) >= 6


def test_vectors_without_training_know_nothing(topics, tmp_path):
    run = lab.train(lab.compose(*topics, "budget.steps=1", "optimizer.lr=1e-9"), tmp_path / "run")
    assert run.result["val/auc"] == pytest.approx(0.5, abs=0.1)
    assert run.result["train/loss"] == pytest.approx(6 * math.log(2), rel=1e-3)


def curve(folder):
    with open(folder / files.METRICS, newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def test_a_stopped_run_continues_to_the_numbers_of_an_uninterrupted_one(topics, tmp_path):
    config = lab.compose(*topics, "trainer.log_every=1")
    whole = lab.train(config, tmp_path / "whole")

    def interrupt(row):
        if row["step"] == 3:
            Stop._open.requested = True

    assert lab.train(config, tmp_path / "stopped", observers=[interrupt]).status == "stopped"
    assert continue_run(tmp_path / "stopped").status == "finished"
    assert curve(tmp_path / "stopped") == curve(whole.folder)


@pytest.mark.long
def test_parts_devices_and_dense_optimizers_learn_what_one_step_does(topics, tmp_path):
    words = (*topics, "trainer.log_every=1", "optimizer.lr=0.2")
    one = curve(lab.train(lab.compose(*words), tmp_path / "one").folder)
    assert one[-1] < one[0]
    for name, more in {
        "parts": ["batch.accumulate=2"],
        "devices": ["trainer=ddp", "trainer.devices=2"],
        "dense": ["optimizer=sgd", "optimizer.momentum=0", "optimizer.nesterov=false", "optimizer.lr=0.2"],
    }.items():
        run = lab.train(lab.compose(*words, *more), tmp_path / name)
        assert run.status == "finished", run.result["error"]
        assert curve(run.folder) == pytest.approx(one, rel=1e-4), name
    adam = lab.train(lab.compose(*topics, "optimizer=adamw"), tmp_path / "adam")
    assert adam.status == "finished", adam.result["error"]


# Vectors as the beginning of other models, and what they cannot do

DECODER = (
    "model=decoder", "objective=causal", "model.layers=1", "model.heads=2", "model.kv_heads=1", "model.inner=32",
    "optimizer=adamw", "schedule=warmup_cosine",
)  # fmt: skip


def test_vectors_begin_another_model(topics, tmp_path):
    run = lab.train(lab.compose(*topics), tmp_path / "vectors")
    config = lab.compose(*topics, *DECODER, f"start={run.folder}")
    model = lab.build(config, vocab_size=run.tokenizer.vocab_size)
    random = model.embedding.table.weight.detach().clone()
    start(config, model)
    assert torch.equal(model.embedding.table.weight, run.model.embedding.table.weight)
    assert not torch.equal(model.embedding.table.weight, random)
    others = {name: p for name, p in model.named_parameters() if "table" not in name}
    fresh = dict(lab.build(config, vocab_size=run.tokenizer.vocab_size).named_parameters())
    assert all(torch.equal(parameter, fresh[name]) for name, parameter in others.items())
    trained = lab.train(config, tmp_path / "decoder")
    assert trained.status == "finished", trained.result["error"]
    assert trained.tokenizer.inner.get_vocab() == run.tokenizer.inner.get_vocab()
    with pytest.raises(RequestError, match=r"^start="):
        lab.train(lab.compose(*topics, *DECODER, f"start={run.folder}", "model.dim=24"), tmp_path / "wide")


def test_a_static_vector_is_the_same_in_two_sentences_and_a_contextual_one_is_not(topics):
    bank = 7
    river, money = torch.tensor([[5, 9, bank]]), torch.tensor([[30, 31, bank]])
    static, contextual = (
        lab.build(lab.compose(*topics, *more), vocab_size=51).eval() for more in ((), (*DECODER, "model.layers=2"))
    )
    with torch.no_grad():
        assert torch.equal(static.vectors(river)[0, 2], static.vectors(money)[0, 2])
        assert not torch.allclose(contextual.vectors(river)[0, 2], contextual.vectors(money)[0, 2], rtol=1e-3)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("objective.window=0", "objective.window: 0; a whole number, at least 1"),
        ("objective.negatives=-2", "objective.negatives: -2; a whole number, at least 1"),
        ("objective.shared=0", "objective.shared: 0; a whole number, at least 1"),
        ("objective.sample=0", "objective.sample: 0.0; a share of the text, over 0 to 1, or null"),
        ("objective.sample=2", "objective.sample: 2.0; a share of the text, over 0 to 1, or null"),
        ("model=decoder", "objective=skip_gram: trains model=word_vectors, and model=decoder is another family"),
        ("objective=causal", "and model=word_vectors is another family; add objective=cbow or objective=skip_gram"),
    ],
)
def test_wrong_settings_are_refused_in_a_line(topics, word, message, tmp_path):
    with pytest.raises(RequestError) as refused:
        lab.train(lab.compose(*topics, word), tmp_path / "run")
    assert message in str(refused.value)


def test_text_without_two_words_in_a_document_is_refused(topics, tmp_path):
    path = tmp_path / "single.jsonl"
    path.write_text("".join(json.dumps({"text": f"w{n}"}) + "\n" for n in range(400)))
    with pytest.raises(RequestError, match=r"^data: no document of the training text has two words"):
        lab.train(lab.compose(*topics, f"data.path={path}"), tmp_path / "run")


def test_draws_never_fall_on_what_has_no_weight():
    shares = cumulative(np.array([0.0, 2, 0, 1, 0]))
    assert drawn(shares, np.array([0.0, 0.5, 0.66, 0.67, 0.999999])).tolist() == [1, 1, 1, 3, 3]
