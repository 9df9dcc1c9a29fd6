"""Which code a run was made by: runs of one configuration are replicates only as long as it stays the same."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lab.config import resolved, trusted
from lab.options import flatten

KEY = "code"
"""Of a result, that holds it."""


def code(config: DictConfig) -> dict[str, str]:
    """The lab's modules whose classes a configuration names, each with 8 digits that change with its file. What those call
    elsewhere is not looked into.
    """
    named = (trusted(key, value) for key, value in flatten(resolved(config)).items() if key.endswith("_target_"))
    modules = sorted({kind.__module__ for kind in named if kind.__module__.startswith("lab.")})
    return {module: _digits(str(sys.modules[module].__file__)) for module in modules}


@cache
def _digits(file: str) -> str:
    """Read once a process, which does not see later edits either."""
    return hashlib.blake2b(Path(file).read_bytes(), digest_size=4).hexdigest()


def changed(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Modules that are not the same in all results that name them."""
    met: dict[str, set[str]] = {}
    for result in results:
        held = result.get(KEY)
        for module, digits in held.items() if isinstance(held, dict) else ():
            met.setdefault(str(module), set()).add(str(digits))
    return sorted(module for module, digits in met.items() if len(digits) > 1)
