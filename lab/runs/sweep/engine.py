"""The engine of a sweep: claim a run, run it, tell what came out, until nothing is left.

Any number of workers do this on the same study, in one process, in several, on several machines.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from typing import Any, Protocol

from lab.errors import RequestError
from lab.runs import folder as files
from lab.runs.pace import Observer, Pruned
from lab.runs.sweep.job import ENDED, Job, Planned
from lab.runs.sweep.pruning import Early
from lab.runs.sweep.queue import Queue
from lab.runs.sweep.stop import SweepStop
from lab.runs.train import continue_run, train

WAIT = 0.5
"""Seconds between looks at what other workers give back."""


class Watch(Protocol):
    """Who is told how it goes."""

    def begin(self, run: Planned) -> None:
        """A run starts."""

    def observe(self, run: Planned, row: Mapping[str, Any]) -> None:
        """A measurement of it."""

    def end(self, run: Planned, result: Mapping[str, Any]) -> None:
        """It ended."""


def work(job: Job, queue: Queue, stop: SweepStop, watch: Watch) -> None:
    """Run what nobody else runs, one run after the other.

    Raises:
        RequestError: the storage is out of reach, or runs do not measure what the file asks for.
    """
    while not stop.finishing and not queue.reached():
        claim = queue.claim()
        if claim is None:
            if not queue.others_run():
                return
            time.sleep(WAIT)  # one of them may die
            continue
        with queue.kept(claim):
            if claim.seed is None:
                continue
            try:
                run = job.planned(claim.point, claim.seed)
            except RequestError as error:  # a configuration that a search chose
                queue.tell(claim, {"status": "failed", "error": str(error), "seed": claim.seed})
                continue
            watch.begin(run)
            result = run_one(run, _observer(run, watch, queue.early(claim)))
            watch.end(run, result)
            if result["status"] in ENDED:
                queue.tell(claim, result)
            job.check_measured(result)


def _observer(run: Planned, watch: Watch, early: Early | None) -> Observer:
    def observe(row: Mapping[str, Any]) -> None:
        watch.observe(run, row)
        if early is not None and early(row):
            raise Pruned

    return observe


def run_one(run: Planned, observer: Observer) -> Mapping[str, Any]:
    """Run it, or what is left of it. A request that turns out wrong is that run's failure."""
    try:
        if run.status in ENDED and run.status != "failed":  # by a worker that died before it told
            return files.read_result(run.folder) or {}
        if run.status != "failed" and (run.folder / files.CHECKPOINT).exists():
            return continue_run(run.folder, [observer]).result
        if run.folder.exists():
            shutil.rmtree(run.folder)  # killed before it left anything to continue from, or failed
        return train(run.config, run.folder, observers=[observer]).result
    except RequestError as error:
        found = files.read_result(run.folder)
        return found if found and found["status"] in ENDED else {"status": "failed", "error": str(error)}
