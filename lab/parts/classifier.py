"""The classifier: a linear map from what stands for a text to the scores of labels."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from lab.parts.linear import Linear


class Classifier(Linear):
    """Scores labels from a dense vector: `[rows, dim]` to `[rows, labels]`.

    Args:
        dim: numbers in the vector.
        labels: how many there are.
        dropout: on the vector.
    """

    def __init__(self, dim: int, labels: int, dropout: float = 0.0) -> None:
        super().__init__(dim, labels)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.dropout(x, self.dropout, self.training))

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs on rows of these lengths."""
        return np.full(len(lengths), 2 * self.weight.numel())
