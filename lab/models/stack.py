"""A stack: blocks one after the other, with the position that serves them and the norm of what leaves them."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from lab.layout import Layout
from lab.models.model import Costed
from lab.parts.attention import Memory, width_of_heads
from lab.parts.block import Block
from lab.parts.cache import Cache, LayerCache
from lab.parts.linear import costed
from lab.parts.position import Position
from lab.parts.visibility import Full, Visibility
from lab.values import check_whole


class Stack(nn.Module):
    """The body of an encoder or a decoder. Every part is given as a callable that is completed with what only the stack knows.

    Args:
        dim: width.
        layers: number of blocks.
        heads: query heads in each attention.
        head_dim: width of a head; none for `dim / heads`.
        context: tokens in a row, as trained.
        causal: tokens see earlier ones alone; else both sides.
        position: called with `dim`, `head_dim`, `context`, `heads`, `causal`.
        pattern: called with `causal`, `layer`; gives a visibility.
        attention: called with `dim`, `heads`, `head_dim`, `visibility`, `norm`, `rotates`.
        ffn: called with `dim`, `layer`.
        norm: called with `dim`.
        block: called with `dim`, `attention`, `cross`, `ffn`, `norm`, `layers`, `encoder_layers`, `decoder_layers`.
        encoder_layers: of the stack that this one looks at by cross-attention; 0 for none.
        decoder_layers: of the stack that looks at this one; 0 for none.

    Raises:
        ValueError: a size under 1, or heads of no width of their own that do not divide the model's.
        TypeError: a layer that does not say its `flops`.
    """

    def __init__(
        self,
        dim: int,
        layers: int,
        heads: int,
        context: int,
        causal: bool,
        position: Callable[..., Position],
        pattern: Callable,
        attention: Callable[..., nn.Module],
        ffn: Callable[..., nn.Module],
        norm: Callable[..., nn.Module],
        block: Callable[..., Block],
        head_dim: int | None = None,
        encoder_layers: int = 0,
        decoder_layers: int = 0,
    ) -> None:
        super().__init__()
        check_whole("model", dim=dim, layers=layers, heads=heads, context=context)
        head_dim = width_of_heads(dim, heads, head_dim)
        self.dim, self.context, self.causal = dim, context, causal
        self.position = position(dim=dim, head_dim=head_dim, context=context, heads=heads, causal=causal)

        def attend(visibility: Visibility, rotates: bool) -> nn.Module:
            sizes = {"dim": dim, "heads": heads, "head_dim": head_dim}
            return costed("attention", attention(**sizes, visibility=visibility, norm=norm, rotates=rotates))

        def layer(i: int) -> Block:
            position = self.position.at(i)
            own = attend(pattern(causal=causal, layer=i), position.rotates)
            if own.turned:
                position.check_width(own.turned)  # type: ignore[arg-type]
            return block(
                dim=dim,
                attention=own,
                cross=attend(Full(causal=False), False) if encoder_layers else None,
                ffn=costed("ffn", ffn(dim=dim, layer=i)),
                norm=norm,
                layers=layers,
                encoder_layers=encoder_layers,
                decoder_layers=decoder_layers,
            )

        self.blocks = nn.ModuleList(layer(i) for i in range(layers))
        self.norm = norm(dim=dim) if self.blocks[-1].final_norm else nn.Identity()

    def run(
        self,
        x: Tensor,
        layout: Layout,
        cache: Cache | None = None,
        memory: Memory | None = None,
        enter: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """What leaves the last norm: `[batch, time, dim]` to the same.

        Args:
            x: embeddings, to which the position has added nothing yet.
            layout: of the tokens; with a cache, from its `advance`.
            cache: from `new_cache`.
            memory: what the blocks look at by cross-attention.
            enter: what becomes of embeddings and position together before the first block: `Embedding.enter`.
        """
        x = self.position.embed(x, layout)
        x = x if enter is None else enter(x)
        for i, block in enumerate(self.blocks):
            x = block(x, layout, self.position.at(i), None if cache is None else cache.layers[i], memory)
        return self.norm(x)

    def streams(self, run: Callable[[], Any]) -> list[Tensor]:
        """The stream that enters the first block and that after each, all through the last norm, while `run` computes."""
        found: list[Tensor] = []
        with ExitStack() as hooks:
            first: Any = self.blocks[0]
            hooks.callback(first.register_forward_pre_hook(lambda block, inputs: found.append(inputs[0])).remove)
            for block in self.blocks:
                hooks.callback(block.register_forward_hook(lambda block, inputs, output: found.append(output)).remove)
            run()
        return [self.norm(stream) for stream in found]

    def renews(self, length: int) -> bool:
        """As the position says."""
        return self.position.renews(length)

    def new_cache(self, batch: int, length: int) -> Cache:
        """A cache for `batch` rows of up to `length` tokens; a pattern that forgets keeps no more than it can see."""

        def layer(block: Block) -> LayerCache:
            weight = next(block.parameters())
            attention: Any = block.attention
            return LayerCache(batch, attention.visibility.kept(length), attention.cached, weight.dtype, weight.device)

        return Cache([layer(block) for block in self.blocks], batch, length)  # type: ignore[arg-type]

    def cache_bytes(self, length: int) -> int:
        """Bytes that the cache of one row of so many tokens takes, cross-attention's apart."""
        attentions: list[Any] = [block.attention for block in self.blocks]
        numbers = sum(a.visibility.kept(length) * sum(math.prod(shape) for shape in a.cached) for a in attentions)
        return numbers * torch.empty(0, dtype=next(self.blocks.parameters()).dtype).element_size()

    def layers(self) -> list[Costed]:
        """Attention and feed-forward of every block, without cross-attention, whose cost is of two lengths."""
        return [layer for block in self.blocks for layer in (block.attention, block.ffn)]  # type: ignore[misc]
