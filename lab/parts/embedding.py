"""Token embeddings, and the head that scores the vocabulary."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lab.parts.activation import ACTIVATIONS
from lab.parts.cross_entropy import linear_cross_entropy
from lab.parts.kernels import linear
from lab.parts.linear import Linear
from lab.values import is_number


class Embedding(nn.Module):
    """A table that turns tokens into vectors and a head that scores every token of the vocabulary.

    Args:
        vocab_size: tokens in the vocabulary.
        dim: width of the model.
        tied: the head is the table (Press and Wolf 2017).
        scaled: vectors are multiplied by `sqrt(dim)` (Vaswani et al. 2017, section 3.4).
        softcap: scores are squeezed into plus and minus this by `tanh` (Gemma 2, 2024, section 2); none for no limit.
        shrunk: what is scored is multiplied by `1 / sqrt(dim)`, as where T5 1.0 ties (Raffel et al. 2020, their code).
        rows: of the table, where it has more than the vocabulary, as published ones do whose size is a round number.
        dropout: on what enters the first block, while training (Vaswani et al. 2017, section 5.4).

    Attributes:
        logit_scale: what scores are multiplied by, before the cap.
        bias: `[vocab]`, added to the scores before the cap; none for nothing.

    Raises:
        ValueError: a cap that is not over 0, a table too small for the vocabulary, a share of dropout out of range.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        tied: bool = True,
        scaled: bool = False,
        softcap: float | None = None,
        shrunk: bool = False,
        rows: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if softcap is not None and not (is_number(softcap) and softcap > 0):
            raise ValueError(f"embedding.softcap: {softcap}; a number over 0, or null")
        if rows is not None and (type(rows) is not int or rows < vocab_size):
            raise ValueError(f"embedding.rows: {rows}; at least the {vocab_size} tokens of the vocabulary, or null")
        if not 0 <= dropout < 1:
            raise ValueError(f"embedding.dropout: {dropout}; choose from 0 to under 1")
        size = rows or vocab_size
        self.softcap, self.shrunk, self.logit_scale = softcap, shrunk, dim**-0.5 if shrunk else 1.0
        self.table = nn.Embedding(size, dim)
        self.head = None if tied else Linear(dim, size, bias=False)
        self.register_parameter("bias", None)
        self.scale = dim**0.5 if scaled else 1.0
        self.dropout = nn.Dropout(dropout)

    @property
    def scorer(self) -> Tensor:
        """`[vocab, dim]`: the matrix that scores the vocabulary."""
        return self.table.weight if self.head is None else self.head.weight

    @property
    def head_flops(self) -> int:
        """Forward FLOPs of scoring the vocabulary at one place."""
        return 2 * self.scorer.numel()

    def forward(self, tokens: Tensor) -> Tensor:
        """`[batch, time]` int64 to `[batch, time, dim]`."""
        x = self.table(tokens)
        return x * self.scale if self.scale != 1.0 else x

    def enter(self, x: Tensor) -> Tensor:
        """What goes into the first block of `[batch, time, dim]`: vectors of tokens, to which others may have been added."""
        return self.dropout(x)

    def entering(self, tokens: Tensor) -> Tensor:
        """What goes into a model without positions: `[batch, time]` int64 to `[batch, time, dim]`."""
        return self.enter(self(tokens))

    def leave(self, x: Tensor) -> Tensor:
        """What is scored of what left the model: `[..., dim]` to the same."""
        return x if self.logit_scale == 1.0 else x * self.logit_scale

    def logits(self, x: Tensor) -> Tensor:
        """`[..., dim]` to `[..., vocab]`."""
        scores = linear(self.leave(x), self.scorer, self.bias)
        return scores if self.softcap is None else self.softcap * torch.tanh(scores / self.softcap)

    def loss(self, x: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Summed cross-entropy in nats of `[..., dim]` against `[...]` targets, in pieces: never all logits at once.

        `smoothing` is the share of each target's probability that all tokens get alike.
        """
        rows = self.leave(x).flatten(0, -2)
        return linear_cross_entropy(rows, self.scorer, targets.flatten(), self.softcap, smoothing, self.bias)


class BertEmbedding(Embedding):
    """The embeddings and the masked-token head of BERT (Devlin et al. 2019; its code), of RoBERTa and of DistilBERT.

    What enters, the sum of the vectors of token, place and segment, is normalised; what is scored goes through a linear map,
    an activation and a norm first, and each token of the vocabulary has a bias.

    Args:
        vocab_size: tokens in the vocabulary.
        dim: width of the model.
        norm: makes a norm from `dim`; of what enters and of what is scored.
        activation: in the head.
        bias: the head's linear map has one.
        headless: nothing scores the vocabulary, as in published models of sentences or labels.
        settings: as `Embedding`.

    Raises:
        ValueError: another activation; or scores are asked for where there is no head.
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        norm: Callable[..., nn.Module],
        activation: str = "gelu",
        bias: bool = True,
        headless: bool = False,
        **settings,
    ) -> None:
        super().__init__(vocab_size, dim, **settings)
        if activation not in ACTIVATIONS:
            raise ValueError(f"embedding.activation: {activation}; choose from {', '.join(ACTIVATIONS)}")
        self.norm = norm(dim=dim)
        self.transform: Linear | None = Linear(dim, dim, bias=bias)
        self.head_norm: nn.Module | None = norm(dim=dim)
        self.activation = ACTIVATIONS[activation]
        self.bias = nn.Parameter(torch.zeros(self.table.num_embeddings))
        self.headless = False
        if headless:
            self.remove_head()

    def remove_head(self) -> None:
        """Leave nothing that scores the vocabulary."""
        self.headless = True
        self.head = self.transform = self.head_norm = self.bias = None

    @property
    def head_flops(self) -> int:
        """Forward FLOPs of scoring the vocabulary at one place."""
        return 0 if self.transform is None else super().head_flops + 2 * self.transform.weight.numel()

    def enter(self, x: Tensor) -> Tensor:
        """`dropout(norm(x))`."""
        return super().enter(self.norm(x))

    def leave(self, x: Tensor) -> Tensor:
        """`norm(activation(transform(x)))`."""
        if self.transform is None or self.head_norm is None:
            raise ValueError("embedding.headless: true; there is no head that scores the vocabulary")
        return super().leave(self.head_norm(self.activation(self.transform(x))))
