"""Rows of a table, looked up, summed and compared, whose gradients cost what was read and not what the table holds."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function


def looked_up(table: Tensor, places: Tensor, sparse: bool = False) -> Tensor:
    """Rows of a table: `[rows, dim]` at `[...]` int64 to `[..., dim]`.

    Args:
        table: what is read.
        places: which rows.
        sparse: the table's gradient is sparse, each row once and in order, in place of as large as the table.
    """
    return _Sums.apply(table, places.flatten(), None, None, None, sparse).view(*places.shape, table.shape[1])


def summed(
    table: Tensor, places: Tensor, owners: Tensor, sums: int, weights: Tensor | None = None, sparse: bool = False
) -> Tensor:
    """Sums of rows of a table: `[rows, dim]` to `[sums, dim]`.

    Args:
        table, sparse: as for `looked_up`.
        places: `[read]` int64, which rows.
        owners: `[read]` int64, ascending, the sum that each is of.
        sums: how many there are.
        weights: `[read]`, how much each counts, without a gradient; by default 1.
    """
    return _Sums.apply(table, places, owners, sums, weights, sparse)


def products(left: Tensor, right: Tensor, pairs: Tensor) -> Tensor:
    """Of paired rows, `left[pairs[0]] * right[pairs[1]]` summed: `[rows, dim]` twice, `[2, pairs]` int64, to `[pairs]`."""
    return _Products.apply(left, right, pairs)


def gathered(gradient: Tensor) -> Tensor:
    """A sparse gradient with each row once and in order. One that already is so is not sorted again, which it has
    forgotten on the way through autograd.
    """
    rows = gradient._indices()[0]
    if (rows[1:] > rows[:-1]).all():
        return gradient._coalesced_(True)
    return gradient.coalesce()


class _Sums(Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, places: Tensor, owners: Any, sums: Any, weights: Any, sparse: bool) -> Tensor:
        ctx.save_for_backward(places, owners, weights)
        ctx.shape, ctx.sparse = table.shape, sparse
        if owners is None:
            return table.index_select(0, places)
        return _bags(table, places, owners.bincount(minlength=sums), weights)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        places, owners, weights = ctx.saved_tensors
        rows, counts, order = _sorted(places)
        read = order if owners is None else owners[order]
        values = _bags(gradients[0], read, counts, None if weights is None else weights[order])
        gradient = torch.sparse_coo_tensor(rows[None], values, ctx.shape, is_coalesced=True, check_invariants=False)
        return gradient if ctx.sparse else gradient.to_dense(), None, None, None, None, None


class _Products(Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, pairs: Tensor) -> Tensor:
        ctx.save_for_backward(left, right, pairs)
        with torch.autocast(left.device.type, enabled=False):  # what is read costs more than its product
            return torch.linalg.vecdot(left.index_select(0, pairs[0]), right.index_select(0, pairs[1]))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        left, right, (first, second) = ctx.saved_tensors
        return (
            _spread(gradients[0], first, second, left, right),
            _spread(gradients[0], second, first, right, left),
            None,
        )


def _spread(gradient: Tensor, mine: Tensor, others: Tensor, like: Tensor, table: Tensor) -> Tensor:
    """What pairs with gradients `[pairs]` give to the rows of one side, from those of the other."""
    order = mine.argsort(stable=True)
    return _bags(table, others[order], mine.bincount(minlength=len(like)), gradient[order])


def _sorted(places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The places that are there, ascending; how often each is; and an order that brings equal ones together."""
    ordered, order = places.sort(stable=True)
    rows, counts = ordered.unique_consecutive(return_counts=True)
    return rows, counts, order


def _bags(table: Tensor, places: Tensor, counts: Tensor, weights: Tensor | None) -> Tensor:
    """Sums of the first so many rows, of the next so many, ..."""
    return F.embedding_bag(places, table, counts.cumsum(0) - counts, mode="sum", per_sample_weights=weights)
