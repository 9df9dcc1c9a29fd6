"""A recurrent language model: all that it knows of the tokens before is a state of fixed size (Mikolov et al. 2010)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from lab.layout import Layout
from lab.models.model import Costed, LanguageModel
from lab.models.record import record
from lab.parts.cache import Cache
from lab.parts.cell import Cell
from lab.parts.embedding import Embedding
from lab.parts.recurrence import Recurrence, StateCache


class Recurrent(LanguageModel):
    """Embedding, recurrent layers, head; dropout before each layer and the head, never from step to step (Zaremba et al. 2014).

    Args:
        vocab_size: tokens in the vocabulary.
        dim: width.
        layers: how many.
        context: tokens in a row, as trained; rows may be longer.
        cell: called with `inputs`, `dim`.
        embedding: called with `vocab_size`, `dim`.
        dropout: share that is dropped.

    Raises:
        ValueError: a size under 1, or a share that is none.
    """

    family = "recurrent"
    generates = True
    limit = None

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        layers: int,
        context: int,
        cell: Callable[..., Cell],
        embedding: Callable[..., Embedding],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.vocab_size, self.dim, self.context = vocab_size, dim, context
        self.recurrence = Recurrence(dim, dim, layers, cell, dropout)
        self.dropout = nn.Dropout(dropout)
        self.embedding = embedding(vocab_size=vocab_size, dim=dim)

    def hidden(self, tokens: Tensor, layout: Layout | None = None, cache: Cache | None = None) -> Tensor:
        x = self.embedding.entering(tokens)
        if cache is None:
            return self.dropout(self.recurrence(x, layout)[0])
        layout = cache.advance(tokens, layout)
        layers: list[Any] = cache.layers
        x, states = self.recurrence(x, layout, [tuple(layer.kept) for layer in layers], keep=True)
        for layer, state in zip(layers, states, strict=True):
            layer.kept = list(state)
        return self.dropout(x)

    def exits(self, tokens: Tensor) -> list[Tensor]:
        places = [f"recurrence.layers.{number}" for number in range(len(self.recurrence.layers))]
        with record(self, *places) as seen:
            self.hidden(tokens)
        return [self.embedding.entering(tokens), *(seen[place] for place in places)]

    def new_cache(self, batch: int, length: int = 0) -> Cache:
        return StateCache(self.recurrence.zeros(batch), batch)

    def cache_bytes(self, length: int) -> int:
        """Bytes of the state of one row, after any number of tokens."""
        return self.recurrence.state_bytes

    def layers(self) -> list[Costed]:
        return [self.recurrence]
