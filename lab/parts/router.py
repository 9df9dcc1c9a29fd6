"""Routers: which experts serve a token, and how much each counts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.parts.linear import Linear


@dataclass(frozen=True)
class Routing:
    """What a router says of each token.

    Attributes:
        logits: `[tokens, experts]`, float32 at least.
        shares: `[tokens, experts]`, the scores as shares of one.
        chosen: `[tokens, top_k]` int64, the best experts, best first.
        weights: `[tokens, top_k]`, how much each of them counts.
    """

    logits: Tensor
    shares: Tensor
    chosen: Tensor
    weights: Tensor


class Router(nn.Module):
    """A linear map and a softmax over the experts, of which the best `top_k` are chosen (Shazeer et al. 2017; Switch,
    Fedus et al. 2021, equations 1-2). In float32 under any precision (Switch, section 2.4).

    Args:
        dim: width of the model.
        experts: how many there are.
        top_k: how many are chosen.
        normalise: the weights of a token sum to `scale` (Mixtral, Jiang et al. 2024, section 2.1), else they are the scores.
            A single one stays the score (Switch): if it were always 1, the router would learn nothing but by the balance.
        alone: where they are normalised, a single one is 1 all the same (Hugging Face's Mixtral).
        scale: of the weights (DeepSeek-V2 and V3: the routed scaling factor).
        jitter: while training, what the router reads is multiplied by numbers from `1 - jitter` to `1 + jitter`
            (Switch, appendix C).
    """

    def __init__(
        self,
        dim: int,
        experts: int,
        top_k: int,
        normalise: bool = True,
        alone: bool = False,
        scale: float = 1.0,
        jitter: float = 0.0,
    ) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"ffn.router.scale: {scale}; a factor over 0")
        if not 0 <= jitter < 1:
            raise ValueError(f"ffn.router.jitter: {jitter}; choose from 0 to under 1")
        self.top_k, self.normalise, self.scale, self.jitter = top_k, normalise and (top_k > 1 or alone), scale, jitter
        self.linear = Linear(dim, experts, bias=False)

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> Routing:
        """`[tokens, dim]` to the routing; `bias`, `[experts]`, counts in the choice and not in the weights."""
        with torch.autocast(tokens.device.type, enabled=False):
            precise = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
            logits = self.logits(precise)
            scores = self.scores(logits)
            weights, chosen = scores.topk(self.top_k, dim=-1)
            if bias is not None:
                chosen = (scores + bias).topk(self.top_k, dim=-1).indices
                weights = scores.gather(1, chosen)
            if self.normalise:
                weights = weights / weights.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
            weights = weights if self.scale == 1 else weights * self.scale
            return Routing(logits, self.shares(scores), chosen, weights)

    def logits(self, tokens: Tensor) -> Tensor:
        """`[tokens, dim] -> [tokens, experts]`."""
        if self.training and self.jitter:
            tokens = tokens * torch.empty_like(tokens).uniform_(1 - self.jitter, 1 + self.jitter)
        return _precise(self.linear, tokens)

    def scores(self, logits: Tensor) -> Tensor:
        """What experts are chosen and weighted by."""
        return logits.softmax(dim=-1)

    def shares(self, scores: Tensor) -> Tensor:
        """The scores as shares of one."""
        return scores


class SigmoidRouter(Router):
    """Each expert is scored by itself (DeepSeek-V3, 2024, equations 13-15)."""

    def scores(self, logits: Tensor) -> Tensor:
        """Between 0 and 1, each by itself."""
        return logits.sigmoid()

    def shares(self, scores: Tensor) -> Tensor:
        """Divided by their sum."""
        return scores / scores.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).tiny)


class NoisyRouter(Router):
    """Noisy top-k gating (Shazeer et al. 2017, equations 3-5): while training each logit gets normal noise, as large as a
    second linear map says. Balanced as the others are, not by that paper's two losses.
    """

    def __init__(self, dim: int, experts: int, top_k: int, **settings) -> None:
        super().__init__(dim, experts, top_k, **settings)
        self.noise = Linear(dim, experts, bias=False)

    def logits(self, tokens: Tensor) -> Tensor:
        """`[tokens, dim] -> [tokens, experts]`."""
        logits = super().logits(tokens)
        if not self.training:
            return logits
        return logits + torch.randn_like(logits) * F.softplus(_precise(self.noise, tokens))


def _precise(linear: Linear, tokens: Tensor) -> Tensor:
    return F.linear(tokens, linear.weight.to(tokens.dtype))
