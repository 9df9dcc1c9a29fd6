"""Mixture of experts: each token is sent to the few feed-forward layers that a router picks (Shazeer et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lab.layout import Layout
from lab.parts.balance import Balance
from lab.parts.dispatch import Dispatch
from lab.parts.feedforward import FeedForward
from lab.parts.linear import count, matmul_flops
from lab.parts.router import Router


class MixtureOfExperts(nn.Module):
    """The weighted sum of what the chosen experts make of a token, and of the shared expert, if there is one.

    Args:
        dim: width of the model.
        expert: makes one expert from `dim` and `share`.
        experts: how many there are to choose from.
        top_k: how many serve a token.
        router: makes the router from `dim`, `experts` and `top_k`.
        balance: makes what balances the load from `experts`.
        shared: how many more experts serve every token, built as one layer of their width (DeepSeekMoE, Dai et al. 2024,
            section 3.2).
        capacity: while training an expert takes no more of a row's tokens than an even load times this factor,
            `ceil(capacity * tokens * top_k / experts)`; null for no limit. Choices beyond are dropped: the token gets
            nothing from that expert, and its other weights stay. First choices go before second ones, earlier tokens
            before later ones (GShard, Lepikhin et al. 2021, algorithm 1; Switch, section 2.2). A row is a group, as in
            Hugging Face's Switch, so that nothing depends on how rows are spread over devices and parts of a step.
        equal_active: each expert is `1 / (top_k + shared)` as wide, so that a token meets the parameters of one layer.
        layer: number of the block, from 0.

    While training with gradients, `auxiliary` holds the weighted balance losses of the last forward pass, or none where the
    balance takes none. Padding meets no expert and no statistic, and gives zeros.

    Raises:
        ValueError: more experts chosen than there are, or a value out of its range.
    """

    def __init__(
        self,
        dim: int,
        expert: Callable[..., FeedForward],
        experts: int,
        top_k: int,
        router: Callable[..., Router] = Router,
        balance: Callable[..., Balance] = Balance,
        shared: int = 0,
        capacity: float | None = None,
        equal_active: bool = True,
        layer: int = 0,
    ) -> None:
        super().__init__()
        if experts < 1:
            raise ValueError(f"ffn.experts: {experts}; there is at least 1 expert")
        if not 1 <= top_k <= experts:
            raise ValueError(f"ffn.top_k: {top_k}; choose from 1 to ffn.experts {experts}")
        if shared < 0:
            raise ValueError(f"ffn.shared: {shared}; a whole number, 0 or more")
        if capacity is not None and not (type(capacity) in (int, float) and 0 < capacity < math.inf):
            raise ValueError(f"ffn.capacity: {capacity}; a factor over 0, or null for no limit")
        self.layer, self.top_k, self.capacity = layer, top_k, capacity
        self.router = router(dim=dim, experts=experts, top_k=top_k)
        self.balance = balance(experts=experts)
        share = 1 / (top_k + shared) if equal_active else 1.0
        self.experts = nn.ModuleList(expert(dim=dim, share=share, layer=layer) for _ in range(experts))
        self.shared = expert(dim=dim, share=share * shared, layer=layer) if shared else None
        self.auxiliary: Tensor | None = None

    def extra_repr(self) -> str:
        """What its printed form says of it."""
        return f"top_k={self.top_k}"

    def forward(self, x: Tensor, layout: Layout | None = None) -> Tensor:
        """`[batch, time, dim] -> [batch, time, dim]`."""
        tokens = x.flatten(0, -2)
        if layout is None or not layout.padded:
            return self.mix(tokens, x.shape[-2]).view_as(x)
        real = layout.once("real", lambda: (~layout.padding).flatten().nonzero().squeeze(1))
        mixed = self.mix(tokens[real], x.shape[-2], real)
        return mixed.new_zeros(tokens.shape).index_copy(0, real, mixed).view_as(x)

    def mix(self, tokens: Tensor, time: int, places: Tensor | None = None) -> Tensor:
        """`[tokens, dim] -> [tokens, dim]`.

        Args:
            tokens: none of them padding.
            time: places in a row.
            places: `[tokens]`, where each stands in the rows one after the other; none where they stand at every place.
        """
        routing = self.router(tokens, self.balance.bias)
        kept = None
        if self.training and self.capacity is not None:
            places = torch.arange(len(tokens), device=tokens.device) if places is None else places
            kept = within_capacity(routing.chosen, places // time, len(self.experts), self.capacity)
        learning = self.training and torch.is_grad_enabled()
        self.auxiliary = self.balance(routing, kept) if learning else None

        dispatch = Dispatch.of(routing.chosen, len(self.experts), kept)
        mixed = dispatch.serve(tokens, routing.weights, list(self.experts))  # type: ignore[arg-type]
        return mixed if self.shared is None else mixed + self.shared(tokens)

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs on documents of these lengths: the router, `top_k` experts and the shared one, nothing dropped."""
        total = matmul_flops(self.router) * np.asarray(lengths) + self.top_k * self.experts[0].flops(lengths)  # type: ignore[operator]
        return total if self.shared is None else total + self.shared.flops(lengths)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token uses: the router, `top_k` experts and the shared one."""
        shared = 0 if self.shared is None else count(self.shared)
        return count(self.router) + self.top_k * count(self.experts[0]) + shared


def within_capacity(chosen: Tensor, rows: Tensor, experts: int, capacity: float) -> Tensor:
    """Which choices fit: of each row and expert the first `ceil(capacity * tokens of the row * top_k / experts)`.

    Args:
        chosen: `[tokens, top_k]` int64; all first choices go before all second ones, and earlier tokens before later ones.
        rows: `[tokens]` int64, the row of each token.
        experts: how many there are.
        capacity: the factor.

    Returns:
        `[tokens, top_k]` bool.
    """
    top_k = chosen.shape[1]
    queues = (rows.unsqueeze(1) * experts + chosen).T.flatten()  # one for each row and expert
    order = queues.argsort(stable=True)
    ordered = queues[order]
    before = torch.empty_like(queues)
    before[order] = torch.arange(len(queues), device=queues.device) - torch.searchsorted(ordered, ordered)
    # Rounded first: 1.1 * 40 * 2 / 8 is 11, whatever binary fractions make of it.
    limit = (torch.bincount(rows).double() * capacity * top_k / experts).round(decimals=6).ceil()
    ahead = before.view(top_k, -1).T
    return ahead < limit[rows].unsqueeze(1)
