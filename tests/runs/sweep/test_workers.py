"""Several workers on one machine: the same numbers, whoever dies."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from lab.runs import folder as files
from lab.runs.sweep import sweep


@pytest.fixture
def file(tmp_path, small):
    """A sweep of two configurations with two seeds, each run a second or two."""
    parameters = {key: {"value": yaml.safe_load(value)} for key, _, value in (word.partition("=") for word in small)}
    parameters |= {"attention": {"values": ["mha", "mqa"]}, "seed": {"values": [0, 1]}}
    path = tmp_path / "little.yaml"
    command = ["${env}", "lab", "train", "${args_no_hyphens}"]
    path.write_text(yaml.safe_dump({"method": "grid", "command": command, "parameters": parameters}, sort_keys=False))
    return path


def results(folder):
    found = [json.loads(path.read_text()) for path in Path(folder).glob(f"*/{files.RESULT}")]
    return {tuple(r["overrides"]): (r["status"], r["val/bpb"], r["train/loss"], r["threads"]) for r in found}


def start(file, folder, *words):
    command = [sys.executable, "-m", "lab", "sweep", str(file), "--folder", str(folder), "--jobs", "2", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, cwd=file.parent, text=True)


def until(what, process=None, seconds=90):
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline and (process is None or process.poll() is None):
        time.sleep(0.02)
    return what()


def workers_of(process):
    """Processes that it started."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    return [int(pid) for pid in listed.stdout.split()]


def test_two_workers_find_what_one_finds(file, tmp_path):
    sweep(file, folder=tmp_path / "one")
    outcome = sweep(file, folder=tmp_path / "two", jobs=2)
    assert outcome.exit_code == 0
    assert results(tmp_path / "two") == results(tmp_path / "one")
    assert len(results(tmp_path / "two")) == 4
    assert sweep(file, folder=tmp_path / "two", jobs=2).exit_code == 0  # nothing left


def test_a_killed_worker_costs_its_run_one_more_try(file, tmp_path):
    process = start(file, tmp_path / "s", "budget.steps=300")
    # Both are at work: one that dies before it began a run would end the sweep, as its successors would die too.
    assert until(lambda: len(list((tmp_path / "s").glob(f"*/{files.METRICS}"))) > 1, process)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert [status for status, *_ in results(tmp_path / "s").values()] == ["finished"] * 4


@pytest.mark.long
def test_a_run_that_kills_its_worker_twice_has_failed_and_the_rest_goes_on(file, tmp_path):
    content = yaml.safe_load(file.read_text())
    content["parameters"]["attention"] = {"values": ["mha", "gqa"]}
    content["parameters"]["seed"] = {"value": 0}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    # Python reads this at the start of every worker.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Killer:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'lab.runs.trainer' and 'LAB_STARTER' in os.environ:\n"
        "            import lab.runs.train as train\n"
        "            fit = train.fit\n"
        "            def deadly(config, *rest, **more):\n"
        "                if config.choices.attention == 'gqa':\n"
        "                    os.kill(os.getpid(), signal.SIGKILL)\n"
        "                return fit(config, *rest, **more)\n"
        "            train.fit = deadly\n"
        "sys.meta_path.insert(0, Killer())\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    words = ("sweep", str(file), "--folder", str(tmp_path / "s"), "--jobs", "1", "--json")
    command = [sys.executable, "-m", "lab", *words]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert ended.returncode == 1, ended.stderr
    statuses = {t["overrides"][-2]: t["status"] for t in json.loads(ended.stdout)["trials"]}
    assert statuses == {"attention=mha": "finished", "attention=gqa": "failed"}
    failed = next(r for r in (tmp_path / "s").glob(f"01-*/{files.RESULT}"))
    assert "died of SIGKILL, 2 times" in json.loads(failed.read_text())["error"]


@pytest.mark.long
def test_ctrl_c_once_finishes_what_runs_and_the_same_command_goes_on(file, tmp_path):
    process = start(file, tmp_path / "s", "budget.steps=60")
    assert until(lambda: list((tmp_path / "s").glob(f"*/{files.METRICS}")), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    done = results(tmp_path / "s")
    assert {status for status, *_ in done.values()} == {"finished"}
    assert 1 <= len(done) < 4
    assert sweep(file, ["budget.steps=60"], folder=tmp_path / "s").exit_code == 0
    assert len(results(tmp_path / "s")) == 4


@pytest.mark.long
def test_workers_end_when_the_one_who_started_them_is_killed(file, tmp_path):
    process = start(file, tmp_path / "s", "budget.steps=100000")
    assert until(lambda: len(list((tmp_path / "s").glob(f"*/{files.METRICS}"))) == 2, process)
    workers = workers_of(process)
    process.kill()
    process.communicate()
    assert len(workers) == 2
    assert until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers), seconds=30)
    assert [status for status, *_ in results(tmp_path / "s").values()] == ["stopped"] * 2
