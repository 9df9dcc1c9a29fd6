"""Synthetic tasks for encoder-decoders: the question is the source, its answers are the target."""

from __future__ import annotations

import numpy as np

from lab.data.arrange import PairBatch, paired, wasted
from lab.data.tasks import BEGIN, Drawn, TaskRows


class Questions(TaskRows):
    """Rows of a task in two: the symbols that are not asked for, and those that are, each in their order.

    Both end with the document token, which a task's tokenizer has in place of others.
    """

    def __init__(self, drawn: Drawn) -> None:
        super().__init__(drawn)
        places = np.arange(drawn.sequence.shape[1])
        # A row's last answer is a target alone; the rest of its tokens, but the first, are the question.
        self.given = (places > 0) & (places < drawn.lengths[:, None]) & ~drawn.asked
        self.lengths = np.stack([self.given.sum(axis=1), self.answers], axis=1) + 1

    @property
    def waste(self) -> float:
        """The share of padding if all rows were one batch."""
        return wasted(self.lengths)

    def scored(self, indices: np.ndarray) -> int:
        """How many answers these rows ask for, with the end of each row."""
        return int(self.lengths[indices, 1].sum())

    def read(self, indices: np.ndarray) -> int:
        """How many symbols these rows hold, ends included."""
        return int(self.lengths[indices].sum())

    def batch(self, indices: np.ndarray, scored: int | None = None) -> PairBatch:
        """The rows with these numbers, `[rows]`; `scored` is the whole step's, by default this batch's."""
        drawn = self.drawn
        questions, answers = ([drawn.sequence[i, which[i]] for i in indices] for which in (self.given, drawn.asked))
        return paired(questions, answers, BEGIN, BEGIN, BEGIN, indices, scored)
