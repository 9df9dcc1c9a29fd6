"""An encoder: a vector for each token from both of its sides (BERT, Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lab.layout import Layout
from lab.models.model import LanguageModel
from lab.models.stack import Stack
from lab.parts.cache import Cache
from lab.parts.embedding import Embedding
from lab.parts.linear import Linear, matmul_flops

POOLERS = {"tanh": torch.tanh, "relu": torch.relu}
"""What a pooler does to each number."""


class Encoder(Stack, LanguageModel):
    """Embedding, blocks that see both sides, norm, and a head that guesses masked tokens.

    Args:
        vocab_size: tokens in the vocabulary.
        dim: width.
        embedding: called with `vocab_size`, `dim`.
        segments: texts of an example that are told apart by a vector added to their tokens, further ones counting as the
            last; 0 for none.
        pooler: a row has a vector of its own, made from that of its first token (BERT's code).
        pooler_activation: `tanh`, or `relu` as where DistilBERT classifies.
        stack: as `Stack`.

    Raises:
        ValueError: another activation of the pooler.
    """

    family = "encoder"
    frame = ("cls", "sep", "sep")
    pool = "first"

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        embedding: Callable[..., Embedding],
        segments: int = 2,
        pooler: bool = False,
        pooler_activation: str = "tanh",
        **stack,
    ) -> None:
        super().__init__(dim=dim, causal=False, **stack)
        self.vocab_size = vocab_size
        self.embedding = embedding(vocab_size=vocab_size, dim=dim)
        self.segments = nn.Embedding(segments, dim) if segments else None
        if pooler_activation not in POOLERS:
            raise ValueError(f"model.pooler_activation: {pooler_activation}; choose from {', '.join(POOLERS)}")
        self.pooler, self.pooler_activation = Linear(dim, dim) if pooler else None, pooler_activation

    def hidden(
        self,
        tokens: Tensor,
        layout: Layout | None = None,
        cache: Cache | None = None,
        segments: Tensor | None = None,
    ) -> Tensor:
        layout = layout or Layout.full(tokens.shape[0], tokens.shape[1], tokens.device)
        x = self.embedding(tokens)
        if self.segments is not None:
            known = self.segments.num_embeddings
            x = x + (self.segments.weight[0] if segments is None else self.segments(segments.clamp_max(known - 1)))
        return self.run(x, layout, enter=self.embedding.enter)

    def vectors(self, tokens: Tensor, layout: Layout | None = None, segments: Tensor | None = None) -> Tensor:
        return self.hidden(tokens, layout, segments=segments)

    def exits(self, tokens: Tensor) -> list[Tensor]:
        return self.streams(lambda: self.hidden(tokens))

    def pooled(self, vectors: Tensor) -> Tensor:
        """What stands for each row, `[rows, dim]`, of its tokens' vectors `[rows, time, dim]`: the first token's, through the
        pooler if there is one.
        """
        first = vectors[:, 0]
        return first if self.pooler is None else POOLERS[self.pooler_activation](self.pooler(first))

    def represent(
        self,
        tokens: Tensor,
        layout: Layout | None = None,
        segments: Tensor | None = None,
        pool: str | None = None,
    ) -> Tensor:
        """As of every model; where no pool is named, through the pooler if there is one."""
        if pool is None:
            return self.pooled(self.vectors(tokens, layout, segments))
        return super().represent(tokens, layout, segments, pool)

    @property
    def pool_flops(self) -> int:
        return 0 if self.pooler is None else matmul_flops(self.pooler)
