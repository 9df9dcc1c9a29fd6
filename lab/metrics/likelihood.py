"""What log-likelihoods say: perplexity, and pseudo-perplexity of masked models. Bits per byte are the objectives'."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np


def perplexity(nats: float, targets: int) -> float:
    """`exp` of the mean of `nats`, summed over `targets` predicted tokens; infinite where that is too large a number.

    Of a masked model it is the pseudo-perplexity (Salazar et al. 2020, arXiv 1910.14659, equation 3) when each token was
    masked alone, as `one_by_one` does, and all others were seen.

    Raises:
        ValueError: no targets.
    """
    if targets < 1:
        raise ValueError(f"{targets} targets; a mean needs at least one")
    return math.exp(nats / targets) if nats / targets < 709 else math.inf


def one_by_one(
    tokens: np.ndarray, mask: int, kept: frozenset[int] = frozenset(), most: int = 64
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The copies of a text that pseudo-perplexity needs, each with another token masked.

    Args:
        tokens: `[time]`, the text.
        mask: the number of [MASK].
        kept: tokens that are never masked, as [CLS] and [SEP].
        most: copies given at once.

    Yields:
        `[copies, time]` with one token of each row masked, and `[copies]`, its place; `tokens[places]` are the targets.
    """
    places = np.flatnonzero(~np.isin(tokens, list(kept)))
    for start in range(0, len(places), most):
        chosen = places[start : start + most]
        copies = np.repeat(tokens[None], len(chosen), axis=0)
        copies[np.arange(len(chosen)), chosen] = mask
        yield copies, chosen
