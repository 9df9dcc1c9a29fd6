"""The verdict in words: better, worse, equivalent, undecided, too few seeds.

One report asks many questions. Each comparison puts up to two null hypotheses: "no difference", and with a margin
"a difference of at least the margin" (two one-sided tests; Schuirmann 1987). They exclude each other, so a comparison
holds at most one true one. Correcting step by step for the comparisons that may still hold a true one keeps the chance
of any false verdict in a report under 5%. With one hypothesis each that is Holm (1979); with two it is
a case of Shaffer (1986), "Modified sequentially rejective multiple test procedures".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.errors import RequestError
from lab.runs.comparison.differences import Difference

FEWEST_PAIRS = 3
MOST_PAIRS = 1000  # that looks are planned for, whose levels take ten seconds
ALPHA = 0.05

BETTER, WORSE, EQUIVALENT, UNDECIDED, TOO_FEW = "better", "worse", "equivalent", "undecided", "too few seeds"
VERDICTS = (BETTER, WORSE, EQUIVALENT, UNDECIDED, TOO_FEW)


@dataclass(frozen=True)
class Rule:
    """What is fixed before the results are looked at.

    Attributes:
        margin: the largest difference that makes no difference, in the unit of the measure; None asks not for it.
        most_seeds: where seeds are added until it is decided, how many at most; None where their number was fixed.
        beforehand: the margin is known to have been fixed before the first run, as a sweep keeps it.

    Raises:
        RequestError: a margin that is not above 0, or a number of seeds out of range.
    """

    margin: float | None = None
    most_seeds: int | None = None
    beforehand: bool = False

    def __post_init__(self) -> None:
        if self.margin is not None and not 0 < self.margin < float("inf"):
            raise RequestError(f"--margin {self.margin}: a margin is a number above 0, in the unit of the measure")
        if self.most_seeds is not None and not FEWEST_PAIRS <= self.most_seeds <= MOST_PAIRS:
            raise RequestError(f"until-decided: {self.most_seeds}; at least {FEWEST_PAIRS} seeds, at most {MOST_PAIRS}")


@dataclass(frozen=True)
class Evidence:
    """p-values against "no difference" and against "at least the margin apart"; the latter None without a margin."""

    different: float
    equivalent: float | None = None

    @property
    def both(self) -> tuple[float, ...]:
        return (self.different,) if self.equivalent is None else (self.different, self.equivalent)

    @property
    def shown(self) -> Shown:
        """What is shown if these are corrected."""
        return Shown(self.different < ALPHA, None if self.equivalent is None else self.equivalent < ALPHA)


@dataclass(frozen=True)
class Shown:
    """Whether a comparison shows a difference, and whether one of less than the margin; the latter None without a margin."""

    different: bool
    equivalent: bool | None = None

    @property
    def all(self) -> bool:
        """Whether nothing that was asked is open."""
        return self.different and self.equivalent is not False


def evidence(difference: Difference, margin: float | None) -> Evidence | None:
    """The p-values of a comparison before correction; None where there are too few pairs for a verdict."""
    if difference.p is None or len(difference.seeds) < FEWEST_PAIRS:
        return None
    return Evidence(difference.p, None if margin is None else equivalence_p(difference, margin))


def equivalence_p(difference: Difference, margin: float) -> float:
    """p-value of the two one-sided t-tests against a true difference of at least the margin; 1 where none varies."""
    if difference.mean is None or not difference.error:
        return 1.0
    from scipy.special import stdtr

    return float(stdtr(len(difference.seeds) - 1, (abs(difference.mean) - margin) / difference.error))


def correct(asked: Sequence[Evidence]) -> list[Evidence]:
    """p-values corrected for all hypotheses of a report; rejecting those under 5% keeps any error under 5%."""
    flat = [(p, place, kind) for place, each in enumerate(asked) for kind, p in enumerate(each.both)]
    left = [len(each.both) for each in asked]
    corrected: dict[tuple[int, int], float] = {}
    largest = 0.0
    for p, place, kind in sorted(flat):
        largest = max(largest, min(1.0, sum(count > 0 for count in left) * p))
        corrected[place, kind] = largest
        left[place] -= 1
    return [Evidence(corrected[place, 0], corrected.get((place, 1))) for place in range(len(asked))]


def judge(difference: Difference, shown: Shown, direction: str) -> str:
    """The verdict. A corrected p-value is never under the plain one: no verdict contradicts its interval."""
    if difference.mean is None or len(difference.seeds) < FEWEST_PAIRS:
        return TOO_FEW
    if shown.equivalent:
        return EQUIVALENT
    if not (shown.different and difference.excludes_zero):
        return UNDECIDED
    return BETTER if (difference.mean < 0) == (direction == "min") else WORSE
