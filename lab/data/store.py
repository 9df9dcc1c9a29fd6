"""The store: text split into training and validation, and its tokens, made once and kept on disk.

Two layers of folders in the cache, each named by a fingerprint of all that shaped it:

    texts/…    the documents of a corpus, in UTF-8, split by a hash of each document's text
    tokens/…   a tokenizer trained on the training documents alone, and the tokens of both parts

So tokenizers that are compared read the very same text, which is downloaded and parsed once. A folder is
built under a lock, resumed after a kill, and counts as there only when its `meta.json`, written last, is.
Folders may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

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

from lab.data.corpora import Corpus, digest
from lab.data.disk import META, PARTS, Documents, Writer, damaged, open_documents, open_meta
from lab.data.tokenizers import FILE, Recipe, Tokenizer
from lab.errors import RequestError

FORMAT = 1  # of the folders; a change makes new ones
BATCH_BYTES = 4 * 2**20  # of text between two commits
TRAINING_BYTES = 100 * 10**6  # of text that a tokenizer is trained on, at most


@dataclass(frozen=True)
class Split:
    """Which documents are held out.

    Args:
        validation: the share of documents held out, by a hash of their text: adding or reordering documents
            moves none of the others to the other part, and equal documents are always in the same.
        max_bytes: the held-out documents that are validated are a sample with this many bytes of UTF-8 at
            most: those with the lowest hashes, so a fair draw whatever the corpus begins with. The rest is
                left out. None: all.

    Raises:
        RequestError: a value out of range.
    """

    validation: float = 0.05
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1:
            raise RequestError(f"split.validation={self.validation}: needs a share between 0 and 1, for example 0.05")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise RequestError(f"split.max_bytes={self.max_bytes}: needs 1 or more, or null for all")


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of one part, memory-mapped and read-only.

    Attributes:
        ids: `[tokens]` uint16 or uint32; each document is the document token followed by its tokens.
        offsets: `[documents + 1]` int64, where in `ids` each document begins, and the end.
        document_id: the document token.
    """

    ids: np.ndarray
    offsets: np.ndarray
    document_id: int


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
        facts: for each part its `documents`, `bytes` and `tokens`.
    """

    train: Tokens
    validation: Tokens
    tokenizer: Tokenizer
    data_fingerprint: str
    validation_bytes: int
    lost_share: float
    folder: Path
    facts: dict[str, dict[str, int]] = field(default_factory=dict)


_prepared: dict[Path, Prepared] = {}


def prepare(
    corpus: Corpus,
    recipe: Recipe,
    split: Split | Mapping,
    cache: str | os.PathLike | None = None,
    progress: bool = True,
) -> Prepared:
    """The tokens of a corpus: from this process, from the cache, or made now.

    Args:
        corpus: where documents come from.
        recipe: how to make the tokenizer. It is trained on 100 MB of the training documents at most: those
            with the lowest hashes.
        split: which documents are held out; a mapping with `validation` and `max_bytes` will do.
        cache: a folder; by default that of the variable LAB_CACHE, else `lab` in $XDG_CACHE_HOME or ~/.cache.
        progress: show what takes long, on standard error.

    Raises:
        RequestError: the corpus can't be read or split, or the cache is damaged or can't be written.
    """
    if isinstance(split, Mapping):
        split = Split(split["validation"], split["max_bytes"])
    home = cache_folder(cache)
    text_print = digest(FORMAT, corpus.fingerprint(), split.validation)
    data_print = digest(text_print, split.max_bytes)
    folder = home / "tokens" / digest(data_print, recipe.fingerprint())
    if folder not in _prepared:
        show = Console(stderr=True, quiet=not progress)

        def texts() -> Path:
            return _ready(home / "texts" / text_print, lambda at: _build_texts(at, corpus, split, show), show)

        _ready(folder, lambda at: _build_tokens(at, texts(), recipe, split, show), show)
        _prepared[folder] = _open(folder, data_print)
        made = _prepared[folder].tokenizer.vocab_size
        if made < recipe.vocab_size and not recipe.open_ended:
            warnings.warn(
                f"tokenizer.vocab_size={recipe.vocab_size}: the training text yields {made} tokens only",
                stacklevel=2,
            )
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
        parts[part] = Tokens(documents.items, documents.offsets, tokenizer.document_id)
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


def _build_texts(folder: Path, corpus: Corpus, split: Split, show: Console) -> None:
    """Reads the corpus once; every document goes into one of the two parts."""
    with Writer(folder, np.dtype(np.uint8)) as writer:
        done = sum(documents for documents, _ in writer.written.values())
        encoded = (_encoded(text) for text in islice(corpus.documents(), done, None))
        for batch in _batched(_shown(encoded, "Reading documents", show, done)):
            for part in PARTS:
                held = part == "validation"
                writer.append(part, [document for document in batch if held == (drawn(document) < split.validation)])
            writer.commit()
        _check_split(writer, folder, split)
        writer.publish({})


def _encoded(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-8"), np.uint8)


def drawn(document: np.ndarray) -> float:
    """A number from 0 up to 1 that depends on the document's UTF-8 bytes alone, `[bytes]` uint8."""
    return int.from_bytes(hashlib.blake2b(document.tobytes(), digest_size=8).digest()) / 2**64


def _check_split(writer: Writer, folder: Path, split: Split) -> None:
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
    draws = sorted(drawn(document) for document in open_documents(folder, full, np.dtype(np.uint8)))
    best = (draws[0] + draws[1]) / 2 if part == "validation" else (draws[-1] + draws[-2]) / 2
    raise RequestError(
        f"split.validation={split.validation}: none of the {total} documents is for {part}; "
        f"give more documents, or take for example split.validation={best:.3g}"
    )


def _build_tokens(folder: Path, texts: Path, recipe: Recipe, split: Split, show: Console) -> None:
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
    if not (folder / FILE).exists():
        with show.status("Training the tokenizer"):
            recipe.train(text(train[i]) for i in sample(train, TRAINING_BYTES)).save(folder)
    tokenizer = Tokenizer.load(folder)
    with Writer(folder, tokenizer.dtype) as writer:
        facts = {}
        for part, documents, chosen in (
            ("train", train, np.arange(len(train))),
            ("validation", held, sampled),
        ):
            done = writer.written[part][0]
            read = _shown((documents[i] for i in chosen[done:]), f"Encoding, {part}", show, done, len(chosen))
            for batch in _batched(read):
                writer.append(part, _tokens(tokenizer, [text(document) for document in batch]))
                writer.commit()
            count, tokens = writer.written[part]
            size = int(np.diff(documents.offsets)[chosen].sum())
            facts[part] = {"documents": count, "bytes": size, "tokens": tokens}
        validated = _batched(held[i] for i in sampled)
        lost = sum(tokenizer.lost_bytes([text(document) for document in batch]) for batch in validated)
        writer.publish({"facts": facts, "lost_bytes": lost}, others=[FILE])


def text(document: np.ndarray) -> str:
    """The text of a document's UTF-8 bytes, `[bytes]` uint8."""
    return document.tobytes().decode("utf-8")


def sample(documents: Documents, limit: int | None) -> np.ndarray:
    """Numbers, ascending, of the documents with the lowest draws that have `limit` bytes together at most."""
    sizes = np.diff(documents.offsets)
    if limit is None or sizes.sum() <= limit:
        return np.arange(len(documents))
    order = np.argsort([drawn(document) for document in documents], kind="stable")
    return np.sort(order[: np.searchsorted(np.cumsum(sizes[order]), limit, side="right")])


def _tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """For each text the document token followed by its tokens."""
    first = np.array([tokenizer.document_id], tokenizer.dtype)
    encoded = tokenizer.encode(texts)
    if any((tokens == tokenizer.document_id).any() for tokens in encoded):
        raise RequestError("tokenizer: takes a text for the document token, so documents would not be told apart")
    return [np.concatenate((first, tokens)) for tokens in encoded]


def _batched(documents: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    batch: list[np.ndarray] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _shown(
    documents: Iterable[np.ndarray], what: str, show: Console, done: int, total: int | None = None
) -> Iterator[np.ndarray]:
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
