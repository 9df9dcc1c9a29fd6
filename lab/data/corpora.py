"""Corpora: where documents come from.

A corpus has `documents()`, which gives non-blank documents in an order that is always the same, and
`fingerprint()`, which names what they say: it changes with the content and with how it is read, not with
where it lies.
"""

from __future__ import annotations

import ast
import gc
import glob
import hashlib
import itertools
import os
import re
import sysconfig
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from lab.data import readers
from lab.errors import RequestError


class Corpus(Protocol):
    """Where documents come from."""

    def documents(self) -> Iterator[str]:
        """Non-blank documents, each time in the same order."""

    def fingerprint(self) -> str:
        """Hexadecimal digits that change with what `documents` gives."""


def digest(*parts: object) -> str:
    """32 hexadecimal digits of the parts' representations: strings, numbers, None, and tuples of them."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


@cache
def _content(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def content_digest(path: Path) -> str:
    """Digest of a file's bytes; read again only when its size or time of change differs."""
    try:
        stat = path.stat()
        return _content(str(path), stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise RequestError(f"{path}: can't be read ({error.strerror or error})") from error


# Tests, what is not the library itself, and what differs between two installations of the same Python.
_NOT_LIBRARY = re.compile(r"site-packages|dist-packages|tests?|idle_test|__pycache__|config-.*|pydoc_data")
_NOT_SOURCE = re.compile(r"_sysconfigdata.*|sitecustomize\.py|usercustomize\.py")


def _library_sources() -> list[Path]:
    """The source files of the standard library, sorted by path."""
    root = sysconfig.get_path("stdlib")
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not _NOT_LIBRARY.fullmatch(name)]
        found += [Path(folder, name) for name in names if name.endswith(".py") and not _NOT_SOURCE.fullmatch(name)]
    if not found:
        raise RequestError(f"{root}: this Python came without the source of its library; choose another data=")
    return sorted(found)


class PythonDocs:
    """The running Python's documentation: the topics of `help()` and the docstrings of the standard library.

    English prose that is there on every machine, about 2 MB in some 4,500 documents. Docstrings are read from
    the source without importing it. Equal texts count once; those under `shortest` characters say little and
    are left out. Python distributions without the topics give the docstrings alone.

    Args:
        shortest: characters that a document has at least.
    """

    def __init__(self, shortest: int = 80) -> None:
        self.shortest = shortest

    def documents(self) -> Iterator[str]:
        texts = (text.strip() for text in itertools.chain(self._topics(), *map(_docstrings, _library_sources())))
        # A docstring may spell half a surrogate pair, which no encoding can write.
        whole = (text.encode("utf-8", "replace").decode("utf-8") for text in texts if len(text) >= self.shortest)
        yield from dict.fromkeys(whole)

    def fingerprint(self) -> str:
        sources = tuple(content_digest(path) for path in _library_sources())
        return digest("PythonDocs", self.shortest, self._topics(), sources)

    @staticmethod
    def _topics() -> tuple[str, ...]:
        try:
            from pydoc_data.topics import topics
        except ImportError:
            return ()
        return tuple(topics[name] for name in sorted(topics))


def _docstrings(path: Path) -> list[str]:
    """Docstrings of a module, its classes and functions, in the order of the source."""
    collecting = gc.isenabled()
    gc.disable()  # a syntax tree has no cycles; the collector's walks over it would double the time
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escape sequences in code that is not ours
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return []  # lib2to3 ships templates that are no Python
    finally:
        if collecting:
            gc.enable()
    found: list[str] = []
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(ast.get_docstring(node) or "")
        if not isinstance(node, ast.expr):
            nodes += reversed(list(ast.iter_child_nodes(node)))
    return found


class Stdlib:
    """The source of the running Python's standard library, one document a file, about 10 MB."""

    def documents(self) -> Iterator[str]:
        for path in _library_sources():
            try:
                with tokenize.open(path) as file:
                    text = file.read()
            except (SyntaxError, UnicodeDecodeError):
                continue  # an unknown encoding, in a file that tests just that
            if text.strip():
                yield text

    def fingerprint(self) -> str:
        return digest("Stdlib", tuple(content_digest(path) for path in _library_sources()))


class Files:
    """Local files: text (one document a file); JSON lines, JSON, CSV and Parquet (one document a row).

    All but Parquet may be gzipped.

    Args:
        path: a file, a folder (with all below it that has a known suffix), a glob like `texts/**/*.md`, or a
            list of these. A relative path counts from the current folder.
        field: which column or key holds the text of a row.

    Raises:
        RequestError: by `documents` and `fingerprint`, where a file is missing, empty, damaged or not UTF-8,
            the field is not there or not text, or no document is found.
    """

    def __init__(self, path: str | Iterable[str] | None, field: str = "text") -> None:
        if path is None or path == "":
            raise RequestError("data.path: needs a file, a folder or a glob, for example data.path=texts/notes.jsonl")
        several = isinstance(path, Iterable) and not isinstance(path, str)
        self.paths = [str(each) for each in path] if several else [str(path)]
        self.field = field

    def documents(self) -> Iterator[str]:
        documents = (text for path in self.files() for text in readers.read(path, self.field))
        first = next(documents, None)
        if first is None:
            raise RequestError(f"data.path={self._named}: holds no text, only blank documents")
        yield first
        yield from documents

    def rows(self, fields: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Where each row stands, and its values by the keys of `fields`, which say what columns hold them."""
        for path in self.files():
            yield from readers.rows(path, fields)

    def grouped(self, by: str) -> Iterator[tuple[str, str]]:
        """The value of the field `by`, and the document, of each row."""
        return grouped(self, self.field, by)

    def fingerprint(self) -> str:
        files = tuple((readers.kind(path), content_digest(path)) for path in self.files())
        return digest("Files", self.field, files)

    def files(self) -> list[Path]:
        """The files that are read, in their order: as listed, and sorted within a folder or glob."""
        files = [file for path in self.paths for file in self._expand(path)]
        if not files:
            raise RequestError(f"data.path={self._named}: no files there")
        return files

    @property
    def _named(self) -> str:
        return ",".join(self.paths)

    @staticmethod
    def _expand(path: str) -> list[Path]:
        place = Path(path).expanduser()
        try:
            if place.is_dir():
                files = [file for file in place.rglob("*") if readers.readable(file) and file.is_file()]
            elif place.exists():
                if place.is_file() and not place.stat().st_size:
                    raise RequestError(f"data.path={path}: the file is empty")
                return [place]
            else:
                files = [Path(file) for file in glob.glob(str(place), recursive=True) if Path(file).is_file()]
        except OSError as error:
            raise RequestError(f"data.path={path}: can't be read ({error.strerror or error})") from error
        if not files:
            reason = "no text, JSON, CSV or Parquet file in that folder" if place.is_dir() else "no such file"
            raise RequestError(f"data.path={path}: {reason} (a relative path counts from {Path.cwd()})")
        return sorted(files)


def _named_content(file: str) -> str:
    """What stands for a dataset file's content: a local one's digest; on the Hub its name has the commit."""
    return content_digest(Path(file)) if Path(file).is_file() else str(file)


class HuggingFace:
    """A dataset of the Hugging Face Hub or of its local builders (`json`, ...), or a `save_to_disk` folder.

    Code that comes with a dataset is never run.

    Args:
        name: as for `datasets.load_dataset`, or a folder that `save_to_disk` made.
        config: the dataset's configuration, if it has several.
        split: the dataset's own split that is read; the lab splits it by document into training and
            validation.
        field: which column holds the text.
        streaming: read while downloading, and keep no copy but the tokens and texts of the lab's cache.
        data_files: as for `load_dataset`.
        revision: a branch, tag or commit of the dataset.
        max_documents: read so many documents at most.
        key: of the configuration that says `split`, for messages.
        begins: a regular expression; where a row matches, a document begins, and the rows that follow belong
            to it. By default each row is a document.

    Raises:
        RequestError: by `documents` and `fingerprint`, where the dataset, its split or field is not there, or
            the Hub is out of reach.
    """

    def __init__(
        self,
        name: str | None,
        config: str | None = None,
        split: str = "train",
        field: str = "text",
        streaming: bool = False,
        data_files: str | list[str] | None = None,
        revision: str | None = None,
        max_documents: int | None = None,
        begins: str | None = None,
        key: str = "data.split",
    ) -> None:
        if not name:
            raise RequestError("data.name: needs a dataset, for example data.name=roneneldan/TinyStories")
        if max_documents is not None and max_documents < 1:
            raise RequestError(f"data.max_documents={max_documents}: needs 1 or more, or null for all")
        try:
            self.begins = None if begins is None else re.compile(begins)
        except re.error as error:
            raise RequestError(f"data.begins={begins!r}: not a regular expression ({error})") from error
        self.name, self.config, self.split, self.field = name, config, split, field
        self.streaming, self.revision, self.max_documents, self.key = streaming, revision, max_documents, key
        self.data_files = data_files if data_files is None or isinstance(data_files, str) else list(data_files)

    def documents(self) -> Iterator[str]:
        """Raises `ConnectionError` when reading breaks off: what came until then holds."""
        dataset = self._load()
        if dataset.column_names is not None:
            readers.check_field(self.field, dataset.column_names, self.name)
            dataset = dataset.select_columns([self.field])
        rows = self._rows(dataset)
        documents = rows if self.begins is None else self._joined(rows, self.begins)
        yield from itertools.islice((text for text in documents if text.strip()), self.max_documents)

    def rows(self, fields: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Where each row stands, and its values by the keys of `fields`, which say what columns hold them.

        Numbers of a column of class labels become the labels' names. Raises as `documents` does.
        """
        dataset = self._load()
        labels = {}
        if dataset.column_names is not None:
            columns = dict.fromkeys(readers.column(field, dataset.column_names) for field in fields.values())
            for key, field in fields.items():
                readers.check_field(readers.column(field, dataset.column_names), dataset.column_names, self.name, key)
            dataset = dataset.select_columns(list(columns))
            features = dataset.features or {}
            labels = {key: features[field] for key, field in fields.items() if hasattr(features.get(field), "int2str")}
        try:
            for number, row in enumerate(itertools.islice(dataset, self.max_documents), 1):
                place = f"{self.name}, row {number}"
                values = {key: readers.pick(row, field, place, key) for key, field in fields.items()}
                yield place, values | {key: _named(label, values[key]) for key, label in labels.items()}
        except OSError as error:
            raise ConnectionError(f"data.name={self.name}: reading broke off ({error})") from error

    def grouped(self, by: str) -> Iterator[tuple[str, str]]:
        """The value of the field `by`, and the document, of each row.

        Raises:
            RequestError: as `rows`, and where `begins` joins rows to documents.
        """
        if self.begins is not None:
            raise RequestError(f"split.by={by}: goes with a document a row; data.begins joins rows")
        return grouped(self, self.field, by)

    def fingerprint(self) -> str:
        begins = self.begins and self.begins.pattern
        reading = (self.split, self.field, self.max_documents, begins)
        if self._on_disk():
            tables = sorted(Path(self.name).rglob("*.arrow"))
            return digest("HuggingFace", reading, tuple(content_digest(table) for table in tables))
        builder = self._call("load_dataset_builder")
        listed = (builder.config.data_files or {}).items()
        files = tuple((key, tuple(map(_named_content, found))) for key, found in listed)
        return digest("HuggingFace", reading, self.name, builder.config.name, builder.hash, files)

    def _rows(self, dataset) -> Iterator[str]:
        try:
            for number, row in enumerate(dataset, 1):
                readers.check_field(self.field, list(row), self.name)
                yield readers.check_text(row[self.field], self.field, f"{self.name}, row {number}")
        except OSError as error:
            raise ConnectionError(f"data.name={self.name}: reading broke off ({error})") from error

    @staticmethod
    def _joined(rows: Iterator[str], begins: re.Pattern[str]) -> Iterator[str]:
        document: list[str] = []
        for row in rows:
            if begins.search(row) and document:
                yield "".join(document)
                document = []
            document.append(row)
        yield "".join(document)

    def _on_disk(self) -> bool:
        return any(Path(self.name, mark).is_file() for mark in ("state.json", "dataset_dict.json"))

    def _load(self):
        if not self._on_disk():
            return self._call("load_dataset", split=self.split, streaming=self.streaming)
        from datasets import DatasetDict, load_from_disk

        dataset = load_from_disk(self.name)
        if not isinstance(dataset, DatasetDict):
            return dataset
        if self.split not in dataset:
            raise RequestError(f"{self.key}={self.split!r}: {self.name} has {', '.join(dataset)}")
        return dataset[self.split]

    def _call(self, function: str, **arguments):
        import datasets
        from huggingface_hub.utils import logging

        logging.set_verbosity_error()  # of retries: the error below says it once
        try:
            return getattr(datasets, function)(
                self.name, self.config, data_files=self.data_files, revision=self.revision, **arguments
            )
        except Exception as error:  # the Hub's client, its HTTP library and the builders share no base
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            wanted = f"data.name={self.name}" + (f" data.config={self.config}" if self.config else "")
            raise RequestError(f"{wanted}: the dataset can't be loaded ({reason})") from error


class HasRows(Protocol):
    """A source of rows with named fields."""

    def rows(self, fields: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Where each row stands, and its values by the keys of `fields`."""


def _named(label: Any, number: int | None) -> str | None:
    """A label's name; none where a row has none, which datasets write as -1."""
    return None if number is None or number < 0 else label.int2str(number)


def grouped(source: HasRows, field: str, by: str) -> Iterator[tuple[str, str]]:
    """The value of the field `by`, and the text in `field`, of each row that is not blank."""
    for place, row in source.rows({"data.field": field, "split.by": by}):
        text = readers.check_text(row["data.field"], field, place)
        if text.strip():
            yield readers.check_group(row["split.by"], by, place), text
