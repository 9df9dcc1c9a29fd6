"""The split: which documents or examples are held out, decided by what they say and never by where they stand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.data.examples import ExampleData
from lab.errors import RequestError


@dataclass(frozen=True)
class Split:
    """Which documents are held out.

    Args:
        validation: the share of documents held out, by a hash of their text (of an example, its first text): adding
            or reordering documents moves none of the others to the other part, and equal documents are always in the
            same.
        max_bytes: the held-out documents that are validated are a sample with this many bytes of UTF-8 at
            most: those with the lowest hashes, so a fair draw whatever the corpus begins with. The rest is
            left out. None: all.
        by: the field whose value is a row's group, held out as a whole: `book`, so that no verse is learnt beside a
            neighbour that quotes it. The share then counts groups, by a hash of their name.
        holdout: the groups that are held out, in place of a share.

    Raises:
        RequestError: a value out of range, or groups without the field that names them.
    """

    validation: float = 0.05
    max_bytes: int | None = None
    by: str | None = None
    holdout: Sequence[str] | str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1:
            raise RequestError(f"split.validation={self.validation}: needs a share between 0 and 1, for example 0.05")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise RequestError(f"split.max_bytes={self.max_bytes}: needs 1 or more, or null for all")
        if self.by is not None and (not isinstance(self.by, str) or not self.by):
            raise RequestError(f"split.by={self.by}: needs the name of a field, for example split.by=book")
        if self.holdout is None:
            return
        groups = [self.holdout] if isinstance(self.holdout, str | int | float) else list(self.holdout)
        if self.by is None or not groups:
            raise RequestError(
                f"split.holdout={','.join(map(str, groups))}: names groups of a field: "
                "split.by=book split.holdout=[Ruth,Jonah]"
            )
        object.__setattr__(self, "holdout", tuple(sorted({str(group) for group in groups})))

    @property
    def choice(self) -> tuple:
        """What decides which part a document is in."""
        return (self.validation,) if self.by is None else (self.validation, self.by, self.holdout)

    def check(self, corpus: object) -> None:
        """Raises `RequestError` where `by` is asked of data that has no rows with fields."""
        if self.by is not None and not (hasattr(corpus, "grouped") or isinstance(corpus, ExampleData)):
            raise RequestError(f"split.by={self.by}: this data has no rows with fields; data=files has, for one")

    def parted(self, corpus: Any) -> Iterator[tuple[np.ndarray, bool]]:
        """Each document's UTF-8 bytes, `[bytes]` uint8, and whether it is held out.

        Raises:
            RequestError: when all are read, a group of `holdout` that no row is of.
        """
        seen: set[str] = set()
        for decisive, group, document in self._read(corpus):
            if group is not None:
                seen.add(group)
            yield encoded(document), self._holds(decisive, group)
        missing = [group for group in self.holdout or () if group not in seen]
        if missing:
            there = ", ".join(sorted(seen)[:100]) or "none"
            raise RequestError(f"split.holdout: {', '.join(missing)}: no row has that {self.by}; there are {there}")

    def _read(self, corpus: Any) -> Iterator[tuple[str, str | None, str]]:
        """What decides, the group, and the document as it is stored."""
        if isinstance(corpus, ExampleData):
            for example in corpus.examples(self.by):
                yield corpus.decisive(example), example.group, example.to_json()
        elif self.by is None:
            for text in corpus.documents():
                yield text, None, text
        else:
            for group, text in corpus.grouped(self.by):
                yield text, group, text

    def _holds(self, decisive: str, group: str | None) -> bool:
        if self.holdout is not None:
            return group in self.holdout
        return drawn(encoded(decisive if self.by is None else str(group))) < self.validation


def encoded(text: str) -> np.ndarray:
    """A text's UTF-8, `[bytes]` uint8."""
    return np.frombuffer(text.encode("utf-8"), np.uint8)


def drawn(document: np.ndarray) -> float:
    """A number from 0 up to 1 that depends on the document's UTF-8 bytes alone, `[bytes]` uint8."""
    return int.from_bytes(hashlib.blake2b(document.tobytes(), digest_size=8).digest()) / 2**64
