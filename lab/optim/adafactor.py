"""Adafactor: Adam's second moment by rows and columns, steps relative to the parameter (Shazeer and Stern 2018)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from lab.optim.values import above_zero, at_least_zero
from lab.values import is_number


class Adafactor(torch.optim.Adafactor):
    """Torch's Adafactor: no first moment, and of the second one number a row and one a column of each weight as it is stored,
    so merged projections share the columns'.

    Args:
        params: parameters, or groups of them.
        lr: the largest step relative to the root mean square of a parameter; under it `1 / sqrt(steps done)`.
        beta2_decay: the second moment's decay rate is `1 - step^beta2_decay`.
        eps: added to the second moment, null for the smallest number of the kind; and the least size that a parameter is taken
            to have.
        d: a step's root mean square is clipped to it before it is scaled.
        weight_decay: share of a parameter that a step takes, times `lr`.
        settings: torch's own, as `foreach`.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 0.08,
        beta2_decay: float = -0.8,
        eps: Sequence[float | None] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        **settings,
    ) -> None:
        above_zero(lr=lr)
        at_least_zero(weight_decay=weight_decay)
        if not beta2_decay <= 0:
            raise ValueError(f"optimizer.beta2_decay: {beta2_decay}; a number, 0 or less")
        if not d >= 1:
            raise ValueError(f"optimizer.d: {d}; a number, 1 or more")
        if (
            not isinstance(eps, Sequence)
            or len(eps) != 2
            or eps[1] is None
            or not all(e is None or (is_number(e) and e >= 0) for e in eps)
        ):
            raise ValueError(f"optimizer.eps: {eps}; two numbers, 0 or more, the first may be null")
        super().__init__(
            params, lr=lr, beta2_decay=beta2_decay, eps=(eps[0], eps[1]), d=d, weight_decay=weight_decay, **settings
        )

    def step(self, closure=None):
        """Torch takes the lesser of the rate and `1 / sqrt(steps)`; a rate by width is a share of both."""
        kept = [(group["lr"], group["weight_decay"]) for group in self.param_groups]
        for group in self.param_groups:
            rate, lr = group.get("rate", 1.0), group["lr"]
            done = next((float(self.state[p]["step"]) for p in group["params"] if "step" in self.state.get(p, {})), 0.0)
            if rate < 1 and (largest := rate * (done + 1) ** -0.5) < lr:
                group["lr"] = largest
                group["weight_decay"] *= lr / largest  # which goes by the rate alone
        try:
            return super().step(closure)
        finally:
            for group, (lr, decay) in zip(self.param_groups, kept, strict=True):
                group["lr"], group["weight_decay"] = lr, decay

    @staticmethod
    def width_rate(role: str, width: float) -> float:
        """Under muP: steps follow the size of the parameter, which for a hidden matrix is `1 / sqrt(inputs)` already; the
        rest of Adam's `1 / inputs` (Yang and Hu 2022, Table 8) is left to the rate. Of matrices narrower than the base,
        `1 / sqrt(steps)` limits the step as it does at the base.
        """
        return width**-0.5 if role == "hidden" else 1.0
