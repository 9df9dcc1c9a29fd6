"""Where workers come from: a process that has imported what a run needs, and forks.

Python's fork server. It imports while the sweep is still being planned, computes nothing and has no threads, so that its
children begin at once and safely, whatever the process that asked for them has done before.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from types import ModuleType
from typing import Any

from lab.runs.signals import handled

IMPORTED = ["lab.runs.sweep.worker", "lab.runs.trainer", "lab.runs.tracker", "wandb"]
FORKS = sys.platform == "linux"
"""Elsewhere forking is unsafe or unknown, and every worker imports for itself."""


def context() -> Any:
    """What workers are started by."""
    return multiprocessing.get_context("forkserver" if FORKS else "spawn")


def prepare() -> None:
    """Start the server, which then imports beside this process; nothing where it runs already."""
    if FORKS:
        forkserver.set_forkserver_preload(IMPORTED)
        # Ctrl-C reaches the process that a person started, which passes it on.
        with handled(signal.SIGINT, signal.SIG_IGN):
            forkserver.ensure_running()


@contextmanager
def main_hidden() -> Iterator[None]:
    """Keep multiprocessing from running the script of a user again in every process that is started here."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
