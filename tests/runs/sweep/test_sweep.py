"""A sweep: resumable after a kill, honest about what failed, quick about what is done."""

import os
import shutil

import pytest

from lab.errors import RequestError
from lab.runs import code
from lab.runs import folder as files
from lab.runs.report import report
from lab.runs.sweep import sweep
from lab.runs.sweep.stop import FINISHING, STOPPING, SweepStop
from tests.runs.sweep.conftest import OTHER_FORMS, apart, at_work, numbers, pressed, results, until


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


def test_a_trial_is_the_run_that_its_command_line_gives(file, lab, tmp_path):
    """The same words as W&B's agent passes."""
    done = sweep(file, folder=tmp_path / "s").planned[1]
    assert done.trial.argv[:2] == ["/usr/bin/env", "lab"]
    alone = lab(done.trial.argv[2:], f"folder={tmp_path / 'alone'}", "--json").json
    result = files.read_result(done.folder)
    assert alone["val/bpb"] == result["val/bpb"]
    assert alone["configuration"] == result["configuration"]


@pytest.mark.parametrize("macro", OTHER_FORMS)
def test_every_form_of_the_agents_runs_here_and_there(file, change, agent, lab, tmp_path, macro):
    one = {"attention": {"value": "mha"}, "seed": {"value": 3}, "embedding.tied": {"value": True}}
    change(one)
    usual = sweep(file, folder=tmp_path / "usual").planned[0]
    change(one, command=["${env}", "lab", "train", macro])
    here = sweep(file, folder=tmp_path / "here").planned[0]
    words = agent([*here.trial.argv[:3], macro], here.trial.parameters)
    there = lab(words[2:], f"folder={tmp_path / 'there'}", "--json").json
    known = [files.read_result(usual.folder), files.read_result(here.folder), there]
    assert {result["status"] for result in known} == {"finished"}
    assert len({(result["val/bpb"], result["configuration"]) for result in known}) == 1
    shown = lab(here.trial.argv[2:], f"folder={tmp_path / 'shown'}", "--json").json
    assert shown["val/bpb"] == there["val/bpb"]


def test_killed_in_its_middle_it_ends_as_if_it_had_not_been(file, tmp_path):
    sweep(file, folder=tmp_path / "whole")
    with apart(sweep, file, (), tmp_path / "killed") as process:
        assert until(lambda: len(results(tmp_path / "killed")) >= 2)
        process.kill()
        process.join()
    assert 2 <= len(results(tmp_path / "killed")) < 4
    outcome = sweep(file, folder=tmp_path / "killed")
    assert outcome.exit_code == 0
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")


def test_a_trial_that_diverges_is_recorded_and_the_rest_goes_on(file, change, tmp_path):
    change(
        {"optimizer.lr": {"values": [1.0e30, 0.001]}, "trainer.clip": {"value": 1.0e9}, "attention": {"value": "mha"}}
    )
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


@pytest.mark.parametrize("method", ["grid", "bayes"])
def test_a_run_whose_folder_was_deleted_is_made_again(file, change, tmp_path, capfd, method):
    """Its record alone would be without weights and measurements."""
    if method == "bayes":
        space = {"attention": {"value": "mha"}, "optimizer.lr": {"min": 0.001, "max": 0.01}}
        change(space, method="bayes", run_cap=2, metric={"name": "val/bpb"})
    before = sweep(file, folder=tmp_path / "s")
    values = numbers(tmp_path / "s")
    gone = before.planned[-1].folder
    shutil.rmtree(gone)
    capfd.readouterr()
    assert sweep(file, folder=tmp_path / "s").exit_code == 0
    assert capfd.readouterr().err.count("  finished  ") == 1
    assert (gone / "checkpoints/model.safetensors").is_file()
    assert numbers(tmp_path / "s") == values
    assert sweep(file, folder=tmp_path / "s").exit_code == 0
    assert "finished" not in capfd.readouterr().err


def test_runs_of_other_code_are_no_replicates(file, change, tmp_path, monkeypatch, capfd):
    sweep(file, folder=tmp_path / "s")
    assert not [note for note in report([tmp_path / "s"]).results.notes if "code" in note]
    digits = code._digits
    monkeypatch.setattr(code, "_digits", lambda path: "edited" if "attention" in path else digits(path))
    change({"seed": {"values": [0, 1, 2]}})
    capfd.readouterr()
    made = sweep(file, folder=tmp_path / "s")
    assert "the code of lab.parts.attention has changed since 4 of these runs" in capfd.readouterr().err
    assert any(
        "The code of lab.parts.attention changed between these runs" in note for note in made.report.results.notes
    )


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            {"name": "val/bpb", "goal": "maximize"},
            r"metric\.goal: maximize; less is better of val/bpb: minimize \(line",
        ),
        ({"name": "val/accuracy"}, r"metric\.goal: minimize, as W&B takes it .*; more is better of val/accuracy: max"),
        ({"name": "val/mine", "goal": "maximize"}, None),
        ({"name": "val/loss", "goal": "minimize"}, None),
    ],
)
def test_nobody_searches_for_the_worst(file, change, tmp_path, metric, message):
    change({}, metric=metric)
    if message is None:
        assert sweep(file, folder=tmp_path / "s", plan_only=True).planned
        return
    with pytest.raises(RequestError, match=message):
        sweep(file, folder=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_variant_that_raises_stops_neither_the_estimate_nor_the_others(file, tmp_path, monkeypatch):
    from lab.parts.attention import Attention

    forward = Attention.forward

    def wrong(self, *args, **kwargs):
        if self.kv_heads == 1:
            raise IndexError("a mistake")
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(Attention, "forward", wrong)
    outcome = sweep(file, folder=tmp_path / "s")
    assert sorted(p.status for p in outcome.planned) == ["failed", "failed", "finished", "finished"]


def test_ctrl_c_twice_stops_it_at_once(file, tmp_path, capfd):
    # Captured text is no sign of the first: reading it beside the thread that writes can lose it.
    with pressed(lambda: at_work(tmp_path / "s"), lambda: SweepStop._open and SweepStop._open.finishing):
        outcome = sweep(file, ["budget.steps=100000"], folder=tmp_path / "s")
    assert outcome.exit_code == 130
    said = capfd.readouterr().err
    assert said.index(FINISHING) < said.index(STOPPING)
    assert [result["status"] for result in results(tmp_path / "s").values()] == ["stopped"]


def test_more_seeds_are_the_same_sweep_and_other_questions_are_not(file, change, tmp_path):
    sweep(file, folder=tmp_path / "s")
    change({"seed": {"values": [0, 1, 2]}})
    assert len([p for p in sweep(file, folder=tmp_path / "s", plan_only=True).planned if p.status is None]) == 2
    change({"attention": {"values": ["mha", "gqa"]}})
    with pytest.raises(
        RequestError, match=r"holds another sweep, one with .*attention=mqa.* and without .*attention=gqa"
    ):
        sweep(file, folder=tmp_path / "s")
    change({"attention": {"values": ["gqa"]}})
    with pytest.raises(RequestError, match="holds another sweep"):
        sweep(file, folder=tmp_path / "s")


def test_other_overrides_are_another_search(file, change, tmp_path):
    space = {"attention": {"value": "mha"}, "optimizer.lr": {"min": 0.001, "max": 0.01}}
    change(space, method="bayes", run_cap=2, metric={"name": "val/bpb"})
    sweep(file, ["model.layers=2"], folder=tmp_path / "s")
    for words in ([], ["model.layers=3"], ["model.layers=2", "model.heads=2"]):
        with pytest.raises(RequestError, match="holds another sweep"):
            sweep(file, words, folder=tmp_path / "s")
    again = sweep(file, ["model.layers=2"], folder=tmp_path / "s")
    assert [run.status for run in again.planned] == ["finished"] * 4


@pytest.mark.parametrize("jobs", [None, 2])
def test_ctrl_c_before_the_first_run(file, tmp_path, jobs):
    with pressed(lambda: SweepStop._open):
        outcome = sweep(file, ["budget.steps=3"], folder=tmp_path / "s", jobs=jobs)
    assert outcome.exit_code == 130
    ran = len(results(tmp_path / "s"))
    assert (outcome.report is None) == (ran == 0)
    outcome.print()
    assert sweep(file, ["budget.steps=3"], folder=tmp_path / "s").exit_code == 0


def test_wrong_parameters_are_named_before_the_first_trial(file, change, tmp_path):
    change({"model.dimm": {"value": 3}})
    with pytest.raises(RequestError, match=r"little.yaml: model.dimm: no such key .* model.dim"):
        sweep(file, folder=tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("jobs", [None, 1])
def test_a_metric_that_nothing_measures_ends_it_after_its_first_run(file, change, tmp_path, jobs):
    change(metric={"name": "val/bpbb"})
    with pytest.raises(RequestError, match=r"metric.name: val/bpbb is nothing .* accepted: val/loss, val/bpb.*\(line"):
        sweep(file, folder=tmp_path / "s", jobs=jobs)
    assert len(results(tmp_path / "s")) == 1


def test_a_value_before_others_moves_no_run(file, change, tmp_path):
    change({"attention": {"values": ["mha", "mqa"]}, "seed": {"values": [0]}})
    before = sweep(file, folder=tmp_path / "s").planned
    change({"attention": {"values": ["gqa", "mha", "mqa"]}})
    after = sweep(file, folder=tmp_path / "s", plan_only=True).planned
    assert [run.status for run in after] == [None, "finished", "finished"]
    assert [run.folder for run in after[1:]] == [run.folder for run in before]
    assert after[0].folder.name.startswith("02-")
    again = sweep(file, folder=tmp_path / "s", jobs=2).planned
    assert [run.folder for run in again] == [run.folder for run in after]
    assert {run.status for run in again} == {"finished"}


def test_a_run_that_cannot_be_continued_fails_once_and_says_why(file, change, tmp_path, capfd):
    change({"attention": {"value": "mha"}, "seed": {"values": [0, 1]}})
    (run, _) = sweep(file, folder=tmp_path / "s").planned
    (tmp_path / "s" / "study.journal").unlink()
    path = run.folder / files.RESULT
    path.write_text(path.read_text().replace('"finished"', '"stopped"'))
    (run.folder / files.CHECKPOINT).write_text("garbage")
    outcome = sweep(file, folder=tmp_path / "s")
    assert outcome.exit_code == 1
    assert len(outcome.report.to_json()["not_counted"]) == 1
    said = capfd.readouterr().err
    assert said.count("last.ckpt: damaged") == 1


def test_two_at_once_are_refused(file, tmp_path):
    from filelock import FileLock

    os.makedirs(tmp_path / "s")
    with FileLock(tmp_path / "s" / ".lock"), pytest.raises(RequestError, match="another process runs this sweep"):
        sweep(file, folder=tmp_path / "s")


SEARCH = {"method": "bayes", "run_cap": 3, "metric": {"name": "val/bpb"}}


def test_a_search_runs_and_its_choices_are_named_in_the_report(file, change, tmp_path):
    rates = {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}
    change({"optimizer.lr": rates, "seed": {"value": 0}}, **SEARCH)
    first = sweep(file, folder=tmp_path / "s")
    assert [p.status for p in first.planned] == ["finished"] * 3
    chosen = {float(p.config.optimizer.lr) for p in first.planned}
    assert len(chosen) == 3
    assert all(1e-4 <= rate <= 1e-2 for rate in chosen)
    assert len(first.report.to_json()["tables"][0]["configurations"]) == 3
    again = sweep(file, folder=tmp_path / "s")
    assert [p.folder for p in again.planned] == [p.folder for p in first.planned]
    change({"optimizer.lr": rates | {"max": 0.1}})
    with pytest.raises(RequestError, match="holds another sweep"):
        sweep(file, folder=tmp_path / "s")


@pytest.mark.parametrize(
    ("name", "value"), [("model.dimm", {"min": 1, "max": 9}), ("attention", {"values": ["mha", "mhaa"]})]
)
def test_what_a_search_could_never_run_is_named_before_the_first_trial(file, change, tmp_path, name, value):
    change({name: value}, **SEARCH)
    with pytest.raises(RequestError, match=f"{name}.*(model.dim|mha).*line"):
        sweep(file, folder=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_folders_that_are_not_shared_each_get_every_result(file, tmp_path, capfd):
    """The second machine finds all done in the database, says so beforehand, and reports the same."""
    url = f"sqlite:///{tmp_path}/study.db"
    assert {p.status for p in sweep(file, folder=tmp_path / "new", storage=url, plan_only=True).planned} == {None}
    assert list(tmp_path.iterdir()) == [file]
    first = sweep(file, folder=tmp_path / "one", storage=url)
    capfd.readouterr()
    planned = sweep(file, folder=tmp_path / "new", storage=url, plan_only=True)
    assert [p.status for p in planned.planned] == ["finished"] * 4
    assert "all done, nothing to run" in capfd.readouterr().err
    assert not (tmp_path / "new").exists()
    second = sweep(file, folder=tmp_path / "two", storage=url)
    assert [p.status for p in second.planned] == ["finished"] * 4
    assert numbers(tmp_path / "two") == numbers(tmp_path / "one")
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
