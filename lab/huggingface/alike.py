"""Whether two models compute the same function of their parameters, seen from how they are built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from lab.parts.activation import Activation, Gate

APART = (
    "training",
    "dropout",
    "p",
    "jitter",
    "capacity",
    "auxiliary",
    "context",
    "layer",
    "outputs",
    "vocab_size",
    "rotates",
)
"""Settings that act while training alone, or that others follow from."""

TRAINING_ALONE = ("balance", "dropout")
"""Modules that act while training alone."""


def differences(one: nn.Module, other: nn.Module) -> list[tuple[str, str]]:
    """Where two models differ in parts, settings or shapes: the path of a module, and what either has."""
    ours, theirs = _modules(one), _modules(other)
    found: dict[str, str] = {}
    for path in [*ours, *(path for path in theirs if path not in ours)]:
        if any(path.startswith(f"{above}.") for above in found):
            continue
        words = _unlike(ours.get(path), theirs.get(path))
        if words:
            found[path] = words
    return list(found.items())


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
    if one is None or other is None or _kind(one) is not _kind(other):
        mine, others = ("nothing" if part is None else type(part).__name__ for part in (one, other))
        return f"{mine} here, {others} there"
    having, wanted = _settings(one), _settings(other)
    for name in sorted(having.keys() | wanted.keys()):
        if having.get(name) != wanted.get(name):
            return f"{name} {_say(having.get(name))} here, {_say(wanted.get(name))} there"
    return None


def _kind(part: Any) -> type:
    """The class that says what is computed: one that only checks its arguments, or names a setting, is its base."""
    kind = type(part)
    while not any((callable(v) or isinstance(v, property)) and name != "__init__" for name, v in vars(kind).items()):
        if kind.__bases__[0] in (object, nn.Module):
            break
        kind = kind.__bases__[0]
    return kind


def _settings(part: Any) -> dict[str, Any]:
    """Plain values of a part, and the shapes of its tensors."""
    plain = (bool, int, float, str, Sequence, Mapping, Activation, Gate, type(None))
    values = {
        name: value
        for name, value in vars(part).items()
        if isinstance(value, plain) and not name.startswith("_") and name not in APART
    }
    if isinstance(part, nn.Module):
        values |= {name: tuple(tensor.shape) for name, tensor in part.named_parameters(recurse=False)}
    return values


def _say(value: Any) -> str:
    return "none" if value is None else f"{value}"[:60]
