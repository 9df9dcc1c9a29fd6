"""What of a composition the model reads: a group or a size that nothing refers to changes nothing, whatever is chosen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lab.console import say
from lab.errors import RequestError
from lab.options import flatten

PARTS = ("alignment", "attention", "block", "cell", "embedding", "expert", "ffn", "norm", "pattern", "position")
"""Groups that are built only where another refers to them."""

BY_NAME = ("build", "context", "layers", "special")
"""Keys of a model that are read by their names too, not by references alone."""

REFERENCE = re.compile(r"\$\{(\w+)(?:\.(\w+))?")


def unread(config: DictConfig) -> set[str]:
    """The parts and the sizes of a model that nothing in a composition refers to: `expert`, `model.window`."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    sizes = {f"model.{key}" for key in plain["model"] if key not in BY_NAME}
    roots = {key: value for key, value in plain.items() if key not in (*PARTS, "model")}
    read: set[str] = set()
    waiting = list(_references([roots, {key: plain["model"][key] for key in BY_NAME}]))
    while waiting:
        key = waiting.pop()
        if key not in read:
            read.add(key)
            group, _, inside = key.partition(".")
            if group in PARTS or group == "model":
                waiting += _references(plain[group].get(inside) if inside else plain[group])
    return {*PARTS, *sizes} - read


def without_effect(configs: Iterable[DictConfig]) -> list[str]:
    """Keys that overrides set and that change nothing in any of the configurations which set them.

    Args:
        configs: from `lab.compose`, each with its `overrides`.
    """
    idle: dict[str, bool] = {}
    for config in configs:
        nothing = unread(config)
        for word in config.overrides:
            key = word.lstrip("+").partition("=")[0]
            group = key.partition(".")[0]
            idle[key] = idle.get(key, True) and (key in nothing or (group in PARTS and group in nothing))
    return [key for key, always in idle.items() if always]


def say_without_effect(configs: Iterable[DictConfig]) -> None:
    """Tell a person what they set for nothing."""
    for key in without_effect(configs):
        say(f"{key}: changes nothing here; no part that is built reads it")


def chosen(config: DictConfig) -> dict[str, str]:
    """The option of each group that has a say in this composition."""
    if not REFERENCE.search(OmegaConf.to_yaml(config)):  # of a run, whose references have been followed
        from lab.config import compose

        try:
            config = compose(*config.overrides)
        except RequestError:  # its options have changed since
            return dict(config.choices)
    nothing = unread(config)
    return {group: option for group, option in config.choices.items() if group not in nothing}


def _references(tree: Any) -> Iterator[str]:
    """What a tree refers to, by group, or group and key: `norm`, `model.dim`."""
    for value in flatten({"": tree}).values():
        for text in value if isinstance(value, list) else [value]:
            for group, inside in REFERENCE.findall(text) if isinstance(text, str) else ():
                yield f"{group}.{inside}" if group == "model" else group
