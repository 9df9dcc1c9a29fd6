"""Runs that W&B wrote down are read from its own folders, by its own reader."""

import shutil

import pytest

from lab.errors import RequestError
from lab.runs.comparison import words
from lab.runs.comparison.charts import chart_data
from lab.runs.comparison.collect import read_runs
from lab.runs.comparison.compare import compare
from lab.runs.report import report
from tests.runs.synthetic import write_run


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """The W&B folder of one offline run as `lab train` writes it, the run folder lost."""
    import wandb

    folder = tmp_path_factory.mktemp("wandb")
    lab = {"model": {"dim": 64}, "choices": {"attention": "mqa"}, "overrides": ["attention=mqa", "seed=3"], "seed": 3}
    facts = {"configuration": "c0ffee", "data_fingerprint": "d4f1", "parameters": 1000, "seed": 3}
    settings = wandb.Settings(silent=True, console="off", x_disable_meta=True, disable_git=True)
    run = wandb.init(project="lab", dir=folder, mode="offline", config={**facts, "lab": lab}, settings=settings)
    for step in (1, 2, 3):
        run.log({"step": step, "tokens": step * 10, "val/bpb": 3.0 - step / 4}, step=step)
    run.summary.update({"status": "finished", "val/bpb": 2.25, "tokens_seen": 30})
    run.finish()
    return folder


def test_an_offline_run_is_a_run(offline):
    (run,) = read_runs([offline])
    assert (run.status, run.seed, run.configuration, run.value) == ("finished", 3, "c0ffee", 2.25)
    assert run.choices == {"attention": "mqa"}
    assert run.overrides == ("attention=mqa", "seed=3")
    assert run.config["model.dim"] == 64
    assert run.curve["val/bpb"].tolist() == [2.75, 2.5, 2.25]
    assert run.number("parameters") == 1000
    (table,) = compare([run]).tables
    assert table.configurations[0].label == "attention=mqa"


def test_the_folder_in_a_run_that_was_killed_is_that_run(offline, tmp_path):
    write_run(tmp_path / "done", ["attention=mha"], 2.0, seed=3)
    killed = write_run(tmp_path / "killed", ["attention=mqa"], None, seed=4)
    (killed / "result.json").unlink()
    shutil.copytree(offline / "wandb", killed / "wandb")
    made = report(tmp_path)
    (one,) = made.to_json()["not_counted"]
    assert (one["status"], one["seed"], one["label"]) == ("no result", 4, "attention=mqa")
    assert len(made.results.tables) == 1


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """Four offline runs of another program, which has heard of neither seeds nor this lab."""
    import wandb

    folder = tmp_path_factory.mktemp("foreign")
    settings = wandb.Settings(silent=True, console="off", x_disable_meta=True, disable_git=True)
    for rate, reached in ((0.1, 0.70), (0.1, 0.72), (0.3, 0.80), (0.3, 0.84)):
        config = {"optimizer": {"name": "adam", "lr": rate}, "layers": [64, 64]}
        run = wandb.init(project="other", dir=folder, mode="offline", config=config, settings=settings)
        for share in (0.5, 1.0):
            run.log({"accuracy": reached * share, "loss": 1 - reached * share})
        run.finish()
    return folder


def test_runs_of_another_program_are_compared_by_what_they_hold(foreign):
    made = report(foreign, measure="accuracy:max")
    (table,) = made.results.tables
    assert [each.label for each in table.configurations] == ["optimizer.lr=0.3", "optimizer.lr=0.1"]
    assert [each.values for each in table.configurations] == [{0: 0.8, 1: 0.84}, {0: 0.7, 1: 0.72}]
    assert any("4 runs recorded no seed" in note for note in made.results.notes)
    assert words.command(table.configurations[0].all) == ""
    curve = chart_data(table)["configurations"][0]["curves"]["accuracy"]
    assert curve["mean"] == pytest.approx([0.41, 0.82])
    assert curve["step"] == [0, 1]


def test_keys_of_the_lab_mean_nothing_in_runs_of_another_program(tmp_path):
    import wandb

    settings = wandb.Settings(silent=True, console="off", x_disable_meta=True, disable_git=True)
    for rate in (0.1, 0.2):
        config = {"lr": rate, "seed": 1, "configuration": "big", "choices": {"a": "b"}}
        run = wandb.init(project="other", dir=tmp_path, mode="offline", config=config, settings=settings)
        run.log({"accuracy": 5 * rate, "status": "ok", "headline": 3, "data_fingerprint": str(rate)})
        run.finish()
    made = report(tmp_path, measure="accuracy:max")
    (table,) = made.results.tables
    assert [each.values for each in table.configurations] == [{1: 1.0}, {1: 0.5}]
    assert made.results.not_counted == []


def test_without_a_measure_those_that_there_are_are_named(foreign):
    results = report(foreign).results
    assert results.tables == []
    assert {why for _, _, why in results.not_counted} == {
        "it holds no val/loss; --measure KEY compares by one of accuracy, loss"
    }
    with pytest.raises(
        RequestError, match=r"--measure acuracy: no run holds such a number; there are .*accuracy, loss"
    ):
        report(foreign, measure="acuracy")


def test_a_run_folder_is_preferred_to_the_one_inside_it(offline, tmp_path):
    (inside,) = offline.glob("wandb/offline-run-*")
    folder = write_run(tmp_path / "run", ["attention=mha"], 2.0, wandb=f"runs/x/wandb/{inside.name}")
    place = folder / "wandb" / inside.name
    place.parent.mkdir()
    place.symlink_to(inside)
    for named in (folder, folder / "wandb", place.parent / inside.name):
        runs = read_runs([tmp_path if named is folder else named.parent / named.name])
        assert [run.value for run in runs] == [2.0]
    assert [run.value for run in read_runs([tmp_path, offline])] == [2.0]


def test_a_damaged_file_is_said(offline, tmp_path):
    broken = tmp_path / "offline-run-1-x"
    broken.mkdir()
    (broken / "run-x.wandb").write_bytes(b"\0" * 20)
    runs = read_runs([tmp_path, offline])
    assert sorted(run.status for run in runs) == ["finished", "unreadable"]
