"""Several workers on this machine: long-lived processes that share a sweep's study, and this one, which shows how it goes.

A worker that dies takes its run with it and nothing else: the run is tried once more, by the one that takes its place.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lab.console import say
from lab.errors import RequestError
from lab.runs.sweep import worker as inside
from lab.runs.sweep.engine import Watch
from lab.runs.sweep.job import Job, Planned
from lab.runs.sweep.processes import context, main_hidden, prepare
from lab.runs.sweep.queue import Queue
from lab.runs.sweep.shares import CRASHES
from lab.runs.sweep.stop import SweepStop

LOOK = 0.2
"""Seconds between looks at whether to stop."""
PATIENCE = 60.0
"""Seconds that workers without a starter get to end their step."""


class Worker:
    """One process.

    Args:
        place: whose number it has; the one that takes its place has the same.
        job: the sweep.
        storage: of its study.
        deaths: of those before it in this place that never began a run.
    """

    def __init__(self, place: int, job: Job, storage: str | None, deaths: int = 0) -> None:
        self.place, self.deaths = place, deaths
        # In a database's sweep others may use the same folder.
        self.called = str(place) if storage is None else f"{socket.gethostname()}-{os.getpid()}-{place}"
        self.log = job.folder / inside.LOG.format(self.called)
        self.run: Planned | None = None
        self.began = self.hears = False
        self.told = 0
        self.news, out = context().Pipe(duplex=False)
        arguments = (self.called, job, storage, dict(os.environ), out)
        with main_hidden():
            self.process = context().Process(target=inside.main, args=arguments)
            self.process.start()
        out.close()

    @property
    def name(self) -> str:
        """As its claims are marked."""
        return f"{socket.gethostname()}:{self.process.pid}"

    def tell(self, wishes: int) -> None:
        """Ask it to finish, then to stop; before it hears signals the first would be lost, and it begins nothing yet."""
        for number in (signal.SIGINT, signal.SIGTERM)[self.told : wishes]:
            if self.hears and self.process.pid:
                with suppress(ProcessLookupError):  # it has ended by itself
                    os.kill(self.process.pid, number)
                self.told += 1

    def ended(self) -> str | None:
        """How it died; None where it had done its work."""
        self.process.join()
        code = self.process.exitcode or 0
        if self.log.exists() and not self.log.stat().st_size:
            self.log.unlink()
        if code == 0:
            return None
        return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def work_together(job: Job, queue: Queue, stop: SweepStop, watch: Watch, jobs: int, storage: str | None) -> None:
    """Have so many workers run what is left of a sweep.

    Raises:
        RequestError: a worker could not go on, for example because the storage is out of reach, or none could begin.
    """
    prepare()
    workers = [Worker(place, job, storage) for place in range(jobs)]
    try:
        while workers:
            for worker in workers:
                worker.tell(2 if stop.requested else int(stop.finishing))
            for worker, event, what in _heard(workers):
                if event is not None:
                    _pass_on(worker, event, what, job, watch)
                    continue
                workers.remove(worker)
                how = worker.ended()
                if how is not None:
                    _bury(worker, how, queue)
                    if not stop.finishing:
                        workers += _successor(worker, how, job, storage, alone=not workers)
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.ended()


def _heard(workers: list[Worker]) -> Iterator[tuple[Worker, str | None, Any]]:
    """What workers tell, waiting for it a little; None of those that are gone."""
    of = {worker.news: worker for worker in workers}
    for news in wait(list(of), LOOK):
        assert isinstance(news, Connection)
        try:
            event, what = news.recv()
        except (EOFError, OSError):  # also in the middle of a word
            event, what = None, None
        yield of[news], event, what


def _pass_on(worker: Worker, event: str, what: Any, job: Job, watch: Watch) -> None:
    if event == inside.REFUSED:
        raise RequestError(what)
    if event == inside.READY:
        worker.hears = True
    elif event == inside.BEGIN:
        worker.began, worker.run = True, job.planned(what, what.seeds[0])
        watch.begin(worker.run)
    elif worker.run is not None and event == inside.OBSERVE:
        watch.observe(worker.run, what)
    elif worker.run is not None:
        watch.end(worker.run, what)
        worker.run = None


def _bury(worker: Worker, how: str, queue: Queue) -> None:
    """Give back what a dead worker ran."""
    during = "between runs" if worker.run is None else f"in {worker.run.folder.name}"
    why = f"; see {worker.log}" if worker.log.exists() else ""
    say(f"a worker {how} {during}{why}")
    queue.end_running(worker.name, how)


def _successor(worker: Worker, how: str, job: Job, storage: str | None, alone: bool) -> list[Worker]:
    """Who takes a dead worker's place; nobody, if the one before it also died before it began a run.

    Raises:
        RequestError: then nobody is left.
    """
    deaths = 0 if worker.began else worker.deaths + 1
    if deaths < CRASHES:
        return [Worker(worker.place, job, storage, deaths)]
    if alone:
        raise RequestError(f"{worker.log}: every worker {how} before it began a run")
    return []


def wait_for_orphans(folder: Path) -> None:
    """Let workers end whose starter was killed; they notice by themselves.

    Raises:
        RequestError: one does not.
    """
    for path in folder.glob(inside.LOCK.format("*")):
        try:
            FileLock(path).acquire(timeout=PATIENCE).lock.release()
        except Timeout:
            raise RequestError(f"{folder}: a worker of before still runs there ({path.name}); end it first") from None
