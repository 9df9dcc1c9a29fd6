"""What conf/ offers: groups, their options, and the keys of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf


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


def option_keys(group: str, option: str) -> list[str]:
    """The dotted keys of one option's file."""
    return list(flatten(OmegaConf.load(conf_folder() / group / f"{option}.yaml")))


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """A nested configuration as dotted keys and values."""
    return dict(_leaves(tree, prefix))


def _leaves(tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, DictConfig):
        tree = OmegaConf.to_container(tree, resolve=False)
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list) and any(isinstance(item, Mapping | list) for item in tree):
        for index, item in enumerate(tree):
            yield from _leaves(item, f"{prefix}.{index}")
    else:
        yield prefix, tree
