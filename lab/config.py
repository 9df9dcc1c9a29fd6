"""Composition and checking of configurations; the only place that knows Hydra's compose API.

A configuration that leaves here is complete and can be built: unknown groups, options and keys, values of another kind,
sizes that do not fit and classes from elsewhere are refused with one message that names the key.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lab.errors import RequestError

if TYPE_CHECKING:
    from torch import nn

TARGETS = ("lab.", "torch.nn.", "torch.optim.")
"""Where a `_target_` may be defined."""

APART = ("seed", "name", "folder", "overrides", "logger")
"""Keys that do not make a configuration another one: runs that differ in these alone are replicates."""


def conf_folder() -> Path:
    """The folder of YAML files: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


@cache
def groups() -> dict[str, list[str]]:
    """Every group with its options, as the files stand."""
    folders = sorted(p for p in conf_folder().iterdir() if p.is_dir() and p.name != "hydra")
    return {folder.name: sorted(file.stem for file in folder.glob("*.yaml")) for folder in folders}


def compose(*overrides: str) -> DictConfig:
    """The complete configuration of one run.

    Args:
        overrides: as on the command line of `lab train`: `attention=gqa`, `model.dim=256`, `seed=3`.

    Raises:
        RequestError: an override that Hydra's grammar cannot read, an unknown group, option or key, a value of another
            kind than the one it replaces, or a combination that cannot be built.
    """
    config = _composed(list(overrides))
    check(config)
    return config


def _composed(overrides: list[str]) -> DictConfig:
    parsed = [_parse(text) for text in overrides]
    for override in parsed:
        _check_override(override)
    config = _hydra(overrides)
    choices = {k: v for k, v in config.hydra.runtime.choices.items() if "/" not in k}
    with_values = [o for o in parsed if o.key_or_group not in groups()]
    if with_values:
        plain = _of_options(tuple(t for t, o in zip(overrides, parsed, strict=True) if o.key_or_group in groups()))
        for override in with_values:
            _check_kind(override, plain)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    _one_budget(config, [o.key_or_group for o in parsed])
    config.choices = dict(sorted(choices.items()))
    config.overrides = overrides
    OmegaConf.set_struct(config, True)
    return config


def _parse(text: str) -> Override:
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException:
        raise RequestError(f"{text}: not an override; write KEY=VALUE or GROUP=OPTION, as in attention=gqa or model.dim=256") from None


def _check_override(override: Override) -> None:
    """What Hydra would accept and misread, or refuse in words that mislead."""
    key, text = override.key_or_group, override.input_line
    known = groups()
    if override.is_sweep_override():
        raise RequestError(f"{text}: several values for one run; use `lab train -m` or a sweep file")
    if key in known:
        value = override.value()
        if override.is_delete() or override.is_add() or override.package is not None:
            raise RequestError(f"{text}: a group is chosen with {key}=OPTION; options: {', '.join(known[key])}")
        if not isinstance(value, str) or value not in known[key]:
            mixed = "; a mixed layout is an option of its own, a file in its folder" if isinstance(value, list) else ""
            raise RequestError(f"{text}: no such option; {key} is one of {', '.join(known[key])}{mixed}")
    elif key.startswith("hydra"):
        raise RequestError(f"{text}: Hydra's own settings are for `lab train -m`; the folder of one run is folder=PATH")
    elif override.is_delete():
        raise RequestError(f"{text}: nothing can be taken out of a configuration; choose another option instead")


def _hydra(overrides: list[str]) -> DictConfig:
    process = GlobalHydra.instance()
    application, process.hydra = process.hydra, None  # a job of a multirun composes inside a Hydra application
    try:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return hydra_compose("config", overrides=overrides, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(_explain(error, overrides)) from None
    finally:
        process.hydra = application


@cache
def _of_options(overrides: tuple[str, ...]) -> DictConfig:
    """The configuration that options alone give, before any value is set."""
    return _hydra(list(overrides))


def _default() -> DictConfig:
    return _of_options(())


def hydra_settings(overrides: list[str]) -> DictConfig:
    """Hydra's own settings of a multirun, from overrides of `hydra.*` alone."""
    return _hydra(overrides).hydra


def _explain(error: Exception, overrides: list[str]) -> str:
    """One line from Hydra's words, with the nearest keys where a key does not exist."""
    if overrides:
        plain = _default()
        known = list(flatten({k: v for k, v in plain.items() if k != "hydra"}))
        for text in overrides:
            key = text.partition("=")[0].lstrip("+~")
            path = key.removeprefix("model.") if key.split(".")[0] == "model" else key
            if OmegaConf.select(plain, key) is None and key not in known and key not in groups():
                here = [k for k in known if k == path] or difflib.get_close_matches(key, [*known, *groups()], n=3, cutoff=0.5)
                hint = f"; did you mean {' or '.join(here)}?" if here else "; `lab train --cfg job` lists all"
                return f"{key}: no such key in the configuration{hint}"
    cause = error.__cause__ or error
    return " ".join(str(cause).split())


def _check_kind(override: Override, plain: DictConfig) -> None:
    """An override keeps the kind of value that it replaces: a number stays a number."""
    key, value = override.key_or_group, override.value()
    try:
        before = OmegaConf.select(plain, key)
    except OmegaConfBaseException:
        return
    expected: str | None = None
    if before is None or value is None or (isinstance(value, str) and "${" in value):
        return
    if isinstance(before, bool):
        expected = None if isinstance(value, bool) else "true or false"
    elif isinstance(before, int):
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        expected = None if whole and not isinstance(value, bool) else "a whole number"
    elif isinstance(before, float):
        expected = None if isinstance(value, int | float) and not isinstance(value, bool) else "a number"
    elif isinstance(before, str):
        expected = "a word" if isinstance(value, list | Mapping) else None
    elif isinstance(before, DictConfig) and not isinstance(value, Mapping):
        expected = f"keys of its own ({', '.join(map(str, before))})"
    if expected:
        raise RequestError(f"{key}: {value}; expected {expected}, such as {_short(before)}")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else text[:57] + "..."


BUDGETS = ("tokens", "steps", "flops", "minutes")


def _one_budget(config: DictConfig, keys: list[str]) -> None:
    """The budget named last on the command line is the one; others that a preset or the defaults set step back."""
    named = [key.removeprefix("budget.") for key in keys if key.startswith("budget.")]
    if len(set(named)) == 1:
        for unit in BUDGETS:
            if unit != named[0]:
                config.budget[unit] = None


def check(config: DictConfig) -> None:
    """Raise a RequestError where this configuration cannot become a run. Builds the model without memory to see it."""
    import torch

    known = set(_default()) - {"hydra"} | {"choices", "overrides"}
    for key in config:
        if key not in known:
            raise RequestError(f"{key}: no such key in the configuration; there are {', '.join(sorted(known))}")
    resolved(config)
    set_budgets = {unit: config.budget.get(unit) for unit in BUDGETS if config.budget.get(unit) is not None}
    if len(set_budgets) != 1:
        raise RequestError(f"budget: {set_budgets or 'none'}; set exactly one of {', '.join(BUDGETS)}")
    unit, amount = next(iter(set_budgets.items()))
    if not _number(amount) or amount <= 0:
        raise RequestError(f"budget.{unit}: {amount}; a number over 0")
    _at_least(config, "batch.rows", 1)
    _at_least(config, "batch.accumulate", 1)
    _at_least(config, "trainer.devices", 1)
    _at_least(config, "trainer.nodes", 1)
    _at_least(config, "trainer.validations", 1)
    _at_least(config, "trainer.log_every", 1)
    _at_least(config, "split.max_bytes", 1)
    if not 0 < config.split.validation < 1:
        raise RequestError(f"split.validation: {config.split.validation}; a share of the documents, over 0 and under 1")
    parts = config.batch.accumulate * config.trainer.devices * config.trainer.nodes
    if config.batch.rows % parts:
        raise RequestError(
            f"batch.rows: {config.batch.rows}; must divide by batch.accumulate x trainer.devices x trainer.nodes = {parts}"
        )
    if config.trainer.strategy not in ("auto", "ddp", "fsdp"):
        raise RequestError(f"trainer.strategy: {config.trainer.strategy}; choose from auto, ddp, fsdp")
    if config.trainer.strategy == "auto" and config.trainer.devices * config.trainer.nodes > 1:
        raise RequestError(f"trainer.devices: {config.trainer.devices}; several devices take trainer=ddp or trainer=fsdp")
    if config.trainer.precision not in (32, "32", "bf16-mixed"):
        raise RequestError(f"trainer.precision: {config.trainer.precision}; choose from 32, bf16-mixed")
    if config.trainer.accelerator not in ("auto", "cpu", "cuda"):
        raise RequestError(f"trainer.accelerator: {config.trainer.accelerator}; choose from auto, cpu, cuda")
    if config.trainer.threads is not None:
        _at_least(config, "trainer.threads", 1)
    if not isinstance(config.seed, int) or config.seed < 0:
        raise RequestError(f"seed: {config.seed}; a whole number, 0 or more")
    if config.trainer.clip is not None and not (_number(config.trainer.clip) and config.trainer.clip > 0):
        raise RequestError(f"trainer.clip: {config.trainer.clip}; a norm over 0, or null for no clipping")
    if not config.optimizer.lr > 0:
        raise RequestError(f"optimizer.lr: {config.optimizer.lr}; a rate over 0")
    with torch.device("meta"):
        model = construct(config, "model.build", vocab_size=max(int(config.tokenizer.vocab_size), 1))
    construct(config, "init")
    construct(config, "schedule")
    construct(config, "packing")
    construct(config, "tokenizer")
    construct(config, "optimizer", params=list(model.parameters()))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _at_least(config: DictConfig, key: str, least: int) -> None:
    value = OmegaConf.select(config, key)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise RequestError(f"{key}: {value}; a whole number, at least {least}")


def resolved(config: DictConfig) -> dict:
    """The configuration as plain values, every interpolation followed, every `_target_` checked.

    Raises:
        RequestError: an interpolation that leads nowhere, or a class that may not be built.
    """
    try:
        plain: dict = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise RequestError(" ".join(str(error).split())) from None
    for key, value in flatten(plain).items():
        if key.endswith("_target_"):
            trusted(key, value)
    return plain


def trusted(key: str, path: Any) -> type:
    """The class that a `_target_` names, if it is one of the lab, `torch.nn` or `torch.optim`.

    Raises:
        RequestError: anything else, so that loading a configuration never runs what it brings.
    """
    refusal = RequestError(f"{key}: {path}; only classes defined in lab, torch.nn or torch.optim can be built")
    if not isinstance(path, str) or not path.startswith(TARGETS):
        raise refusal
    module_name, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError):
        raise RequestError(f"{key}: {path}; there is no such class") from None
    if not inspect.isclass(found) or not f"{found.__module__}.".startswith(TARGETS):
        raise refusal
    return found


def construct(config: DictConfig, key: str, **known: Any) -> Any:
    """Build the component at a key; what it is called with beyond its YAML comes as keywords.

    Raises:
        RequestError: the component refused its values, or does not take a key.
    """
    from hydra.utils import instantiate

    node = OmegaConf.select(config, key)
    for place, target in flatten(OmegaConf.to_container(node, resolve=True), key).items():
        if place.endswith("_target_"):
            trusted(place, target)
    try:
        made = instantiate(node, _convert_="all")
        return made(**known) if known else made
    except HydraException as error:
        cause = error.__cause__ or error
        raise RequestError(_say(key, cause)) from None
    except (ValueError, TypeError) as error:
        raise RequestError(_say(key, error)) from None


def _say(key: str, error: BaseException) -> str:
    """A component's complaint; what does not name a key of the configuration gets the component's."""
    text = " ".join(str(error).split())
    return text if text.split(":")[0].split("=")[0].split(".")[0] in (*groups(), "batch", "budget") else f"{key}: {text}"


def build(config: DictConfig, vocab_size: int | None = None) -> nn.Module:
    """The model of a configuration with its initial values, which depend on `seed` and each matrix's name and shape alone.

    Args:
        config: from `compose`.
        vocab_size: of the trained tokenizer; by default `tokenizer.vocab_size`.

    Raises:
        RequestError: a combination that cannot be built.
    """
    model = construct(config, "model.build", vocab_size=vocab_size or int(config.tokenizer.vocab_size))
    construct(config, "init")(model, seed=config.seed, layers=config.model.layers)
    return model


def identity(config: DictConfig | Mapping) -> str:
    """A name for a configuration, the same for its replicates: they differ in seed, name, folder or logger alone."""
    plain = resolved(config) if isinstance(config, DictConfig) else dict(config)
    kept = {k: v for k, v in plain.items() if k not in APART}
    kept["trainer"] = {k: v for k, v in kept["trainer"].items() if k != "threads"}
    return hashlib.blake2b(json.dumps(kept, sort_keys=True).encode(), digest_size=6).hexdigest()


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """A nested configuration as dotted keys and values."""
    return dict(_leaves(tree, prefix))


def _leaves(tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, DictConfig):
        tree = OmegaConf.to_container(tree, resolve=False)
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list) and any(isinstance(item, Mapping) for item in tree):
        for index, item in enumerate(tree):
            yield from _leaves(item, f"{prefix}.{index}")
    else:
        yield prefix, tree
