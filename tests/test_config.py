"""Composition: every option of every group, found by walking conf/, under every preset; and what is refused."""

from __future__ import annotations

import contextlib
import copy
import functools
import re
import shutil

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from lab import config as module
from lab.config import (
    APART,
    BUDGETS,
    build,
    check,
    compose,
    construct,
    identity,
    resolved,
    trusted,
)
from lab.errors import RequestError
from lab.options import conf_folder, flatten, groups
from lab.parts.attention import Attention
from lab.parts.linear import named_matrices
from lab.runs.folder import new_folder

PRESETS = groups()["preset"]
FAMILY = ("model", "objective", "data")  # which change together
SIZED = [  # presets that are another one in other sizes
    name
    for name in PRESETS
    if "_self_" in yaml.safe_load((conf_folder() / f"preset/{name}.yaml").read_text()).get("defaults", [])
]
COMPONENTS = {group: options for group, options in groups().items() if group not in ("preset", *FAMILY)}
MODEL = [*re.findall(r"\$\{(\w+)\}", (conf_folder() / "model/decoder.yaml").read_text()), "expert"]
CHOICES = [(group, option) for group, options in groups().items() for option in options if group != "preset"]


def plain(config: DictConfig) -> dict:
    """A configuration as it was composed, references unresolved, without what names the choices."""
    tree = OmegaConf.to_container(config)
    return {key: value for key, value in tree.items() if key not in ("choices", "overrides")}


@functools.cache
def with_needed(group: str, option: str) -> tuple[DictConfig, tuple[str, ...]]:
    """The defaults with one option chosen, and the words that it cannot go without, as refusals say them.

    `data=files` needs `data.path`, `model=encoder` an objective.
    """
    words: list[str] = []
    for _ in range(3):
        try:
            return compose(f"{group}={option}", *words), tuple(words)
        except RequestError as error:
            said = str(error).partition("; add ")[2].partition(" or ")[0]
            words += said.split() if said else [f"{str(error).partition(':')[0]}=x"]
    return compose(f"{group}={option}", *words), tuple(words)


def alone(group: str, option: str) -> DictConfig:
    return with_needed(group, option)[0]


def needed(group: str, option: str) -> tuple[str, ...]:
    return with_needed(group, option)[1]


@functools.cache
def based(preset: str) -> DictConfig:
    return compose(f"preset={preset}")


def named(path: str) -> dict[str, str]:
    """The options that a file of conf/ names, those of the file it is based on included."""
    found: dict[str, str] = {}
    for entry in yaml.safe_load((conf_folder() / f"{path}.yaml").read_text(encoding="utf-8")).get("defaults", []):
        if isinstance(entry, dict):
            found |= {group.removeprefix("override /"): option for group, option in entry.items()}
        elif entry != "_self_":
            found |= named(f"preset/{entry}")
    return found


CHOSEN = {preset: named("config") | named(f"preset/{preset}") for preset in PRESETS}  # read: composing takes a minute
OF_EACH_KIND = list({(CHOSEN[preset]["model"], CHOSEN[preset]["objective"]): preset for preset in PRESETS}.values())
OF_EACH_MODEL = list({CHOSEN[preset]["model"]: preset for preset in PRESETS}.values())


def others_long(presets: list[str], first: list[str]) -> list:
    """Presets of which some are tried each time, the others in the long tests."""
    return [preset if preset in first else pytest.param(preset, marks=pytest.mark.long) for preset in presets]


# Every option, every preset


@pytest.mark.parametrize(("group", "option"), CHOICES, ids=lambda value: value)
def test_one_word_changes_one_thing(group, option):
    before, after = plain(compose()), plain(alone(group, option))
    others = {word.partition("=")[0].partition(".")[0] for word in needed(group, option)}
    assert others <= {group, *FAMILY}
    assert {key for key in before | after if before.get(key) != after.get(key)} <= {group, *others}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_nothing_inside_a_component(preset):
    config = based(preset)
    assert config.choices.items() >= named(f"preset/{preset}").items()
    for group in COMPONENTS:
        assert plain(config)[group] == plain(alone(group, config.choices[group]))[group], group


@pytest.mark.parametrize("preset", others_long([name for name in PRESETS if name not in SIZED[1:]], OF_EACH_KIND))
def test_options_on_the_command_line_replace_those_of_the_preset_and_nothing_else(preset):
    base, turn = based(preset), PRESETS.index(preset)
    chosen = {}
    for group, options in COMPONENTS.items():
        others = [option for option in options if option != base.choices[group]] or options
        chosen[group] = others[turn % len(others)]
    if chosen["trainer"] == "fsdp" and chosen["optimizer"].startswith("muon"):
        chosen["trainer"] = "ddp"  # the one keeps only parts of the matrices that the other works on
    words = [f"{group}={option}" for group, option in chosen.items()]
    config = compose(f"preset={preset}", *words, *(word for choice in chosen.items() for word in needed(*choice)))
    assert config.choices.items() >= chosen.items()
    for key, value in plain(config).items():
        expected = plain(alone(key, chosen[key]) if key in chosen else base)[key]
        assert value == expected, key


def test_no_two_options_are_the_same():
    for group, options in COMPONENTS.items():
        assert len({str(plain(alone(group, option))[group]) for option in options}) == len(options), group
    assert len({str(plain(based(preset))) for preset in PRESETS}) == len(PRESETS)


def swapped(preset: str, group: str, option: str) -> DictConfig:
    """A preset with one option in another's place, put there by hand: the tests above say that composing does the same.

    Of many layers four are left, in which every mixed layout shows.
    """
    config = copy.deepcopy(based(preset))
    OmegaConf.set_struct(config, False)
    config.model.layers = min(config.model.layers, 4)
    config[group] = alone(group, option)[group]
    config.choices[group] = option
    config.model.layers = min(2, config.model.layers)
    OmegaConf.set_struct(config, True)
    return config


def read(model: str) -> list[str]:
    """The groups that a model is built from."""
    found = re.findall(r"\$\{(\w+)\}", (conf_folder() / f"model/{model}.yaml").read_text())
    return [*found, "expert"] if "ffn" in found else found


@pytest.mark.parametrize("preset", others_long(PRESETS, OF_EACH_KIND))
def test_every_part_can_be_swapped_under_every_preset(preset):
    for group in read(based(preset).choices.model):
        for option in COMPONENTS[group]:
            config = swapped(preset, group, option)
            with torch.device("meta"):
                construct(config, "model.build", vocab_size=300)


@pytest.mark.parametrize("preset", others_long(OF_EACH_KIND, OF_EACH_MODEL))
def test_every_swap_under_a_preset_of_each_kind_is_a_run(preset):
    for group, options in COMPONENTS.items():
        for option in options:
            if option != based(preset).choices[group]:
                check(swapped(preset, group, option))


PUBLISHED = {
    "gpt1": 117e6, "gpt2": 124e6, "gpt2_medium": 355e6, "gpt2_large": 774e6, "gpt2_xl": 1558e6,
    "gpt3_125m": 125e6, "gpt3_350m": 356e6, "gpt3_760m": 760e6, "gpt3_1.3b": 1.3e9, "gpt3_2.7b": 2.7e9,
    "gpt3_6.7b": 6.7e9, "gpt3_13b": 13e9, "gpt3_175b": 175e9,
}  # fmt: skip


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_models_have_their_published_parameters(preset):
    """Of the papers and of GPT-2's repository; 2% for GPT-3's, which are rounded to as few as two digits."""
    config = based(preset)
    with torch.device("meta"):
        model = construct(config, "model.build", vocab_size=config.tokenizer.vocab_size)
    assert model.parameters_total == pytest.approx(PUBLISHED[preset], rel=0.02 if "gpt3" in preset else 0.005)


def small_model(config: DictConfig, **sizes: int) -> torch.nn.Module:
    config = copy.deepcopy(config)
    config.model.update({"dim": 32, "inner": 64} | sizes)
    return build(config, vocab_size=300).eval()


def test_every_option_of_the_model_shows_in_what_it_computes():
    tokens = torch.randint(300, (1, 40), generator=torch.Generator().manual_seed(0))
    for group in [*MODEL, "init"]:
        found = set()
        for option in COMPONENTS[group]:
            config = copy.deepcopy(alone(group, option))
            if group == "expert":
                config.ffn = alone("ffn", "moe").ffn
            model = small_model(config, layers=4)
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if name.endswith("bias"):  # which begins at 0, as if it were not there
                        parameter += 0.1
                found.add(tuple(model(tokens).flatten().tolist()))
        alike = {"ffn": 1}.get(group, 0)  # Switch with two capacities, neither of which so few tokens reach
        assert len(found) == len(COMPONENTS[group]) - alike, group


@pytest.mark.parametrize("preset", [name for name in PRESETS if "attention" in read(CHOSEN[name]["model"])])
def test_attention_shares_as_its_name_says(preset):
    heads = based(preset).model.heads
    for option, holds in {
        "gqa": lambda kv_heads: 1 <= kv_heads < heads,
        "mqa": lambda kv_heads: kv_heads == 1,
        "mha": lambda kv_heads: kv_heads == heads,
    }.items():
        with torch.device("meta"):
            model = construct(swapped(preset, "attention", option), "model.build", vocab_size=300)
        layers = [module for module in model.modules() if isinstance(module, Attention)]
        assert layers or not hasattr(model, "blocks")
        assert all(layer.heads == heads and holds(layer.kv_heads) for layer in layers)


@pytest.mark.parametrize(
    "path", sorted(conf_folder().rglob("*.yaml")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_every_file_is_an_option_that_can_be_reached(path):
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    for key, value in flatten(content).items():
        if key.endswith("_target_"):
            trusted(key, value)
    folders = path.relative_to(conf_folder()).parts[:-1]
    listed = yaml.safe_load((conf_folder() / "config.yaml").read_text())["defaults"]
    if folders and folders[0] != "hydra":
        assert path.stem in groups()[folders[0]]
        assert any(folders[0] in entry for entry in listed if isinstance(entry, dict))


# Who wins


def test_the_command_line_beats_the_preset_and_the_preset_the_defaults():
    assert compose().model.dim == based("tiny").model.dim != based("llm_2024").model.dim
    assert compose("preset=llm_2024", "model.dim=32").model.dim == 32
    assert compose("model.dim=32", "preset=llm_2024").model.dim == 32
    assert compose("attention=mqa", "preset=llm_2024").choices.attention == "mqa"


@pytest.mark.parametrize("unit", BUDGETS)
def test_a_named_budget_is_the_only_one(unit):
    for preset in ("tiny", "llm_2024"):
        budget = compose(f"preset={preset}", f"budget.{unit}=7").budget
        assert {key for key, value in budget.items() if value is not None} == {unit}


def test_the_budget_named_last_counts():
    assert compose("budget.tokens=5", "budget.steps=3").budget == {
        "tokens": None,
        "steps": 3,
        "flops": None,
        "minutes": None,
    }
    assert compose("budget.steps=3", "budget.tokens=null").budget.steps == 3
    with pytest.raises(RequestError, match=r"^budget: none; set exactly one of tokens, steps, flops, minutes"):
        compose("budget.tokens=null")


def test_identity_is_of_everything_but_the_seed_the_name_the_place_and_the_log():
    tree = resolved(compose())
    ignored = set()
    for key in flatten(tree):
        other = OmegaConf.create(tree)
        OmegaConf.update(other, key, "another")
        if identity(OmegaConf.to_container(other)) == identity(tree):
            ignored.add(key)
    assert ignored - {"choices.logger", "trainer.threads"} == {key for key in flatten(tree) if key.startswith(APART)}
    assert identity(compose("seed=1", "name=a", "folder=b", "logger=none")) == identity(compose())


def test_a_value_keeps_its_kind():
    examples = {
        bool: ("3", "yes"),
        int: ("word", "1.5", "true", "inf"),
        float: ("word", "[1]"),
        str: ("[a]", "{a: 1}"),
    }
    for key, value in flatten(plain(compose())).items():
        if "${" in str(value) or value is None or key.startswith(("model.build", "hydra")):
            continue
        for text in examples.get(type(value), ()):
            with pytest.raises(RequestError, match=rf"^{re.escape(key)}: .*expected"):
                compose(f"{key}={text}")
    assert isinstance(compose("model.dim=64.0").model.dim, int)
    assert isinstance(compose("optimizer.lr=1").optimizer.lr, float)
    assert identity(compose("optimizer.lr=1")) == identity(compose("optimizer.lr=1.0"))
    for unit in ("steps", "tokens", "minutes"):
        assert identity(compose(f"budget.{unit}=20")) == identity(compose(f"budget.{unit}=2e1"))
    assert compose("name=2017").name == "2017"


@pytest.mark.parametrize(
    ("words", "width"),
    [("model.inner=4x", 256), ("model.inner=2.7x model.dim=96", 259), ("model.inner=4x model.inner=100", 100)],
)
def test_an_inner_width_may_be_a_multiple_of_the_width(words, width):
    config = compose("preset=tiny", "ffn=dense", *words.split())
    assert config.model.inner == width
    assert build(config, vocab_size=50).blocks[0].ffn.inner == width
    same = compose("preset=tiny", "ffn=dense", *[w for w in words.split() if "x" not in w], f"model.inner={width}")
    assert identity(config) == identity(same)


# What is refused


def test_a_misspelt_key_gets_the_nearest_names():
    for key in flatten(plain(compose())):
        if "_target_" in key or "." not in key:
            continue
        middle = len(key) - 2
        with pytest.raises(RequestError, match=r"no such key") as refused:
            compose(f"{key[:middle]}{key[middle + 1 :]}=1")
        assert key in str(refused.value), refused.value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("attention=gqaa", f"attention=gqaa: no such option; attention is one of {', '.join(groups()['attention'])}"),
        ("pattern=[full,sliding]", "a mixed layout is an option of its own, a file in its folder"),
        ("+attention=gqa", "a group is chosen with attention=OPTION"),
        ("attention@model=gqa", "a group is chosen with attention=OPTION"),
        ("~attention", "nothing can be taken out"),
        ("seed=0,1", "several values for one run; use `lab train -m`"),
        ("hydra.run.dir=x", "Hydra's own settings are for `lab train -m`"),
        ("rope", "not an override; write KEY=VALUE or GROUP=OPTION"),
        ("=3", "not an override"),
        ("model.attention.kv_heads=3", "did you mean attention.kv_heads?"),
        ("lr=0.1", "did you mean optimizer.lr?"),
        ("pattern.window=4", "pattern=full has no such key; it belongs to pattern=sliding"),
        ("batch={row: 8}", "batch.row: no such key in the configuration; did you mean batch.rows?"),
        ("batch=8", "batch: 8; expected keys of its own (rows, accumulate)"),
        ("+model.width=3", "model.width: no such key"),
        ("+optimizer.amsgrd=true", "optimizer: AdamW.__init__() got an unexpected keyword argument 'amsgrd'"),
        ("model.dim='${nowhere}'", "'nowhere' not found"),
        ("model.dim='${model.dim}'", "model.dim"),
        ("budget.tokens=0", "budget.tokens: 0; a number over 0"),
        ("budget.steps=-1", "budget.steps: -1; a number 0 or more; 0 judges what the run starts with"),
        ("budget.minutes=inf", "budget.minutes: inf; expected a finite number"),
        ("optimizer.lr=nan", "optimizer.lr: nan; expected a finite number"),
        ("optimizer.betas=[0.9]", "optimizer.betas: [0.9]; two numbers"),
        ("trainer.precision=nan", "trainer.precision: nan; choose from 32, bf16-mixed"),
        ("seed=-1", "seed: -1; a whole number, at least 0"),
        ("seed=99999999999999999999", "seed: 99999999999999999999; a whole number under 2^63"),
        ("trainer.devices=2", "several devices take trainer=ddp or trainer=fsdp"),
        ("trainer.precision=16", "trainer.precision: 16; choose from 32, bf16-mixed"),
        ("batch.accumulate=3", "batch.rows: 16; must divide by"),
    ],
)
def test_what_is_refused_is_named_with_what_is_accepted(override, message):
    with pytest.raises(RequestError, match=re.escape(message)) as refused:
        compose(override)
    assert "\n" not in str(refused.value)


EVIL = [
    "os.mkdir",
    "builtins.eval",
    "lab.config.importlib.import_module",
    "lab.runs.folder.os.mkdir",
    "lab.runs.folder.Path",  # a class, of another library
    "lab.runs.train.train",  # a function
    "torch.nn.init.normal_",
    "torch.nn.modules.module.Path",
    "torch.nn.functional.torch.load",
    "torch.utils.collect_env.run",
    "torch.nn.",
    "lab..config",
    "lab",
    "3",
    "[os.mkdir]",
]


@pytest.mark.parametrize("target", EVIL)
@pytest.mark.parametrize(
    "place",
    [
        "init._target_={}",
        "model.build.norm._target_={}",
        "+optimizer.x={{_target_: {}, path: canary}}",
        "+optimizer.x=[[{{a: [{{_target_: {}, path: canary}}]}}]]",
    ],
)
def test_only_classes_of_the_lab_and_of_torch_are_built(place, target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=r"_target_"):
        compose(place.format(target))
    assert not list(tmp_path.iterdir())


def test_a_target_is_checked_behind_a_reference():
    with pytest.raises(RequestError, match=r"^init\._target_: os\.mkdir; only classes defined in lab, torch"):
        compose("name=os.mkdir", "init._target_='${name}'")


def test_a_component_that_no_yaml_names_can_be_given_arguments():
    assert compose("+optimizer.amsgrad=true").optimizer.amsgrad is True


KEYS = [
    *flatten(plain(compose())),
    *groups(),
    "nonsense",
    "",
    "model.",
    "a.b.c",
    "hydra.job.name",
    "choices.data",
    "+seed",
]
VALUES = [
    *(
        "",
        "0",
        "-1",
        "1",
        "3",
        "0.5",
        "1e400",
        "nan",
        "null",
        "true",
        "word",
        "[]",
        "[1,a]",
        "{}",
        "{a: 1}",
        "1,2",
    ),
    *(
        "'quoted'",
        "${model.dim}",
        "${a.b}",
        "${oc.env:NO_SUCH}",
        "???",
        "a=b",
        "\\",
        "é",
        "[[{_target_: os.abort}]]",
    ),
]


@pytest.mark.parametrize("value", ["null", "-1", "nan", "1e400", "abc", "[1,2]"])
@pytest.mark.parametrize("preset", ["tiny", pytest.param("mixtral_like", marks=pytest.mark.long)])
def test_no_key_takes_every_value(preset, value):
    chosen = OmegaConf.to_container(compose(f"preset={preset}"))
    texts = ("name", "folder", "start", "logger.", "expert.", "choices.", "overrides", "data.")
    taken = []
    for key in flatten(chosen):
        if not key.startswith(texts):
            with contextlib.suppress(RequestError):
                compose(f"preset={preset}", f"{key}={value}")
                taken.append(key)
    budgets = [f"budget.{unit}" for unit in BUDGETS]
    null_as_it_stands = [
        key for key, before in flatten(chosen).items() if before is None and not key.startswith((*texts, "budget."))
    ]
    allowed = {"null": [*null_as_it_stands, *budgets[1:], "model.build.head_dim", "split.max_bytes", "trainer.clip"]}
    assert taken == [key for key in flatten(chosen) if key in allowed.get(value, [])]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.builds("{}={}".format, st.sampled_from(KEYS), st.sampled_from(VALUES)),
            st.builds("{}={}".format, st.sampled_from(KEYS), st.text(max_size=8)),
            st.text(max_size=20),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_words_compose_or_are_refused_in_one_line(words):
    try:
        compose(*words)
    except RequestError as error:
        message = str(error)
    else:
        message = "composed"
    assert message
    assert len(message.splitlines()) == 1


# Initial values


def matrices(config: DictConfig, **sizes: int) -> dict[str, torch.Tensor]:
    return {name: matrix for name, matrix, _ in named_matrices(small_model(config, **sizes))}


def test_a_swap_leaves_the_other_matrices_as_they_were():
    for group in MODEL:
        first, *others = (matrices(alone(group, option)) for option in COMPONENTS[group])
        for other in others:
            shared = [name for name in first if name in other and first[name].shape == other[name].shape]
            assert shared
            # DeepNorm's begin smaller, by a factor.
            factor = {name: first[name].norm() / other[name].norm() if group == "block" else 1.0 for name in shared}
            assert all(torch.allclose(first[name], other[name] * factor[name], atol=0) for name in shared), group
            if group in ("norm", "block", "pattern"):
                assert len(shared) == len(first) == len(other)


def test_the_seed_changes_every_matrix():
    zero, one = matrices(compose("seed=0")), matrices(compose("seed=1"))
    assert zero.keys() == one.keys()
    assert not any(torch.equal(zero[name], one[name]) for name in zero)


def test_queries_start_alike_however_keys_are_shared():
    full, shared = (matrices(alone("attention", option)) for option in ("mha", "gqa"))
    for layer in range(2):
        query, key = (f"blocks.{layer}.attention.project.{part}.weight" for part in ("query", "key"))
        assert torch.equal(full[query], shared[query])
        assert full[key].shape != shared[key].shape


def test_more_layers_leave_the_first_ones_as_they_were():
    two, three = (matrices(compose(), layers=layers) for layers in (2, 3))
    assert all(torch.equal(two[name], three[name]) for name in two)


def test_a_composed_configuration_can_still_be_changed():
    config = compose()
    config.model.heads = 2
    model = build(config, vocab_size=300)
    assert model.blocks[0].attention.heads == model.blocks[0].attention.kv_heads == 2


@pytest.mark.parametrize(
    "path", ["nötizen.txt", "~/x.txt", "notes(1).txt", "it's.txt", "a&b", "#1", "é☃", "C:\\new\\x"]
)
def test_a_path_is_the_text_that_stands_there(path):
    assert compose("preset=tiny", "data=files", f"data.path={path}").data.path == path
    assert compose("preset=tiny", f"name={path}").name == path


def test_what_is_no_text_is_still_refused():
    for word in ("model.dim=[1", "model.dim={a", "a b=c", "=x", "x"):
        with pytest.raises(RequestError, match="not an override"):
            compose("preset=tiny", word)
    with pytest.raises(RequestError, match=r"^name: Interpolation key 'x' not found$"):
        compose("preset=tiny", "name=${x}")


def test_a_name_with_a_slash_makes_one_folder():
    for name in ("a/b", "../x", "a\\b"):
        path = new_folder(compose("preset=tiny", f"name={name}"))
        assert len(path.parts) == 3  # runs, the day, the run
        assert ".." not in path.parts


def test_an_option_that_is_no_yaml_is_named_with_its_line(tmp_path, monkeypatch):
    conf = shutil.copytree(conf_folder(), tmp_path / "conf")
    (conf / "norm/rmsnorm.yaml").write_text("_target_: lab.parts.norm.RMSNorm\n\t_partial_: true\n")
    monkeypatch.setattr(module, "conf_folder", lambda: conf)
    with pytest.raises(RequestError, match=r"no YAML: .*norm/rmsnorm\.yaml\", line 2"):
        module.hydra_settings(["norm=rmsnorm"])
