"""Adam with decoupled weight decay (Kingma and Ba 2015; Loshchilov and Hutter 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from lab.optim.groups import adam_rate
from lab.optim.values import above_zero, at_least_zero, pair_of_shares


class AdamW(torch.optim.AdamW):
    """Torch's AdamW, whose rates under muP are those of Adam's type.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        betas: decay rates of the running means of the gradient and of its square.
        eps: added to the root of the mean square.
        weight_decay: share of a parameter that a step takes, times `lr`.
        settings: torch's own, as `fused`.

    Raises:
        ValueError: a value out of range.
    """

    width_rate = staticmethod(adam_rate)

    def __init__(
        self,
        params: Iterable,
        lr: float = 0.002,
        betas: Sequence[float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        **settings,
    ) -> None:
        above_zero(lr=lr)
        at_least_zero(eps=eps, weight_decay=weight_decay)
        super().__init__(params, lr=lr, betas=pair_of_shares(betas), eps=eps, weight_decay=weight_decay, **settings)
