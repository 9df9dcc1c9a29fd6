"""The store: text split into training and validation, and its tokens, made once and kept on disk.

Two layers of folders in the cache, each named by a fingerprint of all that shaped it:

    texts/…    the documents of a corpus, in UTF-8, in two parts; of examples (pairs, labelled text), their JSON
    tokens/…   a tokenizer trained on the training documents alone, and the tokens of both parts

So tokenizers that are compared read the very same text, which is downloaded and parsed once. A folder is
built under a lock, resumed after a kill, and counts as there only when its `meta.json`, written last, is.
Folders may be deleted at any time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from lab.console import say
from lab.data.coding import DocumentCoder, ExampleCoder, text
from lab.data.corpora import Corpus, digest
from lab.data.disk import META, PARTS, Documents, Writer, damaged, open_documents, open_meta
from lab.data.examples import EXAMPLES, Example, ExampleData
from lab.data.split import Split, drawn
from lab.data.tokenizers import FILE, Recipe, Tokenizer
from lab.errors import RequestError

FORMAT = 1  # of the folders; a change makes new ones
BATCH_BYTES = 4 * 2**20  # of text between two commits
TRAINING_BYTES = 100 * 10**6  # of text that a tokenizer is trained on, at most


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of one part, memory-mapped and read-only.

    Attributes:
        ids: `[tokens]` uint16 or uint32; each document is the document token followed by its tokens. An example
            is `fields` documents, one after the other, none of which begins with the document token.
        offsets: `[documents + 1]` int64, where in `ids` each document begins, and the end.
        document_id: the document token.
        fields: documents of an example; 1 for plain text.
    """

    ids: np.ndarray
    offsets: np.ndarray
    document_id: int
    fields: int = 1

    def field(self, example: int, number: int) -> np.ndarray:
        """`[items]` int64: one field of an example, as its kind encodes it."""
        place = example * self.fields + number
        return self.ids[self.offsets[place] : self.offsets[place + 1]].astype(np.int64)

    def lengths(self, number: int = 0) -> np.ndarray:
        """`[examples]`, how many items the examples have in one field."""
        return np.diff(self.offsets)[number :: self.fields]


@dataclass(frozen=True, eq=False)
class Prepared:
    """Text ready to be trained on.

    Attributes:
        train: tokens to learn from.
        validation: tokens to validate on.
        tokenizer: trained on the training documents alone.
        data_fingerprint: of the text and its split, whatever the tokenizer: results are comparable where it
            is equal.
        validation_bytes: UTF-8 bytes of the validated documents.
        lost_share: the share of `validation_bytes` that no token stands for; 0.0 where the tokenizer loses
            nothing.
        folder: where the tokens lie.
        facts: for each part its `documents` (or examples), `bytes` and `tokens`.
        labels: of examples that have some, the labels of the training part, sorted; a label's place is its number.
    """

    train: Tokens
    validation: Tokens
    tokenizer: Tokenizer
    data_fingerprint: str
    validation_bytes: int
    lost_share: float
    folder: Path
    facts: dict[str, dict[str, int]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    @property
    def examples(self) -> list[Example]:
        """The validated examples as they were read, in their order: what references are taken from."""
        lines = (self.folder / EXAMPLES).read_text(encoding="utf-8").split("\n")
        return [Example.from_json(line) for line in lines if line]


_prepared: dict[Path, Prepared] = {}


def prepare(
    corpus: Corpus | ExampleData,
    recipe: Recipe,
    split: Split | Mapping,
    cache: str | os.PathLike | None = None,
    progress: bool = True,
) -> Prepared:
    """The tokens of a corpus: from this process, from the cache, or made now.

    Args:
        corpus: where documents or examples come from.
        recipe: how to make the tokenizer. It is trained on 100 MB of the training documents at most: those
            with the lowest hashes.
        split: which documents are held out; a mapping of its arguments will do.
        cache: a folder; by default that of the variable LAB_CACHE, else `lab` in $XDG_CACHE_HOME or ~/.cache.
        progress: show what takes long, on standard error.

    Raises:
        RequestError: the corpus can't be read or split, or the cache is damaged or can't be written.
    """
    if isinstance(split, Mapping):
        split = Split(**{str(key): value for key, value in split.items()})
    split.check(corpus)
    home = cache_folder(cache)
    text_print = digest(FORMAT, corpus.fingerprint(), *split.choice)
    data_print = digest(text_print, split.max_bytes)
    folder = home / "tokens" / digest(data_print, recipe.fingerprint())
    if folder not in _prepared:
        show = Console(stderr=True, quiet=not progress)

        def texts() -> Path:
            return _ready(home / "texts" / text_print, lambda at: _build_texts(at, corpus, split, show), show)

        _ready(folder, lambda at: _build_tokens(at, corpus, texts(), recipe, split, show), show)
        _prepared[folder] = _open(folder, data_print)
        made = _prepared[folder].tokenizer.vocab_size
        if made < recipe.vocab_size and not recipe.open_ended:
            say(f"tokenizer.vocab_size={recipe.vocab_size}: the training text yields {made} tokens only")
    return _prepared[folder]


def cache_folder(cache: str | os.PathLike | None = None) -> Path:
    """The folder named, else that of LAB_CACHE, else `lab` in $XDG_CACHE_HOME or ~/.cache."""
    chosen = cache or os.environ.get("LAB_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(chosen or Path(base, "lab")).expanduser().absolute()


def _open(folder: Path, data_print: str) -> Prepared:
    meta = open_meta(folder)
    if meta is None:
        raise damaged(folder, f"{META} is missing")
    tokenizer = Tokenizer.load(folder)
    parts = {}
    for part in PARTS:
        documents = open_documents(folder, part, tokenizer.dtype)
        parts[part] = Tokens(documents.items, documents.offsets, tokenizer.document_id, meta.get("fields", 1))
    facts = meta["facts"]
    held = facts["validation"]["bytes"]
    return Prepared(
        **parts,
        tokenizer=tokenizer,
        data_fingerprint=data_print,
        validation_bytes=held,
        lost_share=meta["lost_bytes"] / held,
        folder=folder,
        facts=facts,
        labels=tuple(meta.get("labels", ())),
    )


def _ready(folder: Path, build: Callable[[Path], None], show: Console) -> Path:
    """The folder, built if it isn't there, by one process while others wait.

    A kill leaves what was written, and the next build goes on from there. An error leaves nothing: what was
    wrong will have another fingerprint when it is mended. Only a broken connection keeps it.
    """
    try:
        if (folder / META).exists():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(folder.name + ".lock"), show):
            if not (folder / META).exists():
                _build(folder, build)
    except ConnectionError as error:
        raise RequestError(f"{error}; start again to go on from there") from error
    except OSError as error:
        raise RequestError(
            f"{folder}: can't be written ({error.strerror or error}); LAB_CACHE names another"
        ) from error
    return folder


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    try:
        folder.mkdir(exist_ok=True)
        build(folder)
    except ConnectionError:
        raise
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def _locked(path: Path, show: Console) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        show.print(f"Another process is preparing {path.stem}; waiting for it.", highlight=False)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _build_texts(folder: Path, corpus: Corpus | ExampleData, split: Split, show: Console) -> None:
    """Reads the corpus once; every document goes into one of the two parts."""
    with Writer(folder, np.dtype(np.uint8)) as writer:
        done = sum(documents for documents, _ in writer.written.values())
        parted = islice(split.parted(corpus), done, None)
        for batch in _batched(_shown(parted, "Reading documents", show, done), lambda item: len(item[0])):
            for part in PARTS:
                writer.append(part, [document for document, held in batch if held == (part == "validation")])
            writer.commit()
        _check_split(writer, folder, corpus, split)
        writer.publish({})


def _check_split(writer: Writer, folder: Path, corpus: Corpus | ExampleData, split: Split) -> None:
    counts = {part: documents for part, (documents, _) in writer.written.items()}
    if all(counts.values()):
        return
    total = sum(counts.values())
    if total < 2:
        raise RequestError(
            f"data: {total} document{'s' * (total != 1)}, and at least 2 are needed to hold one out; "
            "give more, or rows of .jsonl, .csv or .parquet, each of which is a document"
        )
    part = min(counts, key=lambda name: counts[name])
    full = max(counts, key=lambda name: counts[name])
    if isinstance(corpus, ExampleData) or split.by is not None:
        raise RequestError(
            f"split.validation={split.validation}: none of the {total} rows is for {part}; give more, or another share"
        )
    draws = sorted(drawn(document) for document in open_documents(folder, full, np.dtype(np.uint8)))
    if draws[0] == draws[-1]:
        raise RequestError(f"data: all {total} documents are the same, so that none is left for {part}; give others")
    best = (draws[0] + draws[1]) / 2 if part == "validation" else (draws[-1] + draws[-2]) / 2
    raise RequestError(
        f"split.validation={split.validation}: none of the {total} documents is for {part}; "
        f"give more documents, or take for example split.validation={best:.3g}"
    )


def _build_tokens(
    folder: Path, corpus: Corpus | ExampleData, texts: Path, recipe: Recipe, split: Split, show: Console
) -> None:
    """Trains the tokenizer, unless a killed build has, and writes the tokens of both parts."""
    if open_meta(texts) is None:
        raise damaged(texts, f"{META} is missing")
    train, held = (open_documents(texts, part, np.dtype(np.uint8)) for part in PARTS)
    sampled = sample(held, split.max_bytes)
    if not len(sampled):
        first = min(held, key=drawn)
        raise RequestError(
            f"split.max_bytes={split.max_bytes}: the first document to validate has {len(first)} bytes; "
            "allow as many, or null for all"
        )
    coder = ExampleCoder(corpus, train) if isinstance(corpus, ExampleData) else DocumentCoder()
    if not (folder / FILE).exists():
        with show.status("Training the tokenizer"):
            recipe.train(_learned(train, coder)).save(folder)
    tokenizer = Tokenizer.load(folder)
    with Writer(folder, tokenizer.dtype) as writer:
        facts = {}
        learnt = np.arange(len(train)) if coder.chosen is None else coder.chosen
        for part, documents, chosen in (("train", train, learnt), ("validation", held, sampled)):
            done = writer.written[part][0] // coder.fields
            read = _shown((documents[i] for i in chosen[done:]), f"Encoding, {part}", show, done, len(chosen))
            for batch in _batched(read):
                writer.append(part, coder.encode(tokenizer, [text(document) for document in batch]))
                writer.commit()
            count, tokens = writer.written[part]
            size = coder.size(documents, chosen)
            facts[part] = {"documents": count // coder.fields, "bytes": size, "tokens": tokens}
        validated = (
            coder.scored([text(document) for document in batch]) for batch in _batched(held[i] for i in sampled)
        )
        others = [FILE]
        if isinstance(corpus, ExampleData):
            (folder / EXAMPLES).write_bytes(b"".join(held[int(i)].tobytes() + b"\n" for i in sampled))
            others.append(EXAMPLES)
        kept = {"fields": coder.fields, "labels": coder.labels}
        lost = sum(tokenizer.lost_bytes(texts) for texts in validated)
        writer.publish({"facts": facts, "lost_bytes": lost, **kept}, others)


def sample(documents: Documents, limit: int | None) -> np.ndarray:
    """Numbers, ascending, of the documents with the lowest draws that have `limit` bytes together at most."""
    order, count = _ranked(documents, limit)
    return np.sort(order[:count])


def _ranked(documents: Documents, limit: int | None) -> tuple[np.ndarray, int]:
    """Numbers of all documents by their draws, and how many of the first have `limit` bytes together at most."""
    sizes = np.diff(documents.offsets)
    if limit is None or sizes.sum() <= limit:
        return np.arange(len(documents)), len(documents)
    order = np.argsort([drawn(document) for document in documents], kind="stable")
    return order, int(np.searchsorted(np.cumsum(sizes[order]), limit, side="right"))


def _learned(train: Documents, coder: DocumentCoder) -> Iterator[str]:
    """`TRAINING_BYTES` of text for a tokenizer: a sample of documents, and the beginning of the next."""
    order, count = _ranked(train, TRAINING_BYTES)
    left = TRAINING_BYTES
    for i in (*np.sort(order[:count]), *order[count : count + 1]):
        for part in coder.texts(text(train[i])):
            written = part.encode()
            yield part if len(written) <= left else written[: max(left, 0)].decode(errors="ignore")
            left -= len(written)


T = TypeVar("T")


def _batched(documents: Iterable[T], size: Callable[[T], int] = len) -> Iterator[list[T]]:  # type: ignore[assignment]
    batch: list[T] = []
    total = 0
    for document in documents:
        batch.append(document)
        total += size(document)
        if total >= BATCH_BYTES:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def _shown(documents: Iterable[T], what: str, show: Console, done: int, total: int | None = None) -> Iterator[T]:
    """The documents as they come, counted by a progress bar."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=show, transient=True, disable=not show.is_terminal) as bar:
        task = bar.add_task(what, total=total, completed=done)
        for document in documents:
            yield document
            bar.advance(task)
