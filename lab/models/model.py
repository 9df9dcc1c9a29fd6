"""What every language model here offers, whatever its family."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor, nn

from lab.layout import Layout
from lab.parts.cache import Cache
from lab.parts.embedding import Embedding
from lab.parts.experts import MixtureOfExperts
from lab.parts.kernels import IGNORE
from lab.parts.linear import count


class Costed(Protocol):
    """A layer that says what it costs."""

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs on documents of these lengths."""


class Model(nn.Module):
    """A model that scores the vocabulary at each token. A family says what enters the head, by `hidden`.

    Attributes:
        vocab_size: tokens in the vocabulary.
        context: tokens in a row, as trained.
        embedding: the table and the head.
    """

    vocab_size: int
    context: int
    embedding: Embedding

    def hidden(self, tokens: Tensor, layout: Layout | None = None, cache: Cache | None = None) -> Tensor:
        """What enters the head: `[batch, time]` int64 to `[batch, time, dim]`."""
        raise NotImplementedError

    def layers(self) -> list[Costed]:
        """What computes, apart from the head."""
        raise NotImplementedError

    def new_cache(self, batch: int, length: int) -> Cache:
        """A KV cache for `batch` rows of up to `length` tokens."""
        raise NotImplementedError

    def forward(self, tokens: Tensor, layout: Layout | None = None, cache: Cache | None = None) -> Tensor:
        """Scores of every token of the vocabulary: `[batch, time]` int64 to `[batch, time, vocab]`.

        Args:
            tokens: with a cache, those that follow what is in it.
            layout: of the tokens; by default one document a row, or with a cache the rest of each row's last one.
            cache: from `new_cache`; takes in the tokens.
        """
        return self.embedding.logits(self.hidden(tokens, layout, cache))

    def loss(self, tokens: Tensor, targets: Tensor, layout: Layout | None = None, reduction: str = "mean") -> Tensor:
        """Cross-entropy in nats, over the targets that are not `IGNORE`, without ever holding all logits.

        Args:
            tokens, targets: `[batch, time]` int64.
            layout: of the tokens.
            reduction: `mean` over targets or `sum`.
        """
        total = self.embedding.loss(self.hidden(tokens, layout), targets)
        return total / (targets != IGNORE).sum().clamp_min(1) if reduction == "mean" else total

    @property
    def expert_layers(self) -> list[MixtureOfExperts]:
        """The mixtures of experts, in order."""
        return [module for module in self.modules() if isinstance(module, MixtureOfExperts)]

    @property
    def parameters_total(self) -> int:
        """Parameters, a shared one counted once."""
        return count(self)

    @property
    def parameters_active(self) -> int:
        """Parameters that one token uses: of a mixture only the chosen experts."""
        return count(self) - sum(count(layer) - layer.active_parameters for layer in self.expert_layers)

    def cache_bytes(self, length: int) -> int:
        """Bytes that the KV cache of one row of so many tokens takes."""
        raise NotImplementedError

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs on documents of these lengths, over the visible pairs; a training step takes three times that."""
        head = 2 * self.embedding.scorer.numel() * np.asarray(lengths)
        return head + sum((layer.flops(lengths) for layer in self.layers()), np.zeros(len(lengths), dtype=np.int64))
