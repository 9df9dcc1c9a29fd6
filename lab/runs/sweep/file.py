"""A sweep file in W&B's own format, read and checked without a server.

    sweep = read_sweep("sweeps/ladder.yaml")
    sweep.argv({"preset": "tiny", "seed": 0})       # what `wandb agent` would start
    sweep.overrides({"preset": "tiny", "seed": 0})  # what `lab train` gets from it

`plan.plan` turns it into the list of trials. The format: https://docs.wandb.ai/guides/sweeps/sweep-config-keys
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.config import SEEDS
from lab.errors import RequestError
from lab.overrides import short
from lab.runs.sweep.command import JSON, arguments, check_survives, expand, override_key, read_command, train_overrides
from lab.runs.sweep.document import Document, kind_of, read_document
from lab.runs.sweep.hyperband import Hyperband, read_early_terminate
from lab.runs.sweep.space import MOST_POINTS, Parameter, read_parameters

METHODS = ("grid", "random", "bayes")
TEXT_KEYS = ("name", "description", "program", "project", "entity", "kind", "apiVersion")
KEYS = ("method", "parameters", "command", "metric", "run_cap", "early_terminate", *TEXT_KEYS)
SERVER_KEYS = ("controller", "scheduler", "metrics", "job", "image_uri")
METRIC_KEYS = ("name", "goal", "target", "impute", "impute_while_running")
IMPUTED = {"impute": "worst", "impute_while_running": "false"}
"""What a search takes for runs without a value here, which is W&B's default."""


@dataclass(frozen=True)
class SweepFile:
    """What a sweep file says. `parameters` stand under dotted names in the file's order.

    `nested` says that a parameter held parameters of its own which `wandb agent` would pass as the text of a
    dictionary, so that only the local driver can run the file; as JSON they arrive. `run_cap` counts runs in a grid;
    in a search it counts configurations, each of which runs with every seed. A sweep ends once a configuration reaches
    `target`.
    """

    path: Path
    document: Document
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
    target: float | None = None
    run_cap: int | None = None
    early_terminate: Hyperband | None = None

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

    def changed(self, parameters: Mapping[str, Any]) -> "SweepFile":
        """With other or further parameters, as the file would give them. Errors as of `read_sweep`."""
        together = {**self.document.content["parameters"], **parameters}
        return _checked(self.path, self.document.changed(parameters=together))


def read_sweep(path: str | Path, count: int | None = None) -> SweepFile:
    """Read and check a sweep file; nothing in what it returns can fail later but an override typed beside it.

    Args:
        path: of the file.
        count: its `run_cap`, where it has none.

    Raises RequestError naming the file, the key, the value and what is accepted.
    """
    path = Path(path)
    try:
        document = read_document(path)
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from error.__cause__
    return _checked(path, document if count is None else _counted(path, document, count))


def _counted(path: Path, document: Document, count: int) -> Document:
    if not 1 <= count <= MOST_POINTS:
        raise RequestError(f"--count: {count}; accepted: a whole number from 1 to {MOST_POINTS}")
    if "run_cap" in document.content:
        raise RequestError(
            f"--count: {count}, and {path} says run_cap: {document.content['run_cap']}; leave one of them out"
        )
    return document.changed(run_cap=count)


def _checked(path: Path, document: Document) -> SweepFile:
    try:
        return _check(path, document)
    except RequestError as error:
        raise RequestError(f"{path}: {document.located(error)}") from error.__cause__


def _check(path: Path, document: Document) -> SweepFile:
    content = document.content
    _check_keys(content)
    for key in TEXT_KEYS:
        if not isinstance(content.get(key, ""), str):
            raise RequestError(f"{key}: {content[key]!r} is {kind_of(content[key])}; accepted: text")
    if content.get("kind", "sweep") != "sweep":
        raise RequestError(f"kind: {content['kind']!r} is none of W&B's; accepted: sweep")
    metric = _read_metric(content.get("metric"))
    parameters, nested = read_parameters(content["parameters"])
    command = read_command(content.get("command"), content.get("program"))
    sweep = SweepFile(
        path=path,
        document=document,
        method=content["method"],
        parameters=parameters,
        nested=nested and arguments(command) not in JSON,
        command=command,
        program=content.get("program"),
        name=content.get("name"),
        description=content.get("description"),
        project=content.get("project"),
        metric=metric.get("name"),
        goal=metric.get("goal", "minimize"),
        target=metric.get("target"),
        run_cap=content.get("run_cap"),
        early_terminate=read_early_terminate(content.get("early_terminate")),
    )
    if sweep.early_terminate and not sweep.metric:
        raise RequestError("early_terminate: needs a metric to compare runs by; write metric: {name: val/bpb}")
    _check_space(sweep)
    return sweep


def _check_keys(content: dict[str, Any]) -> None:
    if content.get("method") == "custom":
        raise RequestError("method: 'custom' belongs to W&B's server; accepted: " + ", ".join(METHODS))
    for key in content:
        if key in SERVER_KEYS:
            raise RequestError(f"{key}: belongs to W&B's server, which does not take part here; leave it out")
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"accepted keys: {', '.join(KEYS)}"
            raise RequestError(f"{key}: {short(repr(content[key]))} is not supported; {hint}")
    for key in ("method", "parameters"):
        if key not in content:
            raise RequestError(f"{key}: is missing; a sweep needs method ({' or '.join(METHODS)}) and parameters")
    if content["method"] not in METHODS:
        raise RequestError(f"method: {content['method']!r} is not supported; accepted: {', '.join(METHODS)}")
    run_cap = content.get("run_cap")
    if "run_cap" in content and (type(run_cap) is not int or not 1 <= run_cap <= MOST_POINTS):
        raise RequestError(f"run_cap: {run_cap!r} does not fit; accepted: a whole number from 1 to {MOST_POINTS}")
    if content["method"] != "grid" and run_cap is None:
        raise RequestError(
            f"run_cap: is missing; method {content['method']} needs the number of configurations to draw: run_cap: 20 in the "
            "file, or --count 20"
        )
    if content["method"] == "bayes" and "metric" not in content:
        raise RequestError("metric: is missing; method bayes needs what to search by: metric: {name: val/bpb}")


def _read_metric(metric: Any) -> dict[str, Any]:
    if metric is None:
        return {}
    if not isinstance(metric, dict):
        raise RequestError(f"metric: {metric!r} is {kind_of(metric)}; accepted: a mapping with name and goal")
    for key in metric:
        if key not in METRIC_KEYS:
            raise RequestError(f"metric.{key}: {metric[key]!r} is not supported; accepted: {', '.join(METRIC_KEYS)}")
    if not isinstance(metric.get("name"), str):
        raise RequestError(f"metric.name: {metric.get('name')!r} is not a name; accepted: text, such as val/bpb")
    if metric.get("goal", "minimize") not in ("minimize", "maximize"):
        raise RequestError(f"metric.goal: {metric['goal']!r} is not known; accepted: minimize, maximize")
    target = metric.get("target", 0)
    if type(target) not in (int, float) or not math.isfinite(target):
        raise RequestError(f"metric.target: {target!r} is not a number; accepted: the value that ends the sweep")
    for key, accepted in IMPUTED.items():
        if metric.get(key, accepted) != accepted:
            raise RequestError(f"metric.{key}: {metric[key]!r} is not supported here; accepted: {accepted!r}")
    return metric


def _check_space(sweep: SweepFile) -> None:
    """Everything about the parameters that depends on the rest of the file."""
    for name, parameter in sweep.parameters.items():
        for value in parameter.listed:
            check_survives(name, value, arguments(sweep.command))
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
    if sweep.method != "grid" and seed.distribution not in ("constant", "categorical"):
        raise RequestError(
            "parameters.seed: seeds are replicates of every configuration and are not drawn; accepted: value or values"
        )
    for value in seed.points():
        if type(value) is not int or not 0 <= value < SEEDS:
            raise RequestError(f"parameters.seed: {value!r} is not a seed; accepted: whole numbers from 0, under 2^63")
