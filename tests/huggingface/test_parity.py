"""Published models, built from configuration alone, give transformers' numbers; and they leave as they came."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import load_file

import lab as api
from lab.huggingface.comparison import compare
from lab.huggingface.family import families
from lab.huggingface.fields import Fields
from lab.huggingface.incoming import composed, take_in
from lab.huggingface.outgoing import give_out
from lab.huggingface.parity import published
from lab.layout import Layout
from lab.models.decoder import Decoder
from lab.models.encoder import Encoder
from lab.models.encoder_decoder import EncoderDecoder
from lab.models.generate import generate

transformers = pytest.importorskip("transformers")

VARIANTS = [(name, variant) for name, family in families().items() for variant in family.variants]


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_numbers_are_those_of_transformers_and_bytes_come_back(name, variant, tmp_path):
    family = families()[name]
    theirs = published(family.fields(variant), name, tmp_path / "published")
    run = take_in(tmp_path / "published", tmp_path / "run")
    found = compare(family, run, theirs)
    assert max(found.logits, found.hidden, found.padded, found.packed) < 1e-5
    assert 0 < found.gradients < 1e-4
    assert found.same == found.tokens == {Decoder: 100, EncoderDecoder: 200, Encoder: 0}[family.built]
    assert found.different > 4 or family.built is Encoder

    made = give_out(run, tmp_path / "exported")
    assert made.model_type == name
    before, after = (json.loads((tmp_path / f"{place}/config.json").read_text()) for place in ("published", "exported"))
    for key in before.keys() & after.keys() - {
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "n_inner",
        "rope_parameters",
    }:
        assert after[key] == before[key] or before[key] is None, key
    weights = [tmp_path / place / "model.safetensors" for place in ("published", "exported")]
    same = weights[0].read_bytes() == weights[1].read_bytes()
    if not same:
        names = [set(load_file(path)) for path in weights]
        assert names[0] != names[1]
        assert all(family.derived.search(name) for name in names[0] ^ names[1])
    one_of_its_class = variant == next(iter(family.variants)) or "architectures" in family.fields(variant)
    if one_of_its_class or not same:
        take_in(tmp_path / "exported", tmp_path / "again")
        runs = [tmp_path / place / "checkpoints/model.safetensors" for place in ("run", "again")]
        assert runs[0].read_bytes() == runs[1].read_bytes()
    if one_of_its_class:
        settings = {"attn_implementation": "eager"}
        again = type(theirs).from_pretrained(tmp_path / "exported", **settings).eval()
        architecture = transformers.AutoConfig.from_pretrained(tmp_path / "exported").architectures
        assert architecture == [type(theirs).__name__]
        tokens = torch.arange(3, 23).unsqueeze(0)
        given = {"input_ids": tokens} | ({"decoder_input_ids": tokens[:, :9]} if family.built is EncoderDecoder else {})
        torch.testing.assert_close(again(**given)[0], theirs(**given)[0], rtol=0, atol=1e-6)


def test_noise_while_training_is_that_of_transformers(tmp_path):
    """Of the same numbers; nothing else is left to chance."""
    family = families()["mixtral"]
    fields = family.fields("two experts of four") | {"router_jitter_noise": 0.3}
    theirs = published(fields, "mixtral", tmp_path / "published").train()
    ours = take_in(tmp_path / "published", tmp_path / "run").model.train()
    tokens = torch.arange(3, 23).unsqueeze(0)
    results = []
    for model in (ours, theirs):
        torch.manual_seed(0)
        results.append(model(tokens))
    reference = results[1].logits
    torch.testing.assert_close(results[0], reference, rtol=0, atol=1e-5 * reference.abs().max().item())
    still = theirs.eval()(tokens).logits
    assert (reference - still).abs().max() > 0.01 * still.abs().max()


FACTORS = {"type": "su", "short_factor": [1.0, 1.1, 1.3, 1.6], "long_factor": [1.0, 2.5, 4.0, 9.5]}
TRAINED = "original_max_position_embeddings"


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("llama", {"rope_parameters": {"rope_theta": 50.0}, "rope_scaling": {"type": "linear", "factor": 2.0}}),
        ("phi3", {"rope_scaling": {**FACTORS, TRAINED: 64}, TRAINED: 12, "rope_theta": 50.0}),
        ("phi3", {"rope_scaling": {**FACTORS, TRAINED: 12}, "max_position_embeddings": 8192}),
    ],
    ids=["old and new names", "inside and outside", "inside alone"],
)
def test_of_two_settings_of_a_rotation_the_same_holds(name, fields):
    fields = {**families()[name].small, **fields}
    theirs = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(name, **copy.deepcopy(fields)))
    rotate_half = transformers.models.llama.modeling_llama.rotate_half
    words = families()[name].words(Fields({"model_type": name, **fields}))
    position = api.build(composed(words), vocab_size=96).position
    x = torch.randn(1, 20, 3, 8)
    cosine, sine = (values.unsqueeze(2) for values in theirs.rotary_emb(torch.zeros(1), torch.arange(20)[None]))
    expected = x * cosine + rotate_half(x) * sine
    torch.testing.assert_close(position.rotate(x, Layout.full(1, 20)), expected, rtol=0, atol=1e-5)


def test_longrope_judges_each_document_by_its_own_length(tmp_path):
    """Those that share rows or a batch are as each alone; in transformers the longest row of a batch decides for all."""
    theirs = published(families()["phi3"].fields("LongRoPE"), "phi3", tmp_path / "published")
    ours = take_in(tmp_path / "published", tmp_path / "run").model
    tokens = torch.arange(3, 27).unsqueeze(0).repeat(2, 1)
    long, short = tokens[:1], tokens[:1, :10]  # 24 and 10 of the 12 that are trained
    alone = [theirs(one).logits[0] for one in (long, short)]
    mine = ours(tokens, Layout.packed([[24], [10]], 24))
    for given, reference in zip((mine[0], mine[1, :10]), alone, strict=True):
        torch.testing.assert_close(given, reference, rtol=0, atol=1e-5 * reference.abs().max().item())
    together = theirs(tokens, attention_mask=(torch.arange(24) < torch.tensor([[24], [10]])).long()).logits
    assert (together[1, :10] - alone[1]).abs().max() > 0.1

    prompts = [long[0, :9].tolist(), long[0, :11].tolist()]  # each grows beyond the 12, at its own step
    settings = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = [theirs.generate(torch.tensor([p]), **settings)[0, len(p) :].tolist() for p in prompts]
    assert generate(ours, prompts, 20) == expected


def test_a_comparison_sees_what_is_wrong(tmp_path):
    family = families()["llama"]
    theirs = published(family.fields("grouped heads"), "llama", tmp_path / "published")
    run = take_in(tmp_path / "published", tmp_path / "run")
    with torch.no_grad():
        run.model.blocks[1].attention.output.weight[0, 0] += 0.1
    found = compare(family, run, theirs)
    assert min(found.logits, found.hidden, found.gradients, found.padded, found.packed) > 1e-4


@pytest.mark.parametrize("name", families())
def test_missing_fields_are_what_transformers_takes_them_for(name):
    family = families()[name]
    defaults = transformers.AutoConfig.for_model(name).to_dict()
    assert family.words(Fields({"model_type": name})) == family.words(Fields(defaults))
