"""Documents on disk: two parts, training and validation, each a flat file of items and a file of offsets.

`Writer` appends in batches and survives a kill: what the last `commit` recorded is kept, and writing goes on
from there. `publish` ends it; only then does the folder have a `meta.json`, and only then does `open_meta`
take it for whole.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from lab.atomic import write_atomically
from lab.errors import RequestError

PARTS = ("train", "validation")
META = "meta.json"
STATE = "state.json"
BLOCK = 2**20  # bytes in a block of a checksum
BLOCKS = 64  # blocks that a checksum reads of a file


@dataclass(frozen=True, eq=False)
class Documents:
    """The documents of one part, memory-mapped and read-only.

    Attributes:
        items: `[items]`, all documents, one after the other.
        offsets: `[documents + 1]` int64, where in `items` each document begins, and the end.
    """

    items: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.items[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))


def open_documents(folder: Path, part: str, dtype: np.dtype) -> Documents:
    """The documents of a published folder."""
    return Documents(_mapped(folder / f"{part}.bin", dtype), _mapped(folder / f"{part}.offsets", np.dtype(np.int64)))


def _mapped(path: Path, dtype: np.dtype) -> np.ndarray:
    # A plain array over the mapped memory: indexing np.memmap itself costs several times as much.
    return np.asarray(np.memmap(path, dtype, mode="r")) if path.stat().st_size else np.zeros(0, dtype)


class Writer:
    """Appends documents to the two parts of a folder, from where an earlier, killed writer stopped.

    Args:
        folder: where; it is there.
        dtype: of the items.

    Attributes:
        written: for each part how many documents and items are written.
    """

    def __init__(self, folder: Path, dtype: np.dtype) -> None:
        self.folder, self.dtype = folder, dtype
        self.written = self._resumed()
        self._items: dict[str, IO[bytes]] = {}
        self._offsets: dict[str, IO[bytes]] = {}
        for part, (documents, items) in self.written.items():
            self._items[part] = _cut(folder / f"{part}.bin", items * dtype.itemsize)
            self._offsets[part] = _cut(folder / f"{part}.offsets", documents * 8 + 8)
            if documents == 0:  # the offset of the first document
                self._offsets[part].seek(0)
                self._offsets[part].write(bytes(8))

    def _resumed(self) -> dict[str, list[int]]:
        """What an earlier writer recorded, if its files still hold that much; else nothing."""
        try:
            state = json.loads((self.folder / STATE).read_text())
            for part, (documents, items) in state.items():
                _check_size(self.folder / f"{part}.bin", items * self.dtype.itemsize)
                _check_size(self.folder / f"{part}.offsets", documents * 8 + 8)
            return {part: state[part] for part in PARTS}
        except (FileNotFoundError, ValueError, TypeError, AttributeError, KeyError):
            return {part: [0, 0] for part in PARTS}

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (*self._items.values(), *self._offsets.values()):
            file.close()

    def append(self, part: str, documents: Sequence[np.ndarray]) -> None:
        """Writes documents, each `[items]`, at the end of a part."""
        if not documents:
            return
        count, items = self.written[part]
        ends = items + np.cumsum([len(document) for document in documents], dtype=np.int64)
        self._items[part].write(np.concatenate(documents).astype(self.dtype, copy=False).tobytes())
        self._offsets[part].write(ends.tobytes())
        self.written[part] = [count + len(documents), int(ends[-1])]

    def commit(self) -> None:
        """From here on a kill loses nothing of what was appended."""
        for file in (*self._items.values(), *self._offsets.values()):
            file.flush()
        write_atomically(self.folder / STATE, json.dumps(self.written))

    def publish(self, facts: dict[str, object], others: Sequence[str] = ()) -> None:
        """Declares the folder whole: `meta.json` gets `facts` and what checks the parts and `others`."""
        self.commit()
        for file in (*self._items.values(), *self._offsets.values()):
            os.fsync(file.fileno())
        names = [f"{part}.{suffix}" for part in PARTS for suffix in ("bin", "offsets")] + list(others)
        files = {name: [(self.folder / name).stat().st_size, checksum(self.folder / name)] for name in names}
        meta = facts | {"files": files}
        write_atomically(self.folder / META, json.dumps(meta | {"checksum": _meta_checksum(meta)}, indent=1))
        (self.folder / STATE).unlink()


def _cut(path: Path, size: int) -> IO[bytes]:
    """The file cut to `size` bytes, open at its end; made if it isn't there."""
    file = path.open("r+b" if path.exists() else "w+b")
    file.truncate(size)
    file.seek(size)
    return file


def _check_size(path: Path, size: int) -> None:
    if path.stat().st_size < size:
        raise ValueError(f"{path} holds less than was recorded")


def checksum(path: Path) -> int:
    """CRC-32 of a file up to 64 MiB; of a longer one, of 64 blocks of 1 MiB from its beginning to its end.

    So a damaged file is found in a blink whatever its size; a flipped bit between the blocks of a huge one is
    not.
    """
    size = path.stat().st_size
    count = min(BLOCKS, -(-size // BLOCK))
    last = max(size - BLOCK, 0)
    value = 0
    with path.open("rb") as file:
        for block in range(count):
            file.seek(block * BLOCK if size <= BLOCK * BLOCKS else last * block // (BLOCKS - 1))
            value = zlib.crc32(file.read(BLOCK), value)
    return value


def _meta_checksum(meta: dict) -> int:
    return zlib.crc32(json.dumps(meta, sort_keys=True).encode())


def open_meta(folder: Path) -> dict | None:
    """The facts of a published folder, after its files are checked; None for one that isn't published.

    Raises:
        RequestError: a file is missing, or has another size or checksum than when it was written.
    """
    path = folder / META
    try:
        meta = json.loads(path.read_text())
        written = meta.pop("checksum")
        files = meta["files"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise damaged(folder, f"{META} can't be read: {error}") from error
    if written != _meta_checksum(meta):
        raise damaged(folder, f"{META} is not what was written")
    for name, (size, value) in files.items():
        file = folder / name
        if not file.is_file():
            raise damaged(folder, f"{name} is missing")
        if file.stat().st_size != size:
            raise damaged(folder, f"{name} has {file.stat().st_size:,} bytes, {size:,} were written")
        if checksum(file) != value:
            raise damaged(folder, f"{name} is not what was written")
    return meta


def damaged(folder: Path, what: str) -> RequestError:
    """The error to raise for a folder of the cache that is not as it was written."""
    return RequestError(f"{folder}: the cache is damaged ({what}); delete this folder and start again")
