"""A function that brings its own gradient."""

from __future__ import annotations

from typing import Any

import torch


class Function(torch.autograd.Function):
    """As torch's, called by `run`: where no gradient is recorded, that spares the time recording takes, which is a good part of
    a step that generates one token.
    """

    @classmethod
    def run(cls, *arguments: Any) -> Any:
        """What `forward` gives, and a place in the graph if there is one."""
        return cls.apply(*arguments) if torch.is_grad_enabled() else cls.forward(_Unrecorded(), *arguments)


class _Unrecorded:
    """Stands for the context of a call of which nothing is kept."""

    def save_for_backward(self, *tensors: Any) -> None:
        """Nothing."""
