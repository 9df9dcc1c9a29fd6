"""What is taken in is a run like any other, and a run of the lab's own can be given out."""

from __future__ import annotations

import json

import pytest
import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers.processors import TemplateProcessing

import lab as api
from lab.errors import RequestError
from lab.huggingface.family import families
from lab.huggingface.fields import Fields
from lab.huggingface.incoming import take_in
from lab.huggingface.outgoing import give_out
from lab.huggingface.parity import published, tokenizer
from lab.runs import folder as files
from lab.views.attention import attention
from lab.views.lens import lens
from lab.views.routing import routing

transformers = pytest.importorskip("transformers")


def test_every_verb_takes_it(llama, lab, small, tmp_path):
    made = lab("import", llama, "--into", "taken", "--json")
    assert made.code == 0, made.err
    result = made.json
    assert result["status"] == "finished"
    assert result["parameters"] == sum(
        p.numel() for p in transformers.AutoModelForCausalLM.from_pretrained(llama).parameters()
    )
    assert {result[key] for key in ("val/loss", "val/bpb", "train/loss", "tokens_seen", "flops", "seconds")} == {None}
    run = api.load("taken")
    assert api.compose(*run.config.overrides).model == run.config.model
    assert files.read_config(run.folder).tokenizer.path == str(tmp_path / "taken/tokenizer.json")
    assert len(api.generate(run.model, [[5, 6, 7]], 4)[0]) == 4
    data = [word for word in small if not word.startswith(("preset", "model", "tokenizer"))]
    onward = lab(
        "train", *run.config.overrides, *data, "model.context=32", "batch.accumulate=1", "start=taken", "folder=onward"
    )
    assert onward.code == 0, onward.err
    assert api.load("onward").result["start"] == "taken"
    report = lab("report", "taken", "onward", "--json")
    assert report.code == 0, report.err
    out = lab("export", "onward", "out", "--json")
    assert out.json == {"folder": "out", "model_type": "llama", "weights": ["model.safetensors"]}
    assert lab("export", "onward", "out").code == 2


@pytest.mark.parametrize("begins", [True, False])
def test_a_prompt_is_continued_as_published(begins, copied, lab):
    """Where the published tokenizer puts a token before a text, as Llama's does, and where not, as GPT-2's."""
    folder = copied()
    inner = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    if begins:
        number = inner.token_to_id("</s>")
        inner.post_processor = TemplateProcessing(single="</s> $A", special_tokens=[("</s>", number)])
    inner.save(str(folder / "tokenizer.json"))
    assert lab("import", folder, "--into", "taken").code == 0
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    given = inner.encode("AB").ids
    assert len(given) == 2 + begins
    with torch.no_grad():
        logits = theirs(torch.tensor([given])).logits[0, -1]
    step = lab("generate", "taken", "AB", "--steps", "--json").json
    assert step["ids"] == given
    assert step["chosen"]["id"] == int(logits.argmax())
    written = lab("generate", "taken", "AB", "--tokens", "5", "--json").json["answers"][0]["text"]
    answer = theirs.generate(torch.tensor([given]), max_new_tokens=5, do_sample=False, eos_token_id=None)
    assert written == inner.decode(answer[0, len(given) :].tolist(), skip_special_tokens=False)


@pytest.mark.parametrize("begins", [True, False])
def test_what_is_looked_into_begins_as_published(begins, tmp_path):
    """The maps, the lens and the routes of a text are of the tokens that the published tokenizer makes of it."""
    folder = tmp_path / "published"
    theirs = published(families()["mixtral"].small, "mixtral", folder)
    inner = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    if begins:
        number = inner.token_to_id("</s>")
        inner.post_processor = TemplateProcessing(single="</s> $A", special_tokens=[("</s>", number)])
        inner.save(str(folder / "tokenizer.json"))
    run = take_in(folder, tmp_path / "run")
    given = inner.encode("ABA")
    assert len(given.ids) == 3 + begins
    with torch.no_grad():
        out = theirs(torch.tensor([given.ids]), output_attentions=True, output_router_logits=True)
    (maps,) = attention(run, "ABA")
    assert maps.keys == given.tokens
    torch.testing.assert_close(torch.from_numpy(maps.weights), torch.cat(out.attentions), rtol=0, atol=1e-5)
    said = lens(run, "ABA")
    assert said.reads == given.tokens
    assert [each.top[0][0] for each in said.layers[-1].said] == [
        inner.id_to_token(number) for number in out.logits[0].argmax(-1).tolist()
    ]
    routes = routing(run, "ABA")
    assert routes.layers[0].read.ids.tolist() == given.ids
    chosen = [scores.topk(2).indices.tolist() for scores in out.router_logits]
    assert [layer.chosen.tolist() for layer in routes.layers] == chosen


def test_half_precision_is_kept_as_it_is(llama, tmp_path):
    theirs = transformers.AutoModelForCausalLM.from_pretrained(llama, dtype=torch.bfloat16)
    theirs.save_pretrained(tmp_path / "half")
    (tmp_path / "half/tokenizer.json").write_bytes((llama / "tokenizer.json").read_bytes())
    run = take_in(tmp_path / "half", tmp_path / "run")
    assert torch.equal(run.model.norm.weight, theirs.model.norm.weight.float())
    give_out(run, tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tmp_path / "half/model.safetensors").read_bytes()
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"


def test_a_checkpoint_without_the_beginning_of_its_names(tmp_path):
    """As GPT-2's own: names of the bare model, and masks that nobody trained."""
    family = families()["gpt2"]
    config = transformers.GPT2Config(**family.small, attn_pdrop=0.0)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    weights = {name: w.contiguous() for name, w in theirs.transformer.state_dict().items()}
    weights |= {f"h.{n}.attn.bias": torch.ones(1, 1, 128, 128) for n in range(2)}
    theirs.save_pretrained(tmp_path / "published")
    save_file(weights, tmp_path / "published/model.safetensors")
    tokenizer(96).save(str(tmp_path / "published/tokenizer.json"))
    ours = take_in(tmp_path / "published", tmp_path / "run").model
    tokens = torch.arange(3, 20).unsqueeze(0)
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=0, atol=1e-5)


def test_a_table_larger_than_the_vocabulary(llama, copied, tmp_path):
    folder = copied()
    tokenizer(90).save(str(folder / "tokenizer.json"))
    run = take_in(folder, tmp_path / "run")
    assert run.tokenizer.vocab_size == 90
    assert run.model(torch.tensor([[5]])).shape[-1] == 96
    give_out(run, tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").read_bytes() == (llama / "model.safetensors").read_bytes()


def untrained(folder, *words):
    """A run that has initial values."""
    config = api.compose(*words, "model.dim=32", "model.context=32", "tokenizer=char", "tokenizer.vocab_size=96")
    files.open_folder(folder, config)
    model = api.build(config, vocab_size=96)
    save_file({name: w.contiguous() for name, w in model.state_dict().items()}, folder / files.WEIGHTS)
    tokenizer(96).save(str(folder / files.TOKENIZER))
    (folder / files.RESULT).write_text(json.dumps({"status": "finished"}))
    return api.load(folder)


@pytest.mark.parametrize(
    ("words", "model_type"),
    [
        (("preset=tiny",), "llama"),
        (("preset=tiny", "pattern=sliding", "attention=mqa"), "mistral"),
        (("preset=mixtral_like", "pattern=full", "model.layers=2"), "mixtral"),
        (("preset=gpt2_like", "model.layers=2", "model.dropout=0.1"), "gpt2"),
        (("preset=gpt2_like", "block=post_norm", "model.layers=2", "model.inner=128", "ffn=dense_relu"), "openai-gpt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_composition_of_the_lab_is_a_published_class(words, model_type, tmp_path):
    run = untrained(tmp_path / "run", *words)
    made = give_out(run, tmp_path / "out", shard=20_000)
    assert made.model_type == model_type
    assert len(made.files) > 1
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokens = torch.randint(3, 96, (2, 32), generator=torch.Generator().manual_seed(0))
    reference = model(tokens).logits
    torch.testing.assert_close(run.model(tokens), reference, rtol=0, atol=1e-5 * reference.abs().max().item())
    back = take_in(tmp_path / "out", tmp_path / "back")
    assert all(
        torch.equal(one, other) for one, other in zip(run.model.parameters(), back.model.parameters(), strict=True)
    )

    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    given = theirs("abc!", return_tensors="pt")
    begins = [run.tokenizer.document_id]
    assert given.input_ids.tolist() == [begins + run.tokenizer.encode(["abc!"])[0].tolist()]
    assert theirs.bos_token_id == run.tokenizer.document_id
    made = model.generate(**given, max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert made[0, 5:].tolist() == api.generate(run.model, given.input_ids, 5)[0]


@pytest.mark.parametrize(
    ("words", "choices"),
    [
        (("pattern=strided",), ["pattern=strided"]),
        (("pattern=alternating",), ["pattern=alternating"]),
        (("attention=mla",), ["attention=mla"]),
        (("attention.softcap=30.0",), ["attention=mha (softcap 30"]),
        (("position=rope_nope",), ["position=rope_nope"]),
        (("position=alibi", "block=sandwich"), ["position=alibi", "block=sandwich"]),
        (("norm=layernorm_nobias",), ["norm=layernorm_nobias"]),
        (("embedding=tied_scaled",), ["embedding=tied_scaled"]),
        (("ffn=moe_deepseek",), ["ffn=moe_deepseek"]),
        (("ffn=dense_silu",), ["ffn=dense_silu"]),
        (
            ("init=mup", "model.heads=1", "model.kv_heads=1"),
            ["attention=mha (scale 0.125", "embedding=tied (logit_scale"],
        ),
    ],
    ids=str,
)
def test_a_choice_that_no_class_has_is_named(words, choices, tmp_path):
    run = untrained(tmp_path / "run", "preset=tiny", *words)
    with pytest.raises(RequestError, match="no class of transformers computes this") as refused:
        give_out(run, tmp_path / "out")
    named = str(refused.value).partition("has another ")[2]
    assert all(choice in named for choice in choices)
    assert named.count("=") == len(choices)
    assert not (tmp_path / "out").exists()


def test_a_family_can_be_asked_for(tmp_path):
    run = untrained(tmp_path / "run", "preset=tiny")
    assert give_out(run, tmp_path / "out", "phi3").model_type == "phi3"
    with pytest.raises(RequestError, match=r"model_type=gpt2 has another .*position=rope \(RoPE here, Learned there\)"):
        give_out(run, tmp_path / "more", "gpt2")
    with pytest.raises(RequestError, match=r"^--family: bert5; choose from bert, "):
        give_out(run, tmp_path / "more", "bert5")
    odd = untrained(tmp_path / "odd", "preset=tiny", "position=rope_partial", "model.heads=4", "model.head_dim=12")
    with pytest.raises(
        RequestError, match=r"partial_rotary_factor=0.25; turns 3 of 12 coordinates; the lab turns pairs"
    ):
        give_out(odd, tmp_path / "more", "phi3")


def test_a_run_without_weights(tmp_path):
    run = untrained(tmp_path / "run", "preset=tiny")
    (run.folder / files.WEIGHTS).unlink()
    with pytest.raises(RequestError, match="no weights; the run is finished"):
        give_out(run, tmp_path / "out")


def test_fields_are_taken_once():
    fields = Fields({"a": 1, "use_cache": True})
    assert (fields.take("a", 2), fields.take("a", 2)) == (1, 2)
    fields.finish()
