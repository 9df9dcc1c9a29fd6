"""From scores to the next token: the best one, or one drawn from what some filters leave.

A filter takes logits, `[batch, vocab]`, and sets to minus infinity what may not be drawn; the best token always stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

COLDEST = 1e-30
"""A temperature at which the best token is all that is left, and scores are still numbers."""


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the `k` best tokens, and those as good as the last of them (Fan et al., arXiv 1805.04833)."""
    worst = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < worst, -torch.inf)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the best tokens until they have a probability of `p` together: the nucleus (Holtzman et al., arXiv 1904.09751)."""
    probabilities, order = logits.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    onward = probabilities.flip(-1).cumsum(dim=-1).flip(-1)  # of each token and all worse ones, exact where it is small
    beyond = (onward <= 1 - p).index_fill(-1, torch.tensor([0], device=logits.device), False)
    return logits.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -torch.inf)


def min_p(logits: Tensor, p: float) -> Tensor:
    """Keep tokens at least `p` times as probable as the best one (Nguyen et al., arXiv 2407.01082)."""
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(probabilities < p * probabilities.amax(dim=-1, keepdim=True), -torch.inf)


def repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens that a row has already less likely: positive scores are divided by `penalty`, others multiplied.

    CTRL (Keskar et al., arXiv 1909.05858, section 4.1) divides all of them, which would favour tokens of a negative score.

    Args:
        logits: `[batch, vocab]`.
        seen: `[batch, vocab]` bool, what each row has, its prompt included.
        penalty: 1 changes nothing.
    """
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen. The penalty comes first, then the temperature, then top-k, top-p and min-p.

    Args:
        temperature: 0 takes the best token; above, tokens are drawn from `softmax(logits / temperature)`.
        top_k, top_p, min_p, repetition: of the filters of these names; none leaves one out.
        seed: of what is drawn.

    Raises:
        ValueError: a value that is none of these.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        most = float("inf")
        for name, fits, accepted in (
            ("temperature", 0 <= self.temperature < most, "0, which takes the best token, or more"),
            ("top_k", self.top_k is None or self.top_k >= 1, "at least 1 token"),
            ("top_p", self.top_p is None or 0 < self.top_p <= 1, "a probability over 0, at most 1"),
            ("min_p", self.min_p is None or 0 <= self.min_p <= 1, "a share of the best probability, from 0 to 1"),
            ("repetition", self.repetition is None or 1e-6 <= self.repetition < most, "over 0; 1 changes nothing"),
            ("seed", 0 <= self.seed < 2**63, "a whole number, 0 or more"),
        ):
            if not fits:
                raise ValueError(f"{name}: {getattr(self, name)}; {accepted}")

    def drawing(self, device: torch.device | str | None = None) -> torch.Generator:
        """What `choose` draws with."""
        return torch.Generator(device=device or "cpu").manual_seed(self.seed)

    def filtered(self, logits: Tensor, seen: Tensor | None = None) -> Tensor:
        """The scores that a token is drawn from: `[batch, vocab]` to the same, in float32 or finer.

        Args:
            logits: as the model gives them.
            seen: `[batch, vocab]` bool, for the penalty.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.repetition is not None and seen is not None:
            logits = repetition(logits, seen, self.repetition)
        if self.temperature == 0:
            return logits
        logits = logits / max(self.temperature, COLDEST)
        logits = logits if self.top_k is None else top_k(logits, self.top_k)
        logits = logits if self.top_p is None else top_p(logits, self.top_p)
        return logits if self.min_p is None else min_p(logits, self.min_p)

    def choose(self, logits: Tensor, drawing: torch.Generator, seen: Tensor | None = None) -> Tensor:
        """One token a row: `[batch, vocab]` to `[batch, 1]`. `seen` takes it in."""
        logits = self.filtered(logits, seen)
        if self.temperature == 0:
            token = logits.argmax(dim=-1, keepdim=True)
        else:
            token = torch.multinomial(logits.softmax(dim=-1), 1, generator=drawing)
        if seen is not None:
            seen.scatter_(1, token, True)
        return token

    def seen(self, rows: list[list[int]], vocab_size: int, device: torch.device | str | None = None) -> Tensor | None:
        """`[batch, vocab]` bool, which tokens rows have; none where nothing depends on it."""
        if self.repetition is None:
            return None
        found = torch.zeros(len(rows), vocab_size, dtype=torch.bool, device=device)
        for row, tokens in enumerate(rows):
            found[row, tokens] = True
        return found
