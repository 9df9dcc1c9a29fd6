"""What changes nothing is told, and only that."""

import re
from pathlib import Path

import pytest

from lab.config import compose, meta_model
from lab.effect import PARTS, chosen, unread, without_effect
from lab.options import conf_folder, groups
from lab.runs import folder as files

PRESETS = (
    "tiny",
    "mixtral_like",
    "bert_tiny",
    "lstm_lm",
    "translate_attention",
    "translate_transformer",
    "word2vec",
    "bag_of_words",
)


def composed(*words):
    return compose(*words, trained=False)


def built(config):
    """A model's names, shapes and settings, as text."""
    model = meta_model(config)
    shapes = [(name, tuple(value.shape)) for name, value in model.named_parameters()]
    settings = [
        (name, sorted((k, repr(v)) for k, v in vars(part).items() if not k.startswith("_")))
        for name, part in model.named_modules()
    ]
    return re.sub(r"0x[0-9a-f]+", "", repr((model, shapes, settings)))


def test_parts_are_the_groups_that_conf_refers_to_whole():
    texts = [path.read_text() for path in Path(conf_folder()).rglob("*.yaml")]
    assert sorted(PARTS) == sorted(
        {found for text in texts for found in re.findall(r"\$\{(\w+)\}", text)} & {*groups()}
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_another_option_or_size_where_it_is_not_read_builds_the_same_model(preset):
    config = composed(f"preset={preset}")
    before = built(config)
    for key in unread(config):
        if key in PARTS:
            words = [f"{key}={next(o for o in groups()[key] if o != config.choices[key])}"]
        elif isinstance(value := config.model[key.removeprefix("model.")], bool):
            words = [f"{key}={str(not value).lower()}"]
        elif isinstance(value, int):
            words = [f"{key}={2 * value}"]
        else:
            continue
        other = composed(f"preset={preset}", *words)
        assert built(other) == before, words
        assert without_effect([other]) == [key]


@pytest.mark.parametrize(
    "words",
    [
        ("attention=mqa",),
        ("attention=gqa", "model.kv_heads=1"),
        ("pattern=sliding", "model.window=8"),
        ("ffn=moe", "expert=dense_relu"),
        ("ffn=moe", "expert.activation=gelu"),
        ("preset=lstm_lm", "cell=gru"),
        ("preset=translate_attention", "alignment=bahdanau"),
        ("preset=word2vec", "model.dim=16"),
        ("norm=layernorm", "block=post_norm", "position=alibi", "embedding=untied", "model.heads=2", "model.inner=64"),
        ("seed=3", "optimizer.lr=1e-4", "tokenizer=char", "budget.steps=3", "schedule=constant", "model.layers=2"),
    ],
)
def test_what_is_read_is_not_told(words):
    assert without_effect([composed(*words)]) == []


def test_a_key_counts_where_one_configuration_reads_it():
    idle, read = composed("ffn=gated", "expert=dense"), composed("ffn=moe", "expert=dense")
    assert without_effect([idle]) == ["expert"]
    assert without_effect([idle, read]) == []
    assert without_effect([composed("preset=word2vec", "attention.bias=true")]) == ["attention.bias"]


def test_chosen_are_the_groups_that_have_a_say():
    words = chosen(composed("preset=word2vec"))
    assert {"objective", "data", "tokenizer", "optimizer", "preset"} <= {*words}
    assert not {"attention", "ffn", "norm", "cell", "embedding"} & {*words}


def test_of_a_run_as_of_its_composition(tmp_path):
    """Whose references have been followed where it is kept."""
    config = composed("preset=word2vec")
    files.open_folder(tmp_path / "run", config)
    kept = files.read_config(tmp_path / "run")
    assert chosen(kept) == chosen(config)
    kept.overrides = ["preset=gone"]
    assert chosen(kept) == dict(config.choices)


def test_the_verbs_say_it_once(lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "expert: changes nothing here" in lab("show", "ffn=gated", "expert=dense").err
    assert "changes nothing" not in lab("show", "ffn=moe", "expert=dense").err
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(
        "program: lab\ncommand: ['${env}', lab, train, '${args_no_hyphens}']\n"
        "method: grid\nmetric: {name: val/bits_per_byte, goal: minimize}\n"
        "parameters: {ffn: {values: [gated, dense]}, expert: {values: [gated, dense]}, budget.steps: {value: 1}}\n"
    )
    assert lab("sweep", sweep, "--plan").err.count("expert: changes nothing here") == 1
