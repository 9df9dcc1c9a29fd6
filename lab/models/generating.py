"""The state of a model while it generates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from lab.parts.repeated import repeating


@contextmanager
def generating(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, its weights kept in the layout that products with few rows want; afterwards as it was."""
    was_training = model.training
    model.eval()
    try:
        with repeating(model.parameters()):
            yield
    finally:
        model.train(was_training)
