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
    """In evaluation mode, its weights kept in the layout that products with few rows want, its parts at hand; after the last
    as it was.
    """
    users, trained = _open.get(model, (0, model.training))
    _open[model] = users + 1, trained
    model.eval()
    if not users:
        _put_at_hand(model)
    try:
        with repeating(model.parameters()):
            yield
    finally:
        users, trained = _open.pop(model)
        if users > 1:
            _open[model] = users - 1, trained
        else:
            _put_away(model)
            model.train(trained)


def _put_at_hand(model: nn.Module) -> None:
    """Make parts and weights of each module plain attributes too. Torch finds them by a function that Python calls when nothing
    else is found, a hundred times for a token of four layers.
    """
    for module in model.modules():
        vars(module).update({**module._parameters, **module._buffers, **module._modules})


def _put_away(model: nn.Module) -> None:
    for module in model.modules():
        for name in (*module._parameters, *module._buffers, *module._modules):
            vars(module).pop(name, None)
