"""T5 as it was published and as transformers 5 writes it, and what goes with an encoder-decoder."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from lab.config import meta_model
from lab.data.tokenizers import Tokenizer
from lab.errors import RequestError
from lab.huggingface.family import families
from lab.huggingface.fields import Fields
from lab.huggingface.incoming import composed, take_in
from lab.huggingface.outgoing import give_out
from lab.huggingface.parity import TARGETS, published, tokenizer
from lab.runs.translate import translate
from tests.huggingface.test_runs import untrained
from tests.huggingface.test_sizes import T5_1_1_BASE, T5_SMALL

transformers = pytest.importorskip("transformers")

T5, WEIGHTS = families()["t5"], "model.safetensors"


@pytest.fixture
def folder(tmp_path):
    """Of T5 1.0 unless told; called with a variant, fields for its `config.json` and a function of its tensors."""

    def make(variant="1.0", change=lambda weights: {}, **fields):
        place = tmp_path / "published"
        published(T5.fields(variant), "t5", place)
        config = json.loads((place / "config.json").read_text()) | fields
        (place / "config.json").write_text(json.dumps(config))
        weights = load_file(place / WEIGHTS)
        save_file({name: w.clone() for name, w in (weights | change(weights)).items()}, place / WEIGHTS)
        return place

    return make


@pytest.mark.parametrize(
    ("fields", "tied", "scale"), [(T5_SMALL, True, 512**-0.5), (T5_1_1_BASE, False, 1.0)], ids=["1.0", "1.1"]
)
def test_published_configurations(fields, tied, scale):
    model = meta_model(composed(T5.words(Fields(fields))), 32_100)
    assert (model.embedding.head is None, model.embedding.logit_scale) == (tied, scale)
    assert {block.attention.scale for block in [*model.encoder.blocks, *model.decoder.blocks]} == {1.0}


def test_a_head_beside_the_table_is_one_of_its_own_whatever_transformers_5_says(folder):
    """It writes that every head is tied, and tells 1.1 by scores that are not scaled."""
    source = folder("1.1", tie_word_embeddings=True, scale_decoder_outputs=False)
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(source).eval()
    ours = take_in(source, source.parent / "run").model
    assert ours.embedding.head is not None
    tokens = torch.arange(3, 20).unsqueeze(0)
    reference = theirs(input_ids=tokens, decoder_input_ids=tokens[:, :9]).logits
    mine = ours.embedding.logits(ours.hidden(tokens, tokens[:, :9]))
    torch.testing.assert_close(mine, reference, rtol=0, atol=1e-5 * reference.abs().max().item())


def test_copies_of_the_table_and_what_nothing_reads(folder):
    """As old checkpoints have them."""
    bias = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    source = folder(change=lambda w: dict.fromkeys(copies, w["shared.weight"]) | {bias: torch.ones(32, 4)})
    assert take_in(source, source.parent / "run").model.embedding.head is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"feed_forward_proj": "gated-tanh"}, r"feed_forward_proj=\"gated-tanh\"; the lab has gelu, .*gated-silu"),
        ({"dense_act_fn": "gelu"}, r"dense_act_fn=\"gelu\"; feed_forward_proj=relu says otherwise"),
        ({"is_gated_act": True}, r"is_gated_act=true; feed_forward_proj=relu says otherwise"),
        ({"decoder_start_token_id": 1}, r"decoder_start_token_id=1; a target follows the tokenizer's <pad>, 0$"),
        ({"is_decoder": True}, r"is_decoder=true; this family is read with both stacks"),
        ({"is_encoder_decoder": False}, r"is_encoder_decoder=false; this family is otherwise"),
        ({"relative_attention_num_buckets": 10}, r"position\.buckets: 10; a multiple of 4"),
        ({"architectures": ["T5EncoderModel"]}, r"architectures=.*T5ForConditionalGeneration"),
        ({"conditional": 1}, r"conditional=1; not known for this family"),
    ],
    ids=str,
)
def test_a_configuration_that_the_lab_does_not_compute(folder, fields, message):
    source = folder(**fields)
    with pytest.raises(RequestError, match=message):
        take_in(source, source.parent / "run")
    assert not (source.parent / "run").exists()


def test_stacks_of_switch_share_a_table():
    """In transformers 5 they do so only with the head."""
    with pytest.raises(RequestError, match=r"tie_word_embeddings=false; each stack would have a table of its own"):
        families()["switch_transformers"].words(Fields({"tie_word_embeddings": False}))


def test_other_tables_for_the_stacks_are_refused(folder):
    source = folder(change=lambda w: {"encoder.embed_tokens.weight": w["shared.weight"] + 1})
    with pytest.raises(RequestError, match=r": encoder\.embed_tokens\.weight belongs to no part of the model$"):
        take_in(source, source.parent / "run")


def test_translating_with_it_and_with_what_leaves_again(folder):
    """By the lab's verb, and by transformers with nothing but what the folder says."""
    source = folder("1.1")
    run = take_in(source, source.parent / "run")
    give_out(run, source.parent / "out")
    mine = translate(run, ["abc!"], beam=1)[0]
    assert mine
    for place in (source, source.parent / "out"):
        theirs = transformers.T5ForConditionalGeneration.from_pretrained(place).eval()
        given = torch.tensor([[*run.tokenizer.encode(["abc!"])[0].tolist(), 1]])
        made = theirs.generate(given, max_new_tokens=20, do_sample=False)[0].tolist()
        assert made[0] == 0
        assert run.tokenizer.decode([token for token in made if token > 1]) == mine
    words = transformers.AutoTokenizer.from_pretrained(source.parent / "out")
    assert (words.pad_token_id, words.eos_token_id) == (0, 1)


def test_what_targets_and_documents_follow():
    """T5's padding, and in GPT-1's tokenizer the only special token."""
    assert Tokenizer(tokenizer(96, TARGETS)).document_id == 0
    assert Tokenizer(tokenizer(96, ("<unk>",))).document_id == 0


PAIRS = ("model=encoder_decoder", "model.layers=2", "objective=seq2seq", "data=reverse", "position=t5_bias")


@pytest.mark.parametrize(
    ("words", "model_type"),
    [
        ((*PAIRS, "attention.scale=1.0", "attention.dropout=0.0"), "t5"),
        (("preset=t5_1_0", "model.special=[end,pad]"), "t5"),
        (("preset=t5_1_1", "model.special=[end,pad]"), "t5"),
        (("preset=switch", "model.special=[end,pad]"), "switch_transformers"),
    ],
    ids=["pairs", "t5_1_0", "t5_1_1", "switch"],
)
def test_a_composition_of_the_lab_is_a_published_class(words, model_type, tmp_path):
    run = untrained(tmp_path / "run", *words)
    assert give_out(run, tmp_path / "out").model_type == model_type
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").eval()
    tokens = torch.arange(3, 20).unsqueeze(0)
    reference = theirs(input_ids=tokens, decoder_input_ids=tokens[:, :9]).logits
    mine = run.model.embedding.logits(run.model.hidden(tokens, tokens[:, :9]))
    torch.testing.assert_close(mine, reference, rtol=0, atol=1e-5 * reference.abs().max().item())
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert (config["decoder_start_token_id"], config["pad_token_id"]) == (run.tokenizer.document_id,) * 2
    back = take_in(tmp_path / "out", tmp_path / "back").model
    assert all(map(torch.equal, run.model.state_dict().values(), back.state_dict().values()))
    read = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert read("abc").input_ids == [*run.tokenizer.encode(["abc"])[0].tolist(), run.tokenizer.id("end")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (PAIRS, r"model_type=t5, the nearest, has another attention=mha \(scale none here, 1\.0 there\)$"),
        (
            ("preset=switch", "model.special=[end,pad]", "embedding=untied"),
            r"model_type=switch_transformers, the nearest, has another embedding=untied \(.* here, .* there\)$",
        ),
        (("model=recurrent_translator", *PAIRS[2:4]), r"another model \(RecurrentTranslator here"),
    ],
    ids=["scaled scores", "untied experts", "recurrent"],
)
def test_a_choice_that_no_class_has_is_named(words, message, tmp_path):
    run = untrained(tmp_path / "run", *words)
    with pytest.raises(RequestError, match=message):
        give_out(run, tmp_path / "out")
