"""What an optimizer refuses before a run begins."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lab.values import is_number


def at_least_zero(**values: float) -> None:
    """Refuse what is not a number from 0 up.

    Raises:
        ValueError: names the key, the value and what is accepted.
    """
    for name, value in values.items():
        if not (is_number(value) and 0 <= value < math.inf):
            raise ValueError(f"optimizer.{name}: {value}; a number, 0 or more")


def above_zero(**values: float) -> None:
    """Refuse what is not a number over 0.

    Raises:
        ValueError: names the key, the value and what is accepted.
    """
    for name, value in values.items():
        if not (is_number(value) and 0 < value < math.inf):
            raise ValueError(f"optimizer.{name}: {value}; a number over 0")


def shares(**values: float) -> None:
    """Refuse what is not a share, from 0 to under 1.

    Raises:
        ValueError: names the key, the value and what is accepted.
    """
    for name, value in values.items():
        if not (is_number(value) and 0 <= value < 1):
            raise ValueError(f"optimizer.{name}: {value}; a number from 0 to under 1")


def pair_of_shares(betas: Sequence[float]) -> tuple[float, float]:
    """Adam's two decay rates.

    Raises:
        ValueError: they are not two numbers from 0 to under 1.
    """
    good = isinstance(betas, Sequence) and len(betas) == 2 and all(is_number(b) and 0 <= b < 1 for b in betas)
    if not good:
        raise ValueError(f"optimizer.betas: {betas}; two numbers, each from 0 to under 1")
    return betas[0], betas[1]
