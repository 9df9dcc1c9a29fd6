"""Word vectors: one vector a word, whatever stands around it (word2vec, Mikolov et al. 2013a, arXiv 1301.3781)."""

from __future__ import annotations

from torch import Tensor

from lab.layout import Layout
from lab.models.model import Costed, Model
from lab.parts.embedding import Embedding
from lab.values import check_whole


class WordVectors(Model):
    """Two tables of vectors: of a word as itself, `embedding.table`, and of a word as what stands near others,
    `embedding.head`. The first is what is used; the second is there to train it.

    Args:
        vocab_size: words in the vocabulary.
        dim: numbers in a vector.
        context: tokens in a row, as trained.

    Raises:
        ValueError: a size under 1.
    """

    family = "word_vectors"

    def __init__(self, vocab_size: int, dim: int, context: int) -> None:
        super().__init__()
        check_whole("model", dim=dim, context=context)
        self.vocab_size, self.dim, self.context = vocab_size, dim, context
        self.embedding = Embedding(vocab_size, dim, tied=False)

    def layers(self) -> list[Costed]:
        """None: a vector is looked up, nothing computes."""
        return []

    def vectors(self, tokens: Tensor, layout: Layout | None = None, segments: Tensor | None = None) -> Tensor:
        return self.embedding(tokens)
