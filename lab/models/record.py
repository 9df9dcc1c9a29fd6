"""What happens inside a model: outputs of named places while it computes, for any family. Costs nothing when off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn


class Seen(Mapping[str, Any]):
    """What was recorded. `seen[place]` is the output of the last pass, `seen.passes[place]` those of all, first to last."""

    def __init__(self) -> None:
        self.passes: dict[str, list[Any]] = {}

    def __getitem__(self, place: str) -> Any:
        return self.passes[place][-1]

    def __iter__(self) -> Iterator[str]:
        return iter(self.passes)

    def __len__(self) -> int:
        return len(self.passes)


@contextmanager
def record(model: nn.Module, *patterns: str) -> Iterator[Seen]:
    """Record what leaves the modules of a model while it computes.

        with lab.record(model, "attention.weights", "blocks.0") as seen:
            model(tokens)
        seen["blocks.1.attention.weights"]  # [batch, heads, queries, keys]

    Among the places are `embedding`, `blocks.N` (the stream after a block), `blocks.N.attention.weights` (computed
    explicitly while recorded; the output is the fused one's but for rounding), `blocks.N.ffn.router` (a `Routing`) and `norm`;
    in two stacks the same under `encoder` and `decoder`, and `decoder.blocks.N.cross.weights`; of recurrent layers
    `recurrence.layers.N`, and in a translator that looks at its source `looks.weights`.

    Args:
        model: of any family.
        patterns: names of modules, whole or from a dot on, with `*` for anything; all modules by default.

    Raises:
        ValueError: a pattern that no module has.
    """
    names = [name for name, _ in model.named_modules() if name]
    wanted = {pattern: [name for name in names if _fits(name, pattern)] for pattern in patterns or ("*",)}
    for pattern, found in wanted.items():
        if not found:
            raise ValueError(f"{pattern}: no such place; there are {', '.join(names)}")
    seen = Seen()
    modules = dict(model.named_modules())
    with ExitStack() as hooks:
        for name in sorted({name for found in wanted.values() for name in found}, key=names.index):
            hooks.callback(modules[name].register_forward_hook(_keeper(seen, name)).remove)
        yield seen


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def _keeper(seen: Seen, name: str) -> Any:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        seen.passes.setdefault(name, []).append(_detached(output))

    return keep


def _detached(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.detach()
    if isinstance(output, tuple | list):
        return type(output)(_detached(item) for item in output)
    if is_dataclass(output) and not isinstance(output, type):
        return replace(output, **{field.name: _detached(getattr(output, field.name)) for field in fields(output)})
    return output
