"""Many workers on a real PostgreSQL server, some of them killed: everything counted once, nothing left out."""

import collections
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from lab.runs.sweep import storage, sweep
from lab.runs.sweep.file import read_sweep
from lab.runs.sweep.plan import Plan
from lab.runs.sweep.queue import Queue
from lab.runs.sweep.sampler import Sampler
from lab.runs.sweep.storage import open_database
from tests.runs.sweep.conftest import apart, at_work, results, statuses, until

pytestmark = pytest.mark.skipif(shutil.which("initdb") is None, reason="no PostgreSQL on this machine")


WORKERS = 4


def join_study(file, url, log):
    """One more worker, whose runs sleep: the first until each worker has one, however late it came."""
    storage.HEARTBEAT = 1
    queue = Queue(open_database(url), "study", Sampler(Plan(read_sweep(file))), "loss", False, lambda point: {})
    queue.fill()
    while True:
        claim = queue.claim()
        if claim is None:
            if not queue.others_run():
                break
            time.sleep(0.2)
            continue
        with queue.kept(claim):
            if claim.seed is not None:
                a = claim.point.parameters["a"]
                with open(log, "a") as out:
                    out.write(f"{os.getpid()} {a} {claim.seed}\n")
                until(lambda: len({pid for pid, _, _ in ran(log)}) == WORKERS)
                time.sleep(0.1)
                queue.tell(claim, {"status": "finished", "loss": a + claim.seed / 10})


def join_sweep(file, url, folder):
    storage.HEARTBEAT = 1
    sweep(file, folder=folder, storage=url)


def ran(log):
    """Who ran what: process, parameter, seed."""
    return [tuple(map(int, line.split())) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture(scope="module")
def server():
    """The URL of a server of its own, which root may not run."""
    place = Path(tempfile.mkdtemp(prefix="pg"))
    identity = {}
    if os.geteuid() == 0:
        os.chown(place, 65534, 65534)
        identity = {"user": 65534, "group": 65534, "extra_groups": []}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": place, **identity}
    data, initdb = str(place / "data"), shutil.which("initdb")
    subprocess.run([initdb, "-D", data, "-U", "lab", "--auth=trust", "--no-sync"], check=True, **quiet)
    postgres = Path(initdb).resolve().parent / "postgres"
    settings = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={place}", "-c", "fsync=off"]
    process = subprocess.Popen([postgres, "-D", data, *settings], **quiet)
    url = f"postgresql://lab@/postgres?host={place}"
    try:
        while not (place / ".s.PGSQL.5432").exists():
            assert process.poll() is None
            time.sleep(0.05)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        shutil.rmtree(place)


def test_every_result_is_counted_once_though_workers_are_killed(server, tmp_path):
    file, log = tmp_path / "sweep.yaml", tmp_path / "log"
    parameters = {"a": {"values": list(range(8))}, "seed": {"values": [0, 1]}}
    command = ["lab", "train", "${args}"]
    file.write_text(yaml.safe_dump({"method": "grid", "command": command, "parameters": parameters}))
    with ExitStack() as ending:
        workers = [ending.enter_context(apart(join_study, file, server, log)) for _ in range(WORKERS)]
        for worker in workers[:2]:
            until(lambda worker=worker: worker.pid in {pid for pid, _, _ in ran(log)} or not worker.is_alive())
            worker.kill()
        for worker in workers:
            worker.join(60)
        assert [worker.exitcode for worker in workers] == [-signal.SIGKILL] * 2 + [0, 0]

    queue = Queue(open_database(server), "study", Sampler(Plan(read_sweep(file))), "loss", False, lambda point: {})
    complete = [trial for trial in queue.study.trials if trial.state == TrialState.COMPLETE]
    runs = sorted((trial.params["a"], trial.params["seed"], trial.value) for trial in complete)
    assert runs == [(a, seed, pytest.approx(a + seed / 10)) for a in range(8) for seed in range(2)]
    counts = collections.Counter((a, seed) for _, a, seed in ran(log))
    assert set(counts) == {(a, seed) for a in range(8) for seed in range(2)}
    twice = {key for key, count in counts.items() if count > 1}
    killed = {worker.pid for worker in workers[:2]}
    by_the_killed = {(a, seed) for pid, a, seed in ran(log) if pid in killed}
    assert twice <= by_the_killed
    assert len(twice) <= 2


@pytest.mark.long
def test_sweeps_on_one_database_share_their_runs_and_a_killed_one_is_taken_over(server, file, change, tmp_path):
    """As on machines with folders of their own."""
    change({"attention": {"values": ["mha", "gqa", "mqa"]}, "budget.steps": {"value": 200}})
    with ExitStack() as ending:
        one, two, three = (
            ending.enter_context(apart(join_sweep, file, server, tmp_path / name)) for name in ("one", "two", "three")
        )
        assert until(lambda: at_work(tmp_path / "one"))
        one.kill()
        for each in (two, three):
            each.join(200)
        assert [two.exitcode, three.exitcode] == [0, 0]
    found = {}
    for name in ("two", "three"):
        found[name] = results(tmp_path / name)
        assert statuses(tmp_path / name) == ["finished"] * 6
        assert (tmp_path / name / "report.html").exists()
    assert found["two"] == found["three"]  # the very same runs
