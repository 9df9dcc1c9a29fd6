"""Negative sampling: tell the words that stand near each other from words drawn at random.

Mikolov et al. 2013b, "Distributed Representations of Words and Phrases", arXiv 1310.4546: section 2.2 for the loss, 2.3 for
frequent words. What the paper leaves open is as in the code that came with it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from lab.errors import RequestError
from lab.layout import PADDING
from lab.objectives.objective import Objective
from lab.objectives.windows import Windows, compacted, near
from lab.parts.rows import gathered, looked_up
from lab.values import check_whole, is_number

if TYPE_CHECKING:
    from lab.data.packing import Batch
    from lab.data.store import Prepared

CHUNK = 2**24
"""Tokens that are counted at once."""

POWER = 0.75
"""Of the counts, for drawing noise words (section 2.2)."""

ROW = 32.0
"""Norm that the gradient of a row is clipped to: that of some tens of pairs, all pulling one way."""

WINDOW, SAMPLE, COMPARED = 5, 0.001, 256
"""Of the headline: words on each side, the share above which words are left out, noise words that a pair is compared with."""


class NegativeSampling(Objective):
    """What skip-gram and CBOW share: which words are read, what is near a word, and the noise that it is told from.

    - A frequent word is left out at random before windows are made, special tokens always; so windows reach further.
    - A window is cut to 1 to `window` words on each side, drawn anew for each word, and ends with the document and the row.
    - Noise words are drawn by their count to the power of 0.75. All words of a row share `shared` of them, with a weight
      that makes them count on average as `negatives` for each pair. So all scores are products of matrices, as in Ji et al.
      2016 (arXiv 1604.04661), who share them within a window. Unlike there, one that happens to be the word of the pair
      is not drawn again.

    The gradient of a step is the sum over its pairs, not their mean: a row of a table is moved by the pairs of its word
    alone, and a mean over all pairs would move it the less the larger the batch. With SGD the rate then means what it does
    in word2vec. Gradients are sparse where the optimizer can take them and one process trains: a step then costs the same
    whatever the vocabulary. One after the other, many pairs of a word slow each other down; together they do not, so the
    gradient of each row is clipped to `ROW`, in place of `trainer.clip`, which knows only a mean over all. Where few words
    make all pairs of a step (a vocabulary of hundreds), take fewer rows, a lower rate, or AdamW.

    What is drawn depends on the seed and the step alone, not on devices, micro-batches or interruptions.

    The headline needs no labels, and no setting changes what it asks: of two words in one window of held-out text, how often
    are they closer, by the cosine of their vectors, than one of them and a word drawn from the text? Both others are drawn
    alike, so knowing which words are frequent gives 0.5, as knowing nothing does. It asks for words that come together
    (bread, oven). Words that can stand for each other (bread, food) are another virtue, and one that CBOW is better at than
    this figure says: a list of pairs, by `lab.similarities`, asks for that.

    Args:
        window: words on each side, at most.
        negatives: noise words for each pair.
        shared: noise words drawn for each row.
        sample: share of the text above which a word is left out more and more often; null for never.
        settings: as `Objective`.

    Raises:
        ValueError: a value out of range.
    """

    kept: Tensor
    judged: Tensor
    compared: Tensor

    families = ("word_vectors",)
    takes = {"text": None}
    headline = {"name": "val/auc", "unit": "share of pairs", "direction": "max"}
    asks = {
        "val/auc": ("tokenizer",),
        "val/loss": ("tokenizer", "objective.window", "objective.negatives", "objective.sample"),
    }

    def __init__(
        self, window: int = 5, negatives: int = 5, shared: int = 64, sample: float | None = 0.001, **settings
    ) -> None:
        self.check(window=window, negatives=negatives, shared=shared, sample=sample)
        super().__init__(**settings)
        self.window, self.negatives, self.shared = window, negatives, shared
        counts = word_counts(self.prepared)
        self.noise = cumulative(counts**POWER)
        kept, judged = kept_share(counts, sample), kept_share(counts, SAMPLE)
        compared = drawn(cumulative(counts * judged), (np.arange(COMPARED) + 0.5) / COMPARED)
        self.register_buffer("kept", torch.from_numpy(kept).float(), persistent=False)
        self.register_buffer("judged", torch.from_numpy(judged).float(), persistent=False)
        self.register_buffer("compared", torch.from_numpy(compared), persistent=False)
        self.sparse = False

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        check_whole("objective", window=settings.window, negatives=settings.negatives, shared=settings.shared)
        sample = settings.sample
        if sample is not None and not (is_number(sample) and 0 < sample <= 1):
            raise ValueError(f"objective.sample: {sample}; a share of the text, over 0 to 1, or null")

    def score(self, windows: Windows) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """What is to be told apart.

        Returns:
            Scores of true ones, `[true ones]`; how much each counts, none for 1; scores of the noise of each word,
            `[rows, words, noise]`; and how much the word's true ones count together, `[rows, words]`.
        """
        raise NotImplementedError

    # What is read

    def draw(self, batch: Batch, step: int, part: int = 0, parts: int = 1) -> Windows:
        """Windows and noise of a batch that is one of the equal parts of a step, as drawn for that step."""
        rows, time = batch.tokens.shape
        random = np.random.default_rng([self.seed, step])
        chance, radius, noise = (
            torch.from_numpy(numbers[part * rows : (part + 1) * rows]).to(batch.tokens.device)
            for numbers in (
                random.random((rows * parts, time), np.float32),
                random.integers(1, self.window + 1, (rows * parts, time), np.int8),
                drawn(self.noise, random.random((rows * parts, self.shared))),
            )
        )
        words, documents, radius = compacted(
            chance < self.kept[batch.tokens], batch.tokens, batch.layout.documents, radius
        )
        pairs, _ = near(documents, radius, self.window)
        return Windows(words, (documents != PADDING).float(), pairs, None, noise)

    def weighed(self, batch: Batch, window: int, kept: Tensor) -> Windows:
        """Windows with nothing drawn: words and pairs count as often as drawing would give them.

        Args:
            batch: of held-out text.
            window: words on each side, at most.
            kept: `[vocab]`, share of a word's occurrences that is read.
        """
        weight = kept[batch.tokens]
        words, documents, weight = compacted(weight > 0, batch.tokens, batch.layout.documents, weight)
        pairs, distances = near(documents, torch.full_like(words, window), window)
        counts = (1 - (distances - 1) / window) * weight.flatten()[pairs].prod(0)
        return Windows(words, weight, pairs, counts, self.compared.expand(len(words), -1))

    # What is minimised

    def losses(self, windows: Windows) -> tuple[Tensor, Tensor]:
        """Nats of all true scores and their noise, and how many true ones there are."""
        scores, counts, noise, true = self.score(windows)
        found = F.softplus(-scores) if counts is None else F.softplus(-scores) * counts
        told = F.softplus(noise).sum(-1) * true
        return found.sum() + told.sum() * (self.negatives / noise.shape[-1]), true.sum()

    def nats(self, batch: Batch) -> Tensor:
        """Of all pairs of a batch, as drawn for a first step."""
        return self.losses(self.draw(batch, 0))[0]

    def look_up(self, table: Any, words: Tensor) -> Tensor:
        """`[...]` int64 to `[..., dim]`."""
        return looked_up(table.weight, words, self.sparse)

    def others(self, windows: Windows) -> tuple[Tensor, Tensor]:
        """What stands for the words, `[rows, words, dim]`, and for the noise, `[rows, noise, dim]`."""
        both = [windows.words, windows.noise]
        found = self.look_up(self.model.embedding.head, torch.cat(both, dim=1))
        words, noise = found.split([numbers.shape[1] for numbers in both], dim=1)
        return words, noise

    def on_train_start(self) -> None:
        """See whether the optimizer takes sparse gradients. Several processes add up whole tables."""
        super().on_train_start()
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        self.sparse = self.trainer.world_size == 1 and getattr(optimizer, "takes_sparse", False)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The sum over the pairs of this batch, scaled so that averaging over parts adds them up."""
        world, accumulate = self.trainer.world_size, self.trainer.accumulate_grad_batches
        part = index % accumulate * world + self.trainer.global_rank
        nats, true = self.losses(self.draw(batch, self.trainer.global_step, part, world * accumulate))
        self.nats_seen = self.nats_seen.to(nats.device) + nats.detach()
        self.targets_seen += int(true)
        return nats * (world * accumulate)

    def configure_gradient_clipping(self, optimizer: Optimizer, *args, **kwargs) -> None:
        """Clip each row to `ROW`, and keep the norm of all from before."""
        squares: Any = 0.0
        for parameter in self.parameters():
            if parameter.grad.is_sparse:  # type: ignore[union-attr]
                parameter.grad = gathered(parameter.grad)  # type: ignore[arg-type]
            gradient: Any = parameter.grad
            rows = gradient.values() if gradient.is_sparse else gradient
            norms = rows.norm(dim=-1, keepdim=True)
            rows.mul_((ROW / norms).clamp(max=1.0))
            squares = squares + norms.square().sum()
        self.gradient_norm = squares.sqrt()

    # How it is judged

    def evaluate(self, batch: Batch) -> tuple[Tensor, list[Any]]:
        """`[sums]`: nats and true scores; pairs that are closer than noise, and pairs."""
        if not batch.counted:
            return torch.zeros(4, dtype=torch.float64, device=batch.tokens.device), []
        nats, true = self.losses(self.weighed(batch, self.window, self.kept))
        windows = self.weighed(batch, WINDOW, self.judged)
        return torch.stack([nats, true, *closer(self.model.embedding.table.weight, windows)]).double(), []

    def scores(self, sums: Tensor, text_bytes: int | None) -> dict[str, float | None]:
        """`val/loss` in nats a true score with its noise, which is of one objective and number of negatives; `val/auc`."""
        nats, true, won, pairs = sums.tolist()
        return {"val/loss": nats / true if true else math.nan, "val/auc": won / pairs if pairs else math.nan}

    def flops(self, batch: Batch) -> float:
        """Of the scores of true words and noise, windows cut by the ends of documents counted whole."""
        return float(self.kept[batch.tokens].sum()) * self.word_flops()

    def word_flops(self) -> float:
        """Of one word that is read."""
        raise NotImplementedError


def word_counts(prepared: Prepared) -> np.ndarray:
    """`[vocab]` float64, how often each word is in the training text; 0 for special tokens.

    Raises:
        RequestError: no document has two words, so none is near another.
    """
    ids, size = prepared.train.ids, prepared.tokenizer.vocab_size
    special = list(prepared.tokenizer.specials.values())
    counts = sum(
        (np.bincount(ids[at : at + CHUNK], minlength=size) for at in range(0, len(ids), CHUNK)),
        np.zeros(size, np.int64),
    )
    counts[special] = 0
    if prepared.train.lengths().max() < 3 or not counts.any():
        raise RequestError("data: no document of the training text has two words that the tokenizer knows")
    return counts.astype(np.float64)


def kept_share(counts: np.ndarray, sample: float | None) -> np.ndarray:
    """`[vocab]`, how often an occurrence of each word is read: `sqrt(sample / f) + sample / f` for a word that is the share
    f of the text, 1 at most. So in word2vec's code; the paper's equation 5 is its first term.
    """
    there = counts > 0
    if sample is None:
        return there.astype(np.float64)
    ratio = np.divide(sample * counts.sum(), counts, out=np.zeros_like(counts), where=there)
    return np.minimum(np.sqrt(ratio) + ratio, 1.0)


def cumulative(weights: np.ndarray) -> np.ndarray:
    """`[vocab]`, the share of the weights up to and with each place: what `drawn` looks numbers up in."""
    sums = np.cumsum(weights)
    return sums / sums[-1]


def drawn(shares: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """Numbers from 0 to under 1 to the places that they fall on; never one without weight."""
    return np.searchsorted(shares, chances, side="right")


def closer(table: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
    """How many pairs of a word and one in its window are closer by cosine than the word and its noise, and how many pairs
    there are. Each pair counts for the share of the noise that it beats, a tie for half. A pair of a word with itself does
    not count, nor noise that is the word.
    """
    unit = F.normalize(table.float(), dim=-1)
    vectors = unit[windows.words]
    pairs = windows.near * (windows.words[:, :, None] != windows.words[:, None])
    same = windows.words[:, :, None] == windows.noise[:, None]
    noise = (vectors @ unit[windows.noise].transpose(1, 2)).masked_fill(same, math.inf).sort(-1).values
    cosine = vectors @ vectors.transpose(1, 2)
    below, not_above = (torch.searchsorted(noise, cosine.contiguous(), right=right) for right in (False, True))
    share = (below + not_above) / 2 / (~same).sum(-1, keepdim=True).clamp_min(1)
    return (pairs * share).sum(), pairs.sum()
