"""Rotary positions: queries and keys turn, so that their product depends on their distance (RoFormer, Su et al. 2021).

The kinds differ in how fast each pair of coordinates turns, which is what decides beyond which length a model is lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lab.layout import Layout
from lab.parts.function import Function
from lab.parts.position import Table, frequencies, over_zero
from lab.values import is_number


class RoPE(Table):
    """Rotary embedding (Su et al. 2021, section 3.4.2): pairs of a head's coordinates turn by an angle that grows with the
    position.

    Args:
        base: pair `i` of a head of width `w` turns by `base^(-2i / w)` a token.
        share: of a head's width that turns, from its front, in whole pairs and at least one; the rest knows no position
            (GPT-NeoX, Phi-2).
        interleaved: coordinate `2i` is paired with `2i + 1`, as in the paper and GPT-J; else `i` with `i + w / 2`, as in
            GPT-NeoX and in Hugging Face's Llama.

    Raises:
        ValueError: an odd head width, or a value out of range.
    """

    rotates = True

    def __init__(
        self,
        dim: int,
        head_dim: int,
        context: int,
        heads: int = 1,
        causal: bool = True,
        base: float = 10_000.0,
        share: float = 1.0,
        interleaved: bool = False,
    ) -> None:
        super().__init__(dim, head_dim, context, heads, causal)
        if not 0 < share <= 1:
            raise ValueError(f"position.share: {share}; the share of a head that turns, over 0 and up to 1")
        self.base, self.share, self.interleaved = over_zero("base", base), share, interleaved
        if head_dim % 2:
            raise ValueError(
                "position=rope turns pairs of coordinates: the head width (model.head_dim, or "
                f"model.dim / model.heads) must be even, got {head_dim}"
            )

    def extra_repr(self) -> str:
        """What its printed form says of it."""
        return f"base={self.base:,.0f}" + (f", share={self.share}" if self.share < 1 else "")

    def turning(self, width: int) -> int:
        """How many of the coordinates of a head of this width turn."""
        return max(2, 2 * int(width * self.share / 2))

    def speeds(self, width: int, device: torch.device) -> Tensor:
        """`[width / 2]` float32: radians that each pair turns from one token to the next."""
        return frequencies(width, self.base, device)

    def amplitude(self) -> float:
        """What turned queries and keys are multiplied by."""
        return 1.0

    def values(self, positions: Tensor, width: int) -> Tensor:
        """`[positions, 2, 1, width]`: of each coordinate its factor and that of its pair's other one, to be broadcast over
        heads: `cos, cos` and `-sin, sin` (equation 34).
        """
        return self.factors(torch.outer(positions.float(), self.speeds(width, positions.device)))

    def factors(self, angles: Tensor) -> Tensor:
        """`[..., 2, 1, width]`, from the angle of each pair, `[..., width / 2]`."""
        cosine, sine = angles.cos() * self.amplitude(), angles.sin() * self.amplitude()
        both = torch.stack([cosine, cosine, -sine, sine], dim=-1).unflatten(-1, (2, 2))  # [..., pair, 2, place in it]
        placed = both.movedim(-2, -3) if self.interleaved else both.movedim(-3, -1)
        return placed.flatten(-2).unsqueeze(-2)

    def rotate(self, x: Tensor, layout: Layout) -> Tensor:
        """`[batch, time, heads, width]`, each pair turned by its angle."""
        turning = self.turning(x.shape[-1])
        own, other = layout.once((self, turning, x.dtype), lambda: self.rows(layout, turning).to(x.dtype).unbind(2))
        return _Rotation.run(x, own, other, self.interleaved)


class Stretched(RoPE):
    """A rotation for rows `factor` times as long as those that the speeds were made for.

    Args:
        factor: how many times as long.
        trained: tokens in the rows that the model was trained on; null for `context / factor`.
        settings: of `RoPE`.
    """

    def __init__(
        self, dim: int, head_dim: int, context: int, factor: float, trained: int | None = None, **settings
    ) -> None:
        super().__init__(dim, head_dim, context, **settings)
        if not factor >= 1:
            raise ValueError(f"position.factor: {factor}; how many times as long, at least 1")
        self.factor = factor
        self.trained = over_zero("trained", trained if trained is not None else context / factor)


class LinearRoPE(Stretched):
    """Position interpolation (Chen et al. 2023, equation 4): everything turns `factor` times slower."""

    def speeds(self, width: int, device: torch.device) -> Tensor:
        """Divided by the factor."""
        return super().speeds(width, device) / self.factor


class NTKRoPE(Stretched):
    """NTK-aware scaling (bloc97 2023; YaRN, Peng et al. 2023, section 3.1): a larger base, so that the slowest pair turns
    `factor` times slower and the fastest as before.
    """

    def speeds(self, width: int, device: torch.device) -> Tensor:
        """Of the base `base * factor^(width / (width - 2))`."""
        return frequencies(width, self.base * self.factor ** (width / max(1, width - 2)), device)


class YaRN(Stretched):
    """YaRN (Peng et al. 2023, sections 3.2-3.4): pairs that turn often within the trained length keep their speed, those that
    turn less than once are slowed, with a ramp over the pairs between, as in its authors' code; scores grow a little.

    Args:
        fast: pairs that turn at least so often within the trained length keep their speed.
        slow: pairs that turn at most so often are slowed by the whole factor.
    """

    def __init__(
        self, dim: int, head_dim: int, context: int, fast: float = 32.0, slow: float = 1.0, **settings
    ) -> None:
        super().__init__(dim, head_dim, context, **settings)
        if not self.base > 1:
            raise ValueError(
                f"position.base: {self.base}; YaRN asks which pair turns how often, which takes a base over 1"
            )
        if not 0 < slow < fast:
            raise ValueError(f"position.slow: {slow}; over 0 and under position.fast {fast}")
        self.fast, self.slow = fast, slow

    def speeds(self, width: int, device: torch.device) -> Tensor:
        """A blend of the plain and the slowed speeds."""
        plain = super().speeds(width, device)
        first = max(0, math.floor(self._pair_that_turns(self.fast, width)))
        last = min(width - 1, math.ceil(self._pair_that_turns(self.slow, width)))
        ramp = ((torch.arange(width // 2, device=device) - first) / max(last - first, 1e-3)).clamp(0, 1)
        return plain / self.factor * ramp + plain * (1 - ramp)

    def _pair_that_turns(self, times: float, width: int) -> float:
        """Which pair, as a fraction, turns so many times within the trained length."""
        return width * math.log(self.trained / (times * 2 * math.pi)) / (2 * math.log(self.base))

    def amplitude(self) -> float:
        """The square root of the temperature of the scores (equation 22)."""
        return 0.1 * math.log(self.factor) + 1


class Llama3RoPE(Stretched):
    """Llama 3.1's scaling (Dubey et al. 2024; Meta's code): wavelengths under `trained / high` stay, those over `trained / low`
    grow by the factor, between them the speeds are blended.
    """

    def __init__(self, dim: int, head_dim: int, context: int, low: float = 1.0, high: float = 4.0, **settings) -> None:
        super().__init__(dim, head_dim, context, **settings)
        if not 0 < low < high:
            raise ValueError(f"position.low: {low}; over 0 and under position.high {high}")
        self.low, self.high = low, high

    def speeds(self, width: int, device: torch.device) -> Tensor:
        """A blend of the plain and the slowed speeds, by how often a pair turns within the trained length."""
        plain = super().speeds(width, device)
        turns = self.trained * plain / (2 * math.pi)
        kept = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return plain / self.factor * (1 - kept) + plain * kept


class LongRoPE(Stretched):
    """LongRoPE (Ding et al. 2024, sections 3.3-3.4; Phi-3, Abdin et al. 2024): each pair is slowed by a factor of its own, in
    documents of up to the trained length by another than in longer ones; scores grow a little.

    Every document is judged by itself, however it is packed. In transformers the longest row of a batch decides for all.

    Args:
        short: factors of the pairs, as many as turn, in documents of up to `trained` tokens; null for 1.
        long: in longer ones; null for `factor`.
        settings: of `Stretched`.

    Raises:
        ValueError: factors that are not over 0, or a trained length of one token.
    """

    def __init__(
        self,
        dim: int,
        head_dim: int,
        context: int,
        short: Sequence[float] | None = None,
        long: Sequence[float] | None = None,
        **settings,
    ) -> None:
        super().__init__(dim, head_dim, context, **settings)
        if not self.trained > 1:
            raise ValueError(f"position.trained: {self.trained}; more than 1 token")
        self.short, self.long = short, long
        for name, factors in {"short": short, "long": long}.items():
            if not (factors is None or (isinstance(factors, Sequence) and all(map(_is_factor, factors)))):
                raise ValueError(
                    f"position.{name}: {factors}; a list of a number over 0 for each pair that turns, or null"
                )

    def check_width(self, width: int) -> None:
        """Refuse a width for whose pairs there are not as many factors."""
        pairs = self.turning(width) // 2
        for name, factors in {"short": self.short, "long": self.long}.items():
            if factors is not None and len(factors) != pairs:
                raise ValueError(f"position.{name}: {factors}; a number over 0 for each of the {pairs} pairs that turn")

    def amplitude(self) -> float:
        """`sqrt(1 + ln(factor) / ln(trained))`, as in its authors' code."""
        return math.sqrt(1 + math.log(self.factor) / math.log(self.trained))

    def values(self, positions: Tensor, width: int) -> Tensor:
        """`[positions, 2 lengths, 2, 1, width]`: as of every rotation, for short documents and for long ones."""
        plain = self.speeds(width, positions.device)
        short = plain.new_tensor(1.0 if self.short is None else self.short)
        long = plain.new_tensor(self.factor if self.long is None else self.long)
        kinds = [plain / short, plain / long]
        return self.factors(torch.stack([torch.outer(positions.float(), speeds) for speeds in kinds], dim=1))

    def rows(self, layout: Layout, width: int) -> Tensor:
        """Of short or long documents, each by its own length."""
        both = super().rows(layout, width)
        if layout.span <= self.trained:
            return both[:, :, 0]
        beyond = layout.once((self, "beyond"), lambda: layout.lengths > self.trained)
        return torch.where(beyond[:, :, None, None, None], both[:, :, 1], both[:, :, 0])

    def renews(self, length: int) -> bool:
        """With the first token beyond the trained length, all of its document turns otherwise."""
        return self.trained < length <= self.trained + 1


def _is_factor(value: Any) -> bool:
    return is_number(value) and 0 < value < math.inf


class _Rotation(Function):
    """The gradient is the same turn backwards, so nothing of `x` is kept."""

    @staticmethod
    def forward(ctx, x: Tensor, own: Tensor, other: Tensor, interleaved: bool) -> Tensor:
        ctx.save_for_backward(own, other)
        ctx.interleaved = interleaved
        return _turn(x, own, other, interleaved, 1)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        own, other = ctx.saved_tensors
        return _turn(gradient, own, other, ctx.interleaved, -1), None, None, None


def _turn(x: Tensor, own: Tensor, other: Tensor, interleaved: bool, direction: int) -> Tensor:
    turning = own.shape[-1]
    if turning < x.shape[-1]:
        front, rest = x.tensor_split([turning], dim=-1)
        return torch.cat([_turn(front, own, other, interleaved, direction), rest], dim=-1)
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2) if interleaved else x.roll(turning // 2, dims=-1)
    return torch.mul(x, own).addcmul_(swapped, other, value=direction)
