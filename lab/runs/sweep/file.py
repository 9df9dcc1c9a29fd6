"""A sweep file in W&B's own format, read and checked without a server.

    sweep = read_sweep("sweeps/ladder.yaml")
    sweep.argv({"preset": "tiny", "seed": 0})       # what `wandb agent` would start
    sweep.overrides({"preset": "tiny", "seed": 0})  # what `lab train` gets from it

`plan.plan` turns it into the list of trials. The format: https://docs.wandb.ai/guides/sweeps/sweep-config-keys
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.errors import RequestError
from lab.runs.sweep.command import check_survives, expand, override_key, read_command, train_overrides
from lab.runs.sweep.space import MOST_POINTS, Parameter, read_parameters

METHODS = ("grid", "random")
TEXT_KEYS = ("name", "description", "program", "project", "entity", "kind", "apiVersion")
KEYS = ("method", "parameters", "command", "metric", "run_cap", *TEXT_KEYS)
SERVER_KEYS = ("controller", "scheduler", "job", "image_uri")
METRIC_KEYS = ("name", "goal")


@dataclass(frozen=True)
class SweepFile:
    """What a sweep file says. `parameters` stand under dotted names in the file's order.

    `nested` says that a parameter held parameters of its own: `wandb agent` would pass these as the text of a
    dictionary, so that only the local driver can run the file. `run_cap` counts runs in a grid; in a random
    search it counts configurations, each of which runs with every seed.
    """

    path: Path
    method: str
    parameters: dict[str, Parameter]
    nested: bool
    command: list[str]
    program: str | None = None
    name: str | None = None
    description: str | None = None
    project: str | None = None
    metric: str | None = None
    goal: str = "minimize"
    run_cap: int | None = None

    @property
    def swept(self) -> list[str]:
        """The names of the parameters that differ between configurations: neither constants nor the seed."""
        return [name for name, p in self.parameters.items() if name != "seed" and not p.is_constant]

    @property
    def seeds(self) -> list[int] | None:
        """The seeds that every configuration runs with, or None where the file does not say."""
        seed = self.parameters.get("seed")
        return None if seed is None else list(dict.fromkeys(seed.points()))

    def argv(self, parameters: Mapping[str, Any]) -> list[str]:
        """The argument list that `wandb agent` would start for these parameters.

        A server sorts the parameters by name; here they keep their order, which means nothing to Hydra.
        """
        return expand(self.command, self.program, parameters)

    def overrides(self, parameters: Mapping[str, Any]) -> list[str]:
        """The Hydra overrides that follow `lab train` in that argument list."""
        return train_overrides(self.argv(parameters))


def read_sweep(path: str | Path) -> SweepFile:
    """Read and check a sweep file; nothing in what it returns can fail later but an override typed beside it.

    Raises RequestError naming the file, the key, the value and what is accepted.
    """
    path = Path(path)
    try:
        return _check(path, _load(path))
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from error.__cause__


class _UniqueKeys(yaml.SafeLoader):
    """YAML as `safe_load` reads it, but a key written twice is an error instead of a silent replacement."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _load(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RequestError(f"can't be read ({error.strerror}); accepted: a W&B sweep file (YAML)") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"is not UTF-8 text (byte {error.start}); accepted: a W&B sweep file (YAML)") from error
    try:
        content = yaml.load(text, Loader=_UniqueKeys)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line if error.problem_mark else 0
        in_question = text.splitlines()[line : line + 1]
        hint = ' (inside [ ] write "${...}" with its quotes)' if "${" in "".join(in_question) else ""
        raise RequestError(f"line {line + 1} is not YAML: {error.problem}{hint}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise RequestError(f"is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise RequestError(f"holds {_kind(content)}; accepted: a mapping with method and parameters")
    return content


def _check(path: Path, content: dict[str, Any]) -> SweepFile:
    _check_keys(content)
    for key in TEXT_KEYS:
        if not isinstance(content.get(key, ""), str):
            raise RequestError(f"{key}: {content[key]!r} is {_kind(content[key])}; accepted: text")
    metric = _read_metric(content.get("metric"))
    parameters, nested = read_parameters(content["parameters"])
    sweep = SweepFile(
        path=path,
        method=content["method"],
        parameters=parameters,
        nested=nested,
        command=read_command(content.get("command"), content.get("program")),
        program=content.get("program"),
        name=content.get("name"),
        description=content.get("description"),
        project=content.get("project"),
        metric=metric.get("name"),
        goal=metric.get("goal", "minimize"),
        run_cap=content.get("run_cap"),
    )
    _check_space(sweep)
    return sweep


def _check_keys(content: dict[str, Any]) -> None:
    for key in content:
        if key in SERVER_KEYS:
            raise RequestError(f"{key}: belongs to W&B's server, which does not take part here; leave it out")
        if key not in KEYS:
            raise RequestError(f"{key}: {content[key]!r} is not supported; accepted keys: {', '.join(KEYS)}")
    for key in ("method", "parameters"):
        if key not in content:
            raise RequestError(f"{key}: is missing; a sweep needs method ({' or '.join(METHODS)}) and parameters")
    if content["method"] not in METHODS:
        raise RequestError(f"method: {content['method']!r} is not supported; accepted: {', '.join(METHODS)}")
    run_cap = content.get("run_cap")
    if "run_cap" in content and (type(run_cap) is not int or not 1 <= run_cap <= MOST_POINTS):
        raise RequestError(f"run_cap: {run_cap!r} does not fit; accepted: a whole number from 1 to {MOST_POINTS}")
    if content["method"] == "random" and run_cap is None:
        raise RequestError("run_cap: is missing; method random needs the number of configurations to draw")


def _read_metric(metric: Any) -> dict[str, str]:
    if metric is None:
        return {}
    if not isinstance(metric, dict):
        raise RequestError(f"metric: {metric!r} is {_kind(metric)}; accepted: a mapping with name and goal")
    for key in metric:
        if key not in METRIC_KEYS:
            raise RequestError(f"metric.{key}: {metric[key]!r} is not supported; accepted: {', '.join(METRIC_KEYS)}")
    if not isinstance(metric.get("name"), str):
        raise RequestError(f"metric.name: {metric.get('name')!r} is not a name; accepted: text, such as val/bpb")
    if metric.get("goal", "minimize") not in ("minimize", "maximize"):
        raise RequestError(f"metric.goal: {metric['goal']!r} is not known; accepted: minimize, maximize")
    return metric


def _check_space(sweep: SweepFile) -> None:
    """Everything about the parameters that depends on the rest of the file."""
    for name, parameter in sweep.parameters.items():
        for value in parameter.listed:
            check_survives(name, value)
    for override in sweep.overrides({}):
        if (key := override_key(override, "command")) in sweep.parameters:
            raise RequestError(f"parameters.{key}: is set by the command too ({override}); accepted: one of them")
    if sweep.method == "grid":
        size = math.prod(len(parameter.points()) for parameter in sweep.parameters.values())
        if size > MOST_POINTS:
            raise RequestError(f"parameters: the grid has {size} points; accepted: {MOST_POINTS} at most")
    _check_seed(sweep)


def _check_seed(sweep: SweepFile) -> None:
    seed = sweep.parameters.get("seed")
    if seed is None:
        return
    if sweep.method == "random" and seed.distribution not in ("constant", "categorical"):
        raise RequestError(
            "parameters.seed: seeds are replicates of every configuration and are not drawn; accepted: value or values"
        )
    for value in seed.points():
        if type(value) is not int or value < 0:
            raise RequestError(f"parameters.seed: {value!r} is not a seed; accepted: whole numbers from 0")


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
