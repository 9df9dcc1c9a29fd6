"""How a model knows the order of tokens.

A position may add to the embeddings, rotate queries and keys, or bias scores: three methods that do nothing by default.
One position serves all layers. What it counts is `Layout.positions`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lab.layout import Layout


class Position(nn.Module):
    """No position at all (`position=none`); the order shows only through the causal mask (NoPE, Kazemnejad et al. 2023)."""

    def __init__(self, dim: int, head_dim: int, context: int) -> None:
        super().__init__()
        self.dim, self.head_dim, self.context = dim, head_dim, context

    def embed(self, x: Tensor, layout: Layout) -> Tensor:
        """Token embeddings `[batch, time, dim]` with what the position adds."""
        return x

    def rotate(self, x: Tensor, layout: Layout) -> Tensor:
        """Queries or keys `[batch, time, heads, head_dim]`, turned by their position."""
        return x

    def bias(self, query: Layout, key: Layout) -> Tensor | None:
        """What is added to scores, broadcastable to `[batch, heads, queries, keys]`; none for nothing."""
        return None


class Table(Position):
    """A position whose values are rows of a fixed table, one a position; the table grows as rows get longer."""

    def __init__(self, dim: int, head_dim: int, context: int) -> None:
        super().__init__(dim, head_dim, context)
        self._tables: dict[int, Tensor] = {}

    def values(self, positions: Tensor, width: int) -> Tensor:
        """`[positions, ...]` float32 from `[positions]`, for vectors of this width."""
        raise NotImplementedError

    def rows(self, layout: Layout, width: int) -> Tensor:
        """The table's rows at a layout's positions: `[1 or batch, time, ...]`."""
        device = layout.positions.device
        table = self._tables.get(width)
        if table is None or len(table) < layout.span or table.device != device:
            table = self.values(torch.arange(max(layout.span, self.context), device=device), width)
            self._tables[width] = table
        if layout.plain:
            return table[: layout.positions.shape[1]].unsqueeze(0)
        return layout.once((id(self), width, "rows"), lambda: table[layout.positions])


class Learned(Position):
    """A trained vector for each position up to the model's context (Gehring et al. 2017; GPT-2, BERT).

    Raises:
        ValueError: at a row longer than the context it was made for.
    """

    def __init__(self, dim: int, head_dim: int, context: int) -> None:
        super().__init__(dim, head_dim, context)
        self.table = nn.Embedding(context, dim)

    def embed(self, x: Tensor, layout: Layout) -> Tensor:
        """Embeddings plus the vector of each position."""
        if layout.span > self.context:
            raise ValueError(f"a learned position knows {self.context} positions, got a row of {layout.span}")
        positions = layout.positions[:1] if layout.plain else layout.positions
        return x + self.table(positions)


class Sinusoidal(Table):
    """Fixed sines and cosines of falling frequency (Vaswani et al. 2017, section 3.5):

    `PE(pos, 2i) = sin(pos / 10000^(2i/dim))`, `PE(pos, 2i+1) = cos(pos / 10000^(2i/dim))`.
    """

    def __init__(self, dim: int, head_dim: int, context: int, base: float = 10_000.0) -> None:
        super().__init__(dim, head_dim, context)
        if dim % 2:
            raise ValueError(f"position=sinusoidal pairs sines with cosines: model.dim must be even, got {dim}")
        self.base = _over_zero(base)

    def values(self, positions: Tensor, width: int) -> Tensor:
        """`[positions, width]`."""
        angles = _angles(positions, width, self.base)
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)

    def embed(self, x: Tensor, layout: Layout) -> Tensor:
        """Embeddings plus the wave of each position."""
        return x + self.rows(layout, self.dim).to(x.dtype)


class RoPE(Table):
    """Rotary embedding (Su et al. 2021, section 3.4.2): pairs of a head's coordinates turn by an angle that grows with the
    position, so that scores depend on the distance of query and key alone.

    Coordinate `i` is paired with `i + head_dim / 2` (GPT-NeoX's and Llama's order in Hugging Face's code).
    """

    def __init__(self, dim: int, head_dim: int, context: int, base: float = 10_000.0) -> None:
        super().__init__(dim, head_dim, context)
        if head_dim % 2:
            raise ValueError(
                f"position=rope turns pairs of coordinates: the head width model.dim / model.heads must be even, got {head_dim}"
            )
        self.base = _over_zero(base)

    def values(self, positions: Tensor, width: int) -> Tensor:
        """`[positions, 2, 1, width / 2]`: cosines and sines, to be broadcast over heads."""
        angles = _angles(positions, width, self.base)
        return torch.stack([angles.cos(), angles.sin()], dim=1).unsqueeze(-2)

    def rotate(self, x: Tensor, layout: Layout) -> Tensor:
        """`[batch, time, heads, head_dim]`, each pair turned by its angle."""
        cosine, sine = self.rows(layout, x.shape[-1]).to(x.dtype).unbind(2)
        return _Rotation.apply(x, cosine, sine)


class _Rotation(torch.autograd.Function):
    """Turns the two halves of the last dimension. The gradient is the same turn backwards, so nothing of `x` is kept."""

    @staticmethod
    def forward(ctx, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        return _turn(x, cosine, sine, 1)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        cosine, sine = ctx.saved_tensors
        return _turn(gradient, cosine, sine, -1), None, None


def _turn(x: Tensor, cosine: Tensor, sine: Tensor, direction: int) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    left, right = out.chunk(2, dim=-1)
    torch.mul(first, cosine, out=left).addcmul_(second, sine, value=-direction)
    torch.mul(second, cosine, out=right).addcmul_(first, sine, value=direction)
    return out


def _over_zero(base: float) -> float:
    if not base > 0:
        raise ValueError(f"position.base: {base}; a number over 0")
    return base


def _angles(positions: Tensor, width: int, base: float) -> Tensor:
    """`position / base^(2i / width)` for `i` under `width / 2`: `[positions, width / 2]` float32."""
    exponents = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width
    return torch.outer(positions.float(), base**-exponents)
