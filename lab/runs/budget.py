"""How long a run trains, in the unit that was asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from omegaconf import DictConfig

from lab.config import BUDGETS


@dataclass
class Spent:
    """What a run, or a step of it, has used up; the same on all ranks."""

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
        """The share used up."""
        return asdict(spent)[self.unit] / self.amount if self.amount else 1.0

    def over(self, spent: Spent) -> bool:
        """Whether a run ends: with the step that uses it up, and one of 0 steps before it begins. A budget of FLOPs ends with
        the step that comes nearest to it: what a step costs varies, and a run of so many FLOPs as 20 others is one of 20.
        """
        near = spent.flops / spent.steps / 2 if self.unit == "flops" and spent.steps else 0.0
        return asdict(spent)[self.unit] + near >= self.amount

    def progress_after(self, spent: Spent, step: Spent) -> float:
        """The share used up when the step under way is done, which costs `step`: so a schedule does not depend on the unit."""
        return min((asdict(spent)[self.unit] + asdict(step)[self.unit]) / self.amount, 1.0)

    @property
    def counted(self) -> bool:
        """Whether every rank knows by itself what a step takes from the budget."""
        return self.unit in ("steps", "tokens")
