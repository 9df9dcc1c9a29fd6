"""How far a sweep is: before, while and after it runs."""

import json

import pytest
import yaml
from filelock import FileLock

from lab.runs import folder as files
from lab.runs.sweep import sweep
from lab.runs.sweep.file import read_sweep
from lab.runs.sweep.job import Job
from lab.runs.sweep.plan import Plan
from lab.runs.sweep.status import status


@pytest.fixture
def asked(file, change):
    change(name="A question")
    return file.rename(file.with_stem("asked"))


def test_a_sweep_says_how_far_it_is(lab, asked, tmp_path):
    assert "no sweep there" in lab("sweep", "--status", "asked.yaml").err
    outcome = sweep(asked, folder=tmp_path / "runs" / "asked")
    done = lab("sweep", "--status", "asked.yaml", "--json").json
    assert done["counts"] == {"finished": 4}
    assert done["active"] is False
    assert done["seconds_left"] == 0
    (table,) = outcome.report.to_json()["tables"]
    assert done["best"]["mean"] == min(c["mean"] for c in table["configurations"])
    assert done["best"]["seeds"] == 2
    (study,) = done["studies"]
    assert study["trials"] == {"complete": 4}
    assert study["workers"] == []

    # Half of it undone, as if a run were under way.
    one, two = sorted((tmp_path / "runs" / "asked").glob(f"*-seed1/{files.RESULT}"))
    one.unlink()
    (one.parent / files.METRICS).write_text("step,progress\n1,0.4\n")
    for path in (two, two.parent / files.CONFIG):
        path.unlink()
    with FileLock(tmp_path / "runs" / "asked" / ".lock"):
        under_way = status(tmp_path / "runs" / "asked")
    assert under_way.active
    assert under_way.counts == {"finished": 2, "running": 1, "waiting": 1}
    took = [run.seconds for run in under_way.runs if run.status == "finished"]
    assert under_way.seconds_left == pytest.approx(sum(took) / 2 * 1.6)
    idle = status(tmp_path / "runs" / "asked")
    assert idle.counts == {"finished": 2, "interrupted": 1, "waiting": 1}
    said = lab("sweep", "--status", "runs/asked").out
    assert "A question (runs/asked): nobody works on it here" in said
    assert "4 runs: 2 finished, 1 interrupted, 1 waiting" in said
    assert "interrupted at 40%" in said
    assert json.loads((tmp_path / "runs" / "asked" / "plan.json").read_text())


def test_a_search_that_chose_the_same_twice_waits_for_nothing(file, change, tmp_path):
    metric = {"name": "val/bpb"}
    change({"optimizer.lr": {"values": [0.001, 0.01]}, "seed": {"value": 0}}, method="bayes", run_cap=5, metric=metric)
    sweep(file, folder=tmp_path / "s")
    done = status(tmp_path / "s")
    assert len(done.runs) <= 4
    assert done.counts == {"finished": len(done.runs)}
    assert done.seconds_left == 0


def test_a_metric_that_is_not_the_headline_is_said_before_the_first_run(lab, asked, change):
    for name, said in (("val/bbp", True), ("val/loss", False), ("val/bpb", False)):
        content = yaml.safe_load(asked.read_text())
        content["metric"] = {"name": name, "goal": "minimize"}
        asked.write_text(yaml.safe_dump(content, sort_keys=False))
        planned = lab("sweep", "asked.yaml", "--plan")
        assert planned.code == 0
        assert (f"metric.name: {name}; these runs are judged by val/bpb" in planned.err) == said


def test_a_sweep_that_is_shared_is_at_work_while_a_worker_is(asked, tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    sweep(asked, folder=tmp_path / "s", storage=url)
    assert not status(tmp_path / "s", url).active
    content = yaml.safe_load(asked.read_text())
    content["parameters"]["seed"]["values"].append(2)
    asked.write_text(yaml.safe_dump(content, sort_keys=False))
    queue = Job(Plan(read_sweep(asked)), tmp_path / "s").open_queue(url)
    queue.fill()
    assert queue.claim() is not None
    assert status(tmp_path / "s", url).active
