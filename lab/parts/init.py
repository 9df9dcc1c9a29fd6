"""Initial values. Each named matrix depends on the seed, its name and its shape alone.

So a swap elsewhere in the model leaves it as it was, and variants that share a matrix start from the same one: that is
what makes seeds pairs.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor, nn

from lab.parts.linear import named_matrices


def generator(seed: int, name: str, shape: torch.Size) -> torch.Generator:
    """Random numbers for one matrix."""
    digest = hashlib.blake2b(f"{seed}/{name}/{tuple(shape)}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


class Normal:
    """Every matrix normal with one standard deviation (GPT-2, section 2.3; BERT; Llama), biases 0, norms 1.

    Args:
        std: the standard deviation; null for `1 / sqrt(inputs)`, which keeps the size of activations at any width.
        depth_scaled: divide it by `sqrt(2 * layers)` for matrices that write to the residual stream (GPT-2).
    """

    def __init__(self, std: float | None = 0.02, depth_scaled: bool = False) -> None:
        if std is not None and std <= 0:
            raise ValueError(f"init.std: {std}; a standard deviation is over 0")
        self.std = std
        self.depth_scaled = depth_scaled

    def deviation(self, matrix: Tensor, module: nn.Module, layers: int) -> float:
        """Standard deviation of a matrix of this module in a model of so many layers."""
        inputs = matrix.shape[-1]
        std = inputs**-0.5 if self.std is None else self.std
        if self.depth_scaled and getattr(module, "writes_residual", False):
            std /= math.sqrt(2 * layers)
        return std

    @torch.no_grad()
    def __call__(self, model: nn.Module, seed: int, layers: int) -> None:
        """Set every parameter of the model."""
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
        for name, matrix, module in named_matrices(model):
            values = torch.empty(matrix.shape)
            values.normal_(0.0, self.deviation(matrix, module, layers), generator=generator(seed, name, matrix.shape))
            matrix.copy_(values)


class Xavier(Normal):
    """Uniform with the variance `2 / (inputs + outputs)` (Glorot and Bengio 2010), as in the 2017 Transformer's code.

    Tables of embeddings are normal with variance `1 / dim`, so that scaled embeddings have unit variance.
    """

    def __init__(self) -> None:
        super().__init__(std=None)

    def deviation(self, matrix: Tensor, module: nn.Module, layers: int) -> float:
        """Standard deviation of a matrix of this module."""
        if isinstance(module, nn.Embedding):
            return matrix.shape[-1] ** -0.5
        return math.sqrt(2 / (matrix.shape[-1] + matrix.shape[-2]))
