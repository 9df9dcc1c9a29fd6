"""Tokens to their experts and back, by gathers in both directions and both passes: no sum's order is left to chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.parts.feedforward import FeedForward
from lab.parts.function import Function
from lab.parts.kernels import in_precision, spare_rows


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

    def serve(self, tokens: Tensor, weights: Tensor, experts: Sequence[FeedForward]) -> Tensor:
        """Each token's weighted sum of what its experts make of it.

        Args:
            tokens: `[tokens, dim]`.
            weights: `[tokens, top_k]`, of the choices.
            experts: all of them, in their order.

        Returns:
            `[tokens, dim]`.
        """
        tokens, *every = in_precision(tokens, *(weight for expert in experts for weight in expert.weights()))
        weights = weights if self.kept is None else weights * self.kept
        return _Serve.run(self, experts, torch.is_grad_enabled(), tokens, weights.to(tokens.dtype), *every)


class _Serve(Function):
    """One node for all experts: what one of them reads and writes stays in the cache from its gather to its last product."""

    @staticmethod
    def forward(ctx, dispatch: Dispatch, experts, learn: bool, tokens: Tensor, weights: Tensor, *every: Tensor | None):
        done = tokens.new_empty(len(dispatch.source), tokens.shape[1])
        kept: list[Tensor] = []
        sources, places = dispatch.source.split(dispatch.counts), done.split(dispatch.counts)
        spare = [spare_rows(count, tokens) for count in dispatch.counts]
        for expert, own, source, into, more in zip(
            experts, _dealt(every, experts), sources, places, spare, strict=True
        ):
            padded = F.pad(source, (0, more))  # by token 0, and nothing of it is used
            out, needed = expert.compute(tokens.index_select(0, padded), own)
            into.copy_(out[: len(source)])
            kept += needed if learn else ()
        ctx.dispatch, ctx.experts, ctx.spare, ctx.first = dispatch, experts, spare, 2 + len(kept)
        ctx.save_for_backward(done, weights, *kept, *every)
        return dispatch.sum(done, weights)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream: Tensor):
        dispatch, experts = ctx.dispatch, ctx.experts
        saved = ctx.saved_tensors  # read once, or activation checkpointing refuses
        (done, weights), kept, every = saved[:2], saved[2 : ctx.first], saved[ctx.first :]
        by_slot = weights.flatten()[dispatch.choice].unsqueeze(1)
        to_tokens, to_slots = torch.empty_like(done), torch.empty_like(by_slot)
        to_every: list[Tensor | None] = []
        columns = (dispatch.source, by_slot, done, to_tokens, to_slots)
        parts = zip(*(column.split(dispatch.counts) for column in columns), strict=True)
        of_experts = zip(experts, _dealt(kept, experts), _dealt(every, experts), ctx.spare, strict=True)
        for (expert, needed, own, more), (source, weight, out, to_token, to_slot) in zip(
            of_experts, parts, strict=True
        ):
            count = len(source)
            gradient = upstream.new_zeros(count + more, upstream.shape[1])
            used = torch.index_select(upstream, 0, source, out=gradient[:count])
            torch.sum(torch.mul(out, used, out=to_token), dim=1, keepdim=True, out=to_slot)
            used *= weight
            to_x, to_own = expert.gradients(gradient, needed, own)
            to_token.copy_(to_x[:count])
            to_every += to_own
        to_weights = torch.zeros_like(weights).flatten()
        to_weights[dispatch.choice] = to_slots.squeeze(1)
        mask = None if dispatch.kept is None else dispatch.kept.to(weights.dtype)
        return None, None, None, dispatch.sum(to_tokens, mask), to_weights.view_as(weights), *to_every


def _dealt(tensors: Sequence, experts: Sequence) -> list[tuple]:
    """As many to each expert, in their order."""
    each = len(tensors) // len(experts)
    return [tuple(tensors[i * each : (i + 1) * each]) for i in range(len(experts))]
