"""Initial values. Each named matrix depends on the seed, its name and its shape alone.

So a swap elsewhere in the model leaves it as it was, and variants that share a matrix start from the same one: that is
what makes seeds pairs.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch
from torch import Tensor, nn

from lab.parts.attention import Scored
from lab.parts.block import Block
from lab.parts.classifier import Classifier, output_heads
from lab.parts.embedding import Embedding
from lab.parts.linear import named_matrices
from lab.values import check_whole


def generator(seed: int, name: str, shape: torch.Size) -> torch.Generator:
    """Random numbers for one matrix."""
    digest = hashlib.blake2b(f"{seed}/{name}/{tuple(shape)}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


class Normal:
    """Every matrix normal with one standard deviation (GPT-2, section 2.3; BERT; Llama), times the gain that its block asks
    for; biases 0. Another parameter that is no matrix, such as a norm's gain, keeps what its class gave it.

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

    def multiply(self, model: nn.Module) -> None:
        """Set what the model multiplies scores and logits by, where that is not its own to know."""

    @torch.no_grad()
    def __call__(self, model: nn.Module, seed: int, layers: int) -> None:
        """Set every parameter and multiplier of the model."""
        self.multiply(model)
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2 and name.rpartition(".")[2].startswith("bias"):
                parameter.zero_()
        for module in model.modules():
            start: Any = getattr(module, "start_values", None)
            if start is not None:  # of its own, such as a forget gate's bias
                start()
        blocks = [(f"{path}.", module) for path, module in model.named_modules() if isinstance(module, Block)]
        for name, matrix, module in named_matrices(model):
            std = self.deviation(matrix, module, layers)
            for path, block in blocks:
                if name.startswith(path):
                    std *= block.gain(name.split(".")[-2])
            values = torch.empty(matrix.shape)
            matrix.copy_(values.normal_(0.0, std, generator=generator(seed, name, matrix.shape)))


class Xavier(Normal):
    """Normal with the variance `2 / (inputs + outputs)` (Glorot and Bengio 2010), as in the 2017 Transformer's code.

    Tables of embeddings are normal with variance `1 / dim`, so that scaled embeddings have unit variance.
    """

    def __init__(self) -> None:
        super().__init__(std=None)

    def deviation(self, matrix: Tensor, module: nn.Module, layers: int) -> float:
        """Standard deviation of a matrix of this module."""
        if isinstance(module, nn.Embedding):
            return matrix.shape[-1] ** -0.5
        return math.sqrt(2 / (matrix.shape[-1] + matrix.shape[-2]))


class Mup(Normal):
    """Maximal update parametrisation: at any width the layers' outputs, and what a step changes of them, keep their size, so
    a learning rate found on a narrow model serves a wide one (Yang and Hu 2022, "Tensor Programs V", Table 8).

    | | deviation | multiplier | rate under Adam |
    | --- | --- | --- | --- |
    | hidden matrices, a router too | `1 / sqrt(inputs)` | | `base_dim / inputs` |
    | tables of embeddings | `1 / sqrt(base_dim)` | | 1 |
    | the head, tied or not, and a classifier's | `1 / sqrt(base_dim)` | logits by `base_dim / dim` | 1 |
    | norms, biases | 1 and 0 | | 1 |
    | scores of attention | | `sqrt(base_head_dim) / head_dim` | |

    Rates are the optimizer's to know: `base_dim`, left on the model, tells `lab.optim.groups` to ask it. At the base width
    the values are those of `init=fan_in`, and so are the rates, but for matrices with more inputs or fewer than the width, as
    a feed-forward layer's map down: they go by their own inputs there too. Scaled embeddings are scaled as at the base width.

    Args:
        base_dim: inputs of a hidden matrix that learns at the rate as given.
        base_head_dim: width of a head at which scores are scaled as usual, by `1 / sqrt(head_dim)`.

    Raises:
        ValueError: a width under 1.
    """

    def __init__(self, base_dim: int = 64, base_head_dim: int = 16) -> None:
        super().__init__(std=None)
        check_whole("init", base_dim=base_dim, base_head_dim=base_head_dim)
        self.base_dim, self.base_head_dim = base_dim, base_head_dim
        self.constant: set[nn.Module] = set()

    def deviation(self, matrix: Tensor, module: nn.Module, layers: int) -> float:
        """Standard deviation of a matrix of this module."""
        inputs = self.base_dim if module in self.constant else matrix.shape[-1]
        return inputs**-0.5

    @torch.no_grad()
    def __call__(self, model: nn.Module, seed: int, layers: int) -> None:
        """Set every parameter and multiplier of the model."""
        tables = {module for module in model.modules() if isinstance(module, nn.Embedding)}
        self.constant = tables | set(output_heads(model))
        super().__call__(model, seed, layers)
        model.base_dim = self.base_dim  # type: ignore[assignment]

    def multiply(self, model: nn.Module) -> None:
        """As the table says."""
        for module in model.modules():
            if isinstance(module, Embedding):
                shrunk = self.base_dim**-0.5 if module.shrunk else 1.0
                module.logit_scale = shrunk * self.base_dim / module.table.embedding_dim
                if module.scale != 1.0:
                    module.scale = self.base_dim**0.5
            if isinstance(module, Classifier):
                module.logit_scale = self.base_dim / module.in_features
            if isinstance(module, Scored) and module.scale is None:
                module.scale = self.base_head_dim**0.5 / module.score_dim
