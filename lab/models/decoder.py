"""A decoder: predicts each token from those before it (GPT, Radford et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor, nn

from lab.layout import Layout
from lab.parts.block import Block
from lab.parts.embedding import Embedding
from lab.parts.experts import MixtureOfExperts
from lab.parts.kernels import IGNORE
from lab.parts.linear import count
from lab.parts.position import Position


class Decoder(nn.Module):
    """Embedding, blocks, norm, head. Every part is given as a callable that is completed with what only the model knows.

    Args:
        vocab_size: tokens in the vocabulary.
        dim: width.
        layers: number of blocks.
        heads: query heads in each attention.
        context: tokens in a row, as trained.
        embedding: called with `vocab_size`, `dim`.
        position: called with `dim`, `head_dim`, `context`.
        pattern: called with `causal`, `layer`; gives a visibility.
        attention: called with `dim`, `heads`, `visibility`.
        ffn: called with `dim`, `layer`.
        norm: called with `dim`.
        block: called with `dim`, `attention`, `ffn`, `norm`.
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
        self.position = position(dim=dim, head_dim=dim // heads, context=context)

        def layer(i: int) -> Block:
            visibility = pattern(causal=True, layer=i)
            heart = attention(dim=dim, heads=heads, visibility=visibility)
            return block(dim=dim, attention=heart, ffn=ffn(dim=dim, layer=i), norm=norm)

        self.blocks = nn.ModuleList(layer(i) for i in range(layers))
        self.norm = norm(dim=dim) if self.blocks[-1].final_norm else nn.Identity()

    def hidden(self, tokens: Tensor, layout: Layout | None = None) -> Tensor:
        """What enters the head: `[batch, time]` int64 to `[batch, time, dim]`."""
        layout = layout or Layout.full(*tokens.shape, device=tokens.device)
        x = self.position.embed(self.embedding(tokens), layout)
        for block in self.blocks:
            x = block(x, layout, self.position)
        return self.norm(x)

    def forward(self, tokens: Tensor, layout: Layout | None = None) -> Tensor:
        """Scores of the next token: `[batch, time]` int64 to `[batch, time, vocab]`."""
        return self.embedding.logits(self.hidden(tokens, layout))

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

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs on documents of these lengths, over the visible pairs; a training step takes three times that."""
        head = 2 * self.embedding.scorer.numel() * np.asarray(lengths)
        return head + sum(block.attention.flops(lengths) + block.ffn.flops(lengths) for block in self.blocks)
