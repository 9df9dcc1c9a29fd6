"""An encoder-decoder: a decoder that looks at what an encoder made of the source (Vaswani et al. 2017; T5)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lab.layout import Layout
from lab.models.model import Costed, SequenceToSequence
from lab.models.stack import Stack
from lab.parts.attention import Memory
from lab.parts.cache import Cache
from lab.parts.embedding import Embedding
from lab.parts.experts import MixtureOfExperts


@dataclass(eq=False)
class Reading:
    """A source that was read, and the tokens of its target so far.

    Attributes:
        memory: of the source.
        cache: of the target; after the first step it holds keys and values of the memory too.
        tokens: of the target, `[batch, time]`; none before the first step.
    """

    memory: Memory
    cache: Cache
    tokens: Tensor | None = None

    def reorder(self, rows: Tensor) -> None:
        """Each row becomes a copy of the one with that number, `[batch]` int64."""
        self.memory = Memory(self.memory.states[rows], self.memory.layout.rows(rows))
        self.cache.reorder(rows)
        self.tokens = None if self.tokens is None else self.tokens[rows]


class EncoderDecoder(SequenceToSequence):
    """One embedding for source, target and head, and two stacks, each with positions of its own.

    Args:
        vocab_size: tokens in the vocabulary.
        dim: width.
        layers: blocks of the encoder.
        decoder_layers: blocks of the decoder.
        context: tokens of a source or a target, as trained.
        embedding: called with `vocab_size`, `dim`.
        output_dropout: on what leaves either stack, while training (T5's code).
        stack: as `Stack`.

    Raises:
        ValueError: as `Stack`, or a share out of range.
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        layers: int,
        decoder_layers: int,
        context: int,
        embedding: Callable[..., Embedding],
        output_dropout: float = 0.0,
        **stack,
    ) -> None:
        super().__init__()
        if not 0 <= output_dropout < 1:
            raise ValueError(f"model.output_dropout: {output_dropout}; choose from 0 to under 1")
        self.vocab_size, self.dim, self.context = vocab_size, dim, context
        self.embedding = embedding(vocab_size=vocab_size, dim=dim)
        stack |= {"dim": dim, "context": context}
        self.encoder = Stack(layers=layers, causal=False, decoder_layers=decoder_layers, **stack)
        self.decoder = Stack(layers=decoder_layers, causal=True, encoder_layers=layers, **stack)
        self.output_dropout = nn.Dropout(output_dropout)
        for module in self.decoder.modules():
            if isinstance(module, MixtureOfExperts):
                module.layer += layers  # counted through both stacks, so that their figures are told apart

    def read(self, source: Tensor, layout: Layout | None = None) -> Memory:
        """What the decoder looks at: `[batch, source time]` int64 to states `[batch, source time, dim]`."""
        layout = layout or Layout.full(source.shape[0], source.shape[1], source.device)
        states = self.encoder.run(self.embedding(source), layout, enter=self.embedding.enter)
        return Memory(self.output_dropout(states), layout)

    def hidden(
        self, source: Tensor, target: Tensor, source_layout: Layout | None = None, layout: Layout | None = None
    ) -> Tensor:
        layout = layout or Layout.full(target.shape[0], target.shape[1], target.device)
        memory = self.read(source, source_layout)
        return self.output_dropout(
            self.decoder.run(self.embedding(target), layout, memory=memory, enter=self.embedding.enter)
        )

    def exits(self, source: Tensor, target: Tensor) -> list[Tensor]:
        return self.decoder.streams(lambda: self.hidden(source, target))

    def begin(self, source: Tensor, source_layout: Layout | None = None, length: int = 0) -> Reading:
        return Reading(self.read(source, source_layout), self.decoder.new_cache(len(source), length))

    def step(self, tokens: Tensor, state: Reading) -> Tensor:
        known = 0 if state.tokens is None else state.tokens.shape[1]
        state.tokens = tokens if state.tokens is None else torch.cat([state.tokens, tokens], dim=1)
        given = tokens
        if any(self.decoder.renews(length) for length in range(known + 1, state.tokens.shape[1] + 1)):
            given, state.cache = state.tokens, self.decoder.new_cache(len(tokens), state.cache.length)
        layout = state.cache.advance(given)
        x = self.decoder.run(self.embedding(given), layout, state.cache, state.memory, self.embedding.enter)
        return x[:, -tokens.shape[1] :]

    def vectors(self, tokens: Tensor, layout: Layout | None = None, segments: Tensor | None = None) -> Tensor:
        return self.read(tokens, layout).states

    def layers(self) -> list[Costed]:
        """Of both stacks, cross-attention apart."""
        return self.encoder.layers() + self.decoder.layers()

    def pair_flops(self, lengths: np.ndarray, sources: np.ndarray) -> np.ndarray:
        lengths, sources = np.asarray(lengths), np.asarray(sources)
        total = self.head_flops * lengths
        for layer in self.encoder.layers():
            total = total + layer.flops(sources)
        for layer in self.decoder.layers():
            total = total + layer.flops(lengths)
        for cross in self._across:
            total = total + cross.cross_flops(lengths, sources)
        return total

    def cache_bytes(self, length: int, source: int | None = None) -> int:
        across = sum(math.prod(shape) for cross in self._across for shape in cross.cached)
        size = self.embedding.table.weight.element_size()
        return self.decoder.cache_bytes(length) + size * across * (length if source is None else source)

    @property
    def _across(self) -> list[Any]:
        return [block.cross for block in self.decoder.blocks]
