"""The KV cache: what attention keeps of past tokens, so that generating computes each token once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lab.layout import PADDING, Layout


class Cache:
    """The caches of all layers, and the layout of the tokens that went into them.

    Rows may begin with padding but not end with it, so that the last tokens of all rows stand together.

    Args:
        layers: the cache of each layer, in order.
        batch: rows.
        length: tokens of a row that it has room for.
    """

    ahead = 256
    """Tokens to come that are laid out at once; each step takes its part."""

    def __init__(self, layers: Sequence[LayerCache], batch: int, length: int) -> None:
        self.layers, self.batch, self.length = list(layers), batch, length
        self.layout: Layout | None = None
        self._ahead: Layout | None = None

    @property
    def seen(self) -> int:
        """Tokens of each row so far, padding included."""
        return 0 if self.layout is None else self.layout.documents.shape[1]

    @property
    def bytes(self) -> int:
        """Memory that the caches hold."""
        return sum(layer.bytes for layer in self.layers)

    def advance(self, tokens: Tensor, layout: Layout | None = None) -> Layout:
        """Make room for more tokens, `[batch, time]`; gives their layout.

        Args:
            tokens: what comes next in each row.
            layout: theirs; by default they continue each row's last document.

        Raises:
            ValueError: other rows than it was made for, no room left, or rows that end with padding.
        """
        batch, time = tokens.shape
        if batch != self.batch:
            raise ValueError(f"this cache holds {self.batch} rows, got {batch}")
        if self.seen + time > self.length:
            raise ValueError(
                f"this cache has room for {self.length} tokens a row, {self.seen} are in it, got {time} more"
            )
        if layout is None and self.layout is not None:
            layout = self._continued(time)
        else:
            layout = Layout.full(batch, time, tokens.device) if layout is None else layout
            if layout.padded and bool(layout.padding[:, -1].any()):
                raise ValueError("a row that is to be continued cannot end with padding; pad it at the beginning")
            self.layout, self._ahead = layout if self.layout is None else self.layout.followed_by(layout), None
        for layer in self.layers:
            layer.whole = self.layout
        return layout

    def reorder(self, rows: Tensor) -> None:
        """Each row becomes a copy of the one with that number, `[batch]` int64, as beam search asks for."""
        if self.layout is not None and not self.layout.single:
            self.layout, self._ahead = self.layout.rows(rows), None
        for layer in self.layers:
            layer.reorder(rows)
            layer.whole = self.layout

    def _continued(self, time: int) -> Layout:
        """Of the next tokens, where they continue each row's last document."""
        assert self.layout is not None
        before, seen = self.layout, self.seen
        if self._ahead is None or self._ahead.documents.shape[1] < seen + time:
            more = max(time, min(self.ahead, self.length - seen))
            step = torch.arange(1, more + 1, device=before.documents.device)
            rest = Layout(
                before.documents[:, -1:].expand(-1, more),
                before.positions[:, -1:] + step,
                before.span + more,
                single=before.single,
            )
            rest.once("places", lambda: before.places[:, -1:] + step)
            self._ahead = before.followed_by(rest)
        span = before.span + time
        self.layout = self._ahead.part(0, seen + time, span)
        return self._ahead.part(seen, seen + time, span)


class LayerCache:
    """The last `length` tokens of one layer.

    Args:
        batch: rows.
        length: tokens of each row that are kept; the oldest give way.
        shapes: of what is kept for a token, such as keys and values.
    """

    def __init__(
        self, batch: int, length: int, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.length, self.held = length, 0
        # Head by head, as attention reads them.
        self.kept = [
            torch.empty(batch, *shape[:-1], length, shape[-1], dtype=dtype, device=device).movedim(-2, 1)
            for shape in shapes
        ]
        self.whole: Layout | None = None
        self.remembered: tuple[Tensor, ...] | None = None
        self.chosen: Tensor | None = None

    @property
    def bytes(self) -> int:
        """Memory of what attention reads."""
        return sum(x.numel() * x.element_size() for x in (*self.kept, *(self.remembered or ())))

    def across(self, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Keys and values, or latents, of what cross-attention looks at, made the first time."""
        if self.remembered is None:
            self.remembered = make()
        return self.remembered

    def reorder(self, rows: Tensor) -> None:
        """Each row becomes a copy of the one with that number."""
        for kept in self.kept:
            kept[:, : self.held] = kept[rows, : self.held]
        if self.remembered is not None:
            self.remembered = tuple(kept[rows] for kept in self.remembered)
        if self.chosen is not None:
            self.chosen = self.chosen[rows]

    def choices(self, new: Tensor) -> tuple[Tensor, Layout]:
        """Take in which experts new tokens ask for, `[batch, time, top_k]`; gives all so far, and their layout."""
        assert self.whole is not None  # Cache.advance comes first
        self.chosen = new if self.chosen is None else torch.cat([self.chosen, new], dim=1)
        return self.chosen, self.whole

    def extend(self, *new: Tensor) -> tuple[Sequence[Tensor], Layout | None]:
        """Take in what new tokens bring, each `[batch, time, ...]`; gives all that they may see, themselves included, and its
        layout, or none where that is themselves alone.
        """
        assert self.whole is not None  # Cache.advance comes first
        time = new[0].shape[1]
        if not self.held:
            self.held = min(time, self.length)
            for kept, more in zip(self.kept, new, strict=True):
                kept[:, : self.held] = more[:, -self.held :]
            return new, None
        end = self.held + time
        if end <= self.length:
            for kept, more in zip(self.kept, new, strict=True):
                kept[:, self.held : end] = more
            self.held = end
            found = [kept[:, :end] for kept in self.kept]
        else:
            found = [torch.cat([kept[:, : self.held], more], dim=1) for kept, more in zip(self.kept, new, strict=True)]
            for kept, everything in zip(self.kept, found, strict=True):
                kept.copy_(everything[:, -self.length :])
            self.held = self.length
        seen = self.whole.documents.shape[1]
        visible = found[0].shape[1]
        whole = self.whole
        layout = whole if visible == seen else whole.once(("last", visible), lambda: whole.part(seen - visible, seen))
        return found, layout


def left_padded(lengths: Sequence[int], device: torch.device | str | None = None) -> Layout:
    """Rows of one document each that end together: what prompts of unequal lengths are generated from."""
    width = max(lengths)
    index = torch.arange(width, device=device).unsqueeze(0)
    begins = (width - torch.tensor(lengths, device=device)).unsqueeze(1)
    documents = torch.where(index < begins, PADDING, 0)
    padded = min(lengths) < width
    return Layout(documents, (index - begins).clamp_min(0), width, padded, single=not padded, plain=not padded)
