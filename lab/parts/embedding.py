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
        rows: of the table, where it has more than the vocabulary, as published ones do whose size is a round number.
        dropout: on what enters the first block, while training (Vaswani et al. 2017, section 5.4).

    Attributes:
        logit_scale: what scores are multiplied by, before the cap.

    Raises:
        ValueError: a cap that is not over 0, a table too small for the vocabulary, a share of dropout out of range.
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        tied: bool = True,
        scaled: bool = False,
        softcap: float | None = None,
        rows: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if softcap is not None and not softcap > 0:
            raise ValueError(f"embedding.softcap: {softcap}; a number over 0, or null")
        if rows is not None and (type(rows) is not int or rows < vocab_size):
            raise ValueError(f"embedding.rows: {rows}; at least the {vocab_size} tokens of the vocabulary, or null")
        if not 0 <= dropout < 1:
            raise ValueError(f"embedding.dropout: {dropout}; choose from 0 to under 1")
        size = rows or vocab_size
        self.softcap, self.logit_scale = softcap, 1.0
        self.table = nn.Embedding(size, dim)
        self.head = None if tied else Linear(dim, size, bias=False)
        self.scale = dim**0.5 if scaled else 1.0
        self.dropout = nn.Dropout(dropout)

    @property
    def scorer(self) -> Tensor:
        """`[vocab, dim]`: the matrix that scores the vocabulary."""
        return self.table.weight if self.head is None else self.head.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """`[batch, time]` int64 to `[batch, time, dim]`."""
        x = self.table(tokens)
        return x * self.scale if self.scale != 1.0 else x

    def enter(self, x: Tensor) -> Tensor:
        """What goes into the first block of `[batch, time, dim]`: vectors of tokens, to which others may have been added."""
        return self.dropout(x)

    def logits(self, x: Tensor) -> Tensor:
        """`[..., dim]` to `[..., vocab]`."""
        scores = linear(self._scaled(x), self.scorer)
        return scores if self.softcap is None else self.softcap * torch.tanh(scores / self.softcap)

    def loss(self, x: Tensor, targets: Tensor) -> Tensor:
        """Summed cross-entropy in nats of `[..., dim]` against `[...]` targets, in pieces: never all logits at once."""
        return linear_cross_entropy(self._scaled(x).flatten(0, -2), self.scorer, targets.flatten(), self.softcap)

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self.logit_scale == 1.0 else x * self.logit_scale
