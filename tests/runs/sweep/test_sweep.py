"""A sweep: resumable after a kill, honest about what failed, quick about what is done."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from lab.errors import RequestError
from lab.runs import folder as files
from lab.runs.sweep import sweep


@pytest.fixture
def file(tmp_path, small):
    """A sweep of two configurations with two seeds."""
    parameters = {key: {"value": value} for key, _, value in (word.partition("=") for word in small)}
    parameters |= {"attention": {"values": ["mha", "mqa"]}, "seed": {"values": [0, 1]}}
    parameters = {key: {k: _plain(v) for k, v in setting.items()} for key, setting in parameters.items()}
    path = tmp_path / "little.yaml"
    command = ["${env}", "lab", "train", "${args_no_hyphens}"]
    path.write_text(yaml.safe_dump({"method": "grid", "command": command, "parameters": parameters}, sort_keys=False))
    return path


def _plain(value):
    return yaml.safe_load(value) if isinstance(value, str) else value


def values(folder):
    """What every trial reached, by its overrides."""
    results = [json.loads(path.read_text()) for path in Path(folder).glob(f"*/{files.RESULT}")]
    return {tuple(r["overrides"]): (r["status"], r["val/bpb"], r["train/loss"], r["tokens_seen"]) for r in results}


def test_every_trial_runs_once_and_again_only_reports(file, tmp_path):
    first = sweep(file, folder=tmp_path / "s")
    assert [p.status for p in first.planned] == ["finished"] * 4
    assert first.exit_code == 0
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob(files.RESULT)}
    second = sweep(file, folder=tmp_path / "s")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob(files.RESULT)} == written
    assert second.seconds == 0
    assert (tmp_path / "s" / "report.html").exists()
    (table,) = second.report.to_json()["tables"]
    assert [row["n"] if "n" in row else row["seeds"] for row in table["configurations"]]


def test_a_trial_is_the_run_that_its_command_line_gives(file, tmp_path, small):
    """The same words, run as a process, as W&B's agent does."""
    done = sweep(file, folder=tmp_path / "s").planned[1]
    assert done.trial.argv[:2] == ["/usr/bin/env", "lab"]
    command = [sys.executable, "-m", "lab", *done.trial.argv[2:], f"folder={tmp_path / 'alone'}"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    alone = json.loads((tmp_path / "alone" / files.RESULT).read_text())
    result = files.read_result(done.folder)
    assert alone["val/bpb"] == result["val/bpb"]
    assert alone["configuration"] == result["configuration"]


def test_killed_in_its_middle_it_ends_as_if_it_had_not_been(file, tmp_path):
    sweep(file, folder=tmp_path / "whole")
    command = [sys.executable, "-m", "lab", "sweep", str(file), "--folder", str(tmp_path / "killed")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=tmp_path)
    deadline = time.monotonic() + 60
    while len(values(tmp_path / "killed")) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = values(tmp_path / "killed")
    assert 2 <= len(before) < 4
    outcome = sweep(file, folder=tmp_path / "killed")
    assert outcome.exit_code == 0
    assert values(tmp_path / "killed") == values(tmp_path / "whole")


def test_a_trial_that_diverges_is_recorded_and_the_rest_goes_on(file, tmp_path):
    content = yaml.safe_load(file.read_text())
    content["parameters"] |= {"optimizer.lr": {"values": [1.0e30, 0.001]}, "trainer.clip": {"value": 1.0e9}}
    content["parameters"]["attention"] = {"value": "mha"}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    outcome = sweep(file, folder=tmp_path / "s")
    assert sorted(p.status for p in outcome.planned) == ["diverged", "diverged", "finished", "finished"]
    assert outcome.exit_code == 0
    report = outcome.report.to_json()
    assert {run["status"] for run in report["not_counted"]} == {"diverged"}
    assert len(report["tables"][0]["configurations"]) == 1


def test_a_trial_that_fails_is_recorded_and_run_again_only_when_asked(file, tmp_path, monkeypatch, capfd):
    from lab.objectives.causal import Causal

    step = Causal.training_step
    monkeypatch.setattr(Causal, "training_step", lambda *args, **kwargs: 1 / 0)
    outcome = sweep(file, folder=tmp_path / "s")
    assert {p.status for p in outcome.planned} == {"failed"}
    assert outcome.exit_code == 1
    monkeypatch.setattr(Causal, "training_step", step)
    assert sweep(file, folder=tmp_path / "s").exit_code == 1
    capfd.readouterr()
    assert sweep(file, folder=tmp_path / "s", retry_failed=True).exit_code == 0
    said = capfd.readouterr().err
    assert all(f"[{number}/4]" in said for number in (1, 2, 3, 4))


def test_ctrl_c_twice_stops_it_at_once(file, tmp_path):
    command = [sys.executable, "-m", "lab", "sweep", str(file), "--folder", str(tmp_path / "s"), "budget.steps=100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=tmp_path)
    while not list((tmp_path / "s").glob(f"*/{files.METRICS}")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None  # the run goes on
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert b"Traceback" not in said
    (stopped,) = [s for s, *_ in values(tmp_path / "s").values()]
    assert stopped == "stopped"


def test_more_seeds_are_the_same_sweep_and_other_questions_are_not(file, tmp_path):
    sweep(file, folder=tmp_path / "s")
    content = yaml.safe_load(file.read_text())
    content["parameters"]["seed"] = {"values": [0, 1, 2]}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    assert len([p for p in sweep(file, folder=tmp_path / "s", plan_only=True).planned if p.status is None]) == 2
    content["parameters"]["attention"] = {"values": ["gqa"]}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(RequestError, match="holds another sweep"):
        sweep(file, folder=tmp_path / "s")


def test_wrong_parameters_are_named_before_the_first_trial(file, tmp_path):
    content = yaml.safe_load(file.read_text())
    content["parameters"]["model.dimm"] = {"value": 3}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(RequestError, match=r"little.yaml: model.dimm: no such key .* model.dim"):
        sweep(file, folder=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_two_at_once_are_refused(file, tmp_path):
    from filelock import FileLock

    os.makedirs(tmp_path / "s")
    with FileLock(tmp_path / "s" / ".lock"), pytest.raises(RequestError, match="another process runs this sweep"):
        sweep(file, folder=tmp_path / "s")


def test_a_search_runs_and_its_choices_are_named_in_the_report(file, tmp_path):
    content = yaml.safe_load(file.read_text())
    content |= {"method": "bayes", "run_cap": 3, "metric": {"name": "val/bpb"}}
    content["parameters"]["optimizer.lr"] = {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}
    content["parameters"]["seed"] = {"value": 0}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    first = sweep(file, folder=tmp_path / "s")
    assert [p.status for p in first.planned] == ["finished"] * 3
    rates = [float(p.config.optimizer.lr) for p in first.planned]
    assert len(set(rates)) == 3
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert len(first.report.to_json()["tables"][0]["configurations"]) == 3
    again = sweep(file, folder=tmp_path / "s")
    assert [p.folder for p in again.planned] == [p.folder for p in first.planned]
    content["parameters"]["optimizer.lr"]["max"] = 0.1
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(RequestError, match="holds another sweep"):
        sweep(file, folder=tmp_path / "s")


@pytest.mark.parametrize(
    ("name", "value"), [("model.dimm", {"min": 1, "max": 9}), ("attention", {"values": ["mha", "mhaa"]})]
)
def test_what_a_search_could_never_run_is_named_before_the_first_trial(file, tmp_path, name, value):
    content = yaml.safe_load(file.read_text())
    content |= {"method": "bayes", "run_cap": 3, "metric": {"name": "val/bpb"}}
    content["parameters"][name] = value
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(RequestError, match=f"{name}.*(model.dim|mha).*line"):
        sweep(file, folder=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_folders_that_are_not_shared_each_get_every_result(file, tmp_path):
    """The second machine finds all done in the database, and reports the same."""
    url = f"sqlite:///{tmp_path}/study.db"
    first = sweep(file, folder=tmp_path / "one", storage=url)
    second = sweep(file, folder=tmp_path / "two", storage=url)
    assert [p.status for p in second.planned] == ["finished"] * 4
    assert values(tmp_path / "two") == values(tmp_path / "one")
    assert not list((tmp_path / "two").rglob(files.METRICS))
    (there,), (here,) = (outcome.report.to_json()["tables"] for outcome in (first, second))
    assert [c["mean"] for c in here["configurations"]] == [c["mean"] for c in there["configurations"]]


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("study.db", "no URL of a database"),
        ("oracle9://x", "can't be used"),
        ("postgresql://nobody@127.0.0.1:9/none", "can't be reached"),
        ("sqlite:////nowhere/study.db", "can't be reached"),
    ],
)
def test_a_storage_that_is_none_ends_clearly(file, tmp_path, monkeypatch, url, named):
    monkeypatch.setattr("lab.runs.sweep.storage.PAUSES", (0.01, 0.01))
    with pytest.raises(RequestError, match=named):
        sweep(file, folder=tmp_path / "s", storage=url)
    assert not list(tmp_path.glob("s/*/result.json"))


def test_a_storage_that_goes_away_loses_nothing(file, tmp_path, monkeypatch):
    """The third run has ended when the server goes: its result is in its folder, and is told the next time."""
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import OperationalError

    store, url = RDBStorage.set_trial_user_attr, f"sqlite:///{tmp_path}/study.db"
    told = []

    def going_away(self, trial_id, key, value):
        if key.startswith("result/"):
            told.append(key)
            if len(told) > 2:
                raise OperationalError("insert", {}, ConnectionError("server closed the connection"))
        store(self, trial_id, key, value)

    monkeypatch.setattr("lab.runs.sweep.storage.PAUSES", (0.01, 0.01))
    with monkeypatch.context() as broken:
        broken.setattr(RDBStorage, "set_trial_user_attr", going_away)
        with pytest.raises(RequestError, match=r"storage: can't be reached .*server closed"):
            sweep(file, folder=tmp_path / "s", storage=url)
    assert len(told) == 5  # twice told, thrice tried
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob(files.RESULT)}
    assert len(written) == 3
    assert [p.status for p in sweep(file, folder=tmp_path / "s", storage=url).planned] == ["finished"] * 4
    assert all(path.stat().st_mtime_ns == before for path, before in written.items())
