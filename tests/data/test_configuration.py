"""Each YAML file of the data layer is a constructor call that names every argument."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_object

from lab.errors import RequestError

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted(path for group in ("data", "tokenizer", "packing") for path in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_file_calls_its_class(path):
    arguments = yaml.safe_load(path.read_text())
    target = get_object(arguments.pop("_target_"))
    plain = {key: value for key, value in arguments.items() if "${" not in str(value)}
    try:
        target(**plain)
    except RequestError as error:  # names the one thing that has no default
        key = str(error).partition(":")[0].partition(".")[2]
        assert plain[key] is None
        target(**plain | {key: "some/where"})
    accepted = inspect.signature(target).parameters
    assert set(arguments) >= {
        name for name, p in accepted.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    }
    assert path.parent.name != "tokenizer" or {"vocab_size", "special"} <= set(arguments)
