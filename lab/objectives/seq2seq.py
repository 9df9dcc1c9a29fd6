"""Sequence to sequence: predict each token of a target from its source and the tokens before it (Sutskever et al. 2014).

What is judged is what the model generates by itself, not what it predicts when it is told the truth so far.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lab.data.arrange import PairBatch, Sides
from lab.data.questions import Questions
from lab.metrics.classification import band, name
from lab.metrics.translation import bleu, chrf, exact_match
from lab.models.translate import room, translate
from lab.objectives.objective import Objective
from lab.values import check_whole, is_number


class TeacherForcing(Objective):
    """The loss is the cross-entropy of each token of the target, given those before it as they are.

    Args:
        smoothing: share of the target's probability that all tokens get alike in training (Vaswani et al. 2017, section
            5.4); the validation loss is without.
        settings: as `Objective`.

    Raises:
        ValueError: a share out of range.
    """

    families = ("encoder_decoder",)

    def __init__(self, smoothing: float = 0.0, **settings) -> None:
        self.check(smoothing=smoothing)
        super().__init__(**settings)
        self.smoothing = smoothing

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        if not (is_number(settings.smoothing) and 0 <= settings.smoothing < 1):
            raise ValueError(f"objective.smoothing: {settings.smoothing}; choose from 0 to under 1")

    def nats(self, batch: PairBatch) -> Tensor:  # type: ignore[override]
        return self._loss(batch, self.smoothing)

    def evaluate(self, batch: PairBatch) -> tuple[Tensor, list[Any]]:  # type: ignore[override]
        """`[sums]`: nats and targets."""
        nats = self._loss(batch, 0.0).double()
        return torch.stack([nats, nats.new_tensor(batch.counted)]), []

    def tokens_read(self, batch: PairBatch) -> int:  # type: ignore[override]
        return int(batch.lengths.sum() + batch.source_lengths.sum())

    def flops(self, batch: PairBatch) -> float:  # type: ignore[override]
        return float(self.model.pair_flops(batch.lengths, batch.source_lengths).sum())

    def _loss(self, batch: PairBatch, smoothing: float) -> Tensor:
        x = self.model.hidden(batch.source, batch.tokens, batch.source_layout, batch.layout)
        return self.model.embedding.loss(x, batch.targets, smoothing)


class SequenceToSequence(TeacherForcing):
    """Teacher forcing on pairs, judged by what the model generates.

    Args:
        beam: hypotheses that are followed while translating; 1 takes the best token at each step.
        penalty: exponent of the length in the score of a hypothesis (Wu et al. 2016, equation 14).
        translated: how many of the validated examples are translated and judged, spread evenly; null for all.
        longest: tokens that a translation has at most for each of its source, plus 10, within the context.
        settings: as `TeacherForcing`.

    Raises:
        ValueError: a value out of range.
    """

    takes = {"pairs": Sides, "task": Questions}
    headline = {"name": "val/chrf", "unit": "chrF2, of 100", "direction": "max"}

    def __init__(
        self,
        beam: int = 1,
        penalty: float = 0.6,
        translated: int | None = 256,
        longest: float = 2.0,
        **settings,
    ) -> None:
        self.check(beam=beam, penalty=penalty, translated=translated, longest=longest)
        super().__init__(**settings)
        self.beam, self.penalty, self.longest, self.translated = beam, penalty, longest, translated
        self._spent: dict[int, list[float]] = {}  # tokens and seconds of training, by the band of the source's length

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        super().check_settings(settings)
        translated = 1 if settings.translated is None else settings.translated
        check_whole("objective", beam=settings.beam, translated=translated)
        for key, number in {"penalty": settings.penalty, "longest": settings.longest}.items():
            if not (is_number(number) and number >= 0):
                raise ValueError(f"objective.{key}: {number}; a number, 0 or more")

    def training_step(self, batch: PairBatch, index: int) -> Tensor:  # type: ignore[override]
        self._step = int(batch.source_lengths.mean()), int(batch.source_lengths.sum() + batch.lengths.sum())
        return super().training_step(batch, index)

    def optimizer_step(self, *args, **kwargs) -> None:
        """Of the step, forward and backward passes inside, the time is taken by the length of its sources."""
        began = time.perf_counter()
        super().optimizer_step(*args, **kwargs)
        if self.device.type == "cpu" and self.trainer.accumulate_grad_batches == 1:
            length, tokens = self._step
            spent = self._spent.setdefault(int(band(length)), [0, 0.0])
            spent[0] += tokens
            spent[1] += time.perf_counter() - began

    def evaluate(self, batch: PairBatch) -> tuple[Tensor, list[Any]]:  # type: ignore[override]
        """`[sums]`: nats and targets; of each example that is translated the number of its source's tokens, the translation
        and the reference.
        """
        sums, _ = super().evaluate(batch)
        rows = [row for row, example in enumerate(batch.examples) if example in self._chosen]  # type: ignore
        lengths = batch.source_lengths[rows]
        texts = zip(self.generate(batch, rows), self._references(batch, rows), strict=True)
        return sums, [[int(length) - 1, *pair] for length, pair in zip(lengths, texts, strict=True)]

    def generate(self, batch: PairBatch, rows: Sequence[int]) -> list[str]:
        """The translations of some rows of a batch."""
        if not len(rows):
            return []
        numbers = torch.tensor(rows, device=batch.source.device)
        lengths = batch.source_lengths[list(rows)]
        longest = int(lengths.max())
        found = translate(
            self.model,
            batch.source[numbers, :longest],
            batch.source_layout.rows(numbers).part(0, longest),
            begin=self.tokenizer.document_id,
            end=self.tokenizer.id("end"),
            limits=self.limits(lengths),
            beam=self.beam,
            penalty=self.penalty,
        )
        return [self.tokenizer.decode(row) for row in found]

    def limits(self, lengths: np.ndarray) -> list[int]:
        """Tokens that the translations of sources of these lengths have at most."""
        return room(lengths, self.longest, self.model.context)

    def _references(self, batch: PairBatch, rows: Sequence[int]) -> list[str]:
        """The targets of some rows as they were read, or where they were made on the spot, as their tokens say."""
        if self._texts:
            return [self._texts[batch.examples[row]] for row in rows]  # type: ignore[index]
        ends = batch.lengths - 1
        return [self.tokenizer.decode(batch.targets[row, : ends[row]].tolist()) for row in rows]

    def judge(self, outputs: Sequence[Any]) -> Mapping[str, float | None]:
        """chrF, BLEU and exact matches of what was translated, and chrF in bands of the source's tokens, which double.

        In the same bands, of the mean source of a batch, the tokens per second of training: where each step is one batch, on
        a CPU, since the run began or was resumed.
        """
        lengths, found, true = zip(*outputs, strict=True)
        bands = band(lengths)
        of_bands = {}
        for number in np.unique(bands):
            pairs = [(one, other) for one, other, at in zip(found, true, bands, strict=True) if at == number]
            of_bands[f"val/chrf/source_{name(number)}"] = chrf(*zip(*pairs, strict=True))
        whole = {"val/chrf": chrf(found, true), "val/bleu": bleu(found, true), "val/exact": exact_match(found, true)}
        speeds = {
            f"train/tokens_per_second/source_{name(number)}": tokens / seconds
            for number, (tokens, seconds) in sorted(self._spent.items())
        }
        return whole | of_bands | speeds

    @property
    def tokenizer(self) -> Any:
        """Of the data."""
        return self.prepared.tokenizer

    @cached_property
    def _texts(self) -> list[str]:
        """The targets of the validated examples as they were read; none of a task, whose tokens have one field."""
        return [example.texts[-1] for example in self.prepared.examples] if self.prepared.validation.fields > 1 else []

    @cached_property
    def _chosen(self) -> set[int]:
        """Numbers of the validated examples that are translated."""
        count = len(self.prepared.validation.lengths())
        wanted = count if self.translated is None else min(self.translated, count)
        return set(np.linspace(0, count - 1, wanted).round().astype(int).tolist())
