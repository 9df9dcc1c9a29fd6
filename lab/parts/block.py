"""The block: layers around the residual stream. Where the norms stand is its one choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from lab.layout import Layout
from lab.parts.attention import Memory
from lab.parts.cache import LayerCache
from lab.parts.position import Position


class Block(nn.Module):
    """Attention, cross-attention in a decoder that looks at an encoder, and feed-forward. A kind of block says how one of
    these layers changes the stream.

    Args:
        dim: width of the model.
        attention, ffn: the two layers.
        norm: makes a norm from `dim`.
        cross: attention to another stack, between the two; none in a model of one stack.
        layers: blocks in the stack.
        encoder_layers: blocks in the stack that this one looks at; 0 for none.
        decoder_layers: blocks in the stack that looks at this one; 0 for none.
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
        cross: nn.Module | None = None,
        layers: int = 1,
        encoder_layers: int = 0,
        decoder_layers: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"model.dropout: {dropout}; choose from 0 to under 1")
        self.dim, self.layers = dim, layers
        self.encoder_layers, self.decoder_layers = encoder_layers, decoder_layers
        self.attention_norm, self.attention = norm(dim=dim), attention
        self.cross_norm: nn.Module | None = None if cross is None else norm(dim=dim)
        self.cross: Any = cross
        self.ffn_norm, self.ffn = norm(dim=dim), ffn
        self.dropout = nn.Dropout(dropout)

    def gain(self, role: str) -> float:
        """What initial values of the matrix with this name in its layer are multiplied by."""
        return 1.0

    def dropped(self, added: Tensor) -> Tensor:
        """What a layer adds, with dropout."""
        return self.dropout(added) if self.training else added

    def change(self, x: Tensor, name: str, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """The stream after one layer, `attention`, `cross` or `ffn`; the norm beside it is called after it."""
        raise NotImplementedError

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        position: Position,
        cache: LayerCache | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        """The stream after this block."""
        x = self.change(x, "attention", lambda y: self.attention(y, layout, position, cache))
        if self.cross is not None:
            x = self.change(x, "cross", lambda y: self.cross.cross(y, layout, memory, cache))
        return self.change(x, "ffn", lambda y: self.ffn(y, layout, cache))


class PreNorm(Block):
    """Each layer reads a normalised copy; the stream itself is only added to (GPT-2; Xiong et al. 2020)."""

    def change(self, x: Tensor, name: str, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """`x + layer(norm(x))`."""
        return x + self.dropped(layer(getattr(self, f"{name}_norm")(x)))


class PostNorm(Block):
    """The stream is normalised after each addition (Vaswani et al. 2017, section 3.1)."""

    final_norm = False

    def change(self, x: Tensor, name: str, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """`norm(x + layer(x))`."""
        return getattr(self, f"{name}_norm")(x + self.dropped(layer(x)))


class DeepNorm(Block):
    """Post-norm for hundreds of layers: the stream counts more than what is added, and what is added starts smaller (Wang et
    al. 2022, figure 2).
    """

    final_norm = False

    def __init__(self, norm: Callable[..., nn.Module], **settings) -> None:
        super().__init__(norm=norm, **settings)
        if self.decoder_layers:
            depth = self.layers**4 * self.decoder_layers
            self.share, self.start = 0.81 * depth**0.0625, 0.87 * depth**-0.0625
        else:
            each = 3 if self.encoder_layers else 2
            self.share, self.start = (each * self.layers) ** 0.25, (4 * each * self.layers) ** -0.25

    def gain(self, role: str) -> float:
        """Values, what they become, and the feed-forward layer start smaller; what only decides where to look does not."""
        return self.start if role in ("value", "output", "gate", "up", "down") else 1.0

    def change(self, x: Tensor, name: str, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """`norm(share * x + layer(x))`."""
        return getattr(self, f"{name}_norm")(self.share * x + self.dropped(layer(x)))


class Sandwich(Block):
    """A norm before each layer and another on what it adds (CogView, Ding et al. 2021, section 2.4; Gemma 2, 2024)."""

    def __init__(self, norm: Callable[..., nn.Module], **settings) -> None:
        super().__init__(norm=norm, **settings)
        self.attention_out_norm, self.ffn_out_norm = norm(dim=self.dim), norm(dim=self.dim)
        self.cross_out_norm = None if self.cross is None else norm(dim=self.dim)

    def change(self, x: Tensor, name: str, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """`x + norm(layer(norm(x)))`."""
        added = layer(getattr(self, f"{name}_norm")(x))
        return x + self.dropped(getattr(self, f"{name}_out_norm")(added))


class Parallel(Block):
    """All layers side by side, of one normalised copy (GPT-J 2021; PaLM, Chowdhery et al. 2022, section 2)."""

    def __init__(self, norm: Callable[..., nn.Module], **settings) -> None:
        super().__init__(norm=norm, **settings)
        del self.ffn_norm, self.cross_norm

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        position: Position,
        cache: LayerCache | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        """`x + attention(norm(x)) + cross(norm(x)) + ffn(norm(x))`."""
        read = self.attention_norm(x)
        x = x + self.dropped(self.attention(read, layout, position, cache))
        if self.cross is not None:
            x = x + self.dropped(self.cross.cross(read, layout, memory, cache))
        return x + self.dropped(self.ffn(read, layout, cache))
