"""Weights in safetensors files: found in a folder, in one file or in shards, and written tensor by tensor.

Files are mapped into memory and each tensor is read when its turn comes, so that copying takes the memory of one tensor.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lab.errors import RequestError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.bin.index.json")
TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Kinds of numbers that are read, by their names in a file."""

CHUNK = 2**20
"""Bytes that are copied at a time: few enough to stay in the processor's cache between reading and writing."""


@dataclass(frozen=True)
class Span:
    """Bytes of a file, to be copied as they are.

    Attributes:
        path, start, length: the file, and which of its bytes.
    """

    path: Path
    start: int
    length: int

    def copy(self, into: Any) -> None:
        """Write them to a file without a buffer, a megabyte at a time."""
        piece = memoryview(bytearray(min(CHUNK, self.length)))
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.start)
            left = self.length
            while left:
                count = file.readinto(piece[:left])
                if not count:
                    raise RequestError(f"{self.path}: truncated while it was read")
                _all(into, piece[:count])
                left -= count


class Tensors:
    """The tensors of a folder, by name. Use it in a `with`.

    Args:
        folder: with `model.safetensors`, or shards and their index.

    Attributes:
        shapes: of each tensor.
        dtypes: the kind of number of each, as `F32`.

    Raises:
        RequestError: no weights, pickles instead, a damaged file or index, a file that is outside of the folder or missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        self._opened: dict[str, Any] = {}
        self._spans: dict[Path, tuple[dict[str, list[int]], int]] = {}
        self._closing = ExitStack()
        listed = None if (folder / SINGLE).is_file() else _index(folder)
        try:
            for file in [SINGLE] if listed is None else sorted(set(listed.values())):
                self._open(file)
        except BaseException:
            self._closing.close()
            raise
        if listed is not None and self.files != listed:
            strange = sorted(listed.items() ^ self.files.items())[0]
            raise RequestError(
                f"{folder / INDEX}: says otherwise of {strange[0]} than {strange[1]}, which holds the weights"
            )

    def _open(self, file: str) -> None:
        path = self.folder / file
        if not path.is_file():
            raise RequestError(f"{path}: is missing, and {INDEX} names it")
        try:
            opened = self._closing.enter_context(safe_open(path, framework="pt"))
            for name in opened.keys():  # noqa: SIM118, not a mapping
                piece = opened.get_slice(name)
                self.files[name], self.dtypes[name] = file, piece.get_dtype()
                self.shapes[name] = tuple(piece.get_shape())
        except (SafetensorError, OSError) as error:
            raise RequestError(f"{path}: truncated or damaged ({error})") from None
        self._opened[file] = opened

    def span(self, name: str) -> Span:
        """Where a tensor's bytes lie."""
        path = self.folder / self.files[name]
        if path not in self._spans:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
            self._spans[path] = {n: f["data_offsets"] for n, f in header.items() if n != "__metadata__"}, 8 + length
        offsets, begin = self._spans[path]
        start, stop = offsets[name]
        return Span(path, begin + start, stop - start)

    def __enter__(self) -> Tensors:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def __getitem__(self, name: str) -> Tensor:
        return self._opened[self.files[name]].get_tensor(name)

    def bytes(self) -> int:
        """What all tensors take."""
        return sum(_size(self.shapes[name], self.dtypes[name]) for name in self.files)


def _index(folder: Path) -> dict[str, str]:
    """The shard of each tensor.

    Raises:
        RequestError: there is none, it is damaged, or names a file elsewhere.
    """
    path = folder / INDEX
    if not path.is_file():
        pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
        if pickles:
            raise RequestError(
                f"{folder / pickles[0]}: a pickle, which can run code when it is read; convert it where you trust it: "
                "CLASS.from_pretrained(FOLDER).save_pretrained(NEW), with the CLASS of transformers that config.json names"
            )
        raise RequestError(f"{folder}: has no weights; expected {SINGLE}, or shards with {INDEX}")
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(listed, dict) or not all(isinstance(file, str) for file in listed.values()):
            raise ValueError("weight_map is not an object of names")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path}: damaged ({error})") from None
    for name, file in listed.items():
        if Path(file).name != file or "\\" in file or file in ("", ".", ".."):
            raise RequestError(f"{path}: {name} is in {json.dumps(file)}; shards are files in the folder itself")
    return listed


@dataclass(frozen=True)
class Piece:
    """A tensor that is about to be written.

    Attributes:
        name, shape: its own.
        dtype: as `F32`.
        parts: gives it in parts, one after the other along the first dimension.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    parts: Callable[[], Iterable[Tensor | Span]]

    @property
    def bytes(self) -> int:
        """What it takes."""
        return _size(self.shape, self.dtype)


def write(path: Path, pieces: Sequence[Piece]) -> None:
    """Write a safetensors file, a part of a tensor at a time, in the order and with the header of the library's own."""
    pieces = sorted(pieces, key=lambda piece: (-TYPES[piece.dtype].itemsize, piece.dtype, piece.name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for piece in pieces:
        offsets = [at, at + piece.bytes]
        header[piece.name] = {"dtype": piece.dtype, "shape": list(piece.shape), "data_offsets": offsets}
        at += piece.bytes
    words = json.dumps(header, separators=(",", ":")).encode()
    words += b" " * (-len(words) % 8)
    with path.open("wb", buffering=0) as file:
        _all(file, len(words).to_bytes(8, "little") + words)
        for piece in pieces:
            for part in piece.parts():
                if isinstance(part, Span):
                    part.copy(file)
                    continue
                _all(file, part.contiguous().view(-1).view(torch.uint8).numpy().data)
        os.fsync(file.fileno())


def _all(file: Any, data: bytes | memoryview) -> None:
    """One call writes no more than 2 GB."""
    view = memoryview(data)
    while len(view):
        view = view[file.write(view) :]


def write_shards(folder: Path, pieces: Sequence[Piece], most: int) -> list[str]:
    """Write `model.safetensors`, or shards of at most so many bytes (or one tensor) and their index; gives the files' names."""
    shards: list[list[Piece]] = [[]]
    for piece in pieces:
        if shards[-1] and sum(other.bytes for other in shards[-1]) + piece.bytes > most:
            shards.append([])
        shards[-1].append(piece)
    if len(shards) == 1:
        write(folder / SINGLE, pieces)
        return [SINGLE]
    listed: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write(folder / file, shard)
        listed |= {piece.name: file for piece in shard}
    total = {"total_size": sum(piece.bytes for piece in pieces)}
    index = {"metadata": total, "weight_map": dict(sorted(listed.items()))}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return sorted(set(listed.values()))


def _size(shape: Sequence[int], dtype: str) -> int:
    return torch.Size(shape).numel() * TYPES[dtype].itemsize


def unlike(shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """What is wrong with tensors: those missing, those that nobody expected, and those of another shape."""
    for name in sorted(expected.keys() - shapes.keys()):
        yield f"{name} is missing"
    for name in sorted(shapes.keys() - expected.keys()):
        yield f"{name} belongs to no part of the model"
    for name in expected.keys() & shapes.keys():
        if shapes[name] != expected[name]:
            yield f"{name} is {list(shapes[name])}, and config.json makes it {list(expected[name])}"
