"""A lab for architectures of language models: compose them from parts, train them alike, compare them with error bars.

    import lab
    run = lab.train(lab.compose("preset=tiny", "position=sinusoidal", "seed=1"))
    run.result["val/bpb"]

Nothing heavy is imported until it is used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Threads of torch spin while they wait for each other. Without a bound on that, two processes on the same cores (two runs,
# a browser) take ten times as long; sleeping at once makes a small model's step a fifth slower. A few microseconds of
# spinning do well in both cases. GNU's OpenMP reads this once, before torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

if TYPE_CHECKING:
    from lab.config import build, compose
    from lab.layout import Layout
    from lab.models.generate import generate
    from lab.models.record import record
    from lab.runs.chat import chat
    from lab.runs.classify import classify
    from lab.runs.folder import Run, load
    from lab.runs.report import report
    from lab.runs.sweep import sweep
    from lab.runs.train import train
    from lab.runs.translate import translate
    from lab.vectors import embed, similarities, word_in

_HOMES = {
    "build": "lab.config",
    "chat": "lab.runs.chat",
    "classify": "lab.runs.classify",
    "compose": "lab.config",
    "embed": "lab.vectors",
    "generate": "lab.models.generate",
    "Layout": "lab.layout",
    "Run": "lab.runs.folder",
    "load": "lab.runs.folder",
    "record": "lab.models.record",
    "report": "lab.runs.report",
    "similarities": "lab.vectors",
    "sweep": "lab.runs.sweep",
    "train": "lab.runs.train",
    "translate": "lab.runs.translate",
    "word_in": "lab.vectors",
}

__all__ = [
    "Layout", "Run", "build", "chat", "classify", "compose", "embed", "generate", "load", "record", "report", "similarities",
    "sweep", "train", "translate", "word_in",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lab' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
