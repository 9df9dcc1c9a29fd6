"""Whether two models compute the same function of their parameters, seen from how they are built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

APART = ("training", "dropout", "p", "jitter", "capacity", "auxiliary", "context", "layer", "outputs", "vocab_size", "rotates")
"""Settings that act while training alone, or that others follow from."""

TRAINING_ALONE = ("balance", "dropout")
"""Modules that act while training alone."""


def differences(one: nn.Module, other: nn.Module) -> list[str]:
    """Where two models differ in parts, settings or shapes: `PATH: what the one has, what the other has`; once for all layers."""
    ours, theirs = _modules(one), _modules(other)
    found: dict[str, str] = {}
    for path in [*ours, *(path for path in theirs if path not in ours)]:
        if any(path.startswith(f"{above}.") for above in found):
            continue
        words = _unlike(ours.get(path), theirs.get(path))
        if words:
            found[path] = words
    return [f"{path or 'model'}: {words}" for path, words in found.items()]


def _modules(model: nn.Module) -> dict[str, Any]:
    """Modules and what else is a part, by path."""
    found: dict[str, Any] = {}
    for path, module in model.named_modules():
        if not any(part in TRAINING_ALONE for part in path.split(".")):
            found[path] = module
            if hasattr(module, "visibility"):
                found[f"{path}.visibility"] = module.visibility
    return found


def _unlike(one: Any, other: Any) -> str | None:
    if one is None or other is None:
        return f"{'none' if one is None else _kind(one).__name__} here, {'none' if other is None else _kind(other).__name__} there"
    if _kind(one) is not _kind(other):
        return f"{_kind(one).__name__} here, {_kind(other).__name__} there"
    mine, others = _settings(one), _settings(other)
    for name in sorted(mine.keys() | others.keys()):
        if mine.get(name) != others.get(name):
            return f"{name} {_say(mine.get(name))} here, {_say(others.get(name))} there"
    return None


def _kind(part: Any) -> type:
    """The class that says what is computed: one that only checks its arguments, or names a setting, is its base."""
    kind = type(part)
    while kind.__bases__ and not any(callable(value) and name != "__init__" for name, value in vars(kind).items()):
        if kind.__bases__[0] in (object, nn.Module):
            break
        kind = kind.__bases__[0]
    return kind


def _settings(part: Any) -> dict[str, Any]:
    """Plain values of a part, and the shapes of its tensors."""
    values = {
        name: value
        for name, value in vars(part).items()
        if not name.startswith("_") and name not in APART and not isinstance(value, nn.Module)
        and (value is None or isinstance(value, bool | int | float | str | Callable) or _plain(value))  # type: ignore[arg-type]
    }  # fmt: skip
    if isinstance(part, nn.Module):
        values |= {name: tuple(tensor.shape) for name, tensor in part.named_parameters(recurse=False)}
    return values


def _plain(value: Any) -> bool:
    return isinstance(value, Sequence | Mapping)


def _say(value: Any) -> str:
    return "none" if value is None else f"{value}"[:60]
