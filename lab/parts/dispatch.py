"""Tokens to their experts and back."""

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
    """Which token goes where. Slots are the choices that hold, sorted by expert: all of expert 0, then of expert 1, ...

    Attributes:
        choice: `[slots]`, the place in `[tokens * top_k]` of the choice that each slot serves.
        source: `[slots]`, the token of each slot; no token twice for one expert.
        counts: slots of each expert.
    """

    choice: Tensor
    source: Tensor
    counts: list[int]

    @classmethod
    def of(cls, chosen: Tensor, experts: int, kept: Tensor | None = None) -> Dispatch:
        """From the experts chosen, `[tokens, top_k]` int64 under `experts`, and which of the choices hold."""
        assigned = chosen if kept is None else chosen.masked_fill(~kept, experts)
        counts = torch.bincount(assigned.flatten(), minlength=experts)[:experts].tolist()
        choice = assigned.flatten().argsort(stable=True)[: sum(counts)]
        return cls(choice, choice // chosen.shape[1], counts)

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
        learn = torch.is_grad_enabled()
        return _Serve.run(self, experts, learn, tokens, weights.to(tokens.dtype), *every)


class _Serve(Function):
    """One node for all experts, one after the other: what one of them reads and writes stays in the cache from its gather to
    its last product, and what it gives is added to its tokens before the next begins. So no sum's order is left to chance.
    """

    @staticmethod
    def forward(ctx, dispatch: Dispatch, experts, learn: bool, tokens: Tensor, weights: Tensor, *every: Tensor | None):
        mixed = torch.zeros_like(tokens)
        kept: list[Tensor] = []
        spare = [spare_rows(count, tokens) for count in dispatch.counts]
        by_slot = weights.flatten()[dispatch.choice].unsqueeze(1)
        parts = zip(*(column.split(dispatch.counts) for column in (dispatch.source, by_slot)), strict=True)
        for expert, own, (source, weight), more in zip(experts, _dealt(every, experts), parts, spare, strict=True):
            read = F.pad(source, (0, more)) if more else source  # by token 0, and nothing of it is used
            out, needed = expert.compute(tokens.index_select(0, read), own)
            used = out[: len(source)]
            mixed.index_add_(0, source, used * weight)
            if learn:
                kept += (used, *needed)
        ctx.dispatch, ctx.experts, ctx.spare, ctx.first = dispatch, experts, spare, 2 + len(kept)
        ctx.save_for_backward(weights, by_slot, *kept, *every)
        return mixed

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream: Tensor):
        dispatch, experts = ctx.dispatch, ctx.experts
        saved = ctx.saved_tensors  # read once, or activation checkpointing refuses
        (weights, by_slot), kept, every = saved[:2], saved[2 : ctx.first], saved[ctx.first :]
        to_tokens, to_slots = torch.zeros_like(upstream), torch.empty_like(by_slot)
        to_every: list[Tensor | None] = []
        parts = zip(*(column.split(dispatch.counts) for column in (dispatch.source, by_slot, to_slots)), strict=True)
        of_experts = zip(experts, _dealt(kept, experts), _dealt(every, experts), ctx.spare, strict=True)
        for (expert, (out, *needed), own, more), (source, weight, to_slot) in zip(of_experts, parts, strict=True):
            count = len(source)
            gradient = upstream.new_empty(count + more, upstream.shape[1])
            gradient[count:] = 0
            used = torch.index_select(upstream, 0, source, out=gradient[:count])
            torch.sum(out * used, dim=1, keepdim=True, out=to_slot)
            used *= weight
            to_x, to_own = expert.gradients(gradient, needed, own)
            to_tokens.index_add_(0, source, to_x[:count])
            to_every += to_own
        to_weights = torch.zeros_like(weights).flatten()
        to_weights[dispatch.choice] = to_slots.squeeze(1)
        return None, None, None, to_tokens, to_weights.view_as(weights), *to_every


def _dealt(tensors: Sequence, experts: Sequence) -> list[tuple]:
    """As many to each expert, in their order."""
    each = len(tensors) // len(experts)
    return [tuple(tensors[i * each : (i + 1) * each]) for i in range(len(experts))]
