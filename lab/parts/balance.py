"""Balance: what keeps a router from sending all tokens to the same few experts, and the figures that show it."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lab.parts.router import Routing


class Balance(nn.Module):
    """Up to three means against an uneven load; 0 leaves one out.

    A step is `parts` forward passes in training, over all ranks. The counts of a step are summed over ranks and over its
    passes so far (global-batch balance, Qiu et al. 2025), so that the loss asks for an even load over the step
    and not within each part. The other factor, the mean share, is linear: averaged over parts by their tokens, as the
    objective does, it is the step's. A step in one part on any number of ranks is exact; in a part before the last the
    counts lack what is still to come.

    Args:
        experts: how many there are.
        loss: weight of `experts * sum(share of choices * mean share of the score)`, which is 1 for an even load
            (Switch, Fedus et al. 2021, equations 4-6; choices are counted before any is dropped).
        z_loss: weight of the mean squared log-sum-exp of the logits (ST-MoE, Zoph et al. 2022, equation 5).
        bias_rate: how much, after each step, the bias of an expert with more than its part of the choices falls and that of
            one with less rises (Wang et al. 2024, algorithm 1; DeepSeek-V3, 2024, equation 16). The bias is a buffer and
            has no gradient: a checkpoint holds it.

    Attributes:
        parts: forward passes in a step; whoever accumulates gradients sets it.
        bias: `[experts]` float32, added to the scores where experts are chosen; none without a rate.

    Raises:
        ValueError: a value under 0.
    """

    bias: Tensor | None

    def __init__(self, experts: int, loss: float = 0.01, z_loss: float = 0.0, bias_rate: float = 0.0) -> None:
        super().__init__()
        for name, value in {"loss": loss, "z_loss": z_loss, "bias_rate": bias_rate}.items():
            if not value >= 0:
                raise ValueError(f"ffn.balance.{name}: {value}; a number, 0 or more")
        self.experts, self.loss, self.z_loss, self.bias_rate = experts, loss, z_loss, bias_rate
        self.register_buffer("bias", torch.zeros(experts) if bias_rate else None)
        self.parts, self.done = 1, 0
        self.tally: Tensor | None = None

    def forward(self, routing: Routing, kept: Tensor | None = None) -> Tensor | None:
        """Count a forward pass in training, move the bias where it ends a step, and give the weighted losses, none for none.

        Args:
            routing: of the pass.
            kept: `[tokens, top_k]` bool, which choices were not dropped; none for all.
        """
        load = self._count(routing, kept)
        total = None
        tokens = max(1, len(routing.shares))
        if self.loss:
            total = self.loss * self.experts * (load * routing.shares.sum(dim=0)).sum() / tokens
        if self.z_loss:
            z = self.z_loss * routing.logits.logsumexp(dim=-1).square().sum() / tokens
            total = z if total is None else total + z
        return total

    @torch.no_grad()
    def _count(self, routing: Routing, kept: Tensor | None) -> Tensor:
        """Add the pass to the step; the share of the step's choices that each expert got so far, `[experts]`."""
        chosen, shares = routing.chosen, routing.shares
        dropped = chosen.new_zeros(()) if kept is None else kept.numel() - kept.sum()
        counts = torch.bincount(chosen.flatten(), minlength=self.experts)
        others = torch.stack(
            [torch.special.entr(shares).sum(), shares.new_tensor(len(shares)), dropped.to(shares.dtype)]
        )
        tally = torch.cat([counts.to(shares.dtype), others])
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(tally)
        self.tally = tally if self.tally is None or self.done == 0 else self.tally + tally
        self.done = (self.done + 1) % self.parts
        counts = self.tally[: self.experts]
        if self.bias is not None and self.done == 0:
            self.bias += self.bias_rate * torch.sign(counts.mean() - counts).to(self.bias.dtype)
        return counts / counts.sum().clamp_min(1)

    @property
    def load(self) -> Tensor:
        """`[experts]`: the share of the last step's choices that each expert got, before any was dropped."""
        assert self.tally is not None, "no forward pass in training yet"
        counts = self.tally[: self.experts]
        return counts / counts.sum().clamp_min(1)

    def figures(self) -> dict[str, float]:
        """Of the last step: the load of each expert, the mean entropy of a token's shares in nats, the share of choices that
        a capacity dropped.
        """
        assert self.tally is not None, "no forward pass in training yet"
        *counts, entropy, tokens, dropped = self.tally.tolist()
        choices = max(1.0, sum(counts))
        load = {f"expert{i}": count / choices for i, count in enumerate(counts)}
        return load | {"entropy": entropy / max(1.0, tokens), "dropped": dropped / choices}
