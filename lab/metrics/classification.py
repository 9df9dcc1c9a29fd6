"""How well labels are predicted: accuracy, macro F1, and accuracy by distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def accuracy(predicted: ArrayLike, true: ArrayLike) -> float:
    """The share of `[items]` labels that are right.

    Raises:
        ValueError: none, or not as many of one as of the other.
    """
    predicted, true = _checked(predicted, true)
    return float((predicted == true).mean())


def macro_f1(predicted: ArrayLike, true: ArrayLike, none: str | None = None) -> float:
    """The mean over labels of their F1, each label that occurs among `[items]` predicted or true ones counting the same.

    A label that is never right has F1 0. Errors as for `accuracy`.

    Args:
        predicted: labels.
        true: labels.
        none: a prediction that is no label: it is wrong, and has no F1.
    """
    predicted, true = _checked(predicted, true)
    labels, numbers = np.unique(np.concatenate([predicted, true]), return_inverse=True)
    guessed, wanted = np.split(numbers, 2)
    right = np.bincount(guessed[guessed == wanted], minlength=len(labels))
    together = np.bincount(numbers, minlength=len(labels))  # predicted and true: twice the denominator of F1
    return float((2 * right / together)[labels != none].mean())


def by_distance(correct: ArrayLike, distances: ArrayLike) -> dict[str, float]:
    """Accuracy in bands of distance that double: `1`, `2-3`, `4-7`, ...; bands where nothing is asked are left out.

    Args:
        correct: `[items]` booleans, whether an answer is right.
        distances: `[items]` whole numbers, at least 1.

    Raises:
        ValueError: not as many of one as of the other, or a distance under 1.
    """
    correct, distances = _checked(correct, distances)
    if distances.min() < 1:
        raise ValueError(f"a distance is at least 1, got {distances.min()}")
    bands = band(distances)
    return {name(each): float(correct[bands == each].mean()) for each in np.unique(bands)}


def band(distances: ArrayLike) -> np.ndarray:
    """`[items]` distances, at least 1, to the number of their band: 0 for 1, 1 for 2 and 3, 2 for 4 to 7, ..."""
    # frexp is exact where a logarithm of a large power of two may not be.
    return np.frexp(np.asarray(distances, np.float64))[1] - 1


def name(number: int) -> str:
    """What a band is called: its first distance and its last."""
    first, last = 2**number, 2 ** (number + 1) - 1
    return str(first) if first == last else f"{first}-{last}"


def _checked(one: ArrayLike, other: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    one, other = np.asarray(one), np.asarray(other)
    if one.ndim != 1 or not len(one) or one.shape != other.shape:
        raise ValueError(f"shapes {one.shape} and {other.shape}; two lists of equal length are needed, not empty")
    return one, other
