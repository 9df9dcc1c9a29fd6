"""The learning rate over a run, as a share of its peak `optimizer.lr`.

A schedule sees progress alone: the share of the budget spent when the step is done, over 0 up to 1. So it follows a budget
in tokens, steps, FLOPs or minutes alike, and swapping schedules never moves the peak.
"""

from __future__ import annotations

import math
from collections.abc import Callable

SHAPES: dict[str, Callable[[float, float], float]] = {
    "linear": lambda done, final: final + (1 - final) * (1 - done),
    "cosine": lambda done, final: final + (1 - final) * (1 + math.cos(math.pi * done)) / 2,
    "sqrt": lambda done, final: final + (1 - final) * (1 - math.sqrt(done)),
    "exponential": lambda done, final: final**done,
}
"""Ways down from 1 to `final`, by the share of the way that is done."""


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


class Decay(Warmup):
    """After the warm-up the peak rate, and over the last `decay` of the budget down to `final`.

    Args:
        warmup: share of the budget until the peak.
        decay: share of the budget that ends at `final`.
        final: share of the peak rate at the end.
        shape: of the way down, see `SHAPES`.

    Raises:
        ValueError: a share out of range, two that overlap, or a shape that there is not.
    """

    def __init__(self, warmup: float, decay: float, final: float, shape: str) -> None:
        super().__init__(warmup)
        if not 0 < decay <= 1:
            raise ValueError(f"schedule.decay: {decay}; a share of the budget, over 0 to 1")
        if warmup + decay > 1 + 1e-9:
            raise ValueError(f"schedule.decay: {decay}; with schedule.warmup {warmup} it is more than the whole budget")
        if not 0 <= final <= 1:
            raise ValueError(f"schedule.final: {final}; a share of the peak rate, from 0 to 1")
        if shape not in SHAPES:
            raise ValueError(f"schedule.shape: {shape}; choose from {', '.join(SHAPES)}")
        if shape == "exponential" and final == 0:
            raise ValueError("schedule.final: 0; schedule.shape=exponential never gets there, choose a share over 0")
        self.decay, self.final, self.way_down = decay, final, SHAPES[shape]

    def after(self, progress: float) -> float:
        """The peak, then the way down."""
        done = 1 - (1 - progress) / self.decay
        return self.way_down(min(max(done, 0.0), 1.0), self.final)


class WarmupCosine(Decay):
    """After the warm-up half a cosine down to `final` (Loshchilov and Hutter 2017; GPT-3)."""

    def __init__(self, warmup: float = 0.1, final: float = 0.1) -> None:
        super().__init__(warmup, _rest(warmup), final, "cosine")


class Linear(Decay):
    """After the warm-up a straight line down to `final` (BERT, Devlin et al. 2018)."""

    def __init__(self, warmup: float = 0.1, final: float = 0.0) -> None:
        super().__init__(warmup, _rest(warmup), final, "linear")


class WarmupStableDecay(Decay):
    """Warm-up, a long time at the peak, and a short way down (MiniCPM, Hu et al. 2024, section 4).

    The way down may be `exponential`, as in MiniCPM; `sqrt`, which is one minus the square root (Hägele et al. 2024);
    `linear`; or `cosine`.
    """

    def __init__(self, warmup: float = 0.1, decay: float = 0.2, final: float = 0.1, shape: str = "exponential") -> None:
        super().__init__(warmup, decay, final, shape)


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


def _rest(warmup: float) -> float:
    """Of the budget, what follows the warm-up; a share that is none is refused for itself, not for this."""
    return 1 - warmup if 0 <= warmup < 1 else 1.0
