"""Mixture of experts: each token is sent to the few feed-forward layers that a router picks (Shazeer et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lab.layout import Layout
from lab.parts.feedforward import FeedForward
from lab.parts.linear import count


class MixtureOfExperts(nn.Module):
    """Softmax router, `top_k` experts a token with weights that sum to one (Mixtral, Jiang et al. 2024, section 2.1), no token
    dropped, and an auxiliary loss that balances the load (Switch, Fedus et al. 2021, equations 4-6).

    Args:
        dim: width of the model.
        expert: makes one expert from `dim` and `share`.
        experts: how many there are.
        top_k: how many serve a token.
        balance: weight of the balance loss.
        equal_active: an expert is `1 / top_k` as wide, so that a token meets the parameters of one dense layer.

    While training, `auxiliary` holds the weighted balance loss of the last forward pass and `load` the share of
    assignments that each expert got (`[experts]`, sums to 1).

    Raises:
        ValueError: more experts chosen than there are.
    """

    def __init__(
        self,
        dim: int,
        expert: Callable[..., FeedForward],
        experts: int,
        top_k: int,
        balance: float = 0.01,
        equal_active: bool = True,
        layer: int = 0,
    ) -> None:
        super().__init__()
        if experts < 1:
            raise ValueError(f"ffn.experts: {experts}; there is at least 1 expert")
        if not 1 <= top_k <= experts:
            raise ValueError(f"ffn.top_k: {top_k}; choose from 1 to ffn.experts {experts}")
        if balance < 0:
            raise ValueError(f"ffn.balance: {balance}; the weight of the balance loss is 0 or more")
        self.top_k, self.balance = top_k, balance
        self.router = nn.Linear(dim, experts, bias=False)
        share = 1 / top_k if equal_active else 1.0
        self.experts = nn.ModuleList(expert(dim=dim, share=share, layer=layer) for _ in range(experts))
        self.auxiliary: Tensor | None = None
        self.load: Tensor | None = None

    def forward(self, x: Tensor, layout: Layout | None = None) -> Tensor:
        """`[batch, time, dim] -> [batch, time, dim]`; padding is sent to no expert and gives zeros."""
        tokens = x.flatten(0, -2)
        if layout is not None and layout.padded:
            real = (~layout.padding).flatten().nonzero().squeeze(1)
            return torch.zeros_like(tokens).index_copy(0, real, self.mix(tokens[real])).view_as(x)
        return self.mix(tokens).view_as(x)

    def mix(self, tokens: Tensor) -> Tensor:
        """`[tokens, dim] -> [tokens, dim]`."""
        probabilities = self.router(tokens).softmax(dim=-1, dtype=torch.float32)
        weights, chosen = probabilities.topk(self.top_k, dim=-1)
        weights = (weights / weights.sum(dim=-1, keepdim=True)).to(tokens.dtype)

        assigned = chosen.flatten()
        order = assigned.argsort(stable=True)
        counts = torch.bincount(assigned, minlength=len(self.experts))
        self.record(probabilities, counts)

        source = order.div(self.top_k, rounding_mode="floor")
        pieces = tokens[source].split(counts.tolist())
        done = torch.cat([expert(piece) for expert, piece in zip(self.experts, pieces, strict=True)])
        weighted = done * weights.flatten()[order].unsqueeze(1)
        return torch.zeros_like(tokens).index_add(0, source, weighted.to(tokens.dtype))

    def record(self, probabilities: Tensor, counts: Tensor) -> None:
        """Keep the load, and while training the balance loss `experts * sum(share of assignments * mean probability)`."""
        self.load = counts / counts.sum().clamp_min(1)
        balance = len(self.experts) * (self.load * probabilities.mean(dim=0)).sum()
        self.auxiliary = self.balance * balance if self.training else None

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs on documents of these lengths: the router and `top_k` experts for each token."""
        router = 2 * self.router.weight.numel() * np.asarray(lengths)
        return router + self.top_k * self.experts[0].flops(lengths)  # type: ignore[operator]

    @property
    def active_parameters(self) -> int:
        """Parameters that one token uses: the router and `top_k` experts."""
        return count(self.router) + self.top_k * count(self.experts[0])
