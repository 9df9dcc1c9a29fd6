"""What cannot be taken in is refused in one line that names it, and nothing is left behind."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file

from lab.errors import RequestError
from lab.huggingface.incoming import made_whole, take_in

WEIGHTS = "model.safetensors"


def refused(folder, message):
    with pytest.raises(RequestError, match=message) as error:
        take_in(folder, folder.parent / "run")
    assert "\n" not in str(error.value)
    assert {path.name for path in folder.parent.iterdir()} <= {folder.name}


def test_a_folder_without_what_a_model_is(copied, lab):
    folder = copied()
    for file, message in {
        "tokenizer.json": r"has no tokenizer\.json; .*save_pretrained\(FOLDER\) writes it",
        WEIGHTS: r"has no weights; expected model\.safetensors, or shards with model\.safetensors\.index\.json",
        "config.json": r"has no config\.json",
    }.items():
        (folder / file).unlink()
        refused(folder, message)
    ended = lab("import", folder.parent / "nowhere")
    assert ended.code == 2
    assert re.fullmatch(r"lab import: .*nowhere: no such folder\n", ended.err)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"model_type": "mamba"},
            r"model_type=\"mamba\"; the lab reads bert, distilbert, gpt2, llama, mistral, mixtral,",
        ),
        ({"model_type": ["llama"]}, r"model_type=\[\"llama\"\]; the lab reads bert"),
        ({"architectures": 5}, "architectures=5; a list of names is expected"),
        ({"architectures": "LlamaForCausalLM"}, 'architectures="LlamaForCausalLM"; a list of names is expected'),
        ({"architectures": [["x"]]}, "architectures=.*; a list of names is expected"),
        ({"rope_scaling": {"rope_type": ["linear"], "factor": 2.0}}, r"rope_type=\[\"linear\"\]; the lab has"),
        ({"model_type": "gone"}, r"model_type=null; the lab reads bert, distilbert"),
        ({"architectures": ["LlamaForTokenClassification"]}, r"architectures=.*LlamaForCausalLM, LlamaModel"),
        (
            {"quantization_config": {"bits": 4}},
            r"quantization_config=\{\"bits\": 4\}; not known for this family, and may change",
        ),
        ({"qk_norm": None, "xz": 1}, r"qk_norm=null; not known for this family, .* \(nor are xz\)"),
        ({"hidden_act": "xielu"}, r"hidden_act=\"xielu\"; the lab has gelu, "),
        ({"hidden_size": "wide"}, r"hidden_size=\"wide\"; expected a whole number, at least 1"),
        (
            {"hidden_size": 30, "head_dim": None},
            r"num_attention_heads=4; does not divide hidden_size 30, and there is no head_dim",
        ),
        ({"rms_norm_eps": None}, r"rms_norm_eps=null; expected a number"),
        ({"attention_bias": 1}, r"attention_bias=1; expected true or false"),
        ({"is_encoder_decoder": True}, r"is_encoder_decoder=true"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}},
            r"rope_type=\"dynamic\"; the lab has default, linear",
        ),
        ({"rope_parameters": {"rope_type": "linear"}}, r"factor=null; rope_type=linear takes a number"),
        ({"rope_parameters": {"rope_type": "default", "mscale": 2}}, r"rope_parameters: mscale=2; not known"),
        (
            {"rope_parameters": {"partial_rotary_factor": 0.5}},
            r"partial_rotary_factor=0.5; this family turns whole heads",
        ),
        (
            {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "partial_rotary_factor": 0.4},
            r"partial_rotary_factor=0.4; turns 3 of 8 coordinates; the lab turns pairs",
        ),
        (
            {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "partial_rotary_factor": 1.5},
            r"partial_rotary_factor=1.5; a share over 0",
        ),
        ({"rope_parameters": 3}, r"rope_parameters=3; expected an object or null"),
        ({"vocab_size": 95}, r"tokenizer\.json: has 96 tokens, and config\.json says vocab_size=95"),
    ],
    ids=str,
)
def test_a_configuration_that_the_lab_does_not_compute(copied, fields, message):
    refused(copied(**fields), message)


def test_a_config_that_is_no_object(copied):
    folder = copied()
    for text, message in {"[]": "not an object with fields", "{": "can't be read"}.items():
        (folder / "config.json").write_text(text)
        refused(folder, message)


def test_tensors_that_are_not_those_of_the_configuration(copied):
    folder = copied()
    whole = load_file(folder / WEIGHTS)
    query, norm = "model.layers.1.self_attn.q_proj.weight", "model.norm.weight"
    for weights, message in [
        ({n: w for n, w in whole.items() if n != query}, rf": {query} is missing$"),
        ({n: w for n, w in whole.items() if n not in (query, norm)}, rf": {query} is missing \(and 1 more\)$"),
        (whole | {"model.extra.weight": torch.ones(2)}, r": model\.extra\.weight belongs to no part of the model$"),
        (whole | {norm: torch.ones(31)}, rf": {norm} is \[31\], and config\.json makes it \[32\]$"),
        (whole | {query: torch.ones(32, 32).to(torch.int8)}, rf": {query} is I8; the lab reads F64, F32, F16, BF16"),
        (
            whole | {query: torch.ones(32, 32).half()},
            r"q_proj\.weight, .*k_proj\.weight, .* are merged here, and are F16 and F32",
        ),
    ]:
        save_file(weights, folder / WEIGHTS)
        refused(folder, message)


def test_a_head_that_repeats_the_table_is_the_table(copied):
    folder = copied(tie_word_embeddings=True)
    weights = load_file(folder / WEIGHTS)
    refused(folder, r"lm_head\.weight belongs to no part of the model")
    save_file(weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()}, folder / WEIGHTS)
    assert take_in(folder, folder.parent / "run").model.embedding.head is None


def test_a_pickle_is_not_opened(copied, tmp_path):
    folder = copied()
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    refused(
        folder, r"pytorch_model\.bin: a pickle, which can run code .*from_pretrained\(FOLDER\)\.save_pretrained\(NEW\)"
    )


def test_a_truncated_file(copied):
    folder = copied()
    data = (folder / WEIGHTS).read_bytes()
    for length in (len(data) - 1, len(data) // 2, 100, 4, 0):
        (folder / WEIGHTS).write_bytes(data[:length])
        refused(folder, r"model\.safetensors: truncated or damaged")


@pytest.fixture
def sharded(copied):
    """Two shards and their index, which a test may spoil."""
    folder = copied()
    whole = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(whole)
    listed = {name: f"model-{1 + 2 * n // len(names)}.safetensors" for n, name in enumerate(names)}
    for shard in set(listed.values()):
        save_file({name: whole[name] for name in names if listed[name] == shard}, folder / shard)

    def index(**changes):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed | changes}))
        return folder

    return index


def test_shards_are_one_file_in_parts(sharded, llama, tmp_path):
    run, other = take_in(sharded(), tmp_path / "run"), take_in(llama, tmp_path / "other")
    weights = "checkpoints/model.safetensors"
    assert (run.folder / weights).read_bytes() == (other.folder / weights).read_bytes()


@pytest.mark.parametrize("path", ["../out.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "a\\b"])
def test_an_index_that_leads_out_of_the_folder(sharded, path):
    refused(
        sharded(**{"lm_head.weight": path}),
        r"index\.json: lm_head\.weight is in .*; shards are files in the folder itself",
    )


def test_an_index_that_is_wrong(sharded):
    refused(
        sharded(**{"lm_head.weight": "model-3.safetensors"}),
        r"model-3\.safetensors: is missing, and .*index\.json names it",
    )
    refused(sharded(**{"lm_head.weight": "model-2.safetensors"}), r"says otherwise of lm_head\.weight")
    refused(sharded(more="model-2.safetensors"), r"says otherwise of more")
    folder = sharded()
    for text in ("{}", "[", '{"weight_map": {"a": 1}}'):
        (folder / "model.safetensors.index.json").write_text(text)
        refused(folder, r"index\.json: damaged")


def test_a_place_that_is_taken(llama, tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(RequestError, match=r"^--into: .* is there already; choose another"):
        take_in(llama, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_a_stop_leaves_nothing_behind(tmp_path):
    def stopped():
        with made_whole(tmp_path / "run", "--into") as made:
            (made / "half").write_text("")
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not list(tmp_path.iterdir())
