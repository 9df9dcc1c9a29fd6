"""Mixture of experts: each token is sent to the few feed-forward layers that a router picks (Shazeer et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lab.layout import Layout
from lab.parts.balance import Balance
from lab.parts.cache import LayerCache
from lab.parts.dispatch import Dispatch
from lab.parts.feedforward import FeedForward
from lab.parts.linear import costed, count, matmul_flops
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
        limit: an expert takes no more than so many of a document's tokens, in training and after; null for no limit. The
            first ones are taken, and the others are dropped as by the capacity. A document, and not a row, is a group: packed
            ones are then as each alone. For a single choice only, as in Hugging Face's Switch: where first choices went
            before second ones, a token's result would hang on later ones.
        jitter: while training, what the router and the experts read is multiplied by numbers from `1 - jitter` to
            `1 + jitter` (Hugging Face's Mixtral).
        equal_active: each expert is `1 / (top_k + shared)` as wide, so that a token meets the parameters of one layer.
        layer: number of the block, from 0.

    While training with gradients, `auxiliary` holds the weighted balance losses of the last forward pass, or none where the
    balance takes none. Padding meets no expert and no statistic, and gives zeros.

    Raises:
        ValueError: more experts chosen than there are, a value out of its range, or a limit with more than one choice.
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
        limit: int | None = None,
        jitter: float = 0.0,
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
        if limit is not None and not (type(limit) is int and limit > 0):
            raise ValueError(f"ffn.limit: {limit}; a whole number, at least 1, or null for no limit")
        if limit is not None and top_k > 1:
            raise ValueError(
                f"ffn.limit: {limit}; with ffn.top_k {top_k} later tokens would count in what an earlier one gets;"
                " set ffn.top_k=1, or null for no limit"
            )
        if not 0 <= jitter < 1:
            raise ValueError(f"ffn.jitter: {jitter}; choose from 0 to under 1")
        self.layer, self.top_k, self.capacity, self.limit, self.jitter = layer, top_k, capacity, limit, jitter
        self.router = router(dim=dim, experts=experts, top_k=top_k)
        self.balance = balance(experts=experts)
        share = 1 / (top_k + shared) if equal_active else 1.0
        self.experts = nn.ModuleList(
            costed("expert", expert(dim=dim, share=share, layer=layer)) for _ in range(experts)
        )
        self.shared = expert(dim=dim, share=share * shared, layer=layer) if shared else None
        self.auxiliary: Tensor | None = None

    def extra_repr(self) -> str:
        """What its printed form says of it."""
        return f"top_k={self.top_k}"

    def forward(self, x: Tensor, layout: Layout | None = None, cache: LayerCache | None = None) -> Tensor:
        """`[batch, time, dim] -> [batch, time, dim]`; a cache tells what the tokens before chose."""
        if self.training and self.jitter:
            x = x * torch.empty_like(x).uniform_(1 - self.jitter, 1 + self.jitter)
        tokens = x.flatten(0, -2)
        layout = layout or Layout.full(len(tokens) // x.shape[-2], x.shape[-2], x.device)
        if not layout.padded:
            return self.mix(tokens, layout, None, cache).view_as(x)
        real = layout.once("real", lambda: (~layout.padding).flatten().nonzero().squeeze(1))
        mixed = self.mix(tokens[real], layout, real, cache)
        return mixed.new_zeros(tokens.shape).index_copy(0, real, mixed).view_as(x)

    def mix(
        self, tokens: Tensor, layout: Layout, real: Tensor | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        """`[tokens, dim] -> [tokens, dim]`.

        Args:
            tokens: none of them padding.
            layout: of the rows that they are from.
            real: `[tokens]`, where each stands in the rows one after the other; none where they stand at every place.
            cache: of the layer, while generating.
        """
        routing = self.router(tokens, self.balance.bias)
        kept = self._kept(routing.chosen, layout, real, cache)
        learning = self.training and torch.is_grad_enabled()
        self.auxiliary = self.balance(routing, kept) if learning else None

        dispatch = Dispatch.of(routing.chosen, len(self.experts), kept)
        mixed = dispatch.serve(tokens, routing.weights, list(self.experts))  # type: ignore[arg-type]
        return mixed if self.shared is None else mixed + self.shared(tokens)

    def _kept(self, chosen: Tensor, layout: Layout, real: Tensor | None, cache: LayerCache | None) -> Tensor | None:
        """Which choices are not dropped, `[tokens, top_k]` bool; none for all."""
        kept = None
        if self.training and self.capacity is not None:
            rows = torch.arange(len(layout.documents), device=chosen.device).repeat_interleave(
                layout.documents.shape[1]
            )
            kept = within_capacity(chosen, rows if real is None else rows[real], len(self.experts), self.capacity)
        if self.limit is not None:
            within = self._ahead(chosen, layout, real, cache) < self.limit
            kept = within if kept is None else kept & within
        return kept

    def _ahead(self, chosen: Tensor, layout: Layout, real: Tensor | None, cache: LayerCache | None) -> Tensor:
        """How many tokens of its document asked for the same expert before each, `[tokens, 1]`."""
        if cache is None:
            documents = layout.numbered.flatten()
            return first_come(chosen, documents if real is None else documents[real], len(self.experts))
        batch, time = layout.documents.shape
        if real is not None:  # padding is a document of its own, and its choices count for nothing
            chosen = chosen.new_zeros(batch * time, 1).index_copy(0, real, chosen)
        every, whole = cache.choices(chosen.view(batch, time, 1))
        ahead = first_come(every.flatten(0, 1), whole.numbered.flatten(), len(self.experts))
        new = ahead.view(every.shape)[:, -time:].flatten(0, 1)
        return new if real is None else new[real]

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
        chosen: `[tokens, top_k]` int64, in the order of `first_come`.
        rows: `[tokens]` int64, the row of each token.
        experts: how many there are.
        capacity: the factor.

    Returns:
        `[tokens, top_k]` bool.
    """
    # Rounded first: 1.1 * 40 * 2 / 8 is 11, whatever binary fractions make of it.
    limit = (torch.bincount(rows).double() * capacity * chosen.shape[1] / experts).round(decimals=6).ceil()
    return first_come(chosen, rows, experts) < limit[rows].unsqueeze(1)


def first_come(chosen: Tensor, groups: Tensor, experts: int) -> Tensor:
    """How many choices of the same expert go before each, in its group.

    Args:
        chosen: `[tokens, top_k]` int64; all first choices go before all second ones, and earlier tokens before later ones.
        groups: `[tokens]` int64, the group of each token.
        experts: how many there are.

    Returns:
        `[tokens, top_k]` int64.
    """
    queues = (groups.unsqueeze(1) * experts + chosen).T.flatten()  # one for each group and expert
    order = queues.argsort(stable=True)
    ordered = queues[order]
    before = torch.empty_like(queues)
    before[order] = torch.arange(len(queues), device=queues.device) - torch.searchsorted(ordered, ordered)
    return before.view(chosen.shape[1], -1).T
