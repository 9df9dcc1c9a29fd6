"""The processes of a run on several devices.

Lightning would start the other ranks by running the command line again, which repeats whatever called it: a sweep, a
multirun, a notebook. So the lab starts all ranks itself, each from the run's own folder, and watches them.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.errors import RequestError
from lab.runs.folder import METRICS, MetricsFile
from lab.runs.pace import Observer

STARTER = "LAB_STARTER"
FAILED, STOPPED = 1, 130
WAIT = 20.0
"""Seconds that ranks get to end by themselves once one is gone or all were asked to stop."""


def started_elsewhere() -> bool:
    """This process is a rank already: of the lab, torchrun, SLURM's srun or another launcher. A single task is none."""
    slurm = int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ
    return "LOCAL_RANK" in os.environ or (slurm and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"))


def own_rank() -> int:
    """The number of this process among the ranks of a run."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))


def first_rank() -> bool:
    """This process is the one that keeps the record."""
    return own_rank() == 0


def random_seed(seed: int, rank: int) -> int:
    """What a rank's random numbers, such as dropout's, start from: the run's seed for the first, a digest for the others.

    So no two ranks of runs with any seeds draw the same, which `seed + rank` would have the next seed do.
    """
    digest = hashlib.blake2b(f"{seed}/rank{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1 if rank else seed


def orphaned() -> bool:
    """This process is a rank of the lab whose starter is gone, so nobody waits for its result."""
    return os.environ.get(STARTER, str(os.getppid())) != str(os.getppid())


def run_ranks(
    folder: Path,
    processes: int,
    resume: bool,
    stop_requested: Callable[[], bool],
    observers: Sequence[Observer] = (),
) -> None:
    """Train the run of a folder in so many processes, and wait for them. The first rank writes the result, if it begins.

    Observers see the measurements that the first rank writes to its file.

    Raises:
        RequestError: a rank refused the request.
        RuntimeError: a rank died; the others are ended.
    """
    port = _free_port()
    command = [sys.executable, "-m", "lab.runs.rank", str(folder), *(["--resume"] if resume else [])]
    ranks = [_start(command, rank, processes, port) for rank in range(processes)]
    try:
        first = _watch(ranks, stop_requested, _follow(folder / METRICS, observers))
    finally:
        for rank in ranks:
            if rank.poll() is None:
                rank.kill()
            rank.wait()
    if first is not None:
        code = ranks[first].returncode
        if code == 2:
            raise RequestError("a rank refused the request; its message stands above")
        if code == FAILED and first == 0:
            return  # its record says why
        if code == -signal.SIGTERM and stop_requested():
            return  # it was asked to stop before it heard signals
        raise RuntimeError(f"rank {first} of {processes} {_how(code, first)}")


def _how(code: int, rank: int) -> str:
    """How a rank ended, and where it says why."""
    return f"failed: see {error_file(rank)}" if code == FAILED else f"died with exit code {code}"


def error_file(rank: int) -> str:
    """Where a rank that fails leaves its traceback, in the run's folder."""
    return "error.txt" if rank == 0 else f"error-rank{rank}.txt"


def _start(command: list[str], rank: int, processes: int, port: int) -> subprocess.Popen:
    # In a task of SLURM's, Lightning would take its only rank for all of them.
    own = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    environment = own | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(processes),
        STARTER: str(os.getpid()),
    }
    # A session of their own: Ctrl-C reaches this process alone, which passes it on as a wish to stop.
    standard_error = 2  # the file itself: in a notebook `sys.stderr` is none
    return subprocess.Popen(command, env=environment, stdout=standard_error, start_new_session=True)


def _follow(path: Path, observers: Sequence[Observer]) -> Callable[[], None]:
    """Passes on the measurements that were added to a file since the last call."""
    metrics, seen = MetricsFile(path), len(MetricsFile(path).read())

    def look() -> None:
        nonlocal seen
        rows = metrics.read()
        for row in rows[seen:]:
            measured = {key: float(value) for key, value in row.items() if value}
            for observer in observers:
                observer(measured)
        seen = len(rows)

    return look


def _watch(ranks: list[subprocess.Popen], stop_requested: Callable[[], bool], look: Callable[[], None]) -> int | None:
    """Wait until all have ended, or one has died: its number."""
    asked = False
    while any(rank.poll() is None for rank in ranks):
        look()
        if stop_requested() and not asked:
            asked = True
            for rank in ranks:
                rank.send_signal(signal.SIGTERM)
        if _dead(ranks) is not None:
            break
        time.sleep(0.2)
    look()
    dead = _dead(ranks)
    if dead is not None:
        _let_end(ranks)
    return dead


def _dead(ranks: list[subprocess.Popen]) -> int | None:
    return next((number for number, rank in enumerate(ranks) if rank.poll() not in (None, 0, STOPPED)), None)


def _let_end(ranks: list[subprocess.Popen]) -> None:
    until = time.monotonic() + WAIT
    for rank in ranks:
        if rank.poll() is None:
            rank.send_signal(signal.SIGTERM)
    while time.monotonic() < until and any(rank.poll() is None for rank in ranks):
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
