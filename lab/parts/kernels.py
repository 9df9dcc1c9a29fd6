"""The hot loops: attention over a visibility, and the loss over a large vocabulary. Chosen here, nowhere else."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.layout import Layout
from lab.parts.visibility import Visibility

IGNORE = -100
"""A target that asks for nothing."""

ROWS = 512
"""Rows of logits held at a time by `linear_cross_entropy`."""


def attend(query: Tensor, key: Tensor, value: Tensor, layout: Layout, visibility: Visibility) -> Tensor:
    """Scaled dot-product attention over what the visibility allows (Vaswani et al. 2017, equation 1).

    Args:
        query: `[batch, time, heads, head_dim]`.
        key, value: `[batch, time, kv_heads, head_dim]`; each serves `heads / kv_heads` query heads.
        layout: of these tokens.
        visibility: which pairs are scored.

    Returns:
        `[batch, time, heads, head_dim]`.
    """
    grouped = query.shape[2] != key.shape[2]
    time = query.shape[1]
    if layout.plain and visibility.window >= time:
        mask, causal = None, visibility.causal
    else:
        mask, causal = additive_mask(layout, visibility, query.dtype), False
    out = F.scaled_dot_product_attention(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        attn_mask=mask,
        is_causal=causal,
        enable_gqa=grouped,
    )
    return out.transpose(1, 2)


def additive_mask(layout: Layout, visibility: Visibility, dtype: torch.dtype) -> Tensor:
    """`[1 or batch, 1, time, time]`: 0 where a pair is seen, else minus infinity; made once for all layers that share it.

    Padding sees itself, or its softmax would have nothing to sum over.
    """

    def make() -> Tensor:
        rows = Layout.full(1, layout.documents.shape[1], layout.documents.device) if layout.plain else layout
        seen = visibility.sees(rows, rows)
        if rows.padded:
            itself = torch.eye(seen.shape[-1], dtype=torch.bool, device=seen.device)
            seen |= itself & rows.padding.unsqueeze(-1)
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf).unsqueeze(1)

    return layout.once(("mask", type(visibility), visibility.window, visibility.causal, dtype), make)


def linear_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Sum over rows of the cross-entropy of `softmax(x @ weight.T)`, in nats, never holding more than a few hundred rows of
    logits. Gradients are computed in the same pass, so each piece of logits is made once.

    Args:
        x: `[rows, dim]`.
        weight: `[vocab, dim]`.
        targets: `[rows]` int64; `IGNORE` where nothing is to be predicted.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    return _LinearCrossEntropy.apply(x, weight, targets, torch.is_grad_enabled())


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, targets: Tensor, learn: bool) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=x.device)
        x_gradient = torch.empty_like(x) if learn else None
        weight_gradient = torch.zeros_like(weight) if learn else None
        piece = x.new_empty(min(ROWS, len(x)), len(weight))
        for start in range(0, len(x), ROWS):
            rows, wanted = x[start : start + ROWS], targets[start : start + ROWS]
            asked, index = (wanted != IGNORE).unsqueeze(1), wanted.clamp_min(0).unsqueeze(1)
            logits = torch.mm(rows, weight.T, out=piece[: len(rows)]).float()
            score, top = logits.gather(1, index), logits.amax(1, keepdim=True)
            shares = torch.softmax(logits, dim=1, out=logits)
            # The largest share is exp(top - normaliser), so the normaliser is known without a second piece.
            normaliser = top - shares.amax(1, keepdim=True).log()
            total += ((normaliser - score) * asked).sum()
            if x_gradient is None or weight_gradient is None:
                continue
            shares.scatter_add_(1, index, torch.full_like(score, -1))
            gradient = shares.to(x.dtype)
            torch.mm(gradient, weight, out=x_gradient[start : start + ROWS]).mul_(asked)
            weight_gradient.addmm_(gradient.T, rows * asked)
        if learn:
            ctx.save_for_backward(x_gradient, weight_gradient)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x_gradient, weight_gradient = ctx.saved_tensors
        return x_gradient * gradient, weight_gradient * gradient, None, None
