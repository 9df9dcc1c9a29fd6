"""Continuous bag of words: from the mean of the words near it, guess a word (Mikolov et al. 2013a, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from lab.objectives.negative_sampling import NegativeSampling
from lab.objectives.windows import Windows
from lab.parts.rows import summed


class Cbow(NegativeSampling):
    """The mean vector of a word's window is scored against what stands for the word.

    Args:
        corrected: each word of a window gets its share of the mean's gradient. In word2vec each gets all of it, which moves
            vectors the faster the fuller their windows are; İrsoy et al. 2021 (arXiv 2012.15332) find that the share does
            better, at a higher rate.
        settings: as `NegativeSampling`.
    """

    def __init__(self, corrected: bool = False, **settings) -> None:
        self.corrected = corrected
        super().__init__(**settings)

    def score(self, windows: Windows) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        sizes = windows.sizes
        places, near = windows.pairs
        near = windows.words.flatten().index_select(0, near)
        total = summed(self.model.embedding.table.weight, near, places, sizes.numel(), windows.counts, self.sparse)
        mean = total / sizes.view(-1, 1).clamp_min(1e-9)
        if not self.corrected:
            mean = total + (mean - total).detach()
        mean = mean.view(*sizes.shape, -1)
        words, noise = self.others(windows)
        counts = windows.weight * (sizes > 0)
        return torch.linalg.vecdot(mean, words), counts, mean @ noise.transpose(1, 2), counts

    def word_flops(self) -> float:
        return self.model.dim * ((self.window + 1) + 2 * (1 + self.negatives))
