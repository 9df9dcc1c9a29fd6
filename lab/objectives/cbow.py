"""Continuous bag of words: from the mean of the words near it, guess a word (Mikolov et al. 2013a, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from lab.objectives.negative_sampling import NegativeSampling
from lab.objectives.windows import Windows


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

    def score(self, windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
        embedding, time = self.model.embedding, windows.words.shape[1]
        total = windows.near @ self.look_up(embedding.table, windows.words)
        weights = windows.near.sum(-1, keepdim=True)
        mean = total / weights.clamp_min(1e-9)
        if not self.corrected:
            mean = total + (mean - total).detach()
        others = self.look_up(embedding.head, torch.cat([windows.words, windows.noise], dim=1))
        true = (mean * others[:, :time]).sum(-1, keepdim=True)
        counts = windows.weight * (weights[..., 0] > 0)
        return torch.cat([true, mean @ others[:, time:].transpose(1, 2)], dim=-1), counts[..., None], counts

    def word_flops(self) -> float:
        return self.model.dim * ((self.window + 1) + 2 * (1 + self.negatives))
