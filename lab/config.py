"""Composition and checking of configurations; the only place that knows Hydra's compose API.

A configuration that leaves here is complete and can be built: unknown groups, options and keys, values of another kind,
sizes that do not fit and classes from elsewhere are refused with one message that names the key.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import inspect
import json
import math
from collections.abc import Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from lab import overrides as words
from lab.errors import RequestError
from lab.families import check_families
from lab.options import conf_folder, flatten, groups
from lab.values import is_number, is_whole

if TYPE_CHECKING:
    from lab.models.model import Model

TARGETS = ("lab.", "torch.nn.", "torch.optim.")
"""Where a `_target_` may be defined."""

APART = ("seed", "name", "folder", "overrides", "logger")
"""Keys that do not make a configuration another one: runs that differ in these alone are replicates."""

BUDGETS = ("tokens", "steps", "flops", "minutes")
"""Units of a budget, of which a configuration sets one."""

SEEDS = 2**63
"""Seeds are under this number, as torch's are."""

COUNTS = (
    "batch.rows", "batch.accumulate", "tokenizer.vocab_size",
    "trainer.devices", "trainer.nodes", "trainer.validations", "trainer.log_every",
)  # fmt: skip
"""Keys that are whole numbers, 1 or more."""

NONE = ("model.segments",)
"""Sizes that may be 0."""

COUNTS_OR_NULL = ("split.max_bytes", "trainer.threads", "logger.pictures_every")
"""The same, or null."""

WORDS = {
    "trainer.strategy": ("auto", "ddp", "fsdp"),
    "trainer.accelerator": ("auto", "cpu", "cuda"),
    "trainer.precision": ("32", "bf16-mixed"),
    "logger.kind": ("wandb", "none"),
    "logger.mode": ("auto", "online", "offline"),
}
"""Keys that are one of these words."""


def compose(*overrides: str, trained: bool = True) -> DictConfig:
    """The complete configuration of one run.

    Args:
        overrides: as on the command line of `lab train`: `attention=gqa`, `model.dim=256`, `seed=3`.
        trained: check that it can be trained, too; else that its model can be built, which takes half of the time: nothing
            of Lightning is imported.

    Raises:
        RequestError: an override that Hydra's grammar cannot read, an unknown group, option or key, a value of another
            kind than the one it replaces, or a combination that cannot be built.
    """
    config, plain = _composed(list(overrides))
    _check_all(config, trained, plain)
    return config


def _composed(overrides: list[str]) -> tuple[DictConfig, DictConfig]:
    """The configuration of these overrides, and that of their options alone."""
    parsed = [words.parse(text) for text in overrides]
    for override in parsed:
        words.check(override)
    options = tuple(o.input_line for o in parsed if o.key_or_group in groups())
    values = [o for o in parsed if o.key_or_group not in groups()]
    plain = _of_options(options)
    config = copy.deepcopy(plain)
    for override in values:
        words.apply(config, override, plain)
    words.settle_inner(config)
    _one_budget(config, [o.key_or_group for o in values])
    OmegaConf.set_struct(config, False)
    config.overrides = overrides
    OmegaConf.set_struct(config, True)
    return config, plain


@cache
def _of_options(overrides: tuple[str, ...]) -> DictConfig:
    """The configuration that options alone give, before any value is set. Its files are read once a process."""
    config = _hydra(list(overrides))
    choices = {k: v for k, v in config.hydra.runtime.choices.items() if "/" not in k}
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    config.choices = dict(sorted(choices.items()))
    OmegaConf.set_struct(config, True)
    return config


def _hydra(overrides: list[str]) -> DictConfig:
    process = GlobalHydra.instance()
    # A job of a multirun composes inside a Hydra application.
    application, process.hydra = process.hydra, None
    try:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return hydra_compose("config", overrides=overrides, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(str(error.__cause__ or error)) from None
    except YAMLError as error:  # names the file and the line
        raise RequestError(f"an option's file is no YAML: {' '.join(str(error).split())}") from None
    finally:
        process.hydra = application


def hydra_settings(overrides: list[str]) -> DictConfig:
    """Hydra's own settings of a multirun, from overrides of `hydra.*` alone."""
    return _hydra(overrides).hydra


def _one_budget(config: DictConfig, keys: list[str]) -> None:
    """The budget named last on the command line is the one; others, of a preset or named before, step back."""
    kept: Any = OmegaConf.to_container(config.budget)
    named = [unit for key in keys for unit in BUDGETS if key == f"budget.{unit}" and kept[unit] is not None]
    for unit in BUDGETS:
        if named and unit != named[-1]:
            config.budget[unit] = None


def check(config: DictConfig, trained: bool = True) -> None:
    """Raise a RequestError where this configuration cannot become a run. Builds the model without memory to see it.

    Args:
        config: a configuration.
        trained: as for `compose`.
    """
    _check_all(config, trained, _of_options(()))


def _check_all(config: DictConfig, trained: bool, example: DictConfig) -> None:
    try:
        _check_keys(config, example)
        _check(config, trained)
    except (ConfigKeyError, ConfigAttributeError) as error:
        raise RequestError(f"{error.full_key}: is missing") from None


def _check_keys(config: DictConfig, example: DictConfig) -> None:
    """The keys at the top are those of any composition, an example of which is given."""
    expected: dict[str, Any] = {str(key): value for key, value in example.items()} | {"overrides": []}
    for key in {*map(str, config), *expected}:
        if key not in expected:
            raise RequestError(f"{key}: no such key in the configuration; there are {', '.join(sorted(expected))}")
        if key not in config:
            raise RequestError(f"{key}: is missing")
        if isinstance(expected[key], DictConfig) and not isinstance(config[key], DictConfig):
            raise RequestError(f"{key}: {config[key]}; expected keys of its own ({', '.join(map(str, expected[key]))})")


def _check(config: DictConfig, trained: bool) -> None:
    from lab.models.shapes import without_memory

    plain = resolved(config, () if trained else ("objective", "logger"))
    if not isinstance(config.start, str) or not config.start:
        raise RequestError(f"start: {config.start}; the folder of a run, or none")
    _check_budget(config)
    _at_least(config, "seed", 0)
    if config.seed >= SEEDS:
        raise RequestError(f"seed: {config.seed}; a whole number under 2^63")
    sizes = [f"model.{key}" for key, value in config.model.items() if type(value) is int]
    for key in (*COUNTS, *sizes):
        _at_least(config, key, 0 if key in NONE else 1)
    for key, accepted in WORDS.items():
        value = OmegaConf.select(config, key)
        if value is not None and value not in accepted:
            raise RequestError(f"{key}: {value}; choose from {', '.join(accepted)}")
    for key in COUNTS_OR_NULL:
        if OmegaConf.select(config, key) is not None:
            _at_least(config, key, 1)
    share = config.split.validation
    if not (is_number(share) and 0 < share < 1):
        raise RequestError(f"split.validation: {share}; a share of the documents, over 0 and under 1")
    if not (is_number(config.optimizer.lr) and 0 < config.optimizer.lr < math.inf):
        raise RequestError(f"optimizer.lr: {config.optimizer.lr}; a rate over 0")
    _check_trainer(config.trainer, config.batch)
    with without_memory():
        model = _construct(plain["model"]["build"], "model.build", vocab_size=config.tokenizer.vocab_size)
    if trained:
        _check_training(config, plain, model)


def _check_training(config: DictConfig, plain: dict[str, Any], model: Model) -> None:
    """What is around the model: data, objective, optimizer."""
    import torch

    from lab.data.split import Split
    from lab.optim.groups import parameter_groups

    made = {key: _construct(plain[key], key) for key in ("init", "schedule", "packing", "tokenizer", "data")}
    if "masking" in plain["objective"]:
        _construct(plain["objective"]["masking"], "objective.masking")
    Split(**plain["split"]).check(made["data"])
    kind = getattr(made["data"], "kind", "text")
    check_families(config, model, kind)
    position = getattr(model, "position", None)
    if kind == "text" and position is not None and position.distances and not made["packing"].measures:
        raise RequestError(
            f"packing: positions restart in each document while attention crosses them, so position={config.choices.position}"
            " would measure wrong distances; set packing.mask=true or packing.restart=false"
        )
    trained = model if list(model.parameters()) else torch.nn.Linear(1, 1)  # a head, if any
    _check_objective(plain["objective"], model)
    if config.trainer.strategy == "fsdp" and config.logger.get("pictures_every") is not None:
        raise RequestError("logger.pictures_every: of a model that is whole on a device; trainer=fsdp takes null")
    optimizer = _construct(plain["optimizer"], "optimizer", params=parameter_groups(trained))
    if config.trainer.strategy == "fsdp" and getattr(optimizer, "whole_matrices", False):
        raise RequestError(
            f"trainer.strategy: fsdp; optimizer={config.choices.optimizer} needs whole matrices, which trainer=ddp keeps"
        )


def _check_objective(values: dict[str, Any], model: Model) -> None:
    objective: Any = trusted("objective._target_", values["_target_"])
    try:
        objective.check(**{key: value for key, value in values.items() if not key.startswith("_")})
        objective.check_model(model)
    except ValueError as error:
        raise RequestError(_say("objective", error)) from None


def _check_budget(config: DictConfig) -> None:
    given = {unit: config.budget[unit] for unit in BUDGETS if config.budget[unit] is not None}
    if len(given) != 1:
        raise RequestError(f"budget: {given or 'none'}; set exactly one of {', '.join(BUDGETS)}")
    for unit, amount in given.items():
        least = 0 if unit == "steps" else math.ulp(0.0)
        if not is_number(amount) or not least <= amount < math.inf:
            over = "0 or more; 0 judges what the run starts with" if unit == "steps" else "over 0"
            raise RequestError(f"budget.{unit}: {amount}; a number {over}")


def _check_trainer(trainer: DictConfig, batch: DictConfig) -> None:
    devices = trainer.devices * trainer.nodes
    if batch.rows % (batch.accumulate * devices):
        raise RequestError(
            f"batch.rows: {batch.rows}; must divide by batch.accumulate x trainer.devices x trainer.nodes"
            f" = {batch.accumulate * devices}"
        )
    if trainer.strategy == "auto" and devices > 1:
        key = "devices" if trainer.devices > 1 else "nodes"
        raise RequestError(f"trainer.{key}: {trainer[key]}; several devices take trainer=ddp or trainer=fsdp")
    if trainer.clip is not None and not (is_number(trainer.clip) and trainer.clip > 0):
        raise RequestError(f"trainer.clip: {trainer.clip}; a norm over 0, or null for no clipping")
    if not (is_number(trainer.checkpoint_minutes) and trainer.checkpoint_minutes >= 0):
        raise RequestError(f"trainer.checkpoint_minutes: {trainer.checkpoint_minutes}; a number, 0 or more")


def _at_least(config: DictConfig, key: str, least: int) -> None:
    value = OmegaConf.select(config, key)
    if not is_whole(value) or value < least:
        raise RequestError(f"{key}: {value}; a whole number, at least {least}")


def resolved(config: DictConfig, unchecked: tuple[str, ...] = ()) -> dict:
    """The configuration as plain values, every interpolation followed, every `_target_` checked.

    Args:
        config: a configuration.
        unchecked: groups whose classes are not looked up; building one looks it up again.

    Raises:
        RequestError: an interpolation that leads nowhere, or a class that may not be built.
    """
    try:
        plain: dict = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise RequestError(f"{error.full_key}: {str(error).splitlines()[0]}") from None
    for key, value in flatten(plain).items():
        if key.endswith("_target_") and key.split(".")[0] not in unchecked:
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
    # Plain values: in a DictConfig, Hydra would resolve the references for good.
    return _construct(OmegaConf.to_container(OmegaConf.select(config, key), resolve=True), key, **known)


def _construct(call: Any, key: str, **known: Any) -> Any:
    try:
        made = _made(call, key)
        return made(**known) if known else made
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, OSError) as error:
        raise RequestError(_say(key, error)) from error


def _made(call: Any, key: str) -> Any:
    """What a constructor call and those within it make: an object, or with `_partial_` what makes it when it is called.

    In place of Hydra's `instantiate`, which goes through its own representation and checks again at every call.
    """
    if isinstance(call, list):
        return [_made(each, f"{key}.{index}") for index, each in enumerate(call)]
    if not isinstance(call, Mapping):
        return call
    values = {
        name: _made(each, f"{key}.{name}") for name, each in call.items() if name not in ("_target_", "_partial_")
    }
    if "_target_" not in call:
        return values
    made = trusted(f"{key}._target_", call["_target_"])
    if call.get("_partial_"):
        return partial(made, **values)
    try:
        return made(**values)
    except ValueError as error:  # a part of the model says the key of its group
        raise ValueError(_say(key.removeprefix("model.build."), error)) from error


def _say(key: str, error: BaseException) -> str:
    """A component's complaint; what does not name a key of the configuration gets the component's."""
    text = str(error).partition("\nException raised from ")[0]  # torch's own, with its stack
    return (
        text if text.split(":")[0].split("=")[0].split(".")[0] in (*groups(), "batch", "budget") else f"{key}: {text}"
    )


def build(config: DictConfig, vocab_size: int | None = None) -> Model:
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


def meta_model(config: DictConfig, vocab_size: int | None = None) -> Model:
    """The model of a configuration without memory: its shapes and what it costs. Arguments and errors as `build`."""
    from lab.models.shapes import without_memory

    with without_memory():
        model = construct(config, "model.build", vocab_size=vocab_size or int(config.tokenizer.vocab_size))
        construct(config, "init").multiply(model)
        return model


def identity(config: DictConfig | Mapping) -> str:
    """A name for a configuration, the same for its replicates: they differ in seed, name, folder or logger alone."""
    plain = resolved(config) if isinstance(config, DictConfig) else dict(config)
    kept = {k: v for k, v in plain.items() if k not in APART}
    kept["choices"] = {k: v for k, v in kept["choices"].items() if k != "logger"}
    kept["trainer"] = {k: v for k, v in kept["trainer"].items() if k != "threads"}
    return hashlib.blake2b(json.dumps(kept, sort_keys=True).encode(), digest_size=6).hexdigest()
