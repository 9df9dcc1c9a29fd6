"""Text to text: classification by writing the label's words (T5, Raffel et al. 2020, section 2.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from lab.data.arrange import Sides
from lab.metrics.classification import accuracy, macro_f1
from lab.objectives.seq2seq import SequenceToSequence


class TextToText(SequenceToSequence):
    """Teacher forcing on labels, judged by how often the model writes the right one. Arguments as `SequenceToSequence`."""

    takes = {"text_to_text": Sides}
    headline = {"name": "val/accuracy", "unit": "share of texts", "direction": "max"}

    def limits(self, lengths: np.ndarray) -> list[int]:
        """As many tokens as the longest label has."""
        longest = max(map(len, self.tokenizer.encode(self.prepared.labels)))
        return [min(longest, self.model.context - 1)] * len(lengths)

    def judge(self, outputs: Sequence[Any]) -> Mapping[str, float | None]:
        """Accuracy, and F1 with every label counting the same; and the share of answers that are a label at all, since one
        that is none is wrong.
        """
        _, found, true = zip(*outputs, strict=True)
        labels = set(self._spelt.values())
        known = [answer if answer in labels else "" for answer in found]
        return {
            "val/accuracy": accuracy(known, true),
            "val/macro_f1": macro_f1(known, true, none=""),
            "val/labels_written": sum(answer in labels for answer in found) / len(found),
        }

    @cached_property
    def _texts(self) -> list[str]:
        return [self._spelt[example.labels[0]] for example in self.prepared.examples]

    @cached_property
    def _spelt(self) -> dict[str, str]:
        """Each label as the tokenizer writes it."""
        labels = self.prepared.labels
        return dict(zip(labels, map(self.tokenizer.decode, self.tokenizer.encode(labels)), strict=True))
