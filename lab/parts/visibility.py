"""Who sees whom. A visibility answers "may query i see key j" exactly; every fast path in `kernels.py` is tested against it.

Tokens are counted in their document, from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lab.layout import Layout

BLOCK = 64
"""Queries in a tile of a narrow pattern, at least: smaller ones keep a core busy with starting."""
DERIVED = 256
"""Queries in a tile that follows from `near` alone."""


@dataclass(frozen=True)
class Tile:
    """Pairs of a document that are computed together: `queries` against `keys`, slices of its tokens.

    Attributes:
        causal: query n of the tile sees its keys 0 to n.
        mask: `[..., queries, keys]` float32, 0 where a pair is seen, else minus infinity; none where all are.
        columns: so many tiles, each one token to the right of the one before.
    """

    queries: slice
    keys: slice
    causal: bool = False
    mask: Tensor | None = None
    columns: int = 1


class Visibility:
    """Full attention: within its document a token sees every earlier one and itself (or every one, if not causal).

    A pattern narrows that down: it overrides `near`, which defines it. `pairs` and `tiles` follow from that, at the price of
    looking at every allowed pair; a pattern that leaves most of them out overrides these and `reach` too, to be fast.
    """

    by_layer = True
    """Whether layers with the same settings may see differently."""

    def __init__(self, causal: bool = True, layer: int = 0) -> None:
        self.causal = causal
        self.layer = layer

    def near(self, query: Tensor, key: Tensor) -> Tensor | None:
        """Which of the allowed pairs the pattern keeps, from the places of both in their document; none for all. A token keeps
        itself.

        Shapes: anything that broadcasts, such as `[batch, queries, 1]` and `[batch, 1, keys]`.
        """
        return None

    @property
    def narrow(self) -> bool:
        """Whether this is a pattern that leaves pairs out."""
        return type(self).near is not Visibility.near

    def sees(self, query: Layout, key: Layout) -> Tensor:
        """`[batch, queries, keys]` bool: may query i see key j. Rows of padding see nothing and are seen by none."""
        i, j = query.places.unsqueeze(2), key.places.unsqueeze(1)
        seen = (query.documents.unsqueeze(2) == key.documents.unsqueeze(1)) & ~key.padding.unsqueeze(1)
        if self.causal:
            seen &= j <= i
        near = self.near(i, j)
        return seen if near is None else seen & near

    def pairs(self, lengths: np.ndarray) -> np.ndarray:
        """How many pairs of query and key are visible in documents of these lengths."""
        lengths = np.asarray(lengths, dtype=np.int64)
        if self.narrow:
            each, places = np.unique(lengths, return_inverse=True)
            seen = [
                sum(int(tile.mask.isfinite().sum()) for tile in self._masked(length) if tile.mask is not None)
                for length in each.tolist()
            ]
            return np.array(seen, dtype=np.int64)[places].reshape(lengths.shape)
        return lengths * (lengths + 1) // 2 if self.causal else lengths**2

    def tiles(self, length: int) -> Iterator[Tile]:
        """Tiles that together hold each visible pair of a document of so many tokens once."""
        yield from self._masked(length) if self.narrow else self._whole(length)

    def _whole(self, length: int) -> Iterator[Tile]:
        """All allowed pairs as one tile."""
        yield Tile(slice(0, length), slice(0, length), causal=self.causal)

    def _masked(self, length: int) -> Iterator[Tile]:
        """Blocks of queries with all their keys, of which `near` says which are seen."""
        for start in range(0, length, DERIVED):
            stop = min(start + DERIVED, length)
            first, last = self.reach(start, stop, length)
            i, j = torch.arange(start, stop).unsqueeze(1), torch.arange(first, last)
            seen = self.near(i, j)
            assert seen is not None, "a pattern's `near` says which pairs it keeps"
            yield Tile(slice(start, stop), slice(first, last), mask=additive(seen & (j <= i) if self.causal else seen))

    def reach(self, start: int, stop: int, length: int) -> tuple[int, int]:
        """Bounds of the tokens that tokens `start` to `stop` of a row of `length` can see."""
        return 0, stop if self.causal else length

    def kept(self, length: int) -> int:
        """How many of the last `length` tokens those that follow can still see: what a cache has to hold."""
        return length

    @cached_property
    def identity(self) -> Hashable:
        """Equal for two that see the same."""
        settings = {k: v for k, v in vars(self).items() if k != "identity" and (self.by_layer or k != "layer")}
        found = type(self), tuple(sorted(settings.items()))
        try:
            hash(found)
        except TypeError:
            return id(self)
        return found

    def _by_token(self, seen: Callable[[np.ndarray], np.ndarray], lengths: np.ndarray) -> np.ndarray:
        """Pairs of causal documents, from how many tokens the one at each place sees."""
        lengths = np.asarray(lengths, dtype=np.int64)
        sums = np.cumsum(seen(np.arange(lengths.max(initial=0))))
        return np.concatenate([[0], sums])[lengths]


class Full(Visibility):
    """Everything that causality and documents allow."""

    by_layer = False


class Sliding(Visibility):
    """The last `window` tokens, the token itself counted (Longformer, Beltagy et al. 2020; Mistral 7B 2023).

    Two-sided: tokens at a distance under `window`.

    Raises:
        ValueError: a window under 1.
    """

    by_layer = False

    def __init__(self, window: int, causal: bool = True, layer: int = 0) -> None:
        super().__init__(causal, layer)
        self.window = _at_least_one("window", window, "the token itself")

    def near(self, query: Tensor, key: Tensor) -> Tensor:
        """Pairs closer than the window."""
        return (query - key).abs() < self.window

    def pairs(self, lengths: np.ndarray) -> np.ndarray:
        """A full triangle up to the window, then `window` a token."""
        lengths = np.asarray(lengths, dtype=np.int64)
        inside = np.minimum(lengths, self.window)
        causal = inside * (inside + 1) // 2 + (lengths - inside) * self.window
        return causal if self.causal else 2 * causal - lengths

    def tiles(self, length: int) -> Iterator[Tile]:
        """Blocks of queries, each with the keys that one of them can see."""
        if length <= self.window:
            yield from self._whole(length)
            return
        masks: dict[tuple[int, int, int], Tensor] = {}
        block = max(BLOCK, self.window // 2)
        for start in range(0, length, block):
            stop = min(start + block, length)
            first, last = self.reach(start, stop, length)
            shape = stop - start, last - first, start - first
            if shape not in masks:
                i, j = torch.arange(start, stop).unsqueeze(1), torch.arange(first, last)
                seen = self.near(i, j) & (j <= i) if self.causal else self.near(i, j)
                masks[shape] = additive(seen)
            yield Tile(slice(start, stop), slice(first, last), mask=masks[shape])

    def reach(self, start: int, stop: int, length: int) -> tuple[int, int]:
        """The window before the first, and after the last if two-sided."""
        return max(0, start - self.window + 1), stop if self.causal else min(length, stop + self.window - 1)

    def kept(self, length: int) -> int:
        """The window."""
        return min(length, self.window)


class Strided(Visibility):
    """The last `window` tokens, and every token at a distance that is a multiple of `stride` (Sparse Transformer, Child et al.
    2019, section 4.3).

    Two-sided: the same of the distance either way.

    Raises:
        ValueError: a window or stride under 1.
    """

    by_layer = False

    def __init__(self, window: int, stride: int, causal: bool = True, layer: int = 0) -> None:
        super().__init__(causal, layer)
        self.window = _at_least_one("window", window, "the token itself")
        self.stride = _at_least_one("stride", stride, "every token")

    def near(self, query: Tensor, key: Tensor) -> Tensor:
        """Pairs closer than the window or a multiple of the stride apart."""
        distance = (query - key).abs()
        return (distance < self.window) | (distance % self.stride == 0)

    @property
    def _skipped(self) -> int:
        """Multiples of the stride, from 0 on, that the window holds."""
        return -(-self.window // self.stride)

    def pairs(self, lengths: np.ndarray) -> np.ndarray:
        """The window, and the multiples beyond it."""
        causal = self._by_token(
            lambda place: np.minimum(place + 1, self.window) + np.maximum(place // self.stride - self._skipped + 1, 0),
            lengths,
        )
        return causal if self.causal else 2 * causal - np.asarray(lengths)

    def tiles(self, length: int) -> Iterator[Tile]:
        """The window, and the columns: tokens whose places leave the same rest, beyond the window."""
        yield from Sliding(self.window, self.causal).tiles(length)
        beyond = self._skipped * self.stride
        tokens, rest = divmod(max(0, length - beyond), self.stride)
        for first, columns, count in ((0, rest, tokens + 1), (rest, self.stride - rest, tokens)):
            if not columns or not count:
                continue
            span = (count - 1) * self.stride + 1
            earlier = slice(first, first + span, self.stride)
            later = slice(first + beyond, first + beyond + span, self.stride)
            yield Tile(later, earlier, causal=True, columns=columns)
            if not self.causal:
                after = additive(torch.ones(count, count, dtype=torch.bool).triu())
                yield Tile(earlier, later, mask=after, columns=columns)


class Fixed(Visibility):
    """Everything from the last multiple of `stride` before the token, and every earlier multiple (Sparse Transformer, Child et
    al. 2019, section 4.3), tokens counted from 1: the rows are cut into blocks, and the last token of each speaks for it.

    Two-sided: the token's own block, and all multiples.

    Raises:
        ValueError: a stride under 1.
    """

    by_layer = False

    def __init__(self, stride: int, causal: bool = True, layer: int = 0) -> None:
        super().__init__(causal, layer)
        self.stride = _at_least_one("stride", stride, "every token")

    def near(self, query: Tensor, key: Tensor) -> Tensor:
        """Pairs of one block, and the last token of any."""
        return (query // self.stride == key // self.stride) | ((key + 1) % self.stride == 0)

    def pairs(self, lengths: np.ndarray) -> np.ndarray:
        """What the block holds so far, and one for each earlier block."""
        if self.causal:
            return self._by_token(lambda place: place % self.stride + 1 + place // self.stride, lengths)
        lengths = np.asarray(lengths, dtype=np.int64)
        blocks, rest = lengths // self.stride, lengths % self.stride
        return blocks * self.stride**2 + rest**2 + blocks * (lengths - self.stride)

    def tiles(self, length: int) -> Iterator[Tile]:
        """Each block with itself, and with the last tokens of the others."""
        ends = self.stride - 1
        for start in range(0, length, self.stride):
            block = slice(start, min(start + self.stride, length))
            yield Tile(block, block, causal=self.causal)
            if start:
                yield Tile(block, slice(ends, start, self.stride))
            after = start + self.stride + ends
            if not self.causal and after < length:
                yield Tile(block, slice(after, length, self.stride))


def additive(seen: Tensor) -> Tensor:
    """A mask that is added to scores: float32, 0 where seen, else minus infinity."""
    return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, -torch.inf)


def _at_least_one(name: str, value: int, what: str) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"pattern.{name}: {value}; a whole number, at least 1, which is {what}")
    return value
