"""What every model here offers, whatever its family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from torch import Tensor, nn

from lab.layout import IGNORE, Frame, Layout
from lab.models.pooling import pooled
from lab.parts.cache import Cache
from lab.parts.classifier import Classifier
from lab.parts.embedding import Embedding
from lab.parts.experts import MixtureOfExperts
from lab.parts.linear import count

if TYPE_CHECKING:
    from lab.data.store import Prepared


class Costed(Protocol):
    """A layer that says what it costs."""

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs on documents of these lengths."""


class Model(nn.Module):
    """A model of any family: what it costs, and a vector for each token.

    Attributes:
        family: what objectives ask for: `decoder`, `encoder`, `encoder_decoder`, ...
        vocab_size: tokens in the vocabulary.
        dim: numbers in a token's vector.
        context: tokens in a row, as trained.
        frame: roles of the special tokens that begin a text that is read, stand between two, and end the last.
        pool: what stands for a text unless told, as in `lab.models.pooling`.
        generates: it writes one token after the other.
    """

    family: ClassVar[str]
    frame: ClassVar[Frame] = (None, None, None)
    pool: ClassVar[str] = "mean"
    generates: ClassVar[bool] = False
    vocab_size: int
    dim: int
    context: int

    @property
    def limit(self) -> int | None:
        """Tokens of a row at most when it writes; none where a state of fixed size stands for all before."""
        return self.context

    def layers(self) -> list[Costed]:
        """What computes, apart from the head."""
        raise NotImplementedError

    def vectors(self, tokens: Tensor, layout: Layout | None = None, segments: Tensor | None = None) -> Tensor:
        """What stands for each token: `[batch, time]` int64 to `[batch, time, dim]`.

        Args:
            tokens: of a text.
            layout: of the tokens; by default one document a row.
            segments: `[batch, time]`, which of two texts each is of; what a family without segments leaves aside.
        """
        raise NotImplementedError

    def represent(
        self,
        tokens: Tensor,
        layout: Layout | None = None,
        segments: Tensor | None = None,
        pool: str | None = None,
    ) -> Tensor:
        """What stands for each row: `[batch, time]` int64 to `[batch, dim]`.

        Args:
            tokens, layout, segments: as for `vectors`.
            pool: one of `lab.models.pooling.POOLS`; by default the family's.
        """
        layout = layout or Layout.full(tokens.shape[0], tokens.shape[1], tokens.device)
        return pooled(self.vectors(tokens, layout, segments), layout, pool or self.pool)

    def classifier(self, labels: int, dropout: float = 0.0) -> nn.Module:
        """What scores labels from what `represent` gives; says its `flops` on rows of some lengths."""
        return Classifier(self.dim, labels, dropout)

    def count(self, prepared: Prepared) -> None:
        """Learn what is counted in the training text, before training: nothing, in most families."""

    @property
    def expert_layers(self) -> list[MixtureOfExperts]:
        """The mixtures of experts, in order."""
        return [module for module in self.modules() if isinstance(module, MixtureOfExperts)]

    @property
    def parameters_total(self) -> int:
        """Parameters, a shared one counted once."""
        return count(self)

    @property
    def parameters_active(self) -> int:
        """Parameters that one token uses: of a mixture only the chosen experts."""
        return count(self) - sum(count(layer) - layer.active_parameters for layer in self.expert_layers)

    @property
    def head_flops(self) -> int:
        """Forward FLOPs of scoring the vocabulary at one place."""
        return 0

    @property
    def pool_flops(self) -> int:
        """Forward FLOPs of making what stands for a row of its vectors, where no pool is named."""
        return 0

    def cache_bytes(self, length: int) -> int:
        """Bytes that the KV cache of one row of so many tokens takes."""
        return 0

    def body_flops(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs on documents of these lengths without the head, over the visible pairs."""
        return sum((layer.flops(lengths) for layer in self.layers()), np.zeros(len(lengths), dtype=np.int64))

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs on documents of these lengths, every place scored; a training step takes three times that."""
        return self.body_flops(lengths) + self.head_flops * np.asarray(lengths)


class LanguageModel(Model):
    """A model that scores the vocabulary at each token. A family says what enters the head, by `hidden`.

    Attributes:
        embedding: the table and the head.
    """

    frame: ClassVar[Frame] = ("document", "sep", None)
    pool = "last"
    embedding: Embedding

    def hidden(self, tokens: Tensor, layout: Layout | None = None, cache: Cache | None = None) -> Tensor:
        """What enters the head: `[batch, time]` int64 to `[batch, time, dim]`."""
        raise NotImplementedError

    def exits(self, tokens: Tensor) -> list[Tensor]:
        """What would enter the head if the model ended sooner: with the embeddings, and after each layer; the last is what
        enters it. `[batch, time]` int64, one document a row, to `[batch, time, dim]` each.
        """
        raise NotImplementedError

    def vectors(self, tokens: Tensor, layout: Layout | None = None, segments: Tensor | None = None) -> Tensor:
        return self.hidden(tokens, layout)

    def renews(self, length: int) -> bool:
        """A row of so many tokens is computed anew, whatever a cache holds of it."""
        return False

    def new_cache(self, batch: int, length: int) -> Cache:
        """A cache of what is kept of up to `length` tokens of `batch` rows while generating."""
        raise NotImplementedError

    def forward(self, tokens: Tensor, layout: Layout | None = None, cache: Cache | None = None) -> Tensor:
        """Scores of every token of the vocabulary: `[batch, time]` int64 to `[batch, time, vocab]`.

        Args:
            tokens: with a cache, those that follow what is in it.
            layout: of the tokens; by default one document a row, or with a cache the rest of each row's last one.
            cache: from `new_cache`; takes in the tokens.
        """
        return self.embedding.logits(self.hidden(tokens, layout, cache))

    def loss(self, tokens: Tensor, targets: Tensor, layout: Layout | None = None, reduction: str = "mean") -> Tensor:
        """Cross-entropy in nats, over the targets that are not `IGNORE`, without ever holding all logits.

        Args:
            tokens, targets: `[batch, time]` int64.
            layout: of the tokens.
            reduction: `mean` over targets or `sum`.
        """
        total = self.embedding.loss(self.hidden(tokens, layout), targets)
        return total / (targets != IGNORE).sum().clamp_min(1) if reduction == "mean" else total

    @property
    def head_flops(self) -> int:
        return self.embedding.head_flops


class SequenceToSequence(Model):
    """A model that reads a source and scores the vocabulary at each token of a target. A family says what enters the head.

    Attributes:
        embedding: the table and the head.
    """

    family = "encoder_decoder"
    frame: ClassVar[Frame] = (None, "end", "end")
    generates = True
    embedding: Embedding

    def hidden(
        self, source: Tensor, target: Tensor, source_layout: Layout | None = None, layout: Layout | None = None
    ) -> Tensor:
        """What enters the head at each token of the target: `[batch, source time]` and `[batch, time]` int64 to
        `[batch, time, dim]`.

        Args:
            source, target: tokens; those of the target follow the document token.
            source_layout, layout: of the two; by default one document a row.
        """
        raise NotImplementedError

    def exits(self, source: Tensor, target: Tensor) -> list[Tensor]:
        """What would enter the head at each token of the target if the decoder ended sooner: with the embeddings, and after
        each layer; the last is what enters it. Tokens as for `hidden`, one document a row; `[batch, time, dim]` each.
        """
        raise NotImplementedError

    def begin(self, source: Tensor, source_layout: Layout | None = None, length: int = 0) -> Any:
        """What `step` continues from: the source read, and room for `length` tokens of the target.

        It has a method `reorder(rows)`, `[batch]` int64, which makes each row a copy of the one with that number.
        """
        raise NotImplementedError

    def step(self, tokens: Tensor, state: Any) -> Tensor:
        """What enters the head after the next tokens: `[batch, time]` int64 to `[batch, time, dim]`; `state` takes them in."""
        raise NotImplementedError

    def forward(
        self, source: Tensor, target: Tensor, source_layout: Layout | None = None, layout: Layout | None = None
    ) -> Tensor:
        """Scores of every token of the vocabulary, `[batch, time, vocab]`. Arguments as `hidden`."""
        return self.embedding.logits(self.hidden(source, target, source_layout, layout))

    def cache_bytes(self, length: int, source: int | None = None) -> int:
        """Bytes that are kept of a target of so many tokens and of a source of `source`, by default as many."""
        raise NotImplementedError

    def pair_flops(self, lengths: np.ndarray, sources: np.ndarray) -> np.ndarray:
        """Forward FLOPs on targets of these lengths after sources of those, every place of the target scored."""
        raise NotImplementedError

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        """Of targets of these lengths, with sources as long."""
        return self.pair_flops(lengths, lengths)

    @property
    def head_flops(self) -> int:
        return self.embedding.head_flops
