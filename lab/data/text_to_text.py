"""Labelled text as T5 reads it: the task is named in the source, and the target is the label in words (Raffel et al. 2020,
section 2.4): `testament en: In the beginning God created ...` gives `ot`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lab.data.corpora import digest
from lab.data.examples import Example, Labelled
from lab.errors import RequestError

if TYPE_CHECKING:
    from lab.data.tokenizers import Tokenizer


class TextToText(Labelled):
    """Texts with a label, or pairs of texts with one, as pairs of a source and a target.

    Args:
        prefix: what a source begins with, before each text and the name of its column (appendix D); None for the name of the
            label's column.
        labelled: as `Labelled`.

    Raises:
        RequestError: as `Labelled`; by `encode`, labels that the tokenizer spells alike.
    """

    kind = "text_to_text"

    def __init__(self, path=None, prefix: str | None = None, **labelled) -> None:
        super().__init__(path, **labelled)
        self.fields = 2
        self.prefix = self.columns["data.label"] if prefix is None else prefix

    def asked(self, example: Example) -> str:
        """The prefix, and each text after the name of its column."""
        named = zip((self.columns[key] for key in self.texts), example.texts, strict=True)
        return " ".join([self.prefix, *(f"{column}: {text}" for column, text in named)]).lstrip()

    def read(self, example: Example) -> Sequence[str]:
        """The source, and the label."""
        return self.asked(example), example.labels[0]

    def scored(self, example: Example) -> Sequence[str]:
        """The label."""
        return example.labels

    def encode(self, tokenizer: Tokenizer, examples: Sequence[Example], labels: Mapping[str, int]) -> list[np.ndarray]:
        """Tokens of the source, tokens of the label."""
        spelt: dict[tuple[int, ...], str] = {}
        for label, tokens in zip(labels, tokenizer.encode(list(labels)), strict=True):
            other = spelt.setdefault(tuple(tokens.tolist()), label)
            if other != label:
                raise RequestError(f"tokenizer: spells the labels {other} and {label} alike; another tells them apart")
        return tokenizer.encode([text for example in examples for text in self.read(example)])

    def fingerprint(self) -> str:
        return digest(super().fingerprint(), self.prefix)
