"""Stochastic gradient descent with momentum (Polyak 1964; Nesterov 1983, in the form of Sutskever et al. 2013)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from lab.optim.values import above_zero, at_least_zero, shares


class SGD(torch.optim.SGD):
    """Torch's SGD. Weight decay is added to the gradient, as is usual for it.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        momentum: share of the last step's direction that is kept.
        nesterov: look ahead along the momentum.
        weight_decay: share of a parameter that is added to its gradient.
        settings: torch's own, as `fused`.

    Raises:
        ValueError: a value out of range, or `nesterov` without momentum.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 0.5,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        **settings,
    ) -> None:
        above_zero(lr=lr)
        shares(momentum=momentum)
        at_least_zero(weight_decay=weight_decay)
        if nesterov and momentum == 0:
            raise ValueError("optimizer.nesterov: true; takes optimizer.momentum over 0")
        super().__init__(params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, **settings)

    @property
    def takes_sparse(self) -> bool:
        """Gradients of tables may be sparse: what moves a row is its gradient alone."""
        groups = self.param_groups
        return not any(group[key] for group in groups for key in ("momentum", "weight_decay", "fused"))

    @staticmethod
    def width_rate(role: str, width: float) -> float:
        """Under muP (Yang and Hu 2022, Table 8): gradients of hidden matrices keep their size, all others' fall with width."""
        return 1.0 if role == "hidden" else width
