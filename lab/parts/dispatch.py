"""Tokens to their experts and back, by gathers in both directions and both passes: no sum's order is left to chance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 512
"""Slots whose gradient is computed at a time, so that it is still in the cache when it is used again."""


@dataclass(frozen=True)
class Dispatch:
    """Which token goes where. Slots are the places of an array sorted by expert: all tokens of expert 0, then of expert 1, ...

    Attributes:
        source: `[slots]`, the token of each slot.
        choice: `[slots]`, the place in `[tokens * top_k]` of the choice that each slot serves.
        slots: `[tokens, top_k]`, the slot of each choice; any where it is dropped.
        kept: `[tokens, top_k]` bool, which choices are not dropped; none for all.
        counts: slots of each expert.
    """

    source: Tensor
    choice: Tensor
    slots: Tensor
    kept: Tensor | None
    counts: list[int]

    @classmethod
    def of(cls, chosen: Tensor, experts: int, kept: Tensor | None = None) -> Dispatch:
        """From the experts chosen, `[tokens, top_k]` int64 under `experts`, and which of the choices hold."""
        assigned = chosen if kept is None else chosen.masked_fill(~kept, experts)
        counts = torch.bincount(assigned.flatten(), minlength=experts)[:experts].tolist()
        choice = assigned.flatten().argsort(stable=True)[: sum(counts)]
        slots = torch.zeros_like(chosen).flatten()
        slots[choice] = torch.arange(len(choice), device=chosen.device)
        return cls(choice // chosen.shape[1], choice, slots.view_as(chosen), kept, counts)

    def sum(self, rows: Tensor, weights: Tensor | None) -> Tensor:
        """Each token's weighted sum over its slots: `[slots, dim]` and `[tokens, top_k]` or none to `[tokens, dim]`."""
        if not len(rows):
            return rows.new_zeros(len(self.slots), rows.shape[1])
        return F.embedding_bag(self.slots, rows, mode="sum", per_sample_weights=weights)

    def send(self, tokens: Tensor) -> Tensor:
        """Each slot's token: `[tokens, dim] -> [slots, dim]`."""
        return _Send.apply(tokens, self)

    def combine(self, done: Tensor, weights: Tensor) -> Tensor:
        """Each token's weighted sum over its choices: `[slots, dim]` and `[tokens, top_k]` to `[tokens, dim]`."""
        weights = weights if self.kept is None else weights * self.kept
        return _Combine.apply(done, weights.to(done.dtype), self)


class _Send(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tokens: Tensor, dispatch: Dispatch) -> Tensor:
        ctx.dispatch = dispatch
        return tokens.index_select(0, dispatch.source)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):
        kept = ctx.dispatch.kept
        return ctx.dispatch.sum(gradient.contiguous(), None if kept is None else kept.to(gradient.dtype)), None


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, done: Tensor, weights: Tensor, dispatch: Dispatch) -> Tensor:
        ctx.save_for_backward(done, weights)
        ctx.dispatch = dispatch
        return dispatch.sum(done, weights)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):
        done, weights = ctx.saved_tensors
        choice, source = ctx.dispatch.choice, ctx.dispatch.source
        by_slot = weights.flatten()[choice].unsqueeze(1)
        spread, products = torch.empty_like(done), torch.empty_like(by_slot)
        for start in range(0, len(done), ROWS):
            part = slice(start, start + ROWS)
            torch.index_select(gradient, 0, source[part], out=spread[part])
            torch.sum(spread[part] * done[part], dim=1, keepdim=True, out=products[part])
            spread[part] *= by_slot[part]
        of_weights = torch.zeros_like(weights).flatten()
        of_weights[choice] = products.squeeze(1)
        return spread, of_weights.view_as(weights), None
