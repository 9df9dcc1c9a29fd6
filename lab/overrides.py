"""What a word on the command line may say: one override, read, checked and applied."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from lab.errors import RequestError
from lab.options import flatten, groups, option_keys
from lab.values import is_number
from lab.words import quoted

TEXTS = ("name", "folder")
"""Keys that are text, null as they stand."""

PLAIN_TEXT = re.compile(r"([A-Za-z_][\w.]*)=([^\s\[{'\",][^,]*)")
"""A key, and a text after it that is no list, mapping, quotation or several values."""

MULTIPLE = re.compile(r"\d+(\.\d+)?x")
"""What `model.inner` may be in place of a number."""

OR_NULL = (
    "budget.tokens", "budget.steps", "budget.flops", "budget.minutes", "split.max_bytes", "trainer.clip",
    "objective.translated",
)  # fmt: skip
"""Keys that hold a value as they stand and take null. Others take it only where it is what they hold."""


def parse(text: str, exactly: bool = False) -> Override:
    """One override as Hydra's grammar reads it; a value with signs that the grammar has no place for, as in a path, is the
    text that stands there.

    Args:
        text: the override.
        exactly: by the grammar alone.

    Raises:
        RequestError: it is none.
    """
    override = _read(text)
    if override is None and not exactly and (plain := PLAIN_TEXT.fullmatch(text)):
        override = _read(f"{plain[1]}={quoted(plain[2])}")
    if override is None or not override.key_or_group:
        raise RequestError(
            f"{text}: not an override; write KEY=VALUE or GROUP=OPTION, as in attention=gqa or model.dim=256"
        )
    return override


def _read(text: str) -> Override | None:
    try:
        return _parser().parse_override(text)
    except HydraException:
        return None


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def check(override: Override) -> None:
    """Refuse what Hydra would accept and misread, or refuse in words that mislead.

    Raises:
        RequestError: an option that its group does not have, or anything but one value for one key.
    """
    key, text = override.key_or_group, override.input_line
    known = groups()
    if override.is_sweep_override():
        raise RequestError(f"{text}: several values for one run; use `lab train -m` or a sweep file")
    if override.is_delete():
        raise RequestError(f"{text}: nothing can be taken out of a configuration; choose another option instead")
    if key in known:
        value = override.value()
        if override.is_add() or override.is_force_add() or override.package is not None:
            raise RequestError(f"{text}: a group is chosen with {key}=OPTION; options: {', '.join(known[key])}")
        if not isinstance(value, str) or value not in known[key]:
            mixed = "; a mixed layout is an option of its own, a file in its folder" if isinstance(value, list) else ""
            raise RequestError(f"{text}: no such option; {key} is one of {', '.join(known[key])}{mixed}")
    elif key.startswith("hydra"):
        raise RequestError(f"{text}: Hydra's own settings are for `lab train -m`; the folder of one run is folder=PATH")
    elif override.package is not None:
        raise RequestError(f"{text}: no such group; there are {', '.join(known)}")


def settle_inner(config: DictConfig) -> None:
    """Make a number of a `model.inner` such as `4x`, four times the width of the model.

    Raises:
        RequestError: the width is a reference that leads nowhere.
    """
    model = config.model
    if "inner" not in model or OmegaConf.is_interpolation(model, "inner") or not isinstance(model.inner, str):
        return
    try:
        model.inner = round(float(model.inner.removesuffix("x")) * model.dim)
    except OmegaConfBaseException as error:
        raise RequestError(f"{error.full_key}: {str(error).splitlines()[0]}") from None


def apply(config: DictConfig, override: Override, plain: DictConfig) -> None:
    """Set one value, of the kind that it has in the plain configuration.

    A new key, `+KEY=VALUE`, is for a component alone, whose constructor says whether it takes it.

    Raises:
        RequestError: there is no such key, or the value is of another kind.
    """
    key, value = override.key_or_group, override.value()
    added = override.is_add() or override.is_force_add()
    if key.partition(".")[0] == "choices" or (added and not _in_component(config, key)):
        raise _no_such_key(config, key)
    try:
        value = _same_kind(key, value, OmegaConf.select(plain, key))
        OmegaConf.update(config, key, value, merge=True, force_add=added)
    except (ConfigKeyError, ConfigAttributeError) as error:
        raise _no_such_key(config, str(error.full_key) if isinstance(value, Mapping) else key) from None
    except OmegaConfBaseException as error:
        raise RequestError(f"{override.input_line}: {error}") from None


def _in_component(config: DictConfig, key: str) -> bool:
    """Whether a key lies in a constructor call, or exists."""
    parts = key.split(".")
    above = [OmegaConf.select(config, ".".join(parts[:n])) for n in range(1, len(parts))]
    return OmegaConf.select(config, key) is not None or any(
        isinstance(n, DictConfig) and "_target_" in n for n in above
    )


def _no_such_key(config: DictConfig, key: str) -> RequestError:
    """The error that says where the key is instead: in another option, at another place, with another spelling."""
    group, _, inside = key.partition(".")
    having = [f"{group}={option}" for option in groups().get(group, ()) if inside in option_keys(group, option)]
    if having:
        return RequestError(
            f"{key}: {group}={config.choices[group]} has no such key; it belongs to {', '.join(having)}"
        )
    known = [*flatten({k: v for k, v in config.items() if k != "choices"}), *groups()]
    same = [k for k in known if key.endswith(f".{k}") or k.endswith(f".{key}")]
    near = same or difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`lab train --cfg job` lists all"
    return RequestError(f"{key}: no such key in the configuration; {hint}")


def _same_kind(key: str, value: Any, before: Any) -> Any:
    """The value as the kind that it replaces: a number stays a number, `1` is `1.0` where a share or a rate is asked for.

    Raises:
        RequestError: it is of another kind.
    """
    expected: str | None
    if key == "model.inner" and isinstance(value, str) and "${" not in value:
        if MULTIPLE.fullmatch(value):
            return value
        expected = "a whole number, or 4x for four times model.dim"
    elif value is None and before is not None and key not in OR_NULL:
        expected = "a value"
    elif key in TEXTS or isinstance(before, str):
        if isinstance(value, int | float):
            return str(value)
        expected = "a word" if isinstance(value, list | Mapping) else None
    elif isinstance(value, float) and not math.isfinite(value):
        expected = "a finite number"
    elif before is None and key in OR_NULL and isinstance(value, float) and value.is_integer():
        return int(value)  # 1e6 tokens are 1000000, and the same configuration
    elif before is None or value is None or (isinstance(value, str) and "${" in value):
        return value
    elif isinstance(before, bool):
        expected = None if isinstance(value, bool) else "true or false"
    elif isinstance(before, int):
        if is_number(value) and float(value).is_integer():
            return int(value)
        expected = "a whole number"
    elif isinstance(before, float):
        if is_number(value):
            return float(value)
        expected = "a number"
    elif isinstance(before, DictConfig):
        expected = None if isinstance(value, Mapping) else f"keys of its own ({', '.join(map(str, before))})"
    else:
        expected = None if isinstance(value, list) else "a list"
    if expected:
        example = "" if before is None or isinstance(before, DictConfig) else f", such as {short(before)}"
        raise RequestError(f"{key}: {'null' if value is None else value}; expected {expected}{example}")
    return value


def short(value: Any) -> str:
    """A value in a message."""
    text = str(value)
    return text if len(text) < 60 else text[:57] + "..."
