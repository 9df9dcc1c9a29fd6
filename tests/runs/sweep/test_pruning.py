"""Pruning: by the published rules, and what was pruned is no result."""

import json

import optuna
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import RequestError
from lab.runs import folder as files
from lab.runs.sweep import sweep
from lab.runs.sweep.file import read_sweep
from lab.runs.sweep.plan import Plan
from lab.runs.sweep.pruning import Early, Median, Pruning
from lab.runs.sweep.queue import Queue
from lab.runs.sweep.sampler import Sampler
from lab.runs.sweep.status import status

histories = st.lists(st.integers(0, 9), min_size=1, max_size=5)


@given(histories, st.lists(histories, max_size=6), st.integers(1, 4))
def test_the_median_is_optunas(history, others, least):
    study = optuna.create_study()
    for other in others:
        values = dict(enumerate(map(float, other)))
        study.add_trial(optuna.trial.create_trial(value=0.0, intermediate_values=values))
    trial = study.ask()
    for step, value in enumerate(history):
        trial.report(float(value), step)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=0, n_min_trials=least)
    assert Median(least).ends(history, others) == pruner.prune(study, study.trials[-1])


def test_a_run_is_compared_by_measurement_and_continued_ones_keep_their_history():
    kept, others = [], [[3.0, 1.0], [3.0, 2.0]]
    early = Early(Median(2), "m", 1, {10: 3.0, 20: 9.0}, lambda h: kept.append(dict(h)), lambda: others)
    assert not early({"step": 10, "m": 2.0})  # measured again
    assert not early({"step": 15, "train/loss": 1.0})
    assert not early({"step": 20, "m": None})
    assert early({"step": 20, "m": 2.5})
    assert kept[-1] == {10: 2.0, 20: 2.5}
    more = Early(Median(2), "m", -1, {}, lambda h: None, lambda: others)
    assert not more({"step": 1, "m": 4.0})  # more is better
    assert more({"step": 1, "m": 1.0})


def made(tmp_path, prune, seeds, method="grid", storage=None, **extra):
    parameters = {"a": {"values": [1, 2, 3]}, "seed": {"values": list(range(seeds))}}
    content = {"method": method, "command": ["lab", "train", "${args}"], "parameters": parameters, **extra}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    described = read_sweep(tmp_path / "sweep.yaml")
    storage = storage or optuna.storages.InMemoryStorage()
    pruning = Pruning.of(described, prune)
    queue = Queue(storage, "s", Sampler(Plan(described)), "loss", False, lambda point: {}, pruning)
    queue.fill()
    return queue


def test_what_is_worse_over_paired_seeds_is_given_up_and_none_of_its_seeds_counts(tmp_path):
    queue = made(tmp_path, "wilcoxon", 6)
    ran = []
    while claim := queue.claim():
        with queue.kept(claim):
            a = claim.point.parameters["a"]
            ran.append((a, claim.seed))
            noise = 10 * claim.seed  # far over the difference: only pairs show it
            queue.tell(claim, {"status": "finished", "loss": noise + (a != 1) / 2})
    assert [seed for a, seed in ran if a == 1] == list(range(6))
    assert [seed for a, seed in ran if a == 2] == list(range(4))  # p = 1/16 at the fourth
    states = [trial.state.name for trial in queue.study.trials]
    assert states == ["COMPLETE", "PRUNED", "PRUNED"]
    (_, first), (_, second), _ = queue.results()
    assert {r["status"] for r in first.values()} == {"finished"}
    assert {r["status"] for r in second.values()} == {"pruned"}
    assert second[0]["error"] == "its configuration was pruned after 4 of 6 seeds"


def test_runs_from_before_it_was_asked_for_are_no_best_configuration(tmp_path):
    storage = optuna.storages.InMemoryStorage()
    plain = made(tmp_path, None, 8, storage=storage)
    for _ in range(3):
        claim = plain.claim()
        plain.tell(claim, {"status": "finished", "loss": float(claim.point.parameters["a"] != 1)})
        plain.give_back(claim)
    queue = made(tmp_path, "wilcoxon", 8, storage=storage)
    ran = []
    while claim := queue.claim():
        with queue.kept(claim):
            if claim.seed is not None:
                ran.append(claim.point.parameters["a"])
                loss = 10 * claim.seed + float(claim.point.parameters["a"] != 1)
                queue.tell(claim, {"status": "finished", "loss": loss})
    assert ran.count(1) == 7
    assert ran.count(2) == ran.count(3) == 3


def test_what_is_as_good_is_not_given_up(tmp_path):
    queue = made(tmp_path, "wilcoxon", 6)
    while claim := queue.claim():
        with queue.kept(claim):
            wobble = (-1) ** claim.seed * claim.point.parameters["a"] / 10
            queue.tell(claim, {"status": "finished", "loss": claim.seed + wobble})
    assert [trial.state.name for trial in queue.study.trials] == ["COMPLETE"] * 3


@pytest.mark.parametrize(
    ("prune", "seeds", "extra", "named"),
    [
        ("mean", 6, {}, "accepted: median, wilcoxon"),
        ("wilcoxon", 4, {}, "has 4; accepted: 5 or more"),
        (
            "median",
            2,
            {"metric": {"name": "val/loss"}, "early_terminate": {"type": "hyperband", "min_iter": 2}},
            "beside early_terminate",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path, prune, seeds, extra, named):
    with pytest.raises(RequestError, match=named):
        made(tmp_path, prune, seeds, **extra)


@pytest.fixture
def early(file, change):
    rates = {"attention": {"value": "mha"}, "optimizer.lr": {"values": [0.003, 1e-6, 1e-7, 1e-8]}}
    rule = {"type": "hyperband", "min_iter": 1, "eta": 2}
    change(
        rates | {"budget.steps": {"value": 20}, "trainer.validations": {"value": 5}},
        metric={"name": "val/loss"},
        early_terminate=rule,
    )
    return file


def test_early_termination_ends_what_falls_behind_and_does_not_count_it(early, tmp_path):
    outcome = sweep(early, folder=tmp_path / "s")
    statuses = {p.trial.parameters["optimizer.lr"]: [] for p in outcome.planned}
    for planned in outcome.planned:
        statuses[planned.trial.parameters["optimizer.lr"]].append(planned.status)
    assert statuses[0.003] == statuses[1e-6] == ["finished", "finished"]  # the better half of two is two
    assert statuses[1e-7] == statuses[1e-8] == ["pruned", None]
    assert outcome.exit_code == 0
    pruned = [json.loads(path.read_text()) for path in (tmp_path / "s").glob(f"*/{files.RESULT}")]
    assert all(result["steps"] < 20 for result in pruned if result["status"] == "pruned")
    report = outcome.report.to_json()
    assert len(report["tables"][0]["configurations"]) == 2
    assert {run["status"] for run in report["not_counted"]} >= {"pruned"}
    again = sweep(early, folder=tmp_path / "s")
    assert [p.status for p in again.planned] == [p.status for p in outcome.planned]
    assert again.seconds == 0  # nothing is to run, and nobody is told so
    found = status(tmp_path / "s")
    assert found.counts == {"finished": 4, "pruned": 2, "given up": 2}
    assert not found.seconds_left


def test_pruning_that_could_not_happen_is_refused(early, tmp_path):
    with pytest.raises(RequestError, match=r"early_terminate: .* trainer.validations is 1"):
        sweep(early, ["trainer.validations=1"], folder=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_median_of_too_few_is_refused(file, tmp_path):
    with pytest.raises(RequestError, match=r"^--prune median: looks at a run beside 5 others; the sweep has 2 config"):
        sweep(file, ["trainer.validations=5"], folder=tmp_path / "s", prune="median")
    assert not (tmp_path / "s").exists()
