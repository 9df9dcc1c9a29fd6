"""Masked models: the loss of hidden tokens alone, next sentences, a teacher; each beside a slow reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import lab
from lab.config import build, construct
from lab.errors import RequestError
from lab.layout import Layout
from lab.runs.signals import Stop
from lab.runs.start import make_objective
from lab.runs.train import continue_run, data_module
from tests.models.flops import counted

SIZES = (
    *("preset=bert_tiny", "data=files", "tokenizer=byte", "model.dim=16", "model.inner=32", "model.context=32"),
    *("batch.rows=8", "budget.steps=4", "split.max_bytes=1500", "trainer.validations=1", "trainer.threads=1"),
    *("objective.pseudo_texts=3", "objective.pseudo_tokens=9", "logger=none", "trainer.log_every=1"),
)


def config(corpus, *words):
    pooler = "model.pooler=true" if "objective=masked_nsp" in words else "model.pooler=false"
    return lab.compose(*SIZES, pooler, f"data.path={corpus}", *words)


def made(corpus, *words, teacher=None):
    """An objective in evaluation mode, and a training batch of its data."""
    asked = config(corpus, *words, *([f"objective.teacher={teacher}"] if teacher else []))
    data = data_module(asked)
    model = build(asked, vocab_size=data.prepared.tokenizer.vocab_size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    objective = make_objective(asked, model, data.prepared, construct(asked, "optimizer"))
    return objective.eval(), data.training_batch(0)


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A trained masked model."""
    return lab.train(config(corpus), tmp_path_factory.mktemp("runs") / "masked")


def test_the_loss_is_that_of_the_hidden_tokens_and_the_head_sees_no_others(corpus):
    objective, batch = made(corpus)
    logits = objective.model(batch.tokens, batch.layout)
    expected = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="sum")
    assert objective.nats(batch).item() == pytest.approx(expected.item(), rel=1e-5)
    scored = []
    objective.model.embedding.transform.register_forward_hook(
        lambda module, x, y: scored.append(x[0].shape[:-1].numel())
    )
    objective.nats(batch)
    assert scored == [batch.counted]
    assert batch.counted < batch.tokens.numel() / 5


@pytest.mark.parametrize("words", [(), ("objective=masked_nsp",)], ids=["masked", "next_sentence"])
def test_flops_are_those_that_torch_counts(corpus, words):
    objective, batch = made(corpus, *words)
    rows, time = batch.tokens.shape
    whole = replace(batch, layout=Layout.full(rows, time), lengths=np.full(rows, time))
    assert counted(lambda: objective.nats(whole)) == objective.flops(whole)


def test_what_a_run_reports_is_what_its_model_guesses(corpus, run):
    assert run.status == "finished"
    assert run.result["headline"] == {"name": "val/loss", "unit": "nats per masked token", "direction": "min"}
    model, rows = run.model, data_module(run.config).validation_rows
    nats, right = [], []
    for number in range(len(rows)):
        batch = rows.batch(np.array([number]))
        with torch.no_grad():
            scores = model(batch.tokens, batch.layout)[0].log_softmax(-1)
        for place, target in enumerate(batch.targets[0].tolist()):
            if target != -100:
                nats.append(-float(scores[place, target]))
                right.append(int(scores[place].argmax()) == target)
    assert run.result["val/loss"] == pytest.approx(np.mean(nats), rel=1e-4)
    assert run.result["val/accuracy"] == pytest.approx(np.mean(right))
    assert run.result["val/bpb"] is None


def test_pseudo_perplexity_masks_each_token_alone(run):
    """Salazar et al. 2020, equation 3, by a loop over tokens."""
    model, tokenizer = run.model, run.tokenizer
    held = data_module(run.config).prepared.validation
    count = len(held.offsets) - 1
    nats = []
    for number in (0, (count - 1) // 2, count - 1):
        text = held.ids[held.offsets[number] + 1 : held.offsets[number + 1]][:9].astype(int).tolist()
        row = [tokenizer.id("cls"), *text, tokenizer.id("sep")]
        for place in range(1, len(row) - 1):
            hidden = torch.tensor([[*row[:place], tokenizer.id("mask"), *row[place + 1 :]]])
            with torch.no_grad():
                nats.append(-float(model(hidden)[0, place].log_softmax(-1)[row[place]]))
    assert len(nats) == 27
    assert run.result["val/pseudo_perplexity"] == pytest.approx(np.exp(np.mean(nats)), rel=1e-4)


def test_a_run_in_parts_or_resumed_has_the_same_numbers(corpus, run, tmp_path):
    calm = ("model.dropout=0",)  # which rows share a batch decides what dropout draws
    whole = lab.train(config(corpus, *calm), tmp_path / "whole").result
    parts = lab.train(config(corpus, *calm, "batch.accumulate=2"), tmp_path / "parts").result
    for key in ("val/loss", "train/loss", "val/pseudo_perplexity", "tokens_seen"):
        assert parts[key] == pytest.approx(whole[key], rel=1e-5), key

    def interrupt(row):
        if row["step"] == 2:
            Stop._open.requested = True

    assert lab.train(run.config, tmp_path / "stopped", observers=[interrupt]).status == "stopped"
    resumed = continue_run(tmp_path / "stopped").result
    for key in ("val/loss", "train/loss", "val/accuracy", "val/pseudo_perplexity", "flops"):
        assert resumed[key] == run.result[key], key


def test_next_sentences_add_the_mean_of_their_loss(corpus, tmp_path):
    objective, batch = made(corpus, "objective=masked_nsp")
    vectors = objective.model.vectors(batch.tokens, batch.layout, batch.segments)
    hidden = F.cross_entropy(objective.model.embedding.logits(vectors).flatten(0, 1), batch.targets.flatten())
    first = torch.tanh(vectors[:, 0] @ objective.model.pooler.weight.T + objective.model.pooler.bias)
    follows = F.cross_entropy(first @ objective.head.weight.T + objective.head.bias, batch.follows)
    assert objective.nats(batch).item() / batch.scored == pytest.approx((hidden + follows).item(), rel=1e-5)

    run = lab.train(config(corpus, "objective=masked_nsp"), tmp_path / "run")
    assert run.status == "finished", run.result["error"]
    assert 0 <= run.result["val/next_sentence_accuracy"] <= 1
    assert run.result["val/loss"] < run.result["train/loss"]  # which adds that of the next sentences


def test_a_student_learns_from_scores_targets_and_vectors(corpus, run):
    student, batch = made(corpus, "objective=distil", "model.layers=1", teacher=run.folder)
    teacher = run.model
    hidden = batch.targets != -100
    mine, theirs = (model.vectors(batch.tokens, batch.layout) for model in (student.model, teacher))
    scores, softer = (m.embedding.logits(x)[hidden] for m, x in ((student.model, mine), (teacher, theirs)))
    q, p = (scores / 2).log_softmax(-1), (softer / 2).log_softmax(-1)
    soft = (p.exp() * (p - q)).sum(-1).mean() * 4
    hard = F.cross_entropy(scores, batch.targets[hidden])
    a, b = (x / x.norm(dim=-1, keepdim=True) for x in (mine, theirs))
    cosine = (1 - (a * b).sum(-1))[~batch.layout.padding].mean()
    expected = 5 * soft + 2 * hard + cosine
    loss = student.nats(batch) / batch.scored
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    of_mine, reference = (
        torch.autograd.grad(x, list(student.model.blocks.parameters())) for x in (loss, expected)
    )  # fmt: skip
    for one, other in zip(of_mine, reference, strict=True):
        assert torch.allclose(one, other, atol=1e-4 * other.abs().max().item() + 1e-9)


def test_a_teacher_is_no_part_of_what_is_trained_or_saved(corpus, run, tmp_path):
    student, _ = made(corpus, "objective=distil", teacher=run.folder)
    assert sum(p.numel() for p in student.parameters()) == student.model.parameters_total
    assert not [name for name in student.state_dict() if "kept" in name or "teacher" in name]
    words = ("objective=distil", f"objective.teacher={run.folder.parent}", "model.dim=8")
    taught = lab.train(config(corpus, *words), tmp_path / "run")
    assert taught.status == "finished", taught.result["error"]
    assert 0 <= taught.result["val/teacher_agreement"] <= 1
    assert taught.result["val/loss"] > 0
    assert taught.model.dim == 8


def test_what_cannot_be_trained_is_refused(corpus, run):
    with pytest.raises(
        RequestError, match=r"its vocabulary is another, 260 tokens there and 300 here; add tokenizer=pretra"
    ):
        made(corpus, "objective=distil", "tokenizer=bpe", "tokenizer.vocab_size=300", teacher=run.folder)
    with pytest.raises(RequestError, match=r"^objective\.teacher: reads rows of 32 tokens at most, fewer than .* 64"):
        made(corpus, "objective=distil", "model.context=64", teacher=run.folder)
    with pytest.raises(RequestError, match=r"^objective\.temperature: 0\.0; a number over 0"):
        config(corpus, "objective=distil", "objective.temperature=0.0")
    with pytest.raises(RequestError, match=r"^objective\.soft, hard, cosine: 5\.0, -1\.0, 1\.0; each 0 or more"):
        config(corpus, "objective=distil", "objective.hard=-1.0")
    with pytest.raises(RequestError, match=r"^objective\.teacher: null; needs the folder"):
        made(corpus, "objective=distil")
    with pytest.raises(RequestError, match=r"^model\.pooler: true; objective=masked_nsp trains it"):
        config(corpus, "model.pooler=true")
    with pytest.raises(RequestError, match=r"^objective\.masking\.share: 1\.5; a share of the tokens"):
        config(corpus, "objective.masking.share=1.5")
    with pytest.raises(RequestError, match=r"^objective\.pseudo_texts: -1; a whole number, at least 0$"):
        config(corpus, "objective.pseudo_texts=-1")
    with pytest.raises(RequestError, match=r"^objective\.pseudo_tokens: 0; a whole number, at least 1$"):
        config(corpus, "objective=masked_nsp", "model.pooler=true", "objective.pseudo_tokens=0")


def test_a_teacher_must_not_have_learnt_what_is_validated(corpus, run, tmp_path):
    learner = config(corpus, "objective=distil", f"objective.teacher={run.folder}", "split.validation=0.4")
    with pytest.raises(
        RequestError, match=r"^objective\.teacher=.*: .* was trained on documents .*; add split\.validation"
    ):
        lab.train(learner, tmp_path / "learner")
    assert not (tmp_path / "learner").exists()


def test_a_teacher_of_another_family_is_refused(corpus, tmp_path):
    words = ("preset=tiny", "data=files", f"data.path={corpus}", "tokenizer=byte", "logger=none", "model.dim=16")
    special = "model.special=[cls,sep,mask,pad]"  # so that it has the same vocabulary
    small = ("budget.steps=1", "batch.rows=4", "split.max_bytes=1000", "trainer.threads=1", "trainer.validations=1")
    decoder = lab.train(lab.compose(*words, special, *small), tmp_path / "decoder")
    with pytest.raises(
        RequestError, match=r"^objective\.teacher: its model is of another family, decoder; needs encoder"
    ):
        made(corpus, "objective=distil", teacher=decoder.folder)
    learner = config(corpus, "objective=distil", f"objective.teacher={decoder.folder}")
    with pytest.raises(RequestError, match=r"^objective\.teacher: its model is of another family"):
        lab.train(learner, tmp_path / "learner")
    assert not (tmp_path / "learner").exists()
