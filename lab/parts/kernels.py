"""Matrix products and attention over a visibility: which kernel computes them is chosen here, nowhere else."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.layout import Layout
from lab.parts import onednn, repeated
from lab.parts.explicit import PLAIN, Scoring, explicit_attention, seen_pairs
from lab.parts.short import short_attention
from lab.parts.tiled import Piece, pieces, tiled_attention
from lab.parts.visibility import BLOCK, Tile, Visibility, additive

LARGE = 1 << 16
"""Numbers in a weight from which on a product with few rows is sliced."""

MANY = 256
"""Keys of all rows from which on one query of each is quicker without the fused kernel."""

SLICES = 8
"""Of such a weight; as many whatever the number of threads, which therefore changes no result."""

SHORT = 512
"""Tokens of a row up to which all rows together may be written out: in longer ones the fused CPU kernel skips what causality
hides, and the weights that are kept would be many.
"""

TILE_COST = 20_000
"""Pairs of query and key, over rows and heads, that the fused CPU kernel scores in the time that starting it takes."""

HEAD_COST = 800
"""The same for one row and head of a tile."""

MASKED = 0.5
"""What a pair costs under a mask; in a causal tile, where the kernel skips what is hidden in blocks, it costs as much."""

WRITTEN = 1 / 3
"""The same where short rows are written out, hidden pairs included."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias`: `[..., inputs]` with `[outputs, inputs]` and `[outputs]` to `[..., outputs]`."""
    if (again := _again(x, weight, bias)) is not None:
        return again
    if onednn.fits(x, weight):
        return onednn.LinearByOneDNN.run(x, weight, bias)
    return _sliced(x, weight, bias) if _few(x, weight) else F.linear(x, weight, bias)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`linear` of `[rows, inputs]`, inside functions that bring their own gradient."""
    if (again := _again(x, weight, bias)) is not None:
        return again
    if onednn.fits(x, weight):
        return onednn.product(x, weight, bias)
    return _sliced(x, weight, bias) if _few(x, weight) else F.linear(x, weight, bias)


def _again(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
    """The product by what is kept of a weight that a model generates with, if it is and no gradient is recorded."""
    kept = repeated.known(weight)
    return None if kept is None or torch.is_grad_enabled() else kept.product(x, weight, bias)


def _few(x: Tensor, weight: Tensor) -> bool:
    """Whether rows are so few that torch's product of them and a large weight leaves cores idle, as MKL does but on Intel's."""
    return (
        not onednn.intel()
        and x.numel() < onednn.ROWS * x.shape[-1]
        and weight.numel() >= LARGE
        and len(weight) % SLICES == 0
        and weight.is_contiguous()
        and x.device.type == "cpu"
    )


def _sliced(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`linear` as a batch of products with slices of the weight, of which each core takes some."""
    rows = x.reshape(-1, x.shape[-1])
    slices = weight.unflatten(0, (SLICES, -1)).mT
    out = torch.bmm(rows.expand(SLICES, -1, -1), slices).transpose(0, 1).reshape(*x.shape[:-1], len(weight))
    return out if bias is None else out + bias.to(out.dtype)


def outer(left: Tensor, right: Tensor) -> Tensor:
    """`left.T @ right` of `[rows, n]` and `[rows, m]`, a weight's gradient, inside functions that bring their own."""
    return onednn.outer(left, right) if onednn.fits(left, right) else left.T @ right


def spare_rows(rows: int, like: Tensor) -> int:
    """How many more rows a product is better given, where their number is another at every step; at most 1 in 32, or 15."""
    return onednn.rounded(rows) - rows if rows >= onednn.ROWS and onednn.fits(like, like) else 0


def in_precision(*tensors: Tensor | None) -> tuple[Any, ...]:
    """Operands of a product as mixed precision wants them, those that are none left so; unchanged without it."""
    device = next(x.device.type for x in tensors if x is not None)
    if not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(x if x is None or x.dtype == torch.float64 else x.to(dtype) for x in tensors)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    visibility: Visibility,
    scoring: Scoring = PLAIN,
    keys: Layout | None = None,
) -> Tensor:
    """Scaled dot-product attention over what the visibility allows (Vaswani et al. 2017, equation 1).

    Args:
        query: `[batch, queries, heads, width]`.
        key: `[batch, keys, kv_heads, width]`; each serves `heads / kv_heads` query heads.
        value: `[batch, keys, kv_heads, value width]`.
        layout: of the queries.
        visibility: which pairs are scored.
        scoring: how.
        keys: layout of the keys; none where they are the same tokens as the queries.

    Returns:
        `[batch, queries, heads, value width]`. What padding gets is finite and means nothing.
    """
    scale = query.shape[-1] ** -0.5 if scoring.scale is None else scoring.scale
    full = layout.plain and not visibility.narrow and scoring.sink is None
    short = keys is None and _short(query, key, value, scoring)
    if short and not scoring.fused:
        bias = None if scoring.bias is None else scoring.bias(layout, layout)
        tiles = _blocks(layout, visibility)
        return short_attention(query, key, value, tiles, scale, scoring.softcap, bias, scoring.dropout)
    # Of a full two-sided row torch's kernel scores no pair in vain.
    if short and (visibility.causal or not full) and _plan(layout, visibility, query.shape[2], short).together:
        return short_attention(query, key, value, _blocks(layout, visibility), scale)
    if not scoring.fused or (scoring.sink is not None and (keys is not None or query.device.type != "cpu")):
        return explicit_attention(query, key, value, layout, visibility, scoring, keys)
    if keys is not None:
        last = layout.documents.shape[1] == 1 and visibility.causal and not visibility.narrow and keys.single
        if last and query.dtype == torch.float32 and query.device.type == "cpu" and len(key) * key.shape[1] >= MANY:
            return _last(query, key, value, scale)
        mask = None if last else _mask(layout, keys, visibility, query.dtype)
        return _fused(query, key, value, mask, False, scale)
    if full:
        return _fused(query, key, value, None, visibility.causal, scale)
    if query.device.type == "cuda":
        # Imported here: its compiler takes a second that no run on a CPU should pay.
        from lab.parts.flex import flexible_attention

        return flexible_attention(query, key, value, layout, visibility, scale)
    if query.device.type != "cpu":
        return _fused(query, key, value, _mask(layout, layout, visibility, query.dtype), False, scale)
    groups = query.shape[2] // key.shape[2]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=2), value.repeat_interleave(groups, dim=2)
    width = max(query.shape[-1], value.shape[-1])
    q, k, v = (F.pad(x, (0, width - x.shape[-1])) if x.shape[-1] < width else x for x in (query, key, value))
    plan = _plan(layout, visibility, query.shape[2], short)
    return tiled_attention(q, k, v, scoring.sink, plan.pieces, scale)[..., : value.shape[-1]]


def _fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Tensor:
    out = F.scaled_dot_product_attention(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        attn_mask=mask,
        is_causal=causal,
        scale=scale,
        enable_gqa=query.shape[2] != key.shape[2],
    )
    return out.transpose(1, 2)


def _last(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Of one query a row that sees all keys: the heads that share keys as one product, where the fused kernel reads them head
    by head.
    """
    batch, _, heads, width = query.shape
    queries = query.reshape(batch * key.shape[2], -1, width)
    keys, values = key.transpose(1, 2).flatten(0, 1), value.transpose(1, 2).flatten(0, 1)
    scores = torch.bmm(queries * scale, keys.mT)
    return torch.bmm(scores.softmax(-1), values).view(batch, 1, heads, -1)


def _short(query: Tensor, key: Tensor, value: Tensor, scoring: Scoring) -> bool:
    """Whether rows may be written out: short ones on a CPU, in one precision, that nobody looks into."""
    precise = query.dtype == key.dtype == value.dtype and query.dtype in (torch.float32, torch.float64)
    on_cpu = query.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return on_cpu and precise and query.shape[1] <= SHORT and scoring.sink is None and scoring.watch is None


class _Plan(NamedTuple):
    """What is computed on a CPU.

    Attributes:
        pieces: one after the other.
        together: each is of all rows, and has queries of its own.
    """

    pieces: list[Piece]
    together: bool


def _plan(layout: Layout, visibility: Visibility, heads: int, short: bool) -> _Plan:
    """The cheaper of two ways, found once for all layers that share it: document by document, or all rows at once under a mask,
    as where documents are many and short; `short` rows would be written out.
    """

    def make() -> _Plan:
        batch, time = layout.documents.shape
        if layout.plain:
            apart = pieces(visibility, [(slice(0, batch), 0, time)])
        else:
            apart = pieces(visibility, [(slice(row, row + 1), start, stop) for row, start, stop in layout.segments])
        together = [Piece(slice(0, None), tile, first=True) for tile in _blocks(layout, visibility)]
        plans = _Plan(apart, together=False), _Plan(together, together=True)
        return min(plans, key=lambda plan: _cost(plan, batch, heads, short))

    return layout.once(("plan", visibility.identity, short), make)


def _cost(plan: _Plan, batch: int, heads: int, short: bool) -> float:
    """In pairs scored. Under a mask hidden pairs are scored too."""
    # The kernel called once, as of rows of one document each, has no start beside it.
    total = float((len(plan.pieces) - (not plan.together)) * TILE_COST)
    for piece in plan.pieces:
        tile, rows = piece.tile, len(range(batch)[piece.rows])
        queries, keys = (len(range(x.start, x.stop, x.step or 1)) for x in (tile.queries, tile.keys))
        fused = 0.5 if tile.causal else 1.0 if tile.mask is None else MASKED
        pairs = queries * keys * (WRITTEN if short and plan.together else fused)
        total += rows * heads * tile.columns * (pairs + HEAD_COST)
    return total


def _blocks(layout: Layout, visibility: Visibility) -> list[Tile]:
    """All rows at once: blocks of queries against what their tokens could reach, documents and pattern in a mask."""

    def make() -> list[Tile]:
        time = layout.documents.shape[1]
        rows = Layout.full(1, time, layout.documents.device) if layout.plain else layout
        block, tiles = max(BLOCK, -(-time // 8)), []
        for start in range(0, time, block):
            stop = min(start + block, time)
            first, last = visibility.reach(start, stop, time)
            seen = seen_pairs(rows.part(start, stop), rows.part(first, last), visibility)
            mask = None if seen.all() else additive(seen).unsqueeze(1)
            tiles.append(Tile(slice(start, stop), slice(first, last), mask=mask))
        return tiles

    return layout.once(("blocks", visibility.identity), make)


def _mask(query: Layout, key: Layout, visibility: Visibility, dtype: torch.dtype) -> Tensor:
    """`[1 or batch, 1, queries, keys]`, added to scores: 0 where a pair is seen, else minus infinity; made once for all layers
    that share it.
    """

    def make() -> Tensor:
        mine, other = query, key
        if query is key and query.plain:
            mine = other = Layout.full(1, query.documents.shape[1], query.documents.device)
        return additive(seen_pairs(mine, other, visibility)).to(dtype).unsqueeze(1)

    return query.once(("mask", visibility.identity, None if key is query else key, dtype), make)
