"""A decoder: predicts each token from those before it (GPT, Radford et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lab.layout import Layout
from lab.models.model import LanguageModel
from lab.models.stack import Stack
from lab.parts.cache import Cache
from lab.parts.embedding import Embedding


class Decoder(Stack, LanguageModel):
    """Embedding, blocks, norm, head.

    Args:
        vocab_size: tokens in the vocabulary.
        dim: width.
        embedding: called with `vocab_size`, `dim`.
        stack: as `Stack`.
    """

    family = "decoder"
    generates = True

    def __init__(self, vocab_size: int, dim: int, embedding: Callable[..., Embedding], **stack) -> None:
        super().__init__(dim=dim, causal=True, **stack)
        self.vocab_size = vocab_size
        self.embedding = embedding(vocab_size=vocab_size, dim=dim)

    def hidden(self, tokens: Tensor, layout: Layout | None = None, cache: Cache | None = None) -> Tensor:
        if cache is not None:
            layout = cache.advance(tokens, layout)
        layout = layout or Layout.full(tokens.shape[0], tokens.shape[1], tokens.device)
        return self.run(self.embedding(tokens), layout, cache, enter=self.embedding.enter)

    def exits(self, tokens: Tensor) -> list[Tensor]:
        return self.streams(lambda: self.hidden(tokens))
