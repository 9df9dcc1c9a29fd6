"""The block: attention and feed-forward around the residual stream. Where the norms stand is its one choice."""

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
        layers: blocks in the model.
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
        layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"model.dropout: {dropout}; choose from 0 to under 1")
        self.dim, self.layers = dim, layers
        self.attention_norm, self.attention = norm(dim=dim), attention
        self.ffn_norm, self.ffn = norm(dim=dim), ffn
        self.dropout = nn.Dropout(dropout)

    def gain(self, role: str) -> float:
        """What initial values of the matrix with this name in its layer are multiplied by."""
        return 1.0

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


class DeepNorm(PostNorm):
    """Post-norm for hundreds of layers: the stream counts more than what is added, and what is added starts smaller (Wang et
    al. 2022, figure 2, for a model that is an encoder or a decoder alone).
    """

    def __init__(self, norm: Callable[..., nn.Module], **settings) -> None:
        super().__init__(norm=norm, **settings)
        self.share = (2 * self.layers) ** 0.25

    def gain(self, role: str) -> float:
        """Values, what they become, and the feed-forward layer start smaller; what only decides where to look does not."""
        return (8 * self.layers) ** -0.25 if role in ("value", "output", "gate", "up", "down") else 1.0

    def forward(self, x: Tensor, layout: Layout, position: Position, cache: LayerCache | None = None) -> Tensor:
        """`norm(share * x + layer(x))`, twice."""
        x = self.attention_norm(self.share * x + self.dropout(self.attention(x, layout, position, cache)))
        return self.ffn_norm(self.share * x + self.dropout(self.ffn(x, layout)))


class Sandwich(Block):
    """A norm before each layer and another on what it adds (CogView, Ding et al. 2021, section 2.4; Gemma 2, 2024)."""

    def __init__(self, norm: Callable[..., nn.Module], **settings) -> None:
        super().__init__(norm=norm, **settings)
        self.attention_out_norm, self.ffn_out_norm = norm(dim=self.dim), norm(dim=self.dim)

    def forward(self, x: Tensor, layout: Layout, position: Position, cache: LayerCache | None = None) -> Tensor:
        """`x + norm(layer(norm(x)))`, twice."""
        added = self.attention(self.attention_norm(x), layout, position, cache)
        x = x + self.dropout(self.attention_out_norm(added))
        return x + self.dropout(self.ffn_out_norm(self.ffn(self.ffn_norm(x), layout)))


class Parallel(Block):
    """Attention and feed-forward side by side, of one normalised copy (GPT-J 2021; PaLM, Chowdhery et al. 2022, section 2)."""

    def __init__(self, norm: Callable[..., nn.Module], **settings) -> None:
        super().__init__(norm=norm, **settings)
        del self.ffn_norm

    def forward(self, x: Tensor, layout: Layout, position: Position, cache: LayerCache | None = None) -> Tensor:
        """`x + attention(norm(x)) + ffn(norm(x))`."""
        read = self.attention_norm(x)
        return x + self.dropout(self.attention(read, layout, position, cache)) + self.dropout(self.ffn(read, layout))
