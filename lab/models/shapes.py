"""Models without memory: shapes alone, on the meta device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

DRAWS = {
    torch.Tensor.normal_, torch.Tensor.uniform_,
    nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, nn.init.constant_,
}  # fmt: skip


class _NoDraws(TorchFunctionMode):
    """Leaves out random values, which a tensor without memory has none of: torch would import its compiler to draw them."""

    def __torch_function__(self, function: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in DRAWS:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


@contextmanager
def without_memory() -> Iterator[None]:
    """What is built inside has shapes and no values: 405 billion parameters in a second."""
    with torch.device("meta"), _NoDraws():
        yield
