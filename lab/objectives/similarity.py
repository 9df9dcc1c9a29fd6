"""Similarity of sentences: the cosine of two texts' vectors is to be as high as people say that the texts are alike.

The regression objective of Sentence-BERT (Reimers and Gurevych 2019, section 3), judged as in SemEval's task (Cer et al. 2017)
and as they recommend, by Spearman's correlation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lab.data.arrange import PairBatch
from lab.data.scored import ScoredPairs, scores_of
from lab.metrics.retrieval import spearman
from lab.models.pooling import check_pool
from lab.objectives.contrastive import SentencePairs
from lab.vectors import arrays, similarities

if TYPE_CHECKING:
    from lab.models.model import Model


class Similarity(SentencePairs):
    """The loss is the squared distance of the cosine from the score, which is scaled so that the scores of the training pairs
    reach from 0 to 1.

    Args:
        pool: what stands for a text, as in `lab.models.pooling`; a bag of words has its own way.
        settings: as `Objective`.

    Raises:
        ValueError: another pool.
    """

    takes = {"scored": ScoredPairs}
    headline = {"name": "val/spearman", "unit": "correlation of ranks", "direction": "max"}

    def __init__(self, pool: str | None = "mean", **settings) -> None:
        self.check(pool=pool)
        self.pool = pool
        super().__init__(**settings)
        train = self.prepared.train
        scores = scores_of(train, range(len(train.offsets) // 3))
        self.least, self.spread = float(scores.min()), float(np.ptp(scores)) or 1.0

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        check_pool(settings.pool, "objective.pool")

    @classmethod
    def arranges(cls, kind: str, model: type[Model], settings: Mapping[str, Any]) -> Any:
        return partial(ScoredPairs, frame=model.frame)

    def wanted(self, batch: PairBatch) -> Tensor:
        """`[rows]`, the scores, scaled."""
        return (batch.targets - self.least) / self.spread

    def nats(self, batch: PairBatch) -> Tensor:  # type: ignore[override]
        """The squared distances, summed; not in nats."""
        cosines = F.cosine_similarity(*(side.float() for side in self.sides(batch)))
        return F.mse_loss(cosines, self.wanted(batch), reduction="sum")

    def evaluate(self, batch: PairBatch) -> tuple[Tensor, list[Any]]:  # type: ignore[override]
        """`[sums]`: squared distances and rows; of each row the cosine, and the score."""
        if not batch.counted:
            return torch.zeros(2, dtype=torch.float64, device=batch.tokens.device), []
        cosines = torch.from_numpy(similarities(*map(arrays, self.sides(batch))).diagonal().copy()).double()
        loss = F.mse_loss(cosines, self.wanted(batch).cpu().double(), reduction="sum")
        sums = torch.tensor([float(loss), batch.counted], dtype=torch.float64, device=batch.tokens.device)
        return sums, torch.stack([cosines, batch.targets.cpu().double()], dim=1).tolist()

    def judge(self, outputs: Sequence[Any]) -> Mapping[str, float | None]:
        """Spearman's correlation of cosines and scores, over all held-out pairs."""
        return {"val/spearman": spearman(*np.array(outputs).T) if len(outputs) > 1 else None}
