"""One of several workers on a machine: `python -m lab.runs.sweep.worker`, as `lab.runs.sweep.workers` starts it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock

from lab.errors import RequestError
from lab.runs.folder import finite
from lab.runs.sweep.driver import SWEEP, open_queue
from lab.runs.sweep.engine import work
from lab.runs.sweep.file import read_sweep
from lab.runs.sweep.job import Job, Planned
from lab.runs.sweep.plan import Plan
from lab.runs.sweep.stop import SweepStop
from lab.runs.sweep.workers import LOCK


class Teller:
    """Passes on how it goes."""

    def __init__(self, out: TextIO) -> None:
        self.out = out

    def say(self, event: str, **what: Any) -> None:
        """One event."""
        print(json.dumps(finite({"event": event, **what})), file=self.out, flush=True)

    def _run(self, event: str, run: Planned, **what: Any) -> None:
        trial = run.trial
        parameters = {name: value for name, value in trial.parameters.items() if name != "seed"}
        self.say(event, point=trial.configuration, parameters=parameters, seeds=[trial.seed], seed=trial.seed, **what)

    def begin(self, run: Planned) -> None:
        """A run starts."""
        self._run("begin", run)

    def observe(self, run: Planned, row: Mapping[str, Any]) -> None:
        """A measurement of it."""
        self._run("observe", run, row={"progress": row["progress"]})

    def end(self, run: Planned, result: Mapping[str, Any]) -> None:
        """It ended."""
        self._run("end", run, result=dict(result))


def main() -> int:
    """Work until nothing is left."""
    request = json.loads(sys.stdin.readline())
    teller = Teller(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # what a library prints is no event
    folder = Path(request["folder"])
    try:
        with FileLock(folder / LOCK.format(request["number"])), SweepStop(quiet=True) as stop:
            # The file as it was when the sweep began; its name says what the study is called.
            described = replace(read_sweep(folder / SWEEP), path=Path(request["file"]))
            plan = Plan(described, request["overrides"], request["own"], request["fewer"])
            job = Job(plan, folder, request["threads"], request["prune"])
            work(job, open_queue(job, request["storage"]), stop, teller)
    except RequestError as error:
        teller.say("refused", error=str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
