"""How a model knows the order of tokens.

A position may add to the embeddings, rotate queries and keys, or bias scores: three methods that do nothing by default.
One position serves all layers, unless it says otherwise. What it counts is `Layout.positions`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lab.layout import Layout
from lab.values import is_number


class Position(nn.Module):
    """No position at all (`position=none`); the order shows only through the causal mask (NoPE, Kazemnejad et al. 2023).

    Args:
        dim: width of the model.
        head_dim: width of a head.
        context: tokens in a row, as trained.
        heads: query heads in each attention.
        causal: tokens see earlier ones alone.
    """

    rotates = False
    """It turns queries and keys."""

    distances = False
    """It reads the distance of two tokens off their positions, which rise by one in a document, and must not restart where
    attention goes on.
    """

    def __init__(self, dim: int, head_dim: int, context: int, heads: int = 1, causal: bool = True) -> None:
        super().__init__()
        self.dim, self.head_dim, self.context, self.heads, self.causal = dim, head_dim, context, heads, causal

    def at(self, layer: int) -> Position:
        """What serves a layer, counted from 0."""
        return self

    def check_width(self, width: int) -> None:
        """Refuse to turn vectors of this width.

        Raises:
            ValueError: the position's settings are of another one.
        """

    def embed(self, x: Tensor, layout: Layout) -> Tensor:
        """Token embeddings `[batch, time, dim]` with what the position adds."""
        return x

    def rotate(self, x: Tensor, layout: Layout) -> Tensor:
        """Queries or keys `[batch, time, heads, head_dim]`, turned by their position."""
        return x

    def renews(self, length: int) -> bool:
        """What was computed of a document turns out otherwise once it has so many tokens, and did not with one less."""
        return False

    def bias(self, query: Layout, key: Layout) -> Tensor | None:
        """What is added to scores, broadcastable to `[batch, heads, queries, keys]`, finite for hidden pairs too; none for
        nothing.
        """
        return None


class Table(Position):
    """A position whose values are rows of a fixed table, one a position; the table grows as rows get longer."""

    def __init__(self, dim: int, head_dim: int, context: int, heads: int = 1, causal: bool = True) -> None:
        super().__init__(dim, head_dim, context, heads, causal)
        self._tables: dict[int, Tensor] = {}

    def values(self, positions: Tensor, width: int) -> Tensor:
        """`[positions, ...]` float32 from `[positions]`, for vectors of this width."""
        raise NotImplementedError

    def rows(self, layout: Layout, width: int) -> Tensor:
        """The table's rows at a layout's positions: `[1 or batch, time, ...]`."""
        device = layout.positions.device
        table = self._tables.get(width)
        if table is None or len(table) < layout.span or table.device != device:
            with torch.inference_mode(False):  # or training could not use what generating made
                table = self.values(torch.arange(max(layout.span, self.context), device=device), width)
            self._tables[width] = table
        if layout.plain:
            return table[: layout.positions.shape[1]].unsqueeze(0)
        return layout.once((self, width, "rows"), lambda: table[layout.positions])


class Learned(Position):
    """A trained vector for each position up to the model's context (Gehring et al. 2017; GPT-2, BERT).

    Raises:
        ValueError: at a row longer than the context it was made for.
    """

    def __init__(self, dim: int, head_dim: int, context: int, heads: int = 1, causal: bool = True) -> None:
        super().__init__(dim, head_dim, context, heads, causal)
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

    def __init__(
        self, dim: int, head_dim: int, context: int, heads: int = 1, causal: bool = True, base: float = 10_000.0
    ) -> None:
        super().__init__(dim, head_dim, context, heads, causal)
        if dim % 2:
            raise ValueError(f"position=sinusoidal pairs sines with cosines: model.dim must be even, got {dim}")
        self.base = over_zero("base", base)

    def values(self, positions: Tensor, width: int) -> Tensor:
        """`[positions, width]`."""
        angles = torch.outer(positions.float(), frequencies(width, self.base, positions.device))
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)

    def embed(self, x: Tensor, layout: Layout) -> Tensor:
        """Embeddings plus the wave of each position."""
        return x + self.rows(layout, self.dim).to(x.dtype)


class PerLayer(Position):
    """Positions that differ between layers: layer `i` gets option `i` modulo their number (layers counted from 0).

    Gemma 3 (2025) turns slower in its global layers; SmolLM3 and Llama 4 (2025) leave some without position.

    Args:
        options: called as a position is.

    Raises:
        ValueError: no options.
    """

    def __init__(
        self,
        dim: int,
        head_dim: int,
        context: int,
        options: Sequence[Callable[..., Position]],
        heads: int = 1,
        causal: bool = True,
    ) -> None:
        super().__init__(dim, head_dim, context, heads, causal)
        if not options:
            raise ValueError("position.options: a list that cycles over the layers holds at least 1 option")
        self.options = nn.ModuleList(option(dim, head_dim, context, heads=heads, causal=causal) for option in options)
        self.distances = any(option.distances for option in self.options)

    def at(self, layer: int) -> Position:
        """The option of this layer."""
        return self.options[layer % len(self.options)].at(layer)  # type: ignore[operator]

    def renews(self, length: int) -> bool:
        """If any of them does."""
        return any(option.renews(length) for option in self.options)  # type: ignore[operator]

    def embed(self, x: Tensor, layout: Layout) -> Tensor:
        """Embeddings with what each option adds."""
        for option in self.options:
            x = option.embed(x, layout)  # type: ignore[operator]
        return x


def frequencies(width: int, base: float, device: torch.device | None = None) -> Tensor:
    """`base^(-2i / width)` for `i` under `width / 2`: radians that a pair of coordinates turns from one token to the next."""
    return base ** -(torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)


def over_zero(name: str, value: float) -> float:
    """The setting of a position, if it is over 0.

    Raises:
        ValueError: it is not.
    """
    if not (is_number(value) and value > 0):
        raise ValueError(f"position.{name}: {value}; a number over 0")
    return value
