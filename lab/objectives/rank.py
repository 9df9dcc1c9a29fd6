"""Re-ranking: an encoder reads a query and a candidate together and scores how well they fit (Nogueira and Cho 2019, arXiv
1901.04085), trained to score the right answer above others of its batch, as a softmax over both (Gao et al. 2021, "Rethink
training of BERT rerankers", equation 3). It orders anew what a first stage, a run that embeds, has found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.data.arrange import Both, PairBatch, framed, framing, layout, shortened
from lab.metrics.retrieval import recall_at
from lab.objectives.objective import Objective
from lab.vectors import Reader, compared, embed, unit

if TYPE_CHECKING:
    from lab.data.store import Tokens


class Rank(Objective):
    """The loss is the cross-entropy of the right answer among it and `negatives` others of its batch.

    In validation the first stage finds `depth` candidates for each held-out query among all held-out answers; an answer that
    it does not find stays unfound.

    Args:
        first_stage: a run that embeds queries and answers.
        negatives: wrong answers that a query is read with in training: those that follow its own in the batch.
        depth: candidates that are ordered anew.
        settings: as `Objective`.

    Raises:
        ValueError: no first stage, or a count under 1.
    """

    families = ("encoder",)
    takes = {"pairs": Both}
    headline = {"name": "val/recall_at_1", "unit": "share of queries", "direction": "max"}

    def __init__(self, first_stage: Reader, negatives: int = 3, depth: int = 10, **settings) -> None:
        self.check(negatives=negatives, depth=depth)
        self.negatives, self.depth = negatives, depth
        super().__init__(**settings)
        self.first_stage = first_stage

    @classmethod
    def check(cls, first_stage: Any = "", negatives: int = 3, depth: int = 10, **values) -> None:
        if first_stage is None:
            raise ValueError("objective.first_stage: null; needs the folder of the run that finds candidates")
        for name, count in {"negatives": negatives, "depth": depth}.items():
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise ValueError(f"objective.{name}: {count}; a whole number, at least 1")

    def make_head(self) -> nn.Module:
        return self.model.classifier(1)

    def fits(self, tokens: Tokens, queries: np.ndarray, answers: np.ndarray) -> Tensor:
        """`[pairs]`, how well the queries of some examples fit the answers of others."""
        frame, room = self.model.frame, self.model.context - framing(self.model.frame, 2)
        pairs = [(tokens.field(q, 0), tokens.field(a, 1)) for q, a in zip(queries, answers, strict=True)]
        rows = [framed(self.prepared.tokenizer, frame, shortened(pair, room)) for pair in pairs]
        lengths = np.array([len(row) for row, _ in rows])
        table = np.zeros((2, len(rows), lengths.max()), np.int64)
        for place, row in enumerate(rows):
            table[:, place, : lengths[place]] = row
        read, segments = torch.from_numpy(table).to(self.device)
        return self.head(self.model.represent(read, layout(lengths).to(self.device), segments))[:, 0].float()

    def nats(self, batch: PairBatch) -> Tensor:  # type: ignore[override]
        return self._nats(self.prepared.train, batch)

    def _nats(self, tokens: Tokens, batch: PairBatch) -> Tensor:
        """Each query with its answer and with those of the examples that follow in the batch."""
        examples = batch.examples
        if not batch.counted or examples is None:
            return torch.zeros((), device=self.device)
        others = [np.roll(examples, -shift) for shift in range(min(self.negatives, len(examples) - 1) + 1)]
        answers = np.stack(others, axis=1)
        scores = self.fits(tokens, np.repeat(examples, answers.shape[1]), answers.ravel()).view(answers.shape)
        return F.cross_entropy(scores, scores.new_zeros(len(scores), dtype=torch.int64), reduction="sum")

    @cached_property
    def candidates(self) -> np.ndarray:
        """`[queries, depth]`, the answers that the first stage finds for each held-out query, the closest first."""
        examples = self.prepared.examples
        queries, answers = (
            unit(embed(self.first_stage, [example.texts[side] for example in examples])) for side in (0, 1)
        )
        order = [np.argsort(-scores, axis=1, kind="stable")[:, : self.depth] for scores in compared(queries, answers)]
        return np.concatenate(order)

    def evaluate(self, batch: PairBatch) -> tuple[Tensor, list[Any]]:  # type: ignore[override]
        """`[sums]`: nats and rows; of each query the place of its answer before and after, 0 where it was not found."""
        nats = self._nats(self.prepared.validation, batch).double()
        places: list[Any] = []
        for query in batch.examples if batch.examples is not None else ():
            found = self.candidates[query]
            fits = self.fits(self.prepared.validation, np.full(len(found), query), found).cpu().numpy()
            after = found[np.argsort(-fits, kind="stable")]
            places.append([_place(order, query) for order in (found, after)])
        return torch.stack([nats, nats.new_tensor(batch.counted)]), places

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

    def scores(self, sums: Tensor, text_bytes: int | None) -> dict[str, float | None]:
        """The loss alone: nothing is predicted token by token."""
        return super().scores(sums, None)

    def flops(self, batch: PairBatch) -> float:  # type: ignore[override]
        lengths = np.minimum(batch.lengths + batch.source_lengths, self.model.context)
        return float(self.model.body_flops(lengths).sum()) * (1 + self.negatives)


def _place(order: np.ndarray, wanted: int) -> int:
    """Where a candidate stands, 1 for first; 0 where it is not among them."""
    return int(np.flatnonzero(order == wanted)[0]) + 1 if wanted in order else 0
