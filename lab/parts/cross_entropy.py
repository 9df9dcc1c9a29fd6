"""The loss over a large vocabulary, piece by piece, so that logits are never whole."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.layout import IGNORE
from lab.parts import onednn
from lab.parts.function import Function
from lab.parts.kernels import in_precision, spare_rows

ROWS = 512
"""Rows of logits held at a time by `linear_cross_entropy`."""

PART = 256
"""Of the model's width, for which the head's gradient is computed at a time there."""


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    softcap: float | None = None,
    smoothing: float = 0.0,
    bias: Tensor | None = None,
) -> Tensor:
    """Sum over rows of the cross-entropy of `softmax(x @ weight.T + bias)`, in nats, never holding more than a few hundred
    rows of logits. Gradients are computed in the same pass, so each piece of logits is made once.

    Args:
        x: `[rows, dim]`.
        weight: `[vocab, dim]`.
        targets: `[rows]` int64; `IGNORE` where nothing is to be predicted.
        softcap: logits are squeezed into plus and minus this by `tanh`; none for no limit.
        smoothing: share of the target's probability that all tokens get alike (Szegedy et al. 2016, section 7).
        bias: `[vocab]`; none for none.
    """
    x, weight, bias = in_precision(x, weight, bias)
    spare = spare_rows(len(x) % ROWS, x)
    if spare:
        x, targets = F.pad(x, (0, 0, 0, spare)), F.pad(targets, (0, spare), value=IGNORE)
    return _LinearCrossEntropy.run(x, weight, bias, targets, softcap, smoothing, torch.is_grad_enabled())


def _loss_of(
    logits: Tensor, targets: Tensor, softcap: float | None, smoothing: float, learn: bool
) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy of a piece, and its gradient, `[rows, vocab]` as the logits, whose place it takes."""
    dtype, slope = logits.dtype, None
    logits = logits.to(torch.promote_types(dtype, torch.float32))
    if softcap is not None:
        squeezed = logits.div_(softcap).tanh_()
        logits, slope = softcap * squeezed, squeezed
    asked, index = (targets != IGNORE).unsqueeze(1), targets.clamp_min(0).unsqueeze(1)
    score, top = logits.gather(1, index), logits.amax(1, keepdim=True)
    if smoothing:
        score = torch.lerp(score, logits.mean(1, keepdim=True), smoothing)
    shares = torch.softmax(logits, dim=1, out=logits)
    # The largest share is exp(top - normaliser), so the normaliser is known without a second piece.
    normaliser = top - shares.amax(1, keepdim=True).log()
    loss = ((normaliser - score) * asked).sum()
    if learn:
        shares.scatter_add_(1, index, torch.full_like(score, smoothing - 1))
        if smoothing:
            shares.sub_(smoothing / shares.shape[1])
        if shares.device.type != "cpu" or not asked.all():  # elsewhere to look costs more than to fill
            shares.masked_fill_(~asked, 0)
        if slope is not None:
            shares.addcmul_(shares, slope.square_(), value=-1)
    return loss, shares.to(dtype)


class _LinearCrossEntropy(Function):
    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        softcap: float | None,
        smoothing: float,
        learn: bool,
    ) -> Tensor:
        precise = torch.promote_types(x.dtype, torch.float32)  # pieces are many, and bfloat16 holds 3 digits
        total = torch.zeros((), dtype=precise, device=x.device)
        fast = onednn.fits(x, weight)
        product = onednn.product if fast else F.linear
        if not learn:
            for start in range(0, len(x), ROWS):
                piece = slice(start, start + ROWS)
                total += _loss_of(product(x[piece], weight, bias), targets[piece], softcap, smoothing, learn)[0]
            return total
        to_x = torch.empty_like(x)
        to_weight = x.new_zeros(x.shape[1], len(weight)) if fast else torch.zeros_like(weight, dtype=precise)
        to_bias = None if bias is None else torch.zeros_like(bias, dtype=precise)
        for start in range(0, len(x), ROWS):
            piece = slice(start, start + ROWS)
            loss, gradient = _loss_of(product(x[piece], weight, bias), targets[piece], softcap, smoothing, learn)
            total += loss
            if to_bias is not None:
                to_bias += gradient.sum(0, dtype=precise)
            to_x[piece] = product(gradient, weight.T)
            if fast:  # turned, since oneDNN copies a first operand whose rows are not contiguous
                for part, into in zip(x[piece].T.contiguous().split(PART), to_weight.split(PART), strict=True):
                    into += product(part, gradient.T)
            else:
                to_weight += gradient.T @ x[piece]
            del gradient  # before the next piece takes its place
        to_bias = None if bias is None or to_bias is None else to_bias.to(bias.dtype)
        ctx.save_for_backward(to_x, to_weight.T if fast else to_weight.to(weight.dtype), to_bias)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor):
        # In place, since a copy would hold the head's gradient twice; a second backward pass is refused by torch.
        to_x, to_weight, to_bias = (None if saved is None else saved.mul_(gradient) for saved in ctx.saved_tensors)
        return to_x, to_weight, to_bias, None, None, None, None
