"""A cache of its own for every test, and a corpus made of given texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from lab.data import store
from lab.data.corpora import digest


class Texts:
    """A corpus of the given texts; counts how often it is read."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        self.read = 0

    def documents(self) -> Iterator[str]:
        self.read += 1
        yield from self.texts

    def fingerprint(self) -> str:
        return digest("Texts", tuple(self.texts))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("LAB_CACHE", str(folder))
    monkeypatch.setattr(store, "_prepared", {})
    return folder


def sentences(count: int) -> list[str]:
    """So many different short documents."""
    return [f"Document {n} says that {n * n} is the square of {n}.\n" * (1 + n % 3) for n in range(count)]
