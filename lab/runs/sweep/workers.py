"""Several workers on this machine: long-lived processes that import once and share a sweep's study.

Each is `python -m lab.runs.sweep.worker`. It is told on its standard input what to work on, and tells on its standard
output how it goes, a line of JSON an event. A worker that dies takes its run with it and nothing else: the run is tried
once more, by the one that takes its place.
"""

from __future__ import annotations

import json
import os
import queue as events
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lab.errors import RequestError
from lab.runs.ranks import STARTER
from lab.runs.sweep.engine import Watch
from lab.runs.sweep.job import Job
from lab.runs.sweep.plan import Point
from lab.runs.sweep.queue import Queue
from lab.runs.sweep.stop import SweepStop

LOG, LOCK = "worker-{}.log", ".worker-{}.lock"
LOOK = 0.2
"""Seconds between looks at whether to stop."""
PATIENCE = 60.0
"""Seconds that workers without a starter get to end their step."""


class Worker:
    """One process."""

    def __init__(self, number: int, request: Mapping[str, Any], heard: events.SimpleQueue) -> None:
        self.number = number
        self.began = False
        log = Path(request["folder"]) / LOG.format(number)
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lab.runs.sweep.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | {STARTER: str(os.getpid())},
                start_new_session=True,  # Ctrl-C reaches the one who started it, which passes it on
                text=True,
                encoding="utf-8",
            )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({**request, "number": number}) + "\n")
        self.process.stdin.close()
        threading.Thread(target=self._listen, args=(heard,), daemon=True).start()

    def _listen(self, heard: events.SimpleQueue) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            heard.put((self, json.loads(line)))
        heard.put((self, {"event": "gone", "code": self.process.wait()}))

    @property
    def name(self) -> str:
        """As its claims are marked."""
        return f"{socket.gethostname()}:{self.process.pid}"


def work_together(job: Job, queue: Queue, stop: SweepStop, watch: Watch, jobs: int, storage: str | None) -> None:
    """Have so many workers run what is left of a sweep.

    Raises:
        RequestError: a worker could not go on, for example because the storage is out of reach.
    """
    request = {
        "file": str(job.plan.sweep.path),
        "overrides": job.plan.overrides,
        "own": job.plan.own,
        "fewer": job.plan.fewer,
        "folder": str(job.folder),
        "storage": storage,
        "threads": job.threads,
        "prune": job.prune,
    }
    heard: events.SimpleQueue = events.SimpleQueue()
    workers = [Worker(number, request, heard) for number in range(jobs)]
    asked = 0
    try:
        while workers:
            asked = _pass_on(stop, workers, asked)
            try:
                worker, event = heard.get(timeout=LOOK)
            except events.Empty:
                continue
            if event["event"] == "refused":
                raise RequestError(event["error"])
            if event["event"] != "gone":
                worker.began = True
                _tell(job, watch, event)
                continue
            workers.remove(worker)
            if event["code"] != 0:
                _bury(worker, event["code"], job, queue)
                if not stop.finishing:
                    workers.append(Worker(worker.number, request, heard))
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.wait()


def _pass_on(stop: SweepStop, workers: list[Worker], asked: int) -> int:
    """Tell the workers once to finish, and once to stop."""
    wanted = 2 if stop.requested else int(stop.finishing)
    for number in (signal.SIGINT, signal.SIGTERM)[asked:wanted]:
        for worker in workers:
            worker.process.send_signal(number)
    return wanted


def _tell(job: Job, watch: Watch, event: Mapping[str, Any]) -> None:
    run = job.planned(Point(event["point"], event["parameters"], tuple(event["seeds"])), event["seed"])
    if event["event"] == "begin":
        watch.begin(run)
    elif event["event"] == "observe":
        watch.observe(run, event["row"])
    else:
        watch.end(run, event["result"])


def _bury(worker: Worker, code: int, job: Job, queue: Queue) -> None:
    """Give back what a dead worker ran.

    Raises:
        RequestError: it died before it ran anything, as its successors would.
    """
    how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    log = job.folder / LOG.format(worker.number)
    if not worker.began:
        raise RequestError(f"{log}: a worker {how} before it began a run; the file says why")
    queue.end_running(worker.name, how)


def wait_for_orphans(folder: Path) -> None:
    """Let workers end whose starter was killed; they notice by themselves.

    Raises:
        RequestError: one does not.
    """
    for path in folder.glob(LOCK.format("*")):
        try:
            FileLock(path).acquire(timeout=PATIENCE).lock.release()
        except Timeout:
            raise RequestError(f"{folder}: a worker of before still runs there ({path.name}); end it first") from None
