"""In which words two configurations differ, for a run that goes on from another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lab.config import compose, resolved
from lab.errors import RequestError
from lab.options import flatten, groups


def unlike(config: DictConfig, other: DictConfig, keys: Sequence[str]) -> list[str]:
    """The words that would make a configuration what the other is at these keys and at all that they refer to.

    Options first, then values. The other's preset is one of them where that leaves fewer to write.
    """
    words = _words(config, other, keys)
    if len(words) > 1 and other.choices.preset != config.choices.preset:
        preset = f"preset={other.choices.preset}"
        typed = [word for word in config.overrides if not word.startswith("preset=")]
        with suppress(RequestError):  # what was typed may not go with that preset
            fewer = [preset, *_words(compose(*typed, preset), other, keys)]
            words = min(words, fewer, key=len)
    return words


def _words(config: DictConfig, other: DictConfig, keys: Sequence[str]) -> list[str]:
    mine, theirs = resolved(config), resolved(other)
    places = _reached(config, keys)
    chosen = [place for place in places if config.choices.get(place) != other.choices.get(place)]
    words = [f"{group}={other.choices[group]}" for group in chosen if group in other.choices]
    inside = tuple(f"{group}." for group in chosen if group != "model")
    words += [word for word in other.overrides if word.startswith(inside) and word not in config.overrides]
    return words + list(_values(config, mine, theirs, places))


def _values(config: DictConfig, mine: dict, theirs: dict, places: Sequence[str]) -> Iterator[str]:
    """Values that differ and are set where they stand: neither by another option nor by reference to another key."""
    written = flatten(OmegaConf.to_container(config))
    here, there = flatten(mine), flatten(theirs)
    for key, value in written.items():
        inside = any(key == place or key.startswith(f"{place}.") for place in places)
        group = key.partition(".")[0]
        same_option = group == "model" or mine["choices"].get(group) == theirs["choices"].get(group)
        refers = "${" in str(value)
        if inside and same_option and not refers and key in there and here[key] != there[key]:
            yield f"{key}={_written(there[key])}"


def _reached(config: DictConfig, keys: Sequence[str]) -> list[str]:
    """The keys, and the groups that they refer to, directly or through others."""
    reached = list(keys)
    for key in reached:
        tree = OmegaConf.select(OmegaConf.create(OmegaConf.to_container(config)), key)
        text = str(OmegaConf.to_container(tree)) if isinstance(tree, DictConfig) else str(tree)
        found = dict.fromkeys(re.findall(r"\$\{(\w+)", text))
        reached += [group for group in found if group in groups() and group not in (*reached, "model")]
    return reached


def _written(value: Any) -> str:
    """A value as Hydra reads it."""
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
