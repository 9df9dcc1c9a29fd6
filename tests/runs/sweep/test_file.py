"""Sweep files: the trials are those of `wandb agent`, and what would go wrong is refused first."""

import itertools
import json
from datetime import date
from pathlib import Path

import numpy
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lab.errors import RequestError
from lab.runs.sweep.command import ARGUMENTS, JSON, check_survives, train_overrides
from lab.runs.sweep.file import SweepFile, read_sweep
from lab.runs.sweep.plan import plan
from lab.runs.sweep.space import as_sent, read_parameters
from lab.words import overrides
from tests.runs.sweep.conftest import OTHER_FORMS

SWEEPS = sorted((Path(__file__).parents[3] / "sweeps").glob("*.yaml"))
COMMAND = ["${env}", "lab", "train", "${args_no_hyphens}"]


def write(folder: Path, **content) -> Path:
    """A sweep file: a grid over `a` and two seeds unless told otherwise; None leaves a key out."""
    defaults = {
        "method": "grid",
        "command": COMMAND,
        "parameters": {"a": {"values": [1, 2]}, "seed": {"values": [0, 1]}},
    }
    path = folder / "sweep.yaml"
    kept = {key: value for key, value in {**defaults, **content}.items() if value is not None}
    path.write_text(yaml.safe_dump(kept, sort_keys=False))
    return path


def read(folder: Path, **content) -> SweepFile:
    return read_sweep(write(folder, **content))


# The files of the project


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_of_the_project_is_what_the_agent_would_run(path, agent):
    sweep = read_sweep(path)
    trials = plan(sweep)
    assert sweep.description
    assert not sweep.nested
    assert (sweep.metric or "").startswith("val/")
    assert len(trials) == len({trial.configuration for trial in trials}) * len(sweep.seeds)
    for trial in trials:
        assert trial.argv == agent(sweep.command, trial.parameters, sweep.program)
        assert trial.overrides == trial.argv[trial.argv.index("train") + 1 :]


def test_the_project_has_the_sweeps_that_it_promises():
    assert {path.stem for path in SWEEPS} >= {"ladder", "positions", "attention", "vocabulary", "experts"}


# The command

VALUES = {
    "model.dim": 64,
    "optimizer.lr": 1e-05,
    "flag": True,
    "name": "two words",
    "sizes": [1, 2],
    "seed": 3,
}


@pytest.mark.parametrize(
    ("command", "program"),
    [
        (COMMAND, None),
        (["lab", "train", "${args}"], None),
        (["/usr/bin/lab", "train", "logger=none", "${args_no_hyphens}", "budget.steps=3"], None),
        (["${env}", "${program}", "train", "${args}"], "lab"),
        (["${env}", "${interpreter}", "-m", "lab", "train", "${args}"], None),
        (["${env}", "${interpreter}", "${program}", "train", "${args_no_hyphens}"], "lab/__main__.py"),
        (["lab", "train", "${args_append_hydra}"], None),
        (["lab", "train", "${args_override_hydra}"], None),
        (["python3.11", "${program}", "train", "${args_no_hyphens}"], "/src/lab/cli.py"),
        (
            ["${env}", "lab", "train", "data.path=${envvar:SWEEP_DATA}/x", "b=${envvar:UNSET_}", "${args}"],
            None,
        ),
    ],
)
def test_a_command_expands_as_the_agent_expands_it(tmp_path, monkeypatch, agent, command, program):
    monkeypatch.setenv("SWEEP_DATA", "/data")
    monkeypatch.delenv("UNSET_", raising=False)
    sweep = read(tmp_path, command=command, program=program)
    argv = sweep.argv(VALUES)
    assert argv == agent(sweep.command, VALUES, sweep.program)
    overrides = sweep.overrides(VALUES)
    assert [word.removeprefix("--") for word in argv[-len(overrides) :]] == overrides
    plain = [o.lstrip("+") for o in overrides]
    assert [o for o in plain if o.partition("=")[0] in VALUES] == [f"{k}={v}" for k, v in VALUES.items()]


@pytest.mark.parametrize("macro", OTHER_FORMS)
@pytest.mark.parametrize("literals", [(["b=1"], ["c=2"]), (["--b", "1"], ["--c"]), ([], [])])
def test_every_form_of_the_agents_says_the_same(tmp_path, agent, macro, literals):
    before, after = literals
    sweep = read(tmp_path, command=["${env}", "lab", "train", *before, macro, *after])
    argv, theirs = sweep.argv(VALUES), agent(sweep.command, VALUES)
    if macro == "${args_json_file}":
        here, there = argv[3 + len(before)], Path(theirs[3 + len(before)])
        assert here == there.read_text()
        theirs[3 + len(before)] = here
    assert argv == theirs
    said = [override for override in sweep.overrides(VALUES) if override.partition("=")[0] in VALUES]
    parsed = [OverridesParser.create().parse_override(override) for override in said]
    assert {each.key_or_group: each.value() for each in parsed} == VALUES
    assert [o for o in sweep.overrides(VALUES) if o not in said] == [
        override for override in ("b=1", "c=2" if after == ["c=2"] else "c=true") if literals != ([], [])
    ]


def test_of_a_dictionary_the_agent_passes_keys_alone(agent):
    assert agent(["lab", "train", "${args_dict}"], {"a": 1, "b": 2}) == ["lab", "train", "a", "b"]


@pytest.mark.parametrize("macro", JSON)
def test_nested_parameters_reach_lab_train_as_json(tmp_path, agent, macro):
    inner = {"parameters": {"lr": {"value": 0.1}, "deep": {"parameters": {"x": {"value": 1}}}}}
    sweep = read(tmp_path, command=["lab", "train", macro], parameters={"optimizer": inner})
    assert not sweep.nested
    theirs = agent(sweep.command, {"optimizer": {"lr": 0.1, "deep": {"x": 1}}})
    assert train_overrides(theirs) == plan(sweep)[0].overrides == ["optimizer.lr=0.1", "optimizer.deep.x=1"]


@pytest.mark.parametrize(
    ("macro", "value", "refusal"),
    [
        ("${args_no_boolean_flags}", False, "False would be left out by ${args_no_boolean_flags}"),
        ("${args_no_boolean_flags}", True, None),
        ("${args_no_equals}", False, None),
        ("${args_no_equals}", -1e-05, None),
        ("${args_no_equals}", "-m", "'-m' would be read by Hydra as several values"),
        ("${args_no_equals}", "--json", "'--json' would be read by Hydra as several values"),
        ("${args_no_equals}", None, "None (null) would reach lab train as the word None"),
        ("${args_no_hyphens}", "3", "'3' would reach lab train as 3"),
        ("${args_json}", "3", None),
        ("${args_json}", "a,b", None),
        ("${args_json}", None, None),
        ("${args_json}", False, None),
        ("${args_json}", "${seed}", "'${seed}' would be read as a reference"),
        ("${args_json_file}", ["null", None, "x y"], None),
    ],
)
def test_what_a_form_cannot_carry_is_refused_when_the_file_is_read(tmp_path, macro, value, refusal):
    path = write(tmp_path, command=["lab", "train", macro], parameters={"b": {"values": [value, 2]}})
    if refusal:
        with pytest.raises(RequestError) as refused:
            read_sweep(path)
        assert str(refused.value).startswith(f"{path}: parameters.b: {refusal}")
    else:
        words = [word for trial in plan(read_sweep(path)) for word in trial.overrides]
        assert [OverridesParser.create().parse_override(word).value() for word in words] == [value, 2]


@pytest.mark.parametrize(
    ("command", "program", "named"),
    [
        (None, "train.py", "does not lead to `lab train`"),
        (None, "lab/__main__.py", "does not lead to `lab train`"),
        (["${env}", "lab", "report", "${args}"], None, "does not lead to `lab train`"),
        (["${env}", "X=1", "lab", "train", "${args}"], None, "does not lead to `lab train`"),
        (["${interpreter}", "lab", "train", "${args}"], None, "does not lead to `lab train`"),
        (["lab", "train", "${args_dict}"], None, "the keys without their values"),
        (["lab", "train", "--fast", "${args_json}"], None, "write --fast=true"),
        (["lab", "train", "${args_json}", "${args_no_equals}"], None, "${args_no_hyphens}"),
        (["lab", "train", "${args_json}", "[1]"], None, "[1]"),
        (["lab", "train", "${argz}"], None, "${argz}"),
        (["lab", "train"], None, "${args_no_hyphens}"),
        (["lab", "train", "${args}", "${args}"], None, "${args_no_hyphens}"),
        (["lab", "train", "--json", "${args}"], None, "--json"),
        (["lab", "train", "b=1,2", "${args}"], None, "b=1,2"),
        (["${program}", "train", "${args}"], None, "program"),
        ("lab train ${args}", None, "list of words"),
        ([["lab", "train"]], None, "list of words"),
    ],
)
def test_a_command_that_cannot_run_a_trial_is_refused(tmp_path, command, program, named):
    path = write(tmp_path, command=command, program=program)
    with pytest.raises(RequestError) as refused:
        read_sweep(path)
    assert str(path) in str(refused.value)
    assert "command" in str(refused.value)
    assert named in str(refused.value)


# Values

texts = st.text(alphabet=st.sampled_from("abz019._-/:+*@ ,=~'\"\\$${}[]()é#;?!%\n"), max_size=6)
words = st.sampled_from(["null", "None", "true", "1e-3", "nan", "inf", "0x10", "???", "${x}", "", "1_000", "[1]"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | words
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(texts, scalars, max_size=2)


@pytest.mark.parametrize("macro", ["${args_no_hyphens}", *OTHER_FORMS])
@settings(max_examples=300, deadline=None)
@given(value=values)
def test_a_value_either_reaches_hydra_as_it_is_or_is_refused(macro, value):
    refusal = None
    try:
        check_survives("a.b", value, macro)
    except RequestError as error:
        refusal = str(error)
    if refusal is None:
        (word,) = overrides(ARGUMENTS[macro]({"a.b": value}))
        assert word == f"a.b={value}" or macro in (*JSON, "${args_no_boolean_flags}")
        override = OverridesParser.create().parse_override(word)
        assert not override.is_sweep_override()
        assert repr(override.value()) == repr(value)
        assert json.loads(json.dumps(value, allow_nan=False)) == value
    else:
        assert refusal.startswith(" ".join(f"parameters.a.b: {value!r} ".split()))


@settings(max_examples=100, deadline=None)
@given(st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.lists(st.integers()))
def test_numbers_and_lists_of_them_are_never_refused(value):
    check_survives("a", value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "a,b",
        "${model.dim}",
        {"lr": 1},
        [1, None],
        "null",
        "true",
        "3",
        "1e-3",
        " x",
        "x=y",
        "???",
        float("inf"),
        [float("inf")],
        ["${model.dim}"],
        date(2024, 1, 2),
    ],
)
def test_a_value_that_the_agents_text_would_change_is_refused_by_name(tmp_path, value):
    path = write(tmp_path, parameters={"b": {"values": [1, value]}})
    with pytest.raises(RequestError) as refused:
        read_sweep(path)
    assert all(part in str(refused.value) for part in (str(path), "parameters.b", repr(value)))


def test_yaml_that_takes_a_number_for_text_is_explained(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(write(tmp_path).read_text().replace("- 1\n", "- 1e-3\n", 1))
    with pytest.raises(RequestError, match=r"1\.0e-3"):
        read_sweep(path)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.text())
def test_a_number_is_sent_as_json_without_a_fraction_would_send_it(number, whole, text):
    sent = as_sent([number, whole, text])
    assert sent == [number, whole, text]
    assert isinstance(sent[0], int) == (number.is_integer() and abs(number) < 1e21)


# Plans


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), min_size=1, max_size=3), st.data())
def test_a_grid_is_the_product_of_the_distinct_values_seed_by_seed(tmp_path_factory, lists, data):
    seeds = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=3))
    names = [f"p{i}" for i in range(len(lists))]
    parameters = {name: {"values": choices} for name, choices in zip(names, lists, strict=True)}
    place = data.draw(st.integers(0, len(names)))
    items = [*parameters.items()]
    items.insert(place, ("seed", {"values": seeds}))
    trials = plan(read(tmp_path_factory.mktemp("grid"), parameters=dict(items)))

    distinct = [list(dict.fromkeys(choices)) for choices in lists]
    points = list(itertools.product(*distinct))
    expected = [(seed, point) for seed in dict.fromkeys(seeds) for point in points]
    assert [(t.seed, tuple(t.parameters[name] for name in names)) for t in trials] == expected
    assert [t.configuration for t in trials] == [points.index(point) for _, point in expected]
    assert len({tuple(t.argv) for t in trials}) == len(trials)


def test_a_grid_over_whole_and_quantised_ranges_is_wandbs(tmp_path):
    steps = {"distribution": "q_uniform", "min": 0.1, "max": 0.75, "q": 0.1}
    sweep = read(tmp_path, parameters={"a": {"min": 1, "max": 3}, "b": steps})
    points = [(t.parameters["a"], t.parameters["b"]) for t in plan(sweep)]
    assert points == list(itertools.product([1, 2, 3], numpy.arange(0.1, 0.75, 0.1).tolist()))


def test_equal_numbers_are_one_point(tmp_path):
    trials = plan(read(tmp_path, parameters={"a": {"values": [2, 2.0, 2.5]}}))
    assert [t.overrides for t in trials] == [["a=2"], ["a=2.5"]]


def test_run_cap_counts_the_runs_of_a_grid(tmp_path):
    assert plan(read(tmp_path, run_cap=3)) == plan(read(tmp_path))[:3]


def test_without_seeds_the_configurations_seed_is_taken(tmp_path):
    parameters = {"a": {"values": [1, 2]}}
    sweep = read(tmp_path, parameters=parameters)
    assert [(t.seed, t.overrides) for t in plan(sweep)] == [(0, ["a=1"]), (0, ["a=2"])]
    assert [t.seed for t in plan(sweep, ["seed=7"])] == [7, 7]


def test_overrides_come_last_and_replace_constants(tmp_path):
    parameters = {"preset": {"value": "tiny"}, "a": {"values": [1, 2]}, "seed": {"value": 3}}
    trial = plan(read(tmp_path, parameters=parameters), ["preset=llm_2024", "--budget.steps=5"])[1]
    assert trial.overrides == ["a=2", "seed=3", "preset=llm_2024", "budget.steps=5"]
    assert trial.argv[-2:] == ["preset=llm_2024", "--budget.steps=5"]
    assert trial.seed == 3


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["a=3"], ["a=3", "sweep.yaml", "parameters.a", "[1, 2]"]),
        (["+seed=3"], ["+seed=3", "sweep.yaml", "parameters.seed"]),
        (["logger=wandb"], ["logger=wandb", "logger=none"]),
        (["b=1", "b=2"], ["b=1", "b=2"]),
        (["b=1,2"], ["b=1,2", "several values"]),
        (["b"], ["'b'", "key=value"]),
    ],
)
def test_an_override_that_contradicts_the_file_is_refused(tmp_path, overrides, named):
    sweep = read(tmp_path, command=["lab", "train", "logger=none", "${args}"])
    with pytest.raises(RequestError) as refused:
        plan(sweep, overrides)
    assert all(part in str(refused.value) for part in named)


def test_nested_parameters_get_dotted_names_and_are_told(tmp_path):
    inner = {"parameters": {"lr": {"values": [0.1, 0.2]}, "deep": {"parameters": {"x": {"value": 1}}}}}
    nested = read(tmp_path, parameters={"optimizer": inner})
    flat = read(tmp_path, parameters={"optimizer.lr": {"values": [0.1, 0.2]}, "optimizer.deep.x": {"value": 1}})
    assert nested.nested
    assert not flat.nested
    assert plan(nested) == plan(flat)


# Random search

SPACE = {
    "uniform": {"min": -1.0, "max": 3.0},
    "whole": {"min": 2, "max": 9},
    "log": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-1},
    "steps": {"distribution": "q_uniform", "min": 0, "max": 2, "q": 0.25},
    "choice": {"values": ["x", "y", "z"]},
    "weighted": {"values": ["x", "y", "z"], "probabilities": [0.2, 0, 0.8]},
    "fixed": {"value": 4},
}


@given(st.floats(0, 1, exclude_max=True))
def test_draws_are_the_quantiles_of_the_stated_distributions(u):
    drawn = {name: parameter.draw(u) for name, parameter in read_parameters(SPACE)[0].items()}
    assert drawn["uniform"] == pytest.approx(stats.uniform.ppf(u, -1, 4))
    assert drawn["log"] == pytest.approx(stats.loguniform.ppf(u, 1e-5, 1e-1))
    assert 2 <= drawn["whole"] <= 9
    assert stats.randint.cdf(drawn["whole"] - 1, 2, 10) <= u + 1e-12
    assert stats.randint.cdf(drawn["whole"], 2, 10) >= u - 1e-12
    assert abs(drawn["steps"] - stats.uniform.ppf(u, 0, 2)) <= 0.125 + 1e-12
    assert drawn["steps"] % 0.25 == 0
    assert drawn["choice"] == "xyz"[int(3 * u)]
    assert drawn["weighted"] == ("x" if u < 0.2 else "z")
    assert drawn["fixed"] == 4


def random_file(folder: Path, **changes) -> SweepFile:
    content = {
        "method": "random",
        "run_cap": 6,
        "parameters": {**SPACE, "seed": {"values": [0, 1]}},
        **changes,
    }
    return read(folder, **content)


def test_a_file_without_run_cap_takes_a_count(tmp_path):
    with pytest.raises(RequestError, match=r"run_cap: is missing.*--count 20"):
        random_file(tmp_path, run_cap=None)
    path = tmp_path / "sweep.yaml"
    counted = read_sweep(path, 6)
    assert counted.path == path
    assert plan(counted) == plan(random_file(tmp_path))
    with pytest.raises(RequestError, match=r"--count: 6, and .* says run_cap: 6"):
        read_sweep(path, 6)
    with pytest.raises(RequestError, match="--count: 0; accepted: a whole number from 1"):
        read_sweep(path, 0)


def test_a_random_search_draws_the_same_list_again_and_pairs_its_seeds(tmp_path):
    trials = plan(random_file(tmp_path))
    assert trials == plan(random_file(tmp_path, description="another text"))
    assert [(t.seed, t.configuration) for t in trials] == [(s, c) for s in (0, 1) for c in range(6)]
    for first, second in zip(trials[:6], trials[6:], strict=True):
        assert {**first.parameters, "seed": 1} == second.parameters
    parser = OverridesParser.create()
    for trial in trials:
        for override, value in zip(parser.parse_overrides(trial.overrides), trial.parameters.values(), strict=True):
            assert override.value() == value


def test_more_configurations_or_seeds_leave_the_drawn_ones_as_they_are(tmp_path):
    drawn = {t.configuration: t.overrides[:-1] for t in plan(random_file(tmp_path))}
    longer = {t.configuration: t.overrides[:-1] for t in plan(random_file(tmp_path, run_cap=9))}
    more = random_file(tmp_path, parameters={**SPACE, "seed": {"values": [0, 1, 2]}})
    assert len(longer) == 9
    assert drawn.items() <= longer.items()
    assert drawn == {t.configuration: t.overrides[:-1] for t in plan(more)}


def test_another_space_draws_other_values(tmp_path):
    wider = {**SPACE, "uniform": {"min": -1.0, "max": 3.5}}
    first = plan(random_file(tmp_path))[0].parameters["log"]
    assert plan(random_file(tmp_path, parameters=wider))[0].parameters["log"] != first


def test_a_configuration_drawn_twice_is_one(tmp_path):
    trials = plan(random_file(tmp_path, run_cap=50, parameters={"a": {"values": [1, 2, 3]}}))
    assert sorted(t.parameters["a"] for t in trials) == [1, 2, 3]


# Wrong files


def parameter(**settings):
    return {"parameters": {"b": settings}}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"method": None}, ["method", "grid"]),
        ({"parameters": None}, ["parameters"]),
        ({"parameters": {}}, ["parameters", "{}"]),
        ({"parameters": {"a": 3}}, ["parameters.a", "3", "values"]),
        ({"parameters": {"a/b": {"value": 3}}}, ["parameters", "'a/b'"]),
        ({"parameters": {True: {"value": 3}}}, ["parameters", "True"]),
        ({"method": "magic"}, ["method", "'magic'", "grid, random, bayes", "line 1"]),
        ({"method": "custom"}, ["method", "'custom'", "server"]),
        ({"method": "bayes", "run_cap": 3}, ["metric", "bayes"]),
        ({"method": "bayes", "metric": {"name": "val/bpb"}}, ["run_cap", "bayes"]),
        ({"metrics": [{"name": "a"}, {"name": "b"}]}, ["metrics", "server"]),
        ({"method": ["grid"]}, ["method", "['grid']", "grid, random"]),
        ({"method": "random"}, ["run_cap", "random"]),
        ({"run_cap": 0}, ["run_cap", "0"]),
        ({"run_cap": True}, ["run_cap", "True"]),
        ({"run_cap": 10**9}, ["run_cap", "1000000000"]),
        ({"metod": "grid"}, ["metod", "method"]),
        ({"early_terminate": {"type": "hyperband"}}, ["early_terminate"]),
        *[({key: "x"}, [key, "server"]) for key in ("job", "image_uri", "controller", "scheduler")],
        ({"name": 3}, ["name", "3", "text"]),
        ({"metric": "val/bpb"}, ["metric", "'val/bpb'"]),
        ({"metric": {"goal": "minimize"}}, ["metric.name"]),
        ({"metric": {"name": "val/bpb", "goal": "min"}}, ["metric.goal", "'min'", "minimize, maximize"]),
        ({"metric": {"name": "val/bpb", "target": "low"}}, ["metric.target", "'low'"]),
        ({"metric": {"name": "val/bpb", "impute": "best"}}, ["metric.impute", "'best'", "'worst'"]),
        (
            {"metric": {"name": "x"}, "early_terminate": {"type": "hyperband", "min_iter": 3, "max_iter": 9}},
            ["early_terminate", "min_iter, or max_iter and s"],
        ),
        (
            {"metric": {"name": "x"}, "early_terminate": {"type": "hyperband", "max_iter": 2, "s": 2}},
            ["early_terminate.max_iter", "2"],
        ),
        ({"early_terminate": {"type": "hyperband", "min_iter": 3}}, ["early_terminate", "metric"]),
        (parameter(), ["parameters.b", "{}"]),
        (parameter(values=[]), ["parameters.b.values", "[]"]),
        (parameter(values="x"), ["parameters.b.values", "'x'"]),
        (parameter(values=[1], foo=2), ["parameters.b.foo", "2", "values"]),
        (parameter(value=1, min=2), ["parameters.b.min", "2"]),
        (parameter(distribution="triangular"), ["parameters.b.distribution", "'triangular'", "uniform"]),
        (parameter(distribution="normal"), ["parameters.b", "normal", "grid"]),
        (parameter(distribution="normal", sigma=0), ["parameters.b.sigma", "0"]),
        (parameter(distribution="log_normal", sigma=100), ["parameters.b.sigma", "100", "finite"]),
        (parameter(distribution="log_uniform", min=0, max=1000), ["parameters.b.max", "1000", "log_uniform_values"]),
        (parameter(distribution="beta", a=0), ["parameters.b.a", "0"]),
        (parameter(distribution="uniform", min=1), ["parameters.b.max", "missing"]),
        (parameter(distribution="constant"), ["parameters.b.value", "missing"]),
        (parameter(min=0.0, max=1.0), ["parameters.b", "uniform", "grid"]),
        (parameter(distribution="log_uniform_values", min=1, max=2), ["parameters.b", "log_uniform_values"]),
        (parameter(values=[1], probabilities=[1]), ["parameters.b", "categorical_w_probabilities"]),
        (parameter(values=[1, 2], probabilities=[0.5, 0.4]), ["parameters.b.probabilities", "[0.5, 0.4]"]),
        (parameter(min=0, max=1.0), ["parameters.b", "uniform", "grid"]),
        (parameter(min=0, max="1e-3"), ["parameters.b", "'1e-3'", "1.0e-3"]),
        (parameter(min=0), ["parameters.b", "{'min': 0}"]),
        (parameter(min=3, max=3), ["parameters.b.min", "3"]),
        (parameter(min=0, max=10**9), ["parameters.b", "1e+09"]),
        (parameter(distribution="int_uniform", min=0, max=1.5), ["parameters.b.max", "1.5", "whole"]),
        (parameter(distribution="uniform", min=False, max=1), ["parameters.b.min", "False"]),
        (parameter(distribution="uniform", min=0, max=float("inf")), ["parameters.b.max", "inf"]),
        (parameter(distribution="log_uniform_values", min=0, max=1), ["parameters.b.min", "0"]),
        (parameter(distribution="q_uniform", min=0, max=1, q=0), ["parameters.b.q", "0"]),
        (parameter(parameters={"c": {"value": 1}}, value=2), ["parameters.b", "value"]),
        (parameter(parameters={}), ["parameters.b.parameters", "{}"]),
        (
            {"parameters": {"b.c": {"value": 1}, "b": {"parameters": {"c": {"value": 1}}}}},
            ["b.parameters.c", "b.c"],
        ),
        ({"parameters": {f"p{i}": {"min": 0, "max": 99} for i in range(3)}}, ["parameters", "1000000"]),
        ({"parameters": {"seed": {"values": ["x"]}}}, ["parameters.seed", "'x'"]),
        ({"parameters": {"seed": {"values": [-1]}}}, ["parameters.seed", "-1"]),
        (
            {"method": "random", "run_cap": 3, "parameters": {"seed": {"min": 0, "max": 9}}},
            ["parameters.seed"],
        ),
        ({"command": ["lab", "train", "a=3", "${args}"]}, ["parameters.a", "a=3"]),
    ],
)
def test_a_wrong_file_is_refused_by_its_name_key_and_value(tmp_path, changes, named):
    path = write(tmp_path, **changes)
    with pytest.raises(RequestError) as refused:
        read_sweep(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert [part for part in named if part not in message] == []


def test_an_error_says_its_line(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(
        "method: grid\ncommand: [lab, train, '${args}']\nparameters:\n  model.dim:\n    values: [32]\n"
        "  optimizer:\n    parameters:\n      lr:\n        distribution: uniform\n        min: 3\n        max: 2\n"
    )
    with pytest.raises(RequestError, match=r"parameters\.optimizer\.parameters\.lr\.min: 3 .* \(line 10\)"):
        read_sweep(path)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "nothing"),
        (b"- grid", "list"),
        (b"method: grid\nparameters:\n\ta: 1", "line 3"),
        (b"method: grid\nmethod: random", "line 2 is not YAML: method is given twice"),
        (b"method: grid\nparameters: &a {ffn: *a}", "holds itself, or is nested too deeply"),
        (b"method: grid\ncommand: [${env}, lab]", "quotes"),
        (b"name: 2024-13-45", "month"),
        (b"name: \xff", "UTF-8"),
        (b"name: \x00", "YAML"),
    ],
)
def test_what_is_not_a_sweep_file_is_refused_with_its_line(tmp_path, content, named):
    path = tmp_path / "sweep.yaml"
    path.write_bytes(content)
    with pytest.raises(RequestError) as refused:
        read_sweep(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(RequestError, match=str(path)):
            read_sweep(path)
