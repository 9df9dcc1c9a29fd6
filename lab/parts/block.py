"""The block: attention and feed-forward around the residual stream. Where the norm stands is its one choice."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from lab.layout import Layout
from lab.parts.cache import LayerCache
from lab.parts.position import Position


class Block(nn.Module):
    """What the kinds of block share.

    Args:
        dim: width of the model.
        attention, ffn: the two layers.
        norm: makes a norm from `dim`.
        dropout: on what each layer adds to the stream, while training (Vaswani et al. 2017, section 5.4).

    Shapes: `[batch, time, dim] -> [batch, time, dim]`.
    """

    final_norm = True
    """The stream that leaves the last block is not normalised yet."""

    def __init__(
        self,
        dim: int,
        attention: nn.Module,
        ffn: nn.Module,
        norm: Callable[..., nn.Module],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"model.dropout: {dropout}; choose from 0 to under 1")
        self.attention_norm, self.attention = norm(dim=dim), attention
        self.ffn_norm, self.ffn = norm(dim=dim), ffn
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, layout: Layout, position: Position, cache: LayerCache | None = None) -> Tensor:
        """The stream after this block."""
        raise NotImplementedError


class PreNorm(Block):
    """Each layer reads a normalised copy; the stream itself is only added to (GPT-2; Xiong et al. 2020)."""

    def forward(self, x: Tensor, layout: Layout, position: Position, cache: LayerCache | None = None) -> Tensor:
        """`x + layer(norm(x))`, twice."""
        x = x + self.dropout(self.attention(self.attention_norm(x), layout, position, cache))
        return x + self.dropout(self.ffn(self.ffn_norm(x), layout))


class PostNorm(Block):
    """The stream is normalised after each addition (Vaswani et al. 2017, section 3.1)."""

    final_norm = False

    def forward(self, x: Tensor, layout: Layout, position: Position, cache: LayerCache | None = None) -> Tensor:
        """`norm(x + layer(x))`, twice."""
        x = self.attention_norm(x + self.dropout(self.attention(x, layout, position, cache)))
        return self.ffn_norm(x + self.dropout(self.ffn(x, layout)))
