"""Coding: how what the store keeps, documents or examples in JSON, becomes arrays of token numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lab.data.disk import Documents
from lab.data.examples import Example, ExampleData, encode, labels_of
from lab.data.split import drawn
from lab.data.tokenizers import Tokenizer
from lab.errors import RequestError


def text(document: np.ndarray) -> str:
    """The text of a document's UTF-8 bytes, `[bytes]` uint8."""
    return document.tobytes().decode("utf-8")


class DocumentCoder:
    """How documents of plain text become tokens.

    Attributes:
        fields: arrays of a document.
        labels: names of the labels, whose places are their numbers.
    """

    fields: int = 1
    labels: tuple[str, ...] = ()
    chosen: np.ndarray | None = None
    """Numbers of the training documents to encode; None for all."""

    def texts(self, document: str) -> list[str]:
        """What the tokenizer learns from."""
        return [document]

    def scored(self, documents: Sequence[str]) -> Sequence[str]:
        """The texts whose bytes are predicted."""
        return documents

    def size(self, documents: Documents, chosen: np.ndarray) -> int:
        """How many bytes those have."""
        return int(np.diff(documents.offsets)[chosen].sum())

    def encode(self, tokenizer: Tokenizer, documents: Sequence[str]) -> list[np.ndarray]:
        """`fields` arrays for each document."""
        return _tokens(tokenizer, documents)


class ExampleCoder(DocumentCoder):
    """How examples, of which a document is the JSON, become tokens."""

    def __init__(self, data: ExampleData, train: Documents) -> None:
        self.data, self.fields = data, data.fields
        examples = (Example.from_json(text(document)) for document in train)
        self.chosen, self.labels = labels_of(data, examples, (drawn(document) for document in train))

    def texts(self, document: str) -> list[str]:
        return list(self.data.read(Example.from_json(document)))

    def scored(self, documents: Sequence[str]) -> Sequence[str]:
        return [scored for document in documents for scored in self.data.scored(Example.from_json(document))]

    def size(self, documents: Documents, chosen: np.ndarray) -> int:
        return sum(len(scored.encode()) for i in chosen for scored in self.scored([text(documents[i])]))

    def encode(self, tokenizer: Tokenizer, documents: Sequence[str]) -> list[np.ndarray]:
        return encode(self.data, tokenizer, [Example.from_json(document) for document in documents], self.labels)


def _tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """For each text the document token followed by its tokens."""
    first = np.array([tokenizer.document_id], tokenizer.dtype)
    encoded = tokenizer.encode(texts)
    if any((tokens == tokenizer.document_id).any() for tokens in encoded):
        raise RequestError("tokenizer: takes a text for the document token, so documents would not be told apart")
    return [np.concatenate((first, tokens)) for tokens in encoded]
