"""Re-ranking: an encoder reads a query and a candidate together and scores how well they fit (Nogueira and Cho 2019, arXiv
1901.04085). It orders anew what a first stage, a run that embeds, has found.

It learns to tell the right answer from the wrong ones that the first stage takes for the best, as a softmax over all of them
(Gao et al. 2021, "Rethink training of BERT rerankers in multi-stage retrieval pipeline", equation 3): from random ones, which
differ in their words, it would learn nothing that the first stage does not know. Its score may be added to the first stage's
(Yang et al. 2019, arXiv 1902.01718, equation 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.data.arrange import Together, framed, framing, layout, shortened, table
from lab.metrics.retrieval import ranks, recall_at
from lab.models.pooling import check_pool
from lab.objectives.contrastive import number_of
from lab.objectives.objective import Objective
from lab.values import check_whole, is_number
from lab.vectors import Reader, compared, embed_tokens, unit

if TYPE_CHECKING:
    from lab.data.packing import Batch
    from lab.data.store import Tokens
    from lab.models.model import Model


class Rank(Objective):
    """The loss is the cross-entropy of the right answer among it and the `negatives` wrong ones, of all answers of its part of
    the data, that are closest to the query by the first stage's cosines. The score of an answer is what the head gives, and
    `first_stage_weight` times its cosine.

    In validation the `depth` answers that the first stage finds for each held-out query among all held-out ones are ordered by
    their scores; an answer that it does not find stays unfound, and of equal scores the right answer's comes last. The first
    stage's own work is not part of `flops`.

    Args:
        first_stage: a run that embeds queries and answers, of the same vocabulary. It is not trained.
        negatives: wrong answers that a query is read with in training; all there are if those are fewer.
        depth: candidates that are ordered anew.
        first_stage_weight: of its cosine in the score, in training as in validation; 0 for none. With 1 / temperature of the
            contrastive loss that the first stage was trained by, the head learns what that one's softmax leaves to be learnt.
        pool: what stands for query and answer together, as in `lab.models.pooling`; None for the first token, through the
            pooler if there is one.
        first_stage_pool: what stands for a text in the first stage.
        settings: as `Objective`.

    Raises:
        ValueError: no first stage, a count under 1, a weight under 0, or another pool.
    """

    whole_text = False
    families = ("encoder",)
    takes = {"pairs": Together}
    headline = {"name": "val/recall_at_1", "unit": "share of queries", "direction": "max"}
    asks = {"val/loss": ("objective.negatives", "objective.first_stage")}

    def __init__(
        self,
        first_stage: Reader,
        negatives: int = 3,
        depth: int = 10,
        first_stage_weight: float = 0.0,
        pool: str | None = None,
        first_stage_pool: str | None = "mean",
        **settings,
    ) -> None:
        self.check(
            first_stage=first_stage, negatives=negatives, depth=depth, first_stage_weight=first_stage_weight, pool=pool
        )
        self.negatives, self.depth, self.first_stage_weight = negatives, depth, first_stage_weight
        super().__init__(**settings)
        self.pool = pool
        self.first_stage, self.first_stage_pool = first_stage, first_stage_pool

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        check_pool(settings.pool, "objective.pool")
        check_pool(settings.first_stage_pool, "objective.first_stage_pool")
        if settings.first_stage is None:
            raise ValueError("objective.first_stage: null; needs the folder of the run that finds candidates")
        check_whole("objective", negatives=settings.negatives, depth=settings.depth)
        if not (is_number(settings.first_stage_weight) and settings.first_stage_weight >= 0):
            raise ValueError(f"objective.first_stage_weight: {settings.first_stage_weight}; a number, at least 0")

    @classmethod
    def arranges(cls, kind: str, model: type[Model], settings: Mapping[str, Any]) -> Any:
        return partial(Together, frame=model.frame, negatives=settings["negatives"])

    def make_head(self) -> nn.Module:
        return self.model.classifier(1)

    def fits(self, tokens: Tokens, queries: np.ndarray, answers: np.ndarray) -> Tensor:
        """`[pairs]`, what the head gives for the queries of some examples with the answers of others."""
        frame, room = self.model.frame, self.model.context - framing(self.model.frame, 2)
        pairs = [(tokens.field(q, 0), tokens.field(a, 1)) for q, a in zip(queries, answers, strict=True)]
        rows = [framed(self.prepared.tokenizer, frame, shortened(pair, room)) for pair in pairs]
        read, segments = (table(side, 0).to(self.device) for side in zip(*rows, strict=True))
        lengths = np.array([len(row) for row, _ in rows])
        pooled = self.model.represent(read, layout(lengths).to(self.device), segments, self.pool)
        return self.head(pooled)[:, 0].float()

    def scores_of(self, part: str, queries: np.ndarray, count: int) -> Tensor:
        """`[queries, 1 + count]`, the scores of the right answer and of the `count` closest wrong ones, the closest first.

        Args:
            part: of the data, `train` or `validation`.
            queries: the numbers of their examples.
            count: all wrong answers that were found, if those are fewer.
        """
        found = self.found[part]
        answers = np.concatenate([queries[:, None], found.others[queries, :count]], axis=1)
        fits = self.fits(getattr(self.prepared, part), np.repeat(queries, answers.shape[1]), answers.ravel())
        cosines = torch.from_numpy(found.cosines[queries, : answers.shape[1]]).to(fits)
        return fits.view(answers.shape) + self.first_stage_weight * cosines

    @cached_property
    def found(self) -> dict[str, Found]:
        """What the first stage finds for the queries of both parts."""
        self.first_stage.model.to(self.device)
        counts = {"train": self.negatives, "validation": max(self.negatives, self.depth)}
        return {
            part: search(self.first_stage, getattr(self.prepared, part), count, self.first_stage_pool)
            for part, count in counts.items()
        }

    def on_fit_start(self) -> None:
        """Search before the first step, not within it."""
        self.found  # noqa: B018

    def nats(self, batch: Batch) -> Tensor:
        if not batch.counted or batch.examples is None:
            return torch.zeros((), device=self.device)
        return self._nats(self.scores_of("train", batch.examples, self.negatives))

    def _nats(self, scores: Tensor) -> Tensor:
        return F.cross_entropy(scores, scores.new_zeros(len(scores), dtype=torch.int64), reduction="sum")

    def evaluate(self, batch: Batch) -> tuple[Tensor, list[Any]]:
        """`[sums]`: nats and rows; of each query the place of its answer before and after, 0 where it was not found."""
        if not batch.counted or batch.examples is None:
            return torch.zeros(2, dtype=torch.float64, device=self.device), []
        scores = self.scores_of("validation", batch.examples, max(self.negatives, self.depth - 1))
        nats = self._nats(scores[:, : 1 + self.negatives]).double()
        cosines = torch.from_numpy(self.found["validation"].cosines[batch.examples])
        before = _place(cosines)
        found = before <= self.depth
        after = _place(scores[:, : self.depth].cpu())
        places = torch.stack([before, after], dim=1) * found[:, None]
        return torch.stack([nats, nats.new_tensor(batch.counted)]), places.tolist()

    def judge(self, outputs: Sequence[Any]) -> Mapping[str, float | None]:
        """Recall at 1 after and before, and of what is ordered anew, which is the most that can be reached."""
        before, after = (np.array(side) for side in zip(*outputs, strict=True))
        never = np.iinfo(before.dtype).max
        before, after = (np.where(places == 0, never, places) for places in (before, after))
        return {
            "val/recall_at_1": recall_at(after, 1)[1],
            "val/first_stage_recall_at_1": recall_at(before, 1)[1],
            f"val/first_stage_recall_at_{self.depth}": recall_at(before, self.depth)[self.depth],
        }

    def tokens_read(self, batch: Batch) -> int:
        """As if the wrong answers were as long as the right ones."""
        return super().tokens_read(batch) * (1 + self.negatives)

    def flops(self, batch: Batch) -> float:
        """As if the wrong answers were as long as the right ones."""
        return float(self.model.body_flops(batch.lengths).sum()) * (1 + self.negatives)


@dataclass(frozen=True, eq=False)
class Found:
    """What a first stage finds among all answers of some examples.

    Attributes:
        others: `[queries, count]`, the numbers of the wrong answers that are closest, the closest first.
        cosines: `[queries, 1 + count]`, of the query with the right answer, and with those.
    """

    others: np.ndarray
    cosines: np.ndarray


def search(first_stage: Reader, tokens: Tokens, count: int, pool: str | None = "mean") -> Found:
    """The wrong answers that a first stage takes for the best, of equal ones the first. An answer that says what the right one
    says is not wrong.

    Args:
        first_stage: of the tokens' vocabulary.
        tokens: of pairs; the answer of a query is that of its own example.
        count: wrong answers for each query; all where there are fewer.
        pool: as for `lab.embed`.
    """
    pairs = len(tokens.lengths())
    queries, answers = (
        unit(embed_tokens(first_stage, [tokens.field(i, side) for i in range(pairs)], pool)) for side in (0, 1)
    )
    said = np.array([number_of(tokens.field(i, 1)) for i in range(pairs)])
    count = min(count, pairs - int(np.unique(said, return_counts=True)[1].max()))
    others: list[np.ndarray] = []
    cosines = []
    for scores in compared(queries, answers):
        own = len(others) + np.arange(len(scores))
        right = scores[np.arange(len(scores)), own]
        scores[said[own, None] == said] = -np.inf
        found = closest(scores, count)
        others.extend(found)
        cosines.append(np.concatenate([right[:, None], np.take_along_axis(scores, found, axis=1)], axis=1))
    return Found(np.array(others).reshape(pairs, count), np.concatenate(cosines))


def closest(scores: np.ndarray, count: int) -> np.ndarray:
    """`[rows, count]`, the columns with the highest of `[rows, columns]` scores, the highest first, of equal ones the first:
    a stable sort's beginning, without sorting all.
    """
    if not count:
        return np.zeros((len(scores), 0), np.int64)
    least = np.partition(scores, -count, axis=1)[:, -count]
    chosen = [np.flatnonzero(row >= bound) for row, bound in zip(scores, least, strict=True)]
    return np.stack([at[np.argsort(-row[at], kind="stable")][:count] for at, row in zip(chosen, scores, strict=True)])


def _place(scores: Tensor) -> Tensor:
    """`[queries]`, the place of the first of `[queries, candidates]` scores, 1 for the best."""
    return torch.from_numpy(ranks(scores.numpy(), np.zeros(len(scores), np.int64)))
