"""A recurrent encoder-decoder, with the single vector of 2014 or with attention over all states of the encoder.

Sutskever et al. 2014 and Cho et al. 2014; Bahdanau et al. 2015 and Luong et al. 2015.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lab.layout import Layout
from lab.models.model import Costed, SequenceToSequence
from lab.models.record import record
from lab.parts.alignment import Alignment, Progress
from lab.parts.cell import Cell
from lab.parts.embedding import Embedding
from lab.parts.recurrence import Recurrence


class RecurrentTranslator(SequenceToSequence):
    """One embedding for source, target and head; recurrent layers that read, as many that write, and how these look at those.

    A row of a target holds one document, which begins the row; so does a row of a source, wherever it stands.

    Args:
        vocab_size: tokens in the vocabulary.
        dim: width.
        layers: of the encoder, and of the decoder.
        context: tokens of a source or a target, as trained.
        cell: called with `inputs`, `dim`.
        alignment: called with `dim`.
        embedding: called with `vocab_size`, `dim`.
        reads: the encoder's direction, as `Recurrence`.
        dropout: share of what a layer reads of the one below, and of what enters the head, that is dropped.

    Raises:
        ValueError: a size under 1, a share that is none, or a word that is no direction.
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        layers: int,
        context: int,
        cell: Callable[..., Cell],
        alignment: Callable[..., Alignment],
        embedding: Callable[..., Embedding],
        reads: str = "both",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.vocab_size, self.dim, self.context = vocab_size, dim, context
        self.embedding = embedding(vocab_size=vocab_size, dim=dim)
        self.encoder = Recurrence(dim, dim, layers, cell, dropout, reads)
        self.looks = alignment(dim=dim)
        self.decoder = Recurrence(self.looks.inputs, dim, layers, cell, dropout)
        self.dropout = nn.Dropout(dropout)

    def begin(self, source: Tensor, source_layout: Layout | None = None, length: int = 0) -> Progress:
        layout = one_document(source, source_layout, "source")
        encoded, states = self.encoder(self.embedding.entering(source), layout, keep=True)
        return self.looks.begin(encoded, layout, states)

    def step(self, tokens: Tensor, state: Progress) -> Tensor:
        return self.dropout(self.looks(self.decoder, self.embedding.entering(tokens), state)[0])

    def hidden(
        self, source: Tensor, target: Tensor, source_layout: Layout | None = None, layout: Layout | None = None
    ) -> Tensor:
        return self.dropout(self._written(source, target, source_layout, layout)[0])

    def _written(
        self, source: Tensor, target: Tensor, source_layout: Layout | None, layout: Layout | None
    ) -> tuple[Tensor, Tensor | None]:
        layout = one_document(target, layout, "target")
        if layout.padded and bool(layout.padding[:, 0].any()):
            raise ValueError("a row of a target begins with a token; pad it at its end")
        progress = self.begin(source, source_layout)
        return self.looks(self.decoder, self.embedding.entering(target), progress, layout)

    def exits(self, source: Tensor, target: Tensor) -> list[Tensor]:
        """As of every family; of a layer's states beside what the last layer looked at."""
        encoded = f"encoder.layers.{len(self.encoder.layers) - 1}"
        places = [f"decoder.layers.{number}" for number in range(len(self.decoder.layers))]
        looks = hasattr(self.looks, "weights")
        with record(self, encoded, *places, *(["looks.weights"] if looks else [])) as seen:
            self.hidden(source, target)
        context = torch.bmm(seen["looks.weights"], seen[encoded]) if looks else None
        x = self.embedding.entering(target)
        return [self.looks.say(states, x, context) for states in (x, *(seen[place] for place in places))]

    def alignment(
        self, source: Tensor, target: Tensor, source_layout: Layout | None = None, layout: Layout | None = None
    ) -> Tensor:
        """How much each token of the source counted when a token of the target was taken in: `[batch, time, source time]`,
        rows that add up to 1, 0 at padding. Arguments as `hidden`.

        Raises:
            ValueError: a model that does not look at the states of its encoder.
        """
        weights = self._written(source, target, source_layout, layout)[1]
        if weights is None:
            raise ValueError(
                f"alignment: {type(self.looks).__name__} looks at one vector; there are no weights to show"
            )
        return weights

    def vectors(self, tokens: Tensor, layout: Layout | None = None, segments: Tensor | None = None) -> Tensor:
        """The encoder's states."""
        return self.encoder(self.embedding.entering(tokens), layout)[0]

    def layers(self) -> list[Costed]:
        """Encoder and decoder, what looks from one to the other apart."""
        return [self.encoder, self.decoder]

    def pair_flops(self, lengths: np.ndarray, sources: np.ndarray) -> np.ndarray:
        lengths = np.asarray(lengths)
        across = self.looks.cross_flops(lengths, sources)
        return self.encoder.flops(sources) + self.decoder.flops(lengths) + across + self.head_flops * lengths

    def cache_bytes(self, length: int, source: int | None = None) -> int:
        """Of the decoder's state, and of what is kept of the source."""
        size = self.embedding.table.weight.element_size()
        return self.decoder.state_bytes + size * self.looks.kept(length if source is None else source)


def one_document(tokens: Tensor, layout: Layout | None, side: str) -> Layout:
    """The layout of rows that hold one document each, by default all of the row.

    Raises:
        ValueError: some row holds several.
    """
    layout = layout or Layout.full(tokens.shape[0], tokens.shape[1], tokens.device)
    if not layout.single and bool((layout.documents > 0).any()):
        raise ValueError(
            f"a row of a {side} holds one document, and here some row holds {int(layout.documents.max()) + 1}"
        )
    return layout
