"""Examples: rows of more than one text. Pairs to translate, texts with a label, words with a tag each.

A kind of examples is a class: where its rows come from, and how one becomes arrays of numbers, its fields. How those
are laid into rows for a model is in lab/data/arrange.py.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lab.data import readers
from lab.data.corpora import Files, HuggingFace, digest
from lab.errors import RequestError

if TYPE_CHECKING:
    from lab.data.tokenizers import Tokenizer

EXAMPLES = "examples.jsonl"
LONG = ("cut", "refuse")


@dataclass(frozen=True)
class Example:
    """One row.

    Attributes:
        texts: source and target, and their score if they have one, one or two texts with a label, or the words of a sentence.
        labels: none, one, or one for each word.
        group: the value of `split.by`, if asked for.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()
    group: str | None = None

    def to_json(self) -> str:
        """Texts and labels in one line."""
        return json.dumps([self.texts, self.labels], ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Example:
        """What `to_json` wrote."""
        texts, labels = json.loads(line)
        return cls(tuple(texts), tuple(labels))


class ExampleData(ABC):
    """Where examples come from.

    Attributes:
        kind: what an objective asks for: `pairs`, `scored`, `labelled`, `text_to_text`, `tagged`, `chat`.
        fields: arrays that an example becomes.
        too_long: of an example longer than the model: `cut`, with a count in the result, or `refuse`.
    """

    kind: ClassVar[str]
    fields: int = 2
    too_long: str = "cut"

    @abstractmethod
    def examples(self, by: str | None = None) -> Iterator[Example]:
        """All examples, each time in the same order.

        Args:
            by: the field that names an example's group.

        Raises:
            RequestError: data that can't be read, fields that are not there, an empty text.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Hexadecimal digits that change with what `examples` gives."""

    @abstractmethod
    def encode(self, tokenizer: Tokenizer, examples: Sequence[Example], labels: Mapping[str, int]) -> list[np.ndarray]:
        """`fields` arrays for each example, without special tokens."""

    def scored(self, example: Example) -> Sequence[str]:
        """The texts that losses per byte count: those that the tokens of the last text stand for."""
        return example.texts[-1:]

    def read(self, example: Example) -> Sequence[str]:
        """The texts that a tokenizer learns from."""
        return example.texts

    def decisive(self, example: Example) -> str:
        """The text whose hash decides whether the example is held out."""
        return example.texts[0]

    def choose(self, labels: Sequence[tuple[str, ...]], draws: Sequence[float]) -> np.ndarray | None:
        """`[chosen]`, which training examples are learnt from, by their labels and hashes; None for all."""
        return None


def labels_of(
    data: ExampleData, examples: Iterable[Example], draws: Iterable[float]
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Which training examples are learnt from (None: all), and the labels that there are, sorted."""
    given = [example.labels for example in examples]
    chosen = data.choose(given, list(draws))
    learnt = given if chosen is None else [given[i] for i in chosen]
    return chosen, tuple(sorted({label for labels in learnt for label in labels}))


def encode(
    data: ExampleData, tokenizer: Tokenizer, examples: Sequence[Example], labels: Sequence[str]
) -> list[np.ndarray]:
    """`data.fields` arrays for each example.

    Raises:
        RequestError: a label that no training example has, or a text that gives no token.
    """
    numbers = {label: number for number, label in enumerate(labels)}
    strange = sorted({label for example in examples for label in example.labels} - numbers.keys())
    if strange:
        raise RequestError(
            f"split: {_some(strange)} to validate: no training example has that label; those have {_some(labels)}"
        )
    if len(labels) >= np.iinfo(tokenizer.dtype).max:
        raise RequestError(f"data.label: {len(labels):,} labels, more than can be told apart here; is it a label?")
    arrays = data.encode(tokenizer, examples, numbers)
    empty = next((number for number, array in enumerate(arrays) if not len(array)), None)
    if empty is not None:
        example = examples[empty // data.fields]
        raise RequestError(f"tokenizer: gives no token for a text of this example: {example.to_json()[:200]}")
    return arrays


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:10]) + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")


class Table(ExampleData):
    """Examples that are rows of a file or of a dataset of the Hugging Face Hub.

    Args:
        path: a file, a folder, a glob or a list of these: .jsonl, .json, .csv, .parquet.
        name: in place of `path` a dataset, as for `data=huggingface`.
        config, hub_split, revision, max_rows: of that dataset.
        too_long: `cut` or `refuse`.

    Attributes:
        columns: which holds what, by the key of the configuration that says so: texts first, then labels.

    Raises:
        RequestError: not one of `path` and `name`, or another word for `too_long`.
    """

    columns: dict[str, str]

    def __init__(
        self,
        path: str | Iterable[str] | None = None,
        name: str | None = None,
        config: str | None = None,
        hub_split: str = "train",
        revision: str | None = None,
        max_rows: int | None = None,
        too_long: str = "cut",
    ) -> None:
        if path and name:
            raise RequestError(f"data.name={name}: data.path={path} is given too; name one of the two")
        check_too_long(too_long)
        self.too_long = too_long
        self.source: Files | HuggingFace
        if max_rows is not None and max_rows < 1:
            raise RequestError(f"data.max_rows={max_rows}: needs 1 or more, or null for all")
        if name:
            self.source = HuggingFace(
                name, config, hub_split, "", revision=revision, max_documents=max_rows, key="data.hub_split"
            )
        else:
            self.source = Files(path)

    def _rows(self, by: str | None) -> Iterator[tuple[str, dict[str, Any], str | None]]:
        asked = self.columns | ({"split.by": by} if by else {})
        for place, row in self.source.rows(asked):
            yield place, row, readers.check_group(row["split.by"], by, place) if by else None

    def _text(self, row: Mapping[str, Any], key: str, place: str) -> str:
        text = readers.check_text(row[key], self.columns[key], place, key)
        if not text.strip():
            raise RequestError(f"{key}={self.columns[key]!r}: {place} is empty; every example needs its text")
        return text

    def fingerprint(self) -> str:
        return digest(type(self).__name__, tuple(self.columns.items()), self.source.fingerprint())


def check_too_long(word: str) -> None:
    """Raises `RequestError` for another word than there is."""
    if word not in LONG:
        raise RequestError(f"data.too_long={word}: choose from {', '.join(LONG)}")


class Pairs(Table):
    """Pairs of texts: what is translated and its translation, a prompt and its answer, a query and what it should find.

    Args:
        source, target: the columns; `translation.en` is the key `en` within `translation`.
        table: as `Table`.
    """

    kind = "pairs"

    def __init__(self, path=None, source: str = "source", target: str = "target", **table) -> None:
        super().__init__(path, **table)
        self.columns = {"data.source": source, "data.target": target}

    def examples(self, by: str | None = None) -> Iterator[Example]:
        for place, row, group in self._rows(by):
            yield Example(tuple(self._text(row, key, place) for key in self.columns), group=group)

    def encode(self, tokenizer: Tokenizer, examples: Sequence[Example], labels: Mapping[str, int]) -> list[np.ndarray]:
        """Tokens of the source, tokens of the target."""
        return tokenizer.encode([text for example in examples for text in example.texts])


class Parallel(ExampleData):
    """Pairs from two text files, line by line, as translation corpora come.

    Args:
        source, target: the files.
        too_long: `cut` or `refuse`.

    Raises:
        RequestError: a file not named; by `examples`, files of unequal length or an empty line.
    """

    kind = "pairs"

    def __init__(self, source: str | None = None, target: str | None = None, too_long: str = "cut") -> None:
        if not source:
            raise RequestError("data.source: needs a text file with one sentence a line")
        check_too_long(too_long)
        self.paths, self.too_long = (source, target), too_long

    def examples(self, by: str | None = None) -> Iterator[Example]:
        if by:
            raise RequestError(f"split.by={by}: lines of text have no fields; data=pairs reads tables, which have")
        first, second = self._files()
        sides = [readers.lines(file) for file in (first, second)]
        number = 0
        while True:
            lines = [next(side, None) for side in sides]
            if lines == [None, None]:
                return
            number += 1
            if None in lines:
                longer, shorter = (first, second) if lines[1] is None else (second, first)
                more = sum(1 for _ in sides[0]) + sum(1 for _ in sides[1])
                raise RequestError(
                    f"{shorter}: {number - 1:,} lines, and {longer} has {number + more:,}; "
                    "each line needs its translation"
                )
            for line, file in zip(lines, (first, second), strict=True):
                if not line or not line.strip():
                    raise RequestError(f"{file}, line {number}: is empty; every example needs its text")
            yield Example(tuple(line or "" for line in lines))

    def fingerprint(self) -> str:
        return digest("Parallel", *(Files(str(file)).fingerprint() for file in self._files()))

    def _files(self) -> list[Path]:
        files = []
        for key, path in zip(("source", "target"), self.paths, strict=True):
            if not path:
                raise RequestError(f"data.{key}: needs a text file with one sentence a line")
            if not Path(path).expanduser().is_file():
                raise RequestError(f"data.{key}={path}: no such file (a relative path counts from {Path.cwd()})")
            files.append(Path(path).expanduser())
        return files

    encode = Pairs.encode


class Labelled(Table):
    """Texts with a label, or pairs of texts with one.

    Args:
        text, label: the columns.
        second: the column of the second text of a pair; None for single texts.
        per_label: so many training examples of each label at most, those with the lowest hashes: what little labelled
            data is worth. None: all.
        table: as `Table`.
    """

    kind = "labelled"

    def __init__(
        self, path=None, text: str = "text", label: str = "label", second: str | None = None, per_label=None, **table
    ) -> None:
        super().__init__(path, **table)
        if per_label is not None and (not isinstance(per_label, int) or per_label < 1):
            raise RequestError(f"data.per_label={per_label}: needs a whole number, 1 or more, or null for all")
        texts = {"data.text": text} | ({"data.second": second} if second else {})
        self.per_label, self.fields = per_label, len(texts) + 1
        self.texts, self.columns = list(texts), texts | {"data.label": label}

    def examples(self, by: str | None = None) -> Iterator[Example]:
        for place, row, group in self._rows(by):
            label = row["data.label"]
            missing = label is None or label != label  # a table's NaN
            if missing or isinstance(label, dict | list | bytes) or not str(label).strip():
                raise RequestError(f"data.label={self.columns['data.label']!r}: {place} has no label")
            label = readers.check_text(str(label), self.columns["data.label"], place, "data.label")
            yield Example(tuple(self._text(row, key, place) for key in self.texts), (label,), group)

    def encode(self, tokenizer: Tokenizer, examples: Sequence[Example], labels: Mapping[str, int]) -> list[np.ndarray]:
        """Tokens of each text, and the number of the label as an array of one."""
        tokens = iter(tokenizer.encode([text for example in examples for text in example.texts]))
        arrays: list[np.ndarray] = []
        for example in examples:
            arrays += [next(tokens) for _ in example.texts]
            arrays.append(np.array([labels[example.labels[0]]], tokenizer.dtype))
        return arrays

    def choose(self, labels: Sequence[tuple[str, ...]], draws: Sequence[float]) -> np.ndarray | None:
        """The `per_label` examples of each label with the lowest draws."""
        if self.per_label is None:
            return None
        chosen: dict[tuple[str, ...], list[int]] = {}
        for number in np.argsort(draws, kind="stable").tolist():
            of_label = chosen.setdefault(labels[number], [])
            if len(of_label) < self.per_label:
                of_label.append(number)
        return np.sort([number for numbers in chosen.values() for number in numbers])

    def fingerprint(self) -> str:
        return digest(super().fingerprint(), self.per_label)
