"""What every test of a run needs: a cache that is thrown away, a small corpus, a command line without a process.

Property tests try the same examples each time; `make test-long` tries new ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("new", deadline=None)
settings.load_profile("same")

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported
os.environ["WANDB_MODE"] = "offline"
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests of a device run where there is one."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@dataclass(frozen=True)
class Ended:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.out)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory) -> None:
    """One cache of prepared text for all tests, none of the user's."""
    os.environ["LAB_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """300 short documents, one a line."""
    path = tmp_path_factory.mktemp("corpus") / "numbers.jsonl"
    texts = (f"Document {n} says that {n * n} is the square of {n}. " * (1 + n % 5) for n in range(300))
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture(scope="session")
def small(corpus) -> tuple[str, ...]:
    """Overrides of a run that trains in a fraction of a second."""
    return (
        "preset=tiny",
        "data=files",
        f"data.path={corpus}",
        "tokenizer=byte",
        "model.dim=32",
        "model.context=32",
        "batch.rows=4",
        "budget.steps=3",
        "split.max_bytes=2000",
        "trainer.validations=1",
        "trainer.threads=1",
        "logger=none",
    )


@pytest.fixture
def lab(capfd, monkeypatch, tmp_path) -> Callable[..., Ended]:
    """The `lab` command in this process, in an empty folder."""
    from lab.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path | Sequence[str]) -> Ended:
        words = [str(word) for part in arguments for word in ((part,) if isinstance(part, str | Path) else part)]
        capfd.readouterr()
        code = main(words)
        return Ended(code, *capfd.readouterr())

    return run
