"""Muon: the momentum of every hidden matrix, orthogonalised (Jordan et al. 2024); AdamW for all that is not one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from lab.optim.groups import adam_rate
from lab.optim.values import above_zero, at_least_zero, pair_of_shares, shares

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Jordan et al. 2024: small singular values grow fastest, and all come to lie around 1, not at it."""

SCALES: dict[str, Callable[[int, int], float]] = {
    "adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
    "spectral": lambda rows, columns: math.sqrt(max(1.0, rows / columns)),
}


def orthogonalise(matrices: Tensor, steps: int) -> Tensor:
    """Roughly the nearest matrix with orthonormal rows, by so many steps of a Newton-Schulz iteration.

    Singular vectors stay; after 5 steps singular values lie between 0.68 and 1.21, but for those that were under 1/500 of
    the norm.

    Shapes: `[batch, rows, columns]`, rows at most columns; a batch is one chain of products.
    """
    a, b, c = QUINTIC
    x = matrices.bfloat16() if matrices.is_cuda else matrices  # on the CPU half precision saves nothing
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.to(matrices.dtype)


class Muon(Optimizer):
    """A step of equal size along every direction that the momentum of a hidden matrix has. Matrices that are merged into one
    weight are orthogonalised each by itself, and so is every expert. Embeddings, head, norms and biases go by AdamW.

    Args:
        params: groups from `parameter_groups`; parameters by themselves are taken for hidden matrices.
        lr: learning rate.
        momentum: share of the running mean of gradients that is kept in a step.
        nesterov: look ahead along the momentum.
        weight_decay: share of a parameter that a step takes, times `lr`.
        scale: of the orthogonal step. `adamw`: `0.2 sqrt(max(rows, columns))`, which has the root mean square of AdamW's usual
            step, so that one rate serves both (Liu et al. 2025, section 2.2); `spectral`: `sqrt(max(1, rows / columns))`
            (Jordan et al. 2024).
        steps: of the Newton-Schulz iteration.
        rest: rate of what goes by AdamW, as a share of `lr`.
        betas, eps: of AdamW.

    Raises:
        ValueError: a value out of range, or a vector given for a matrix.
    """

    whole_matrices: ClassVar[bool] = True
    """It cannot work on the parts of matrices that `trainer=fsdp` gives to a device."""

    def __init__(
        self,
        params: Iterable,
        lr: float = 0.01,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.1,
        scale: str = "adamw",
        steps: int = 5,
        rest: float = 1.0,
        betas: Sequence[float] = (0.9, 0.95),
        eps: float = 1e-8,
    ) -> None:
        above_zero(lr=lr, rest=rest)
        at_least_zero(weight_decay=weight_decay, eps=eps)
        shares(momentum=momentum)
        if scale not in SCALES:
            raise ValueError(f"optimizer.scale: {scale}; choose from {', '.join(SCALES)}")
        if not isinstance(steps, int) or not 1 <= steps <= 100:
            raise ValueError(f"optimizer.steps: {steps}; a whole number from 1 to 100")
        self.scale = scale
        defaults = {
            "lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay, "steps": steps,
            "betas": pair_of_shares(betas), "eps": eps, "fused": True, "role": "hidden", "matrices": None,
        }  # fmt: skip
        super().__init__(params, defaults)
        for group in self.param_groups:
            if group["role"] != "hidden":
                group["lr"] *= rest
            elif any(parameter.ndim < 2 for parameter in group["params"]):
                raise ValueError("optimizer=muon: takes hidden matrices, got a vector among them")

    def width_rate(self, role: str, width: float) -> float:
        """Under muP. A step of the `spectral` scale changes what a matrix gives by an amount that does not depend on its width
        (Yang et al. 2023, "A Spectral Condition for Feature Learning"); one of `adamw`'s grows with the root of it.
        """
        if role != "hidden":
            return adam_rate(role, width)
        return 1.0 if self.scale == "spectral" else width**-0.5

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; gives the loss of the closure, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            (self._step_matrices if group["role"] == "hidden" else self._step_others)(group)
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        """Matrices of equal shape, lying ones turned upright, are orthogonalised together."""
        batches: dict[torch.Size, list[tuple[Tensor, Tensor, float]]] = defaultdict(list)
        for parameter, update, places in self._updates(group):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            for place in places or [(parameter.shape, parameter.stride(), 0)]:
                target, direction = _part(parameter, place), _part(update, place)
                rate = group["lr"] * SCALES[self.scale](*target.shape[-2:])
                if target.shape[-2] > target.shape[-1]:
                    target, direction = target.mT, direction.mT
                batches[target.shape[-2:]].append((target, direction, rate))
        for shape, batch in batches.items():
            together = torch.cat([direction.reshape(-1, *shape) for _, direction, _ in batch])
            parts = orthogonalise(together, group["steps"]).split([d.numel() // shape.numel() for _, d, _ in batch])
            for (target, _, rate), part in zip(batch, parts, strict=True):
                target.add_(part.view(target.shape), alpha=-rate)

    def _updates(self, group: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor, list | None]]:
        """Each parameter with its momentum and where its matrices lie."""
        places = group["matrices"] or [None] * len(group["params"])
        for parameter, place in zip(group["params"], places, strict=True):
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            mean = state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
            update = parameter.grad.lerp(mean, group["momentum"]).contiguous() if group["nesterov"] else mean
            yield parameter, update, place

    def _step_others(self, group: dict[str, Any]) -> None:
        """AdamW."""
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def _part(tensor: Tensor, place: tuple) -> Tensor:
    """What lies at a place of a parameter, or of something of its shape."""
    size, stride, offset = place
    return tensor.as_strided(size, stride, tensor.storage_offset() + offset)
