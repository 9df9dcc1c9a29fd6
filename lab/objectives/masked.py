"""Masked language modelling: guess hidden tokens from both of their sides (BERT, Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.data.module import MaskedModule
from lab.layout import IGNORE
from lab.metrics.classification import accuracy
from lab.metrics.likelihood import one_by_one, perplexity
from lab.objectives.objective import Objective
from lab.parts.classifier import Classifier
from lab.parts.linear import matmul_flops
from lab.values import check_whole

if TYPE_CHECKING:
    from lab.data.masking import Masking, PairedBatch
    from lab.data.packing import Batch
    from lab.models.model import Model

PIECE = 512
"""Places whose scores of the vocabulary are held at a time."""


class Masked(Objective):
    """The loss is the cross-entropy of the hidden tokens; the head is computed at their places alone.

    Args:
        masking: what is hidden, which the data has done already.
        pseudo_texts: held-out texts whose pseudo-perplexity is measured at every validation, evenly spaced among all; 0 for
            none.
        pseudo_tokens: of each of them at most; a text costs a forward pass for each.
        settings: as `Objective`.

    Raises:
        ValueError: a number under 0, no head for the vocabulary, or a pooler that nothing would train.
    """

    families = ("encoder",)
    takes = {"text": None}
    headline = {"name": "val/loss", "unit": "nats per masked token", "direction": "min"}
    asks = {
        **dict.fromkeys(("val/loss", "val/accuracy"), ("tokenizer",)),
        "val/pseudo_perplexity": ("tokenizer", "objective.pseudo_texts", "objective.pseudo_tokens"),
    }
    pools = False

    def __init__(
        self, masking: Masking | None = None, pseudo_texts: int = 8, pseudo_tokens: int = 48, **settings
    ) -> None:
        self.check(pseudo_texts=pseudo_texts, pseudo_tokens=pseudo_tokens)
        self.pseudo_texts, self.pseudo_tokens = pseudo_texts, pseudo_tokens
        super().__init__(**settings)
        self.check_model(self.model)

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        check_whole("objective", 0, pseudo_texts=settings.pseudo_texts)
        check_whole("objective", pseudo_tokens=settings.pseudo_tokens)

    @classmethod
    def check_model(cls, model: Model) -> None:
        if getattr(model.embedding, "headless", False):
            raise ValueError("embedding.headless: true; this objective scores the vocabulary: set it to false")
        if model.pooler is not None and not cls.pools:
            raise ValueError(
                "model.pooler: true; objective=masked_nsp trains it, this objective does not: set it to false"
            )

    @classmethod
    def arranges(cls, kind: str, model: type[Model], settings: Mapping[str, Any]) -> Any:
        """With what the masking hides."""
        return partial(MaskedModule, masking=settings["masking"])

    def vectors(self, batch: Batch) -> Tensor:
        """`[rows, time, dim]`, what enters the head."""
        return self.model.vectors(batch.tokens, batch.layout, batch.segments)

    def nats(self, batch: Batch) -> Tensor:
        hidden = batch.targets != IGNORE
        return self.model.embedding.loss(self.vectors(batch)[hidden], batch.targets[hidden])

    def evaluate(self, batch: Batch) -> tuple[Tensor, list[Any]]:
        """`[sums]`: nats, hidden tokens, and those that are guessed right."""
        return self.guessed(self.vectors(batch), batch), []

    def guessed(self, vectors: Tensor, batch: Batch) -> Tensor:
        """The sums of `evaluate`, from what enters the head."""
        hidden = batch.targets != IGNORE
        sums = torch.zeros(3, dtype=torch.float64, device=vectors.device)
        for piece, targets in pieces(vectors[hidden], batch.targets[hidden]):
            logits = self.model.embedding.logits(piece).float()
            right = (logits.argmax(-1) == targets).sum()
            sums += torch.stack(
                [F.cross_entropy(logits, targets, reduction="sum"), right.new_tensor(len(targets)), right]
            )
        return sums

    def validation_step(self, batch: Batch, index: int) -> tuple[Tensor, list[Any]]:  # type: ignore[override]
        """`evaluate`; and with the first batch, at the sums' end, nats and tokens of the pseudo-perplexity's texts.

        Every rank computes all of them, so that all make the same calls; of their sums only the ratio matters.
        """
        sums, outputs = self.evaluate(batch)
        return torch.cat([sums, self.pseudo() if index == 0 else sums.new_zeros(2)]), outputs

    def pseudo(self) -> Tensor:
        """`[2]` float64: the nats of each token of some held-out texts where it alone is hidden, and their number."""
        tokenizer = self.prepared.tokenizer
        begin, end, mask = (tokenizer.id(role) for role in ("cls", "sep", "mask"))
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for text in self.texts():
            row = np.concatenate([[begin], text, [end]])
            for copies, places in one_by_one(row, mask, frozenset((begin, end))):
                vectors = self.model.vectors(torch.from_numpy(copies).to(self.device))
                logits = self.model.embedding.logits(vectors[torch.arange(len(places)), torch.from_numpy(places)])
                targets = torch.from_numpy(row[places]).to(self.device)
                sums[0] += F.cross_entropy(logits.float(), targets, reduction="sum")
                sums[1] += len(places)
        return sums

    def texts(self) -> Iterator[np.ndarray]:
        """The beginnings, `[tokens]` int64, of some held-out texts; those without a token are passed over."""
        held, most = self.prepared.validation, min(self.pseudo_tokens, self.model.context - 2)
        count = len(held.offsets) - 1
        for number in np.unique(np.linspace(0, count - 1, min(self.pseudo_texts, count)).astype(int)):
            text = held.field(number, 0)[1 : most + 1]
            if len(text):
                yield text

    def scores(self, sums: Tensor, text_bytes: int | None) -> dict[str, float | None]:
        """Loss and accuracy of hidden tokens, and the pseudo-perplexity of the texts that were read for it."""
        nats, targets, right, *_ = sums.tolist()
        pseudo_nats, tokens = sums[-2:].tolist()
        return {
            "val/loss": nats / targets,
            "val/accuracy": right / targets,
            "val/pseudo_perplexity": perplexity(pseudo_nats, int(tokens)) if tokens else None,
        }

    def flops(self, batch: Batch) -> float:
        return float(self.model.body_flops(batch.lengths).sum()) + self.model.head_flops * batch.counted


class MaskedNextSentence(Masked):
    """The loss is that of `Masked` plus the mean cross-entropy, over rows, of whether the second piece of text follows the
    first (BERT, section 3.1, task 2). `train/loss` is their sum, `val/loss` that of the hidden tokens alone. Arguments as
    `Masked`.
    """

    headline = {"name": "val/loss", "unit": "nats per masked token of pairs", "direction": "min"}
    pools = True

    def make_head(self) -> nn.Module:
        return Classifier(self.model.dim, 2)

    def nats(self, batch: PairedBatch) -> Tensor:  # type: ignore[override]
        vectors, hidden = self.vectors(batch), batch.targets != IGNORE
        guessed = self.model.embedding.loss(vectors[hidden], batch.targets[hidden])
        follows = F.cross_entropy(self.follows(vectors), batch.follows, ignore_index=IGNORE, reduction="sum")
        return guessed + follows * (batch.scored / max(1, batch.pairs))

    def follows(self, vectors: Tensor) -> Tensor:
        """`[rows, 2]`, scores of not following and of following."""
        return self.head(self.model.pooled(vectors)).float()

    def evaluate(self, batch: PairedBatch) -> tuple[Tensor, list[Any]]:  # type: ignore[override]
        """`[sums]` of `Masked`; of each row what was said, and what is so."""
        vectors = self.vectors(batch)
        scores, asked = self.follows(vectors), batch.follows != IGNORE
        return self.guessed(vectors, batch), torch.stack([scores.argmax(-1), batch.follows], dim=1)[asked].tolist()

    def judge(self, outputs: Any) -> dict[str, float | None]:
        """The share of rows of which it is known whether the second piece follows."""
        said, so = zip(*outputs, strict=True)
        return {"val/next_sentence_accuracy": accuracy(said, so)}

    def flops(self, batch: Batch) -> float:
        return super().flops(batch) + (matmul_flops(self.head) + self.model.pool_flops) * len(batch.tokens)


def pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Some rows at a time of tensors with equally many."""
    return zip(*(tensor.split(PIECE) for tensor in tensors), strict=True)
