"""How long a run trains, in the unit that was asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from omegaconf import DictConfig

from lab.config import BUDGETS


@dataclass
class Spent:
    """What a run has used up; the same on all ranks."""

    steps: int = 0
    tokens: int = 0
    flops: float = 0.0
    minutes: float = 0.0


@dataclass(frozen=True)
class Budget:
    """An amount of one unit."""

    unit: str
    amount: float

    @classmethod
    def of(cls, config: DictConfig) -> Budget:
        """The one budget that a configuration sets."""
        unit = next(unit for unit in BUDGETS if config.budget[unit] is not None)
        return cls(unit, float(config.budget[unit]))

    def progress(self, spent: Spent) -> float:
        """The share used up; a run is over at 1, and one of 0 steps before it begins."""
        return asdict(spent)[self.unit] / self.amount if self.amount else 1.0

    def progress_after(self, spent: Spent, tokens: int) -> float:
        """The share used up when the step under way is done.

        Its tokens are known beforehand. Its FLOPs and time are taken to be the mean of the steps before, so that all
        ranks agree.
        """
        if self.unit == "steps":
            now = float(spent.steps + 1)
        elif self.unit == "tokens":
            now = float(spent.tokens + tokens)
        else:
            now = asdict(spent)[self.unit] * (spent.steps + 1) / max(spent.steps, 1)
        return min(max(now / self.amount, 1e-4), 1.0)
