"""Each variant's own best value, by the same trials for all."""

import pytest

from lab.errors import RequestError
from lab.runs.comparison.collect import read_runs
from lab.runs.tune import Tuning, choose
from tests.runs.synthetic import write_run


def test_lists_and_ranges():
    assert Tuning.read("optimizer.lr=0.01,0.001,1e-2,0.003").values == (0.001, 0.003, 0.01)
    spread = Tuning.read("optimizer.lr=0.001..0.016:5")
    assert spread.words == ["0.001", "0.002", "0.004", "0.008", "0.016"]
    assert [spread.on_edge(word) for word in spread.words] == [True, False, False, False, True]


@pytest.mark.parametrize(
    "text",
    ["optimizer.lr", "=0.1,0.2", "optimizer.lr=0.1", "lr=0.1..0.2", "lr=0.2..0.1:3", "lr=1..2:1", "lr=a,b", "lr=nan,1"],
)
def test_other_writing_is_refused(text):
    with pytest.raises(RequestError, match="write KEY=VALUE,VALUE"):
        Tuning.read(text)


@pytest.fixture
def trials(tmp_path):
    """Three rates of two variants; the last of the second diverged."""
    reached = {"mha": (2.0, 1.8, 1.9), "mqa": (2.0, 1.9, 1.0)}
    for name, values in reached.items():
        for rate, value in zip(("0.001", "0.003", "1e-2"), values, strict=True):
            words = [f"attention={name}", f"optimizer.lr={rate}"]
            status = "diverged" if value == 1.0 else "finished"
            write_run(tmp_path / f"{name}{rate}", words, value, 1_000_000, status=status)
    return read_runs([tmp_path])


def test_the_best_finished_trial_is_chosen_and_an_edge_is_said(trials):
    tuning = Tuning.read("optimizer.lr=0.001,0.003,0.01")
    found = choose(tuning, trials, lambda run: run.choices["attention"])
    assert {name: (each.value, each.edge) for name, each in found.items()} == {
        "mha": ("0.003", False),
        "mqa": ("0.003", False),
    }
    assert found["mqa"].reached["0.01"] is None
    two = choose(Tuning.read("optimizer.lr=0.001,0.003"), trials, lambda run: run.choices["attention"])
    assert all(each.edge for each in two.values())


def test_a_measure_of_which_more_is_better(tmp_path):
    headline = {"name": "val/accuracy", "unit": "share", "direction": "max"}
    for rate, value in (("0.1", 0.5), ("0.2", 0.7)):
        write_run(tmp_path / rate, [f"optimizer.lr={rate}"], 1.0, headline=headline, **{"val/accuracy": value})
    found = choose(Tuning.read("optimizer.lr=0.1,0.2"), read_runs([tmp_path]), lambda _: "all")
    assert found["all"].value == "0.2"


def test_nothing_finished_is_an_edge(tmp_path):
    write_run(tmp_path / "a", ["optimizer.lr=0.1"], 1.0, status="failed")
    found = choose(Tuning.read("optimizer.lr=0.1,0.2"), read_runs([tmp_path]), lambda _: "all")
    assert (found["all"].value, found["all"].edge) == ("0.1", True)
