"""A decoder: predicts each token from those before it (GPT, Radford et al. 2018)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from lab.layout import Layout
from lab.models.model import Costed, Model
from lab.parts.block import Block
from lab.parts.cache import Cache, LayerCache
from lab.parts.embedding import Embedding
from lab.parts.position import Position


class Decoder(Model):
    """Embedding, blocks, norm, head. Every part is given as a callable that is completed with what only the model knows.

    Args:
        vocab_size: tokens in the vocabulary.
        dim: width.
        layers: number of blocks.
        heads: query heads in each attention.
        context: tokens in a row, as trained.
        embedding: called with `vocab_size`, `dim`.
        position: called with `dim`, `head_dim`, `context`, `heads`, `causal`.
        pattern: called with `causal`, `layer`; gives a visibility.
        attention: called with `dim`, `heads`, `visibility`, `norm`, `rotates`.
        ffn: called with `dim`, `layer`.
        norm: called with `dim`.
        block: called with `dim`, `attention`, `ffn`, `norm`, `layers`.
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        layers: int,
        heads: int,
        context: int,
        embedding: Callable[..., Embedding],
        position: Callable[..., Position],
        pattern: Callable,
        attention: Callable[..., nn.Module],
        ffn: Callable[..., nn.Module],
        norm: Callable[..., nn.Module],
        block: Callable[..., Block],
    ) -> None:
        super().__init__()
        for name, size in {"dim": dim, "layers": layers, "heads": heads, "context": context}.items():
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"model.{name}: {size}; a whole number, at least 1")
        if dim % heads:
            raise ValueError(f"model.heads: {heads} does not divide model.dim {dim}")
        self.vocab_size, self.dim, self.context = vocab_size, dim, context
        self.embedding = embedding(vocab_size=vocab_size, dim=dim)
        self.position = position(dim=dim, head_dim=dim // heads, context=context, heads=heads, causal=True)

        def layer(i: int) -> Block:
            visibility = pattern(causal=True, layer=i)
            rotates = self.position.at(i).rotates
            heart = attention(dim=dim, heads=heads, visibility=visibility, norm=norm, rotates=rotates)
            return block(dim=dim, attention=heart, ffn=ffn(dim=dim, layer=i), norm=norm, layers=layers)

        self.blocks = nn.ModuleList(layer(i) for i in range(layers))
        self.norm = norm(dim=dim) if self.blocks[-1].final_norm else nn.Identity()

    def hidden(self, tokens: Tensor, layout: Layout | None = None, cache: Cache | None = None) -> Tensor:
        """What enters the head: `[batch, time]` int64 to `[batch, time, dim]`."""
        if cache is not None:
            layout = cache.advance(tokens, layout)
        layout = layout or Layout.full(tokens.shape[0], tokens.shape[1], tokens.device)
        x = self.position.embed(self.embedding(tokens), layout)
        for i, block in enumerate(self.blocks):
            x = block(x, layout, self.position.at(i), None if cache is None else cache.layers[i])
        return self.norm(x)

    def new_cache(self, batch: int, length: int) -> Cache:
        """A cache for `batch` rows of up to `length` tokens; a pattern that forgets keeps no more than it can see."""

        def layer(block: Block) -> LayerCache:
            weight = self.embedding.table.weight
            attention: Any = block.attention
            return LayerCache(batch, attention.visibility.kept(length), attention.cached, weight.dtype, weight.device)

        return Cache([layer(block) for block in self.blocks], batch, length)  # type: ignore[arg-type]

    def cache_bytes(self, length: int) -> int:
        """Bytes that the KV cache of one row of so many tokens takes."""
        attentions: list[Any] = [block.attention for block in self.blocks]
        numbers = sum(a.visibility.kept(length) * sum(math.prod(shape) for shape in a.cached) for a in attentions)
        return numbers * self.embedding.table.weight.element_size()

    def layers(self) -> list[Costed]:
        """Attention and feed-forward of every block."""
        return [layer for block in self.blocks for layer in (block.attention, block.ffn)]  # type: ignore[misc]
