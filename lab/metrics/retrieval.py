"""Similarity and search: Spearman's correlation, recall at k, mean reciprocal rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

SAME = 1e-6
"""Scores that differ by no more, relative to numbers over 1, are equal: a product in single precision gives that much to equal
candidates in different columns.
"""


def spearman(predicted: ArrayLike, true: ArrayLike) -> float:
    """Spearman's rank correlation of `[items]` similarities, ties at their mean rank; NaN where one side is constant.

    Raises:
        ValueError: fewer than 2, or not as many of one as of the other.
    """
    predicted, true = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    if predicted.ndim != 1 or predicted.shape != true.shape or len(predicted) < 2:
        raise ValueError(f"shapes {predicted.shape} and {true.shape}; two lists of equal length, 2 or more")
    if np.ptp(predicted) == 0 or np.ptp(true) == 0:
        return float("nan")
    from scipy.stats import spearmanr

    return float(spearmanr(predicted, true).statistic)


def ranks(scores: ArrayLike, answers: ArrayLike) -> np.ndarray:
    """`[queries]`, the place of each query's answer, 1 for the best; of equal scores the answer's comes last.

    So a model that scores all candidates the same finds nothing.

    Args:
        scores: `[queries, candidates]`, higher is closer.
        answers: `[queries]`, the number of the candidate that is right.

    Raises:
        ValueError: shapes that do not fit, an answer that is no candidate, or a score that is NaN.
    """
    scores, answers = np.asarray(scores), np.asarray(answers)
    if scores.ndim != 2 or answers.shape != scores.shape[:1] or not scores.size:
        raise ValueError(f"scores {scores.shape} and answers {answers.shape}; [queries, candidates] and [queries]")
    if answers.min() < 0 or answers.max() >= scores.shape[1]:
        raise ValueError(f"answers from {answers.min()} to {answers.max()} of {scores.shape[1]} candidates")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN")
    own = scores[np.arange(len(answers)), answers][:, None]
    close = SAME * np.maximum(np.abs(own), 1)
    return (scores >= own - close).sum(1)


def recall_at(places: ArrayLike, k: int | Sequence[int]) -> dict[int, float]:
    """For each k the share of `[queries]` whose answer has a place (from `ranks`) among the first k."""
    places = np.asarray(places)
    return {each: float((places <= each).mean()) for each in ([k] if isinstance(k, int) else k)}


def mean_reciprocal_rank(places: ArrayLike) -> float:
    """The mean of 1 / place over `[queries]` (Voorhees 1999)."""
    return float((1 / np.asarray(places, np.float64)).mean())
