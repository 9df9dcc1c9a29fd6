"""The state of a model while it generates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from torch import nn

from lab.parts.repeated import repeating

_open: WeakKeyDictionary[nn.Module, tuple[int, bool]] = WeakKeyDictionary()
"""How many generate with a model, and whether it was in training mode before the first."""


@contextmanager
def generating(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, its weights kept in the layout that products with few rows want; after the last as it was."""
    users, trained = _open.get(model, (0, model.training))
    _open[model] = users + 1, trained
    model.eval()
    try:
        with repeating(model.parameters()):
            yield
    finally:
        users, trained = _open.pop(model)
        if users > 1:
            _open[model] = users - 1, trained
        else:
            model.train(trained)
