"""Sweep files beside W&B's published schema: what it refuses is refused here, what it takes is taken unless said otherwise."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import RequestError
from lab.runs.sweep.distributions import DISTRIBUTIONS
from lab.runs.sweep.file import KEYS, METRIC_KEYS, SERVER_KEYS, read_sweep
from lab.runs.sweep.hyperband import KEYS as EARLY_KEYS
from lab.runs.sweep.space import read_parameters

SCHEMA = json.loads((Path(__file__).parent / "wandb" / "schema.json").read_text())
formats = jsonschema.FormatChecker(formats=())
formats.checks("float")(lambda value: isinstance(value, float))
formats.checks("integer")(lambda value: isinstance(value, int))


def valid(instance, definition: str | None = None) -> bool:
    """What W&B's schema says, in Python's sense of whole numbers and true, as its own client has it."""
    schema = (
        SCHEMA if definition is None else {**SCHEMA["definitions"][definition], "definitions": SCHEMA["definitions"]}
    )
    return jsonschema.Draft7Validator(schema, format_checker=formats).is_valid(instance)


def taken(folder: Path, content) -> bool:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(content))
    try:
        read_sweep(path)
    except RequestError:
        return False
    return True


def test_every_key_of_the_schema_is_known():
    assert set(SCHEMA["properties"]) == {*KEYS, *SERVER_KEYS}
    assert set(SCHEMA["definitions"]["metric"]["properties"]) == set(METRIC_KEYS)
    assert set(SCHEMA["definitions"]["hyperband_stopping"]["properties"]) == set(EARLY_KEYS)


def test_every_distribution_of_the_schema_is_known_with_its_keys_and_defaults():
    published = {}
    for name, definition in SCHEMA["definitions"].items():
        for form in definition.get("anyOf", [definition]) if name.startswith("param_") else []:
            properties = form.get("properties", {})
            for kind in properties.get("distribution", {}).get("enum", []):
                published[kind] = (
                    {key for key in form["required"] if key != "distribution"},
                    {
                        key: each["default"]
                        for key, each in properties.items()
                        if "default" in each and key != "distribution"
                    },
                )
    assert {kind: (set(d.required), dict(d.defaults)) for kind, d in DISTRIBUTIONS.items()} == published


numbers = st.sampled_from([-1, 0, 1, 2, 3.5, 0.0, 1.0, -2.5, True, "1e-3", None])
keys = st.sampled_from(["min", "max", "q", "mu", "sigma", "a", "b", "value", "values", "probabilities"])
fields = st.dictionaries(keys, numbers | st.lists(numbers, max_size=2), max_size=4)
kinds = st.none() | st.sampled_from([*DISTRIBUTIONS, "triangular"])


def beyond_the_schema(settings: dict) -> bool:
    """What JSON schema can't say, or what leaves no number to draw."""
    low, high = settings.get("min"), settings.get("max")
    return (
        any(isinstance(value, bool) for key, value in settings.items() if key not in ("value", "values"))
        or (low is not None and high is not None and low >= high)
        or 0 in (settings.get("sigma"), settings.get("a"), settings.get("b"))
        or (
            "probabilities" in settings
            and not (len(settings["probabilities"]) == len(settings["values"]) and sum(settings["probabilities"]) == 1)
        )
    )


@settings(max_examples=600, deadline=None)
@given(fields, kinds)
def test_a_parameter_is_taken_where_the_schema_takes_it(settings, kind):
    written = settings if kind is None else {**settings, "distribution": kind}
    try:
        read_parameters({"b": written})
        accepted = True
    except RequestError:
        accepted = False
    if accepted:
        assert valid(written, "parameter"), written
    elif valid(written, "parameter"):
        assert beyond_the_schema(settings), written


LEGAL = {
    "method": "bayes",
    "name": "n",
    "description": "d",
    "program": "lab",
    "project": "p",
    "entity": "e",
    "kind": "sweep",
    "apiVersion": "1",
    "run_cap": 4,
    "metric": {"name": "val/bpb", "goal": "maximize", "target": 1, "impute": "worst", "impute_while_running": "false"},
    "early_terminate": {"type": "hyperband", "max_iter": 9, "s": 2, "eta": 3, "strict": False},
    "command": ["lab", "train", "${args}"],
    "parameters": {"a": {"min": 0.0, "max": 1.0}, "b": {"parameters": {"c": {"value": 1}}}},
}


def test_a_file_with_all_keys_is_taken(tmp_path):
    assert valid(LEGAL)
    assert taken(tmp_path, LEGAL)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "magic"},
        {"run_cap": 0},
        {"run_cap": "3"},
        {"kind": "run"},
        {"metric": {"goal": "minimize"}},
        {"metric": {"name": "x", "goal": "down"}},
        {"metric": {"name": "x", "target": "y"}},
        {"metric": {"name": "x", "weight": 3}},
        {"metric": {"name": "x", "impute": "mean"}},
        {"early_terminate": {"type": "median", "min_iter": 3}},
        {"early_terminate": {"type": "hyperband"}},
        {"early_terminate": {"type": "hyperband", "max_iter": 9}},
        {"early_terminate": {"type": "hyperband", "min_iter": 0}},
        {"early_terminate": {"type": "hyperband", "min_iter": 1.5}},
        {"early_terminate": {"type": "hyperband", "min_iter": 3, "eta": 1}},
        {"early_terminate": {"type": "hyperband", "min_iter": 3, "strict": 1}},
        {"early_terminate": {"type": "hyperband", "min_iter": 3, "bands": 1}},
        {"command": "lab train"},
        {"parameters": {}},
        {"parameters": {"a b": {"value": 1}}},
        {"parameters": {"a": {"value": 1, "values": [1]}}},
        {"parameters": {"a": {"parameters": {}}}},
        {"early": 1},
        {"name": 3},
    ],
)
def test_what_the_schema_refuses_is_refused(tmp_path, change):
    assert not valid(LEGAL | change)
    assert not taken(tmp_path, LEGAL | change)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[3] / "sweeps").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_files_of_the_project_are_valid(path):
    assert valid(yaml.safe_load(path.read_text()))
