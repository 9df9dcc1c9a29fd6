"""Words with a tag each, from files in CoNLL's format: a word a line, columns, a blank line between sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lab.data import readers
from lab.data.corpora import Files, content_digest, digest
from lab.data.examples import Example, ExampleData, check_too_long
from lab.errors import RequestError
from lab.values import is_whole

if TYPE_CHECKING:
    from lab.data.tokenizers import Tokenizer

DOCUMENT_LINE = "-DOCSTART-"


class Conll(ExampleData):
    """Sentences of words with a tag each: named entities (CoNLL-2003), parts of speech.

    Columns are separated by tabs, or else by white space; all lines of a file have equally many. Lines that begin with
    `-DOCSTART-` are no words. To hold out files as they were published: `split.by=file split.holdout=[dev.conll]`.

    Args:
        path: a file, a folder, a glob or a list of these; plain or gzipped.
        word, tag: which column holds them, counted from 0, or from the end with -1.
        too_long: `cut` or `refuse`.

    Raises:
        RequestError: no path; by `examples`, a line with more or fewer columns than the file's first, or without these.
    """

    kind = "tagged"
    fields = 2

    def __init__(
        self, path: str | Iterable[str] | None = None, word: int = 0, tag: int = -1, too_long: str = "cut"
    ) -> None:
        check_too_long(too_long)
        for key, column in (("word", word), ("tag", tag)):
            if not is_whole(column):
                raise RequestError(f"data.{key}={column}: needs the number of a column, from 0, or -1 for the last")
        self.source, self.word, self.tag, self.too_long = Files(path), word, tag, too_long

    def examples(self, by: str | None = None) -> Iterator[Example]:
        if by not in (None, "file"):
            raise RequestError(f"split.by={by}: words in columns have no fields; file holds out whole files")
        found = False
        for path in self.source.files():
            for words, tags in self._sentences(path):
                found = True
                yield Example(tuple(words), tuple(tags), path.name if by else None)
        if not found:
            raise RequestError(f"data.path={','.join(self.source.paths)}: holds no words")

    def _sentences(self, path: Path) -> Iterator[tuple[list[str], list[str]]]:
        words: list[str] = []
        tags: list[str] = []
        width = None
        for number, line in enumerate(readers.lines(path), 1):
            if not line.strip() or line.startswith(DOCUMENT_LINE):
                if words:
                    yield words, tags
                    words, tags = [], []
                continue
            columns = line.split("\t") if "\t" in line else line.split()
            place = f"{path}, line {number}"
            width = width or len(columns)
            if len(columns) != width:
                raise RequestError(f"{place}: {len(columns)} columns, the lines before have {width}: {line[:80]!r}")
            words.append(self._column(columns, self.word, "word", place))
            tags.append(self._column(columns, self.tag, "tag", place))
        if words:
            yield words, tags

    @staticmethod
    def _column(columns: Sequence[str], number: int, key: str, place: str) -> str:
        if not -len(columns) <= number < len(columns):
            raise RequestError(f"data.{key}={number}: {place} has {len(columns)} columns, counted from 0")
        value = columns[number].strip()
        if not value:
            raise RequestError(f"{place}: the column of data.{key}={number} is empty")
        return value

    def encode(self, tokenizer: Tokenizer, examples: Sequence[Example], labels: Mapping[str, int]) -> list[np.ndarray]:
        """Tokens of the words, and for each token 1 + the number of its word's tag where it is the word's first, else 0.

        Words are tokenized one by one, each after a space but the first, so that the first token of a word is never
        another word's. A word that gives no token stands as the unknown one.

        Raises:
            RequestError: a word gives no token and there is no unknown one.
        """
        spelt = [word if i == 0 else f" {word}" for example in examples for i, word in enumerate(example.texts)]
        pieces = iter(tokenizer.encode(spelt))
        arrays: list[np.ndarray] = []
        for example in examples:
            tokens, tags = [], []
            for tag in example.labels:
                piece = next(pieces)
                tokens.append(piece if len(piece) else np.array([tokenizer.id("unknown")], tokenizer.dtype))
                tags.append(np.zeros(len(tokens[-1]), tokenizer.dtype))
                tags[-1][0] = 1 + labels[tag]
            arrays += [np.concatenate(tokens), np.concatenate(tags)]
        return arrays

    def scored(self, example: Example) -> Sequence[str]:
        """The sentence."""
        return [self.decisive(example)]

    def decisive(self, example: Example) -> str:
        """The sentence, not its first word, which many share."""
        return " ".join(example.texts)

    def fingerprint(self) -> str:
        files = tuple((path.name, content_digest(path)) for path in self.source.files())
        return digest("Conll", "by sentence", self.word, self.tag, files)
