"""The classifier: a linear map from what stands for a text, or a token, to the scores of labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from lab.parts.embedding import Embedding
from lab.parts.linear import Linear


class Classifier(Linear):
    """Scores labels from a dense vector: `[..., dim]` to `[..., labels]`.

    Args:
        dim: numbers in the vector.
        labels: how many there are.
        dropout: on the vector.

    Attributes:
        logit_scale: what scores are multiplied by.
    """

    def __init__(self, dim: int, labels: int, dropout: float = 0.0) -> None:
        super().__init__(dim, labels)
        self.dropout, self.logit_scale = dropout, 1.0

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(x, self.dropout, self.training)
        return super().forward(x if self.logit_scale == 1.0 else x * self.logit_scale)

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs on rows of these lengths."""
        return np.full(len(lengths), 2 * self.weight.numel())


def output_heads(model: nn.Module) -> Iterator[nn.Linear]:
    """The maps inside whose outputs are scores: of the vocabulary, where no table does that, and of labels."""
    for module in model.modules():
        if isinstance(module, Classifier):
            yield module
        elif isinstance(module, Embedding) and module.head is not None:
            yield module.head
