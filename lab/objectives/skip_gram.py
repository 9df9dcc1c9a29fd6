"""Skip-gram: from a word, guess each word near it (Mikolov et al. 2013a, section 3.2; 2013b, equation 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from lab.objectives.negative_sampling import NegativeSampling
from lab.objectives.windows import Windows


class SkipGram(NegativeSampling):
    """A word's vector is scored against what stands for each word near it. Arguments as `NegativeSampling`."""

    def score(self, windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
        embedding = self.model.embedding
        vectors = self.look_up(embedding.table, windows.words)
        others = self.look_up(embedding.head, torch.cat([windows.words, windows.noise], dim=1))
        return vectors @ others.transpose(1, 2), windows.near, windows.near.sum(-1)

    def word_flops(self) -> float:
        return 2 * self.model.dim * (self.window + 1) * (1 + self.negatives)
