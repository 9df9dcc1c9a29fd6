"""The logit lens and the losses, against the model's own logits, the run's record and a slow sum."""

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import lab as api
from lab.runs.subject import subject
from lab.views.lens import lens
from lab.views.losses import losses

TEXT = "Document 7 says"


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    """A decoder of two layers, a little trained."""
    folder = tmp_path_factory.mktemp("probe") / "run"
    return api.train(api.compose(*small, "model.layers=2", "tokenizer=bpe", "tokenizer.vocab_size=300"), folder)


@pytest.fixture(scope="module")
def masked(small, tmp_path_factory):
    """An encoder that guesses hidden tokens."""
    words = [word for word in small if not word.startswith(("preset", "tokenizer"))]
    config = api.compose("preset=bert_tiny", *words, "tokenizer=wordpiece", "tokenizer.vocab_size=120", "model.heads=2")
    return api.train(config, tmp_path_factory.mktemp("probe") / "masked")


def test_the_last_layer_says_what_the_model_says(run):
    seen = lens(run, TEXT)
    ids = [run.tokenizer.document_id, *run.tokenizer.encode([TEXT])[0].tolist()]
    with torch.no_grad():
        scores = run.model(torch.tensor([ids]))[0].log_softmax(-1)
    assert [layer.name for layer in seen.layers] == ["embedding", "1", "2"]
    for place, said in enumerate(seen.layers[-1].said):
        best = scores[place].topk(5)
        assert [word for word, _ in said.top] == [run.tokenizer.spelt(i) for i in best.indices.tolist()]
        assert [share for _, share in said.top] == pytest.approx(best.values.exp().tolist(), abs=1e-6)
        if place + 1 < len(ids):
            assert said.truth == pytest.approx(float(scores[place, ids[place + 1]].exp()), abs=1e-6)
            assert said.rank == 1 + int((scores[place] > scores[place, ids[place + 1]]).sum())
    last = seen.layers[-1]
    assert last.loss == pytest.approx(float(F.nll_loss(scores[:-1], torch.tensor(ids[1:]))), abs=1e-5)
    assert (last.agreement, last.divergence) == (1, pytest.approx(0, abs=1e-6))


def test_a_layer_says_what_the_model_would_without_those_behind(run):
    """With the other blocks taken out the model's own logits are those of the lens."""
    seen = lens(run, TEXT)
    ids = [run.tokenizer.document_id, *run.tokenizer.encode([TEXT])[0].tolist()]
    shorter = api.load(run.folder).model
    for layers in (1, 0):
        shorter.blocks = shorter.blocks[:layers]
        with torch.no_grad():
            scores = shorter(torch.tensor([ids]))[0].softmax(-1)
        for said, place in zip(seen.layers[layers].said, scores, strict=True):
            assert said.top[0][1] == pytest.approx(float(place.max()), abs=1e-6)


def test_an_encoder_guesses_each_token_hidden(masked):
    seen = lens(masked, TEXT)
    tokenizer = masked.tokenizer
    ids = [tokenizer.id("cls"), *tokenizer.encode([TEXT])[0].tolist(), tokenizer.id("sep")]
    assert len(seen.reads) == len(ids) - 2
    for place in range(1, len(ids) - 1):
        hidden = list(ids)
        hidden[place] = tokenizer.id("mask")
        with torch.no_grad():
            scores = masked.model(torch.tensor([hidden]))[0, place].softmax(-1)
        said = seen.layers[-1].said[place - 1]
        assert said.truth == pytest.approx(float(scores[ids[place]]), abs=1e-6)


@pytest.mark.parametrize("which", ["run", "masked"])
def test_the_losses_are_those_of_the_record(which, request):
    trained = request.getfixturevalue(which)
    found = losses(trained, tokens=10**9)
    assert found.whole
    assert found.loss == pytest.approx(trained.result["val/loss"], abs=1e-5)
    for groups in (found.positions, found.kinds):
        assert sum(group.tokens for group in groups) == found.tokens
        mean = sum(group.tokens * group.loss for group in groups) / found.tokens
        assert mean == pytest.approx(trained.result["val/loss"], abs=1e-5)
    few = losses(trained, tokens=found.tokens // 4)
    assert not few.whole
    assert found.tokens // 8 < few.tokens < found.tokens // 2


def test_losses_by_position_are_those_of_a_slow_sum(run):
    from lab.runs.train import data_module

    sums: dict[int, list[float]] = {}
    worst = []
    for batch in data_module(run.config).val_dataloader():
        with torch.no_grad():
            scores = run.model(batch.tokens, batch.layout).log_softmax(-1)
        for row, documents in enumerate(batch.layout.documents.tolist()):
            pieces: dict[int, list[float]] = {}
            for column, document in enumerate(documents):
                read = documents[: column + 1].count(document)
                if (target := int(batch.targets[row, column])) >= 0:
                    nats = -float(scores[row, column, target])
                    sums.setdefault(max(0, math.ceil(math.log2(read))), []).append(nats)
                    pieces.setdefault(document, []).append(nats)
            worst += [(float(np.mean(nats)), len(nats)) for nats in pieces.values()]
    found = losses(run, tokens=10**9, worst=3)
    assert [group.loss for group in found.positions] == pytest.approx(
        [np.mean(sums[b]) for b in sorted(sums)], abs=1e-5
    )
    expected = sorted(worst, key=lambda one: (one[1] < 8, -one[0]))[:3]
    assert [(one.loss, one.tokens) for one in found.worst] == [
        (pytest.approx(loss, abs=1e-5), n) for loss, n in expected
    ]
    for one in found.worst:
        told = [loss for loss in one.losses if loss is not None]
        assert len(one.words) == len(one.losses)
        assert len(told) in (one.tokens, one.tokens - 1)


@pytest.mark.parametrize("words", ["preset=lstm_lm cell=gru", "preset=translate_transformer data=reverse"])
def test_the_losses_of_other_families_are_those_of_their_logits(words, corpus):
    from lab.runs.train import data_module

    text = f"data=files data.path={corpus} tokenizer=byte split.max_bytes=5000"
    given = subject(f"{words} {'data.validation=20' if 'reverse' in words else text}")
    nats, count = 0.0, 0
    for batch in data_module(given.config).val_dataloader():
        across = given.model.family == "encoder_decoder"
        inputs = (batch.source, batch.tokens, batch.source_layout) if across else (batch.tokens,)
        with torch.no_grad():
            scores = given.model(*inputs, batch.layout).flatten(0, 1)
        nats += float(F.cross_entropy(scores, batch.targets.flatten(), reduction="sum"))
        count += batch.counted
    found = losses(given, tokens=10**9)
    assert found.recorded is None
    assert (found.tokens, found.loss) == (count, pytest.approx(nats / count, abs=1e-5))


@pytest.mark.parametrize(
    "words",
    [
        "preset=lstm_lm tokenizer=byte model.dim=32",
        "preset=translate_attention model.dim=32 model.layers=2",
        "preset=translate_transformer model.dim=32 model.inner=32",
    ],
)
def test_the_lens_of_every_family_ends_in_what_the_model_says(words, corpus):
    given = subject(words if "translate" in words else f"{words} data=files data.path={corpus}")
    pair = given.model.family == "encoder_decoder"
    text, target = ("one two", None) if not pair else (given.tokenizer.decode(ids) for ids in ([5, 6, 7], [8, 9]))
    seen = lens(given, text, target)
    begin, end = given.tokenizer.document_id, given.tokenizer.id("end")
    read = [begin, *([8, 9] if pair else given.tokenizer.encode([text])[0].tolist())]
    with torch.no_grad():
        scores = given.model(*([torch.tensor([[5, 6, 7, end]])] if pair else []), torch.tensor([read]))[0].softmax(-1)
    assert seen.reads == [given.tokenizer.spelt(token) for token in read]
    assert seen.asks == [*seen.reads[1:], given.tokenizer.spelt(end) if pair else None]
    for said, place in zip(seen.layers[-1].said, scores, strict=True):
        assert said.top[0][1] == pytest.approx(float(place.max()), abs=1e-6)
        assert said.agrees


def test_the_verb_prints_writes_and_answers(lab, run, tmp_path, monkeypatch):
    for columns in ("80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        for arguments in ([TEXT], [TEXT, "--token", "2"], [TEXT, "--layer", "1"], ["--tokens", "300"]):
            ended = lab("probe", run.folder, *arguments)
            assert ended.code == 0, ended.err
            assert max(map(len, ended.out.splitlines())) <= int(columns)
            assert "\x1b" not in ended.out
    both = lab("probe", run.folder, TEXT, "--tokens", "300", "--json", "--html", "page.html").json
    assert [layer["name"] for layer in both["lens"]["layers"]] == ["embedding", "1", "2"]
    assert 200 < both["losses"]["tokens"] < 400
    assert lab("probe", run.folder, "--json", "--tokens", "300").json["lens"] is None
    page = (tmp_path / "page.html").read_text()
    assert not re.search(r"(src|href)=", page)
    assert "What each layer would say" in page
    assert "Sequences with the highest loss" in page


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "nowhere: no run there; a run's folder has a config.yaml"),
        (["RUN", ""], "TEXT: is empty; a text to begin from"),
        (["RUN", "x" * 500], "TEXT: "),
        (["RUN", TEXT, "--layer", "3"], "--layer: 3; there are layers 0 (the embedding) to 2"),
        (["RUN", TEXT, "--token", "0"], "--token: 0; there are tokens 1 to "),
        (["RUN", "--layer", "1"], "--target, --layer, --token: go with a TEXT to look at"),
        (["RUN", "--tokens", "0"], "--tokens: 0; at least 1"),
        (["RUN", "--worst", "-1"], "--worst: -1; 0 or more"),
        (["RUN", TEXT, "--worst", "3"], "--worst, --code: of the loss over the validation text"),
        (["RUN", TEXT, "--code"], "--worst, --code: of the loss over the validation text"),
        (["preset=word2vec"], "preset=word2vec: objective=skip_gram predicts no tokens of a text"),
        (
            ["preset=bag_of_words", "text"],
            "preset=bag_of_words: model=bag_of_words; nothing in it scores the vocabulary",
        ),
    ],
)
def test_wrong_input_gets_one_line(lab, run, arguments, complaint):
    ended = lab("probe", *[run.folder if word == "RUN" else word for word in arguments])
    assert ended.code == 2
    assert ended.err.startswith(f"lab probe: {complaint}")
    assert ended.err.count("\n") == 1
