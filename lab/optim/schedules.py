"""The learning rate over a run, as a share of its peak `optimizer.lr`.

A schedule sees progress alone: the share of the budget spent when the step is done, over 0 up to 1. So it follows a budget
in tokens, steps, FLOPs or minutes alike, and swapping schedules never moves the peak.
"""

from __future__ import annotations

import math


class Constant:
    """The peak rate throughout."""

    def __call__(self, progress: float) -> float:
        """Share of the peak rate."""
        return 1.0


class Warmup:
    """A linear rise to the peak over the first `warmup` of the budget; what follows is the subclass's."""

    def __init__(self, warmup: float) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f"schedule.warmup: {warmup}; a share of the budget, from 0 to under 1")
        self.warmup = warmup

    def __call__(self, progress: float) -> float:
        """Share of the peak rate."""
        if progress < self.warmup:
            return progress / self.warmup
        return self.after(progress)

    def after(self, progress: float) -> float:
        """Share of the peak rate once warm."""
        raise NotImplementedError


class WarmupCosine(Warmup):
    """After the warm-up half a cosine down to `final` (Loshchilov and Hutter 2017; GPT-3)."""

    def __init__(self, warmup: float = 0.1, final: float = 0.1) -> None:
        super().__init__(warmup)
        if not 0 <= final <= 1:
            raise ValueError(f"schedule.final: {final}; a share of the peak rate, from 0 to 1")
        self.final = final

    def after(self, progress: float) -> float:
        """The cosine."""
        share = min((progress - self.warmup) / (1 - self.warmup), 1.0)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * share)) / 2


class Noam(Warmup):
    """After the warm-up the inverse square root (Vaswani et al. 2017, equation 3).

    The paper's peak is `dim^-0.5 * warmup_steps^-0.5`; here it is `optimizer.lr`.
    """

    def __init__(self, warmup: float = 0.1) -> None:
        super().__init__(warmup)
        if warmup == 0:
            raise ValueError("schedule.warmup: 0; the inverse square root starts from a warm-up, choose a share over 0")

    def after(self, progress: float) -> float:
        """The inverse square root."""
        return math.sqrt(self.warmup / progress)
