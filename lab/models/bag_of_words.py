"""A bag of words: a text is how often each token is in it, whatever their order (Harris 1954), weighted by how much a token
tells (TF-IDF: Salton and Buckley 1988, "Term-weighting approaches in automatic text retrieval").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from lab.layout import Layout
from lab.models.model import Costed, Model
from lab.parts.sparse import SparseClassifier, SparseRows

if TYPE_CHECKING:
    from lab.data.store import Prepared, Tokens

WEIGHTINGS = ("counts", "binary", "tfidf")
PIECE = 2**22  # tokens whose documents are counted at once


class BagOfWords(Model):
    """The weight of each token of the vocabulary in a text, kept for those alone that the text has.

    `tfidf` multiplies the count of a token by `ln((1 + n) / (1 + df)) + 1`, where `df` of the `n` training texts have it.

    Args:
        vocab_size: tokens in the vocabulary, which is the width.
        context: tokens of a text that are read.
        weighting: `counts`, `binary` (1 where a token is there) or `tfidf`.
        sublinear: `1 + ln(count)` in place of the count.
        normalised: texts have length 1, so that their products are cosines.

    Raises:
        ValueError: another weighting.
    """

    family = "bag_of_words"

    def __init__(
        self,
        vocab_size: int,
        context: int,
        weighting: str = "tfidf",
        sublinear: bool = False,
        normalised: bool = True,
    ) -> None:
        super().__init__()
        if weighting not in WEIGHTINGS:
            raise ValueError(f"model.weighting: {weighting}; choose from {', '.join(WEIGHTINGS)}")
        self.vocab_size, self.dim, self.context = vocab_size, vocab_size, context
        self.weighting, self.sublinear, self.normalised = weighting, sublinear, normalised
        self.inverse_frequency: Tensor
        self.register_buffer("inverse_frequency", torch.ones(vocab_size))

    @torch.no_grad()
    def count(self, prepared: Prepared) -> None:
        """Count in how many of the training texts each token is. Without it, all tokens tell as much."""
        tokens = prepared.train
        fields = range(min(tokens.fields - bool(prepared.labels), 2))  # what follows two texts is the score of a pair
        texts, having = document_frequencies(tokens, fields, self.vocab_size)
        self.inverse_frequency.copy_(torch.from_numpy(np.log((1 + texts) / (1 + having)) + 1))

    def represent(  # type: ignore[override]
        self,
        tokens: Tensor,
        layout: Layout | None = None,
        segments: Tensor | None = None,
        pool: str | None = None,
    ) -> SparseRows:
        """`[batch, time]` int64 to `[batch, vocab]`; a pair of texts is one bag. What there is to pool is always a sum."""
        rows = len(tokens)
        numbers = torch.arange(rows, device=tokens.device).unsqueeze(1) * self.vocab_size + tokens
        if layout is not None and layout.padded:
            numbers = numbers[~layout.padding]
        found, counts = numbers.flatten().unique(return_counts=True)
        row, column = found // self.vocab_size, found % self.vocab_size
        values = self._weighted(counts.to(self.inverse_frequency.dtype), column)
        if self.normalised:
            squares = values.new_zeros(rows).index_add_(0, row, values**2)
            values = values * squares.rsqrt()[row]
        starts = torch.nn.functional.pad(row.bincount(minlength=rows).cumsum(0), (1, 0))
        return SparseRows(starts, column, values, self.vocab_size)

    def _weighted(self, counts: Tensor, column: Tensor) -> Tensor:
        if self.weighting == "binary":
            counts = torch.ones_like(counts)
        elif self.sublinear:
            counts = 1 + counts.log()
        return counts * self.inverse_frequency[column] if self.weighting == "tfidf" else counts

    def classifier(self, labels: int, dropout: float = 0.0) -> nn.Module:
        return SparseClassifier(self.vocab_size, labels, dropout)

    def layers(self) -> list[Costed]:
        return []


def document_frequencies(tokens: Tokens, fields: range, vocab_size: int) -> tuple[int, np.ndarray]:
    """How many texts there are in these fields, and `[vocab]`, how many of them each token is in."""
    having = np.zeros(vocab_size, np.int64)
    documents = len(tokens.offsets) - 1
    held = np.isin(np.arange(documents) % tokens.fields, list(fields))
    start = 0
    while start < documents:
        stop = max(int(np.searchsorted(tokens.offsets, tokens.offsets[start] + PIECE)), start + 1)
        stop = min(stop, documents)
        ids = tokens.ids[tokens.offsets[start] : tokens.offsets[stop]].astype(np.int64)
        owners = np.repeat(np.arange(start, stop), np.diff(tokens.offsets[start : stop + 1]))
        kept = held[owners]
        found = np.unique(owners[kept] * vocab_size + ids[kept])
        having += np.bincount(found % vocab_size, minlength=vocab_size)
        start = stop
    return int(held.sum()), having
