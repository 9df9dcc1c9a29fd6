"""Token embeddings, and the head that scores the vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lab.parts.kernels import linear, linear_cross_entropy
from lab.parts.linear import Linear


class Embedding(nn.Module):
    """A table that turns tokens into vectors and a head that scores every token of the vocabulary.

    Args:
        vocab_size: tokens in the vocabulary.
        dim: width of the model.
        tied: the head is the table (Press and Wolf 2017).
        scaled: vectors are multiplied by `sqrt(dim)` (Vaswani et al. 2017, section 3.4).
        softcap: scores are squeezed into plus and minus this by `tanh` (Gemma 2, 2024, section 2); none for no limit.
        shrunk: what is scored is multiplied by `1 / sqrt(dim)`, as where T5 1.0 ties (Raffel et al. 2020, their code).

    Attributes:
        logit_scale: what scores are multiplied by, before the cap.

    Raises:
        ValueError: a cap that is not over 0.
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        tied: bool = True,
        scaled: bool = False,
        softcap: float | None = None,
        shrunk: bool = False,
    ) -> None:
        super().__init__()
        if softcap is not None and not softcap > 0:
            raise ValueError(f"embedding.softcap: {softcap}; a number over 0, or null")
        self.softcap, self.logit_scale = softcap, dim**-0.5 if shrunk else 1.0
        self.table = nn.Embedding(vocab_size, dim)
        self.head = None if tied else Linear(dim, vocab_size, bias=False)
        self.scale = dim**0.5 if scaled else 1.0

    @property
    def scorer(self) -> Tensor:
        """`[vocab, dim]`: the matrix that scores the vocabulary."""
        return self.table.weight if self.head is None else self.head.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """`[batch, time]` int64 to `[batch, time, dim]`."""
        x = self.table(tokens)
        return x * self.scale if self.scale != 1.0 else x

    def logits(self, x: Tensor) -> Tensor:
        """`[..., dim]` to `[..., vocab]`."""
        scores = linear(self._scaled(x), self.scorer)
        return scores if self.softcap is None else self.softcap * torch.tanh(scores / self.softcap)

    def loss(self, x: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Summed cross-entropy in nats of `[..., dim]` against `[...]` targets, in pieces: never all logits at once.

        `smoothing` is the share of each target's probability that all tokens get alike.
        """
        rows = self._scaled(x).flatten(0, -2)
        return linear_cross_entropy(rows, self.scorer, targets.flatten(), self.softcap, smoothing)

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self.logit_scale == 1.0 else x * self.logit_scale
