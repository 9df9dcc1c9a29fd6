"""Contrastive learning of sentence embeddings: of all answers of a batch, each query is to be closest to its own.

InfoNCE (van den Oord et al. 2018, equation 4) over cosines, with the batch's other answers as negatives, in both directions:
Sentence-BERT's later training (Reimers and Gurevych 2019; Henderson et al. 2017), SimCSE (Gao et al. 2021, equation 5), GTE
(Li et al. 2023, section 3.2).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from lab.data.arrange import Both, PairBatch
from lab.metrics.retrieval import mean_reciprocal_rank, ranks, recall_at
from lab.models.pooling import check_pool
from lab.objectives.objective import Objective
from lab.values import is_number
from lab.vectors import Vectors, arrays, compared, similarities, stacked, unit

if TYPE_CHECKING:
    from lab.models.model import Model

FOUND = (1, 10)
"""How many of the closest answers are looked through."""


class SentencePairs(Objective):
    """What objectives share that give each of two texts a vector of its own.

    Attributes:
        pool: what stands for a text; set before the rest.
    """

    whole_text = False
    families = ("encoder", "decoder", "bag_of_words", "word_vectors")
    passes = 2
    pool: str | None

    def sides(self, batch: PairBatch) -> tuple[Any, Any]:
        """What stands for the first texts and for the second, `[rows, dim]` both."""
        first = self.model.represent(batch.source, batch.source_layout, pool=self.pool)
        layers = self.model.expert_layers
        before = [layer.auxiliary for layer in layers]
        second = self.model.represent(batch.tokens, batch.layout, pool=self.pool)
        for layer, other in zip(layers, before, strict=True):
            if layer.auxiliary is not None and other is not None:
                layer.auxiliary = (layer.auxiliary + other) / 2
        return first, second

    def tokens_read(self, batch: PairBatch) -> int:  # type: ignore[override]
        return int(batch.lengths.sum() + batch.source_lengths.sum())

    def flops(self, batch: PairBatch) -> float:  # type: ignore[override]
        sides = (batch.lengths, batch.source_lengths)
        return float(sum(self.model.body_flops(lengths).sum() for lengths in sides))


class Contrastive(SentencePairs):
    """The loss is the mean over both directions of the cross-entropy of a pair's other side among those of its batch.

    A batch's negatives are those of all devices, and of one micro-batch: `batch.accumulate` leaves fewer. In validation
    the loss is within a batch, and the metrics are over all held-out pairs. What says the same as a pair's own side, or
    belongs to an equal other side, is as right, and no negative.

    Args:
        temperature: cosines are divided by it.
        pool: what stands for a text, as in `lab.models.pooling`; a bag of words has its own way.
        settings: as `Objective`.

    Raises:
        ValueError: another pool, or a temperature that is not over 0.
    """

    takes = {"pairs": Both}
    headline = {"name": "val/recall_at_1", "unit": "share of queries", "direction": "max"}
    asks = {"val/loss": ("batch.rows", "batch.accumulate", "trainer.devices", "trainer.nodes", "objective.temperature")}

    def __init__(self, temperature: float = 0.05, pool: str | None = "mean", **settings) -> None:
        self.check(temperature=temperature, pool=pool)
        self.temperature, self.pool = temperature, pool
        super().__init__(**settings)

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        check_pool(settings.pool, "objective.pool")
        if not (is_number(settings.temperature) and settings.temperature > 0):
            raise ValueError(f"objective.temperature: {settings.temperature}; a number over 0")

    @classmethod
    def arranges(cls, kind: str, model: type[Model], settings: Mapping[str, Any]) -> Any:
        return partial(Both, frame=model.frame)

    def nats(self, batch: PairBatch) -> Tensor:  # type: ignore[override]
        queries, answers = (F.normalize(side.float(), dim=-1) for side in self.sides(batch))
        mine = texts(batch)
        right = alike(mine, everywhere(mine))
        one = self._among(queries, gathered(answers), right)
        other = self._among(answers, gathered(queries), right)
        return (one + other) / 2

    def _among(self, some: Tensor, all_of_them: Tensor, right: Tensor) -> Tensor:
        first = dist.get_rank() * len(some) if len(all_of_them) > len(some) else 0
        own = torch.arange(first, first + len(some), device=some.device)
        return self._nats(some @ all_of_them.T / self.temperature, own, right)

    @staticmethod
    def _nats(scores: Tensor, own: Tensor, right: Tensor) -> Tensor:
        """Of the own sides among those that are not right."""
        others = right.scatter(1, own[:, None], False)
        return F.cross_entropy(scores.masked_fill(others, -math.inf), own, reduction="sum")

    def evaluate(self, batch: PairBatch) -> tuple[Tensor, list[Any]]:  # type: ignore[override]
        """`[sums]`: nats and rows; and what stands for the queries and for the answers, and their texts."""
        if not batch.counted:
            return torch.zeros(2, dtype=torch.float64, device=batch.tokens.device), []
        queries, answers = map(arrays, self.sides(batch))
        scores = torch.from_numpy(similarities(queries, answers)).double() / self.temperature
        own, mine = torch.arange(len(scores)), texts(batch).cpu()
        nats = sum(self._nats(side, own, alike(mine, mine)) for side in (scores, scores.T)) / 2
        sums = torch.tensor([float(nats), batch.counted], dtype=torch.float64, device=batch.tokens.device)
        return sums, [(queries, answers, mine.numpy())]

    def judge(self, outputs: Sequence[Any]) -> Mapping[str, float | None]:
        """How often the answer is among the closest of all held-out ones, and the mean of 1 / its place."""
        queries, answers, held = zip(*outputs, strict=True)
        places = places_of(stacked(queries), stacked(answers), np.concatenate(held, axis=1))
        recalls = {f"val/recall_at_{k}": share for k, share in recall_at(places, FOUND).items()}
        return recalls | {"val/mrr": mean_reciprocal_rank(places)}


def places_of(queries: Vectors, answers: Vectors, held: np.ndarray | None = None) -> np.ndarray:
    """`[queries]`, the place of each query's answer, which has the same number, among all answers by their cosines.

    Args:
        queries, answers: what stands for them, `[pairs, dim]`.
        held: `[2, pairs]`, numbers of their texts, equal for equal ones: what is as right as the own answer is passed over.
    """
    places, first = [], 0
    for scores in compared(unit(queries), unit(answers)):
        own = np.arange(first, first + len(scores))
        if held is not None:
            others = (held[:, own, None] == held[:, None]).any(0)
            others[np.arange(len(own)), own] = False
            scores = np.where(others, -np.inf, scores)
        places.append(ranks(scores, own))
        first += len(scores)
    return np.concatenate(places)


def texts(batch: PairBatch) -> Tensor:
    """`[2, rows]` int64, numbers of the first and the second texts, equal for equal ones."""
    sides = ((batch.source, batch.source_lengths), (batch.tokens, batch.lengths))
    found = [
        [number_of(row[:size]) for row, size in zip(side.cpu().numpy(), lengths, strict=True)]
        for side, lengths in sides
    ]
    return torch.tensor(found, device=batch.tokens.device)


def number_of(tokens: np.ndarray) -> int:
    """Of a text, `[tokens]`: equal for equal ones."""
    return int.from_bytes(hashlib.blake2b(tokens.tobytes(), digest_size=8).digest(), "little", signed=True)


def alike(mine: Tensor, others: Tensor) -> Tensor:
    """`[rows, others]`, whether two pairs share a text on one of their sides; `[2, rows]` and `[2, others]`."""
    return (mine[:, :, None] == others[:, None]).any(0)


def everywhere(numbers: Tensor) -> Tensor:
    """`[2, rows]` of all devices, `[2, devices * rows]`."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return numbers
    found = [torch.empty_like(numbers) for _ in range(dist.get_world_size())]
    dist.all_gather(found, numbers.contiguous())
    return torch.cat(found, dim=1)


def gathered(vectors: Tensor) -> Tensor:
    """Those of all devices, `[devices * rows, dim]`, whose gradients come back to where they are from."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return vectors
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(vectors))
