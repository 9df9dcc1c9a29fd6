"""Skip-gram: from a word, guess each word near it (Mikolov et al. 2013a, section 3.2; 2013b, equation 4)."""

from __future__ import annotations

from torch import Tensor

from lab.objectives.negative_sampling import NegativeSampling
from lab.objectives.windows import Windows
from lab.parts.rows import products


class SkipGram(NegativeSampling):
    """A word's vector is scored against what stands for each word near it. Arguments as `NegativeSampling`."""

    def score(self, windows: Windows) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        vectors = self.look_up(self.model.embedding.table, windows.words)
        words, noise = self.others(windows)
        true = products(vectors.flatten(0, 1), words.flatten(0, 1), windows.pairs)
        return true, windows.counts, vectors @ noise.transpose(1, 2), windows.sizes

    def word_flops(self) -> float:
        return 2 * self.model.dim * (self.window + 1) * (1 + self.negatives)
