"""Sparse rows: vectors of the width of a vocabulary, of which only the numbers that are not 0 are kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class SparseRows:
    """`[rows, width]` in compressed form (CSR).

    Attributes:
        starts: `[rows + 1]`, where in the others each row begins, and the end.
        columns: `[numbers]` int64, ascending in each row.
        values: `[numbers]`.
        width: how many columns there are.
    """

    starts: Tensor
    columns: Tensor
    values: Tensor
    width: int

    def numpy(self) -> scipy.sparse.csr_array:
        """The same for SciPy."""
        parts = (self.values.numpy(), self.columns.numpy(), self.starts.numpy())
        return scipy.sparse.csr_array(parts, shape=(len(self.starts) - 1, self.width))

    def to(self, device: str) -> SparseRows:
        """The same on another device."""
        return SparseRows(self.starts.to(device), self.columns.to(device), self.values.to(device), self.width)


class SparseClassifier(nn.Module):
    """Scores labels from sparse rows: `[rows, width]` to `[rows, labels]`.

    It is the linear map of the dense rows, which reads the rows of its matrix that are needed.

    Args:
        width: of the rows.
        labels: how many there are.
        dropout: on the numbers of a row.
    """

    def __init__(self, width: int, labels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.table = nn.Embedding(width, labels)
        self.bias = nn.Parameter(self.table.weight.new_zeros(labels))
        self.dropout = dropout

    def forward(self, x: SparseRows) -> Tensor:
        """The scores."""
        values = F.dropout(x.values, self.dropout, self.training)
        table = self.table.weight
        return F.embedding_bag(x.columns, table, x.starts[:-1], mode="sum", per_sample_weights=values) + self.bias

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs on rows of so many tokens, as if none came twice."""
        return 2 * self.table.embedding_dim * np.asarray(lengths)
