"""Heads of published encoders are runs of the objective that trains them, and the other way round."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import lab as api
from lab.errors import RequestError
from lab.huggingface.family import families
from lab.huggingface.incoming import take_in
from lab.huggingface.outgoing import give_out
from lab.huggingface.parity import published, tokenizer
from lab.runs import folder as files
from lab.runs.classify import trained_objective
from lab.vectors import embed

transformers = pytest.importorskip("transformers")

FRAMED = ("<s>", "<pad>", "</s>", "<mask>")  # in RoBERTa's order, whose class takes number 1 for padding
LABELS = ["other", "person", "place"]


def folder(place, name="bert", architecture="BertForSequenceClassification", **fields):
    """A published model whose tokenizer frames texts."""
    theirs = published({**families()[name].small, "architectures": [architecture], **fields}, name, place)
    tokenizer(96, FRAMED).save(str(place / "tokenizer.json"))
    return theirs


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("bert", "BertForSequenceClassification"),
        ("roberta", "RobertaForSequenceClassification"),
        ("distilbert", "DistilBertForSequenceClassification"),
    ],
)
def test_labels_of_texts_have_the_probabilities_of_transformers(name, architecture, tmp_path):
    theirs = folder(tmp_path / "there", name, architecture, id2label=dict(enumerate(LABELS)))
    run = take_in(tmp_path / "there", tmp_path / "run")
    assert run.result["labels"] == LABELS
    assert run.config.choices.objective == "classify"
    [found] = api.classify(run, ["abc!"])
    tokens = torch.tensor([[0, *run.tokenizer.encode(["abc!"])[0].tolist(), 2]])
    expected = theirs(input_ids=tokens).logits.softmax(-1)[0].tolist()
    assert [found[label] for label in LABELS] == pytest.approx(expected, abs=1e-6)


def test_classes_without_names_are_numbered(tmp_path):
    folder(tmp_path / "there")
    config = json.loads((tmp_path / "there/config.json").read_text())
    for field in ("id2label", "label2id"):
        config.pop(field, None)
    (tmp_path / "there/config.json").write_text(json.dumps(config))
    assert take_in(tmp_path / "there", tmp_path / "run").result["labels"] == ["LABEL_0", "LABEL_1"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id2label": {"0": "one"}}, r"id2label=.*expected names of at least two classes"),
        ({"id2label": {"0": "one", "2": "two"}}, r"id2label=.*numbered from 0"),
        ({"id2label": {"0": "one", "1": "one"}}, r"id2label=.*all different"),
        ({"problem_type": "regression"}, r"problem_type=\"regression\"; the lab's texts have one label each"),
        ({"architectures": ["BertForMultipleChoice"]}, r"architectures=.*of this family the lab has BertForMaskedLM, "),
    ],
    ids=str,
)
def test_heads_that_the_lab_does_not_have(fields, message, tmp_path):
    folder(tmp_path / "there")
    config = json.loads((tmp_path / "there/config.json").read_text()) | fields
    (tmp_path / "there/config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match=message):
        take_in(tmp_path / "there", tmp_path / "run")


def test_a_body_may_have_no_pooler(tmp_path):
    theirs = folder(tmp_path / "there", architecture="BertModel")
    path = tmp_path / "there/model.safetensors"
    save_file({name: w for name, w in load_file(path).items() if "pooler" not in name}, path, {"format": "pt"})
    run = take_in(tmp_path / "there", tmp_path / "run")
    assert run.model.pooler is None
    vectors = embed(run, ["abc"], pool="first")
    tokens = torch.tensor([[0, *run.tokenizer.encode(["abc"])[0].tolist(), 2]])
    assert torch.allclose(torch.from_numpy(vectors), theirs(input_ids=tokens).last_hidden_state[:, 0], atol=1e-5)
    give_out(run, tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").read_bytes() == path.read_bytes()
    assert take_in(tmp_path / "out", tmp_path / "again").model.pooler is None


def trained(place, *words, labels=LABELS):
    """A run of the lab's own, with initial values of model and head."""
    words = (
        "preset=bert_tiny",
        "model.dim=32",
        "model.context=32",
        "tokenizer=char",
        "tokenizer.vocab_size=96",
        *words,
    )
    config = api.compose(*words)
    files.open_folder(place, config)
    tokenizer(96, FRAMED).save(str(place / "tokenizer.json"))
    model = api.build(config, vocab_size=96)
    heads = {"classify": 3, "tag": 3, "masked_nsp": 2, "rank": 1}
    weights = {name: w.contiguous() for name, w in model.state_dict().items()}
    size = heads.get(config.choices.objective)
    if size:
        generator = torch.Generator().manual_seed(0)
        weights |= {
            "objective.head.weight": torch.randn(size, 32, generator=generator),
            "objective.head.bias": torch.randn(size, generator=generator),
        }
    save_file(weights, place / files.WEIGHTS)
    known = {"labels": labels} if size == 3 else {}
    (place / files.RESULT).write_text(json.dumps({"status": "finished", **known}))
    return api.load(place)


DATA = {"classify": ("data=ag_news",), "tag": ("data=conll", "data.path=x"), "rank": ("data=opus_books",)}


@pytest.mark.parametrize(
    ("objective", "pooler", "architecture"),
    [
        ("classify", "true", "BertForSequenceClassification"),
        ("tag", "false", "BertForTokenClassification"),
        ("masked_nsp", "true", "BertForPreTraining"),
        ("masked", "false", "BertForMaskedLM"),
    ],
)
def test_a_run_of_the_lab_is_a_published_class(objective, pooler, architecture, tmp_path):
    words = (f"objective={objective}", f"model.pooler={pooler}", *DATA.get(objective, ()))
    run = trained(tmp_path / "run", *words)
    give_out(run, tmp_path / "out")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    assert config.architectures == [architecture]
    theirs = getattr(transformers, architecture).from_pretrained(tmp_path / "out").eval()
    tokens = torch.arange(5, 20).unsqueeze(0)
    made = trained_objective(run)
    with torch.no_grad():
        if objective == "classify":
            assert list(config.id2label.values()) == LABELS
            [made_there] = transformers.pipeline("text-classification", str(tmp_path / "out"), top_k=None)(["abc!"])
            found = {label["label"]: label["score"] for label in made_there}
            assert api.classify(run, ["abc!"])[0] == pytest.approx(found, abs=1e-6)
            mine, reference = made.head(made.model.represent(tokens)), theirs(input_ids=tokens).logits
        elif objective == "tag":
            mine, reference = made.head(made.model.vectors(tokens)), theirs(input_ids=tokens).logits
        elif objective == "masked":
            mine, reference = made.model(tokens), theirs(input_ids=tokens).logits
        else:
            mine = made.follows(made.model.vectors(tokens)).flip(1)
            reference = theirs(input_ids=tokens).seq_relationship_logits
    torch.testing.assert_close(mine, reference, rtol=0, atol=1e-5 * reference.abs().max().item())
    again = take_in(tmp_path / "out", tmp_path / "again")
    assert again.config.choices.objective == objective


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("objective=classify", "model.pooler=true", "objective.pool=mean"), r"objective=classify \(pool mean here"),
        (("objective=classify",), r"model=encoder \(.*here, Linear there\)"),
        (
            ("objective=rank", "objective.first_stage=x"),
            r"objective=rank added a head, for which model_type=bert has no name",
        ),
    ],
    ids=["pool", "no pooler", "another head"],
)
def test_a_head_that_no_class_has_is_named(words, message, tmp_path):
    run = trained(tmp_path / "run", *words, *DATA[words[0].partition("=")[2]])
    with pytest.raises(RequestError, match=message):
        give_out(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_has_no_head_for_the_vocabulary_scores_none():
    words = ("preset=bert_tiny", "embedding.headless=true", "model.dim=32", "model.context=16")
    model = api.build(api.compose(*words, "objective=classify", "data=ag_news"), vocab_size=50)
    assert model.head_flops == 0
    assert not any(name.startswith(("embedding.transform", "embedding.head")) for name in model.state_dict())
    with pytest.raises(ValueError, match=r"embedding\.headless: true; there is no head"):
        model(torch.tensor([[5]]))
