"""One of several workers on a machine: what a process of `lab.runs.sweep.workers` does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from filelock import FileLock

from lab.errors import RequestError
from lab.runs.ranks import STARTER
from lab.runs.sweep.engine import work
from lab.runs.sweep.job import Job, Planned
from lab.runs.sweep.plan import Point
from lab.runs.sweep.stop import SweepStop

LOG, LOCK = "worker-{}.log", ".worker-{}.lock"
READY, BEGIN, OBSERVE, END, REFUSED = "ready", "begin", "observe", "end", "refused"
"""What a worker tells: that it hears signals, of each run, and why it could not go on."""


class Teller:
    """Passes on how it goes."""

    def __init__(self, out: Connection) -> None:
        self.out = out

    def say(self, event: str, what: Any = None) -> None:
        """One event; nothing where nobody listens any more, which the worker notices by itself."""
        with suppress(BrokenPipeError):
            self.out.send((event, what))

    def begin(self, run: Planned) -> None:
        """A run starts."""
        trial = run.trial
        parameters = {name: value for name, value in trial.parameters.items() if name != "seed"}
        self.say(BEGIN, Point(trial.configuration, parameters, (trial.seed,)))

    def observe(self, run: Planned, row: Mapping[str, Any]) -> None:
        """A measurement of it."""
        self.say(OBSERVE, {"progress": row["progress"]})

    def end(self, run: Planned, result: Mapping[str, Any]) -> None:
        """It ended."""
        self.say(END, dict(result))


def main(called: str, job: Job, storage: str | None, environment: Mapping[str, str], out: Connection) -> None:
    """Work until nothing is left.

    Args:
        called: what its log and its lock are named by.
        job: the sweep.
        storage: of its study.
        environment: of the one who started it; the server that forked this process has an older one.
        out: where it tells how it goes.
    """
    os.setsid()  # Ctrl-C reaches the one who started it, which passes it on
    os.environ.clear()
    os.environ.update({**environment, STARTER: str(os.getppid())})
    with (job.folder / LOG.format(called)).open("ab") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    teller = Teller(out)
    try:
        with FileLock(job.folder / LOCK.format(called)), SweepStop(quiet=True) as stop:
            teller.say(READY)
            work(job, job.open_queue(storage), stop, teller)
    except RequestError as error:
        teller.say(REFUSED, str(error))
