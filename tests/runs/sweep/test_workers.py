"""Several workers on one machine: the same numbers, whoever dies."""

import os
import re
import signal
from contextlib import suppress
from functools import partial

import pytest

from lab.errors import RequestError
from lab.runs.sweep import sweep, worker
from lab.runs.sweep.stop import SweepStop
from tests.runs.sweep.conftest import apart, at_work, numbers, pressed, results, statuses, until

START = worker.main


def kills_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def first_of_its_place(job, called):
    with suppress(FileExistsError):
        (job.folder / f"begun-{called}").touch(exist_ok=False)
        return True
    return False


def dies_at_its_start(called, job, *rest):
    if called == "0" and first_of_its_place(job, called):
        kills_itself()
    START(called, job, *rest)


def dies_at_every_start(called, job, *rest):
    kills_itself()


def one_dies_at_every_start(called, job, *rest):
    if called == "0":
        kills_itself()
    START(called, job, *rest)


def dies_in_its_first_run(called, job, *rest):
    if called == "0" and first_of_its_place(job, called):
        dying(lambda config: True)
    START(called, job, *rest)


def dies_of_mqa(called, job, *rest):
    dying(lambda config: config.choices.attention == "mqa")
    START(called, job, *rest)


def dying(of):
    from lab.runs import train

    fit = train.fit

    def deadly(config, *rest, **more):
        if of(config):
            kills_itself()
        return fit(config, *rest, **more)

    train.fit = deadly


@pytest.fixture
def workers(monkeypatch):
    """Sets what every worker of a sweep runs."""
    return lambda main: monkeypatch.setattr(worker, "main", main)


def test_two_workers_find_what_one_finds(file, tmp_path, capfd):
    sweep(file, folder=tmp_path / "one")
    outcome = sweep(file, folder=tmp_path / "two", jobs=2)
    assert outcome.exit_code == 0
    assert numbers(tmp_path / "two") == numbers(tmp_path / "one")
    assert len(numbers(tmp_path / "two")) == 4
    assert not list((tmp_path / "two").glob("worker-*.log"))  # nothing to read there
    assert "2 runs at once, 1 thread a run" in capfd.readouterr().err
    assert sweep(file, folder=tmp_path / "two", jobs=2).exit_code == 0  # nothing left


@pytest.mark.parametrize("main", [dies_at_its_start, one_dies_at_every_start, dies_in_its_first_run])
def test_a_worker_that_is_killed_is_not_the_end_of_the_sweep(file, tmp_path, workers, capfd, main):
    workers(main)
    assert sweep(file, folder=tmp_path / "s", jobs=2).exit_code == 0
    assert statuses(tmp_path / "s") == ["finished"] * 4
    where = r"in 0\d-" if main is dies_in_its_first_run else "between runs"
    assert re.search(f"a worker died of SIGKILL {where}", capfd.readouterr().err)


def test_workers_that_can_never_begin_end_it(file, tmp_path, workers):
    workers(dies_at_every_start)
    with pytest.raises(RequestError, match="every worker died of SIGKILL before it began a run"):
        sweep(file, folder=tmp_path / "s", jobs=2)


def test_a_run_that_kills_its_worker_twice_has_failed_and_the_rest_goes_on(file, tmp_path, workers):
    workers(dies_of_mqa)
    outcome = sweep(file, folder=tmp_path / "s", jobs=1)
    assert outcome.exit_code == 1
    found = {words[-2:]: (result["status"], result["error"]) for words, result in results(tmp_path / "s").items()}
    assert found == {
        ("attention=mha", "seed=0"): ("finished", None),
        ("attention=mha", "seed=1"): ("finished", None),
        ("attention=mqa", "seed=0"): ("failed", "its process died of SIGKILL, 2 times"),
        ("attention=mqa", "seed=1"): ("failed", "its process died of SIGKILL, 2 times"),
    }


def test_seeds_of_one_configuration_run_at_once(file, change, tmp_path):
    change({"attention": {"value": "mha"}})
    with pressed(lambda: len(at_work(tmp_path / "s")) == 2, lambda: SweepStop._open and SweepStop._open.finishing):
        outcome = sweep(file, ["budget.steps=100000"], folder=tmp_path / "s", jobs=2)
    assert [run.status for run in outcome.planned] == ["stopped"] * 2


def test_no_more_workers_than_runs(file, tmp_path, capfd):
    assert sweep(file, folder=tmp_path / "s", jobs=7).exit_code == 0
    assert "--jobs: 4 of 7; there are no more runs" in capfd.readouterr().err


def test_ctrl_c_once_finishes_what_runs_and_the_same_command_goes_on(file, tmp_path):
    words = ["budget.steps=40"]
    with pressed(lambda: at_work(tmp_path / "s")):
        outcome = sweep(file, words, folder=tmp_path / "s", jobs=2)
    assert outcome.exit_code == 130
    done = statuses(tmp_path / "s")
    assert set(done) == {"finished"}
    assert 1 <= len(done) < 4
    assert sweep(file, words, folder=tmp_path / "s").exit_code == 0
    assert statuses(tmp_path / "s") == ["finished"] * 4


def test_workers_end_when_the_one_who_started_them_is_killed(file, tmp_path):
    with apart(partial(sweep, file, ["budget.steps=100000"], folder=tmp_path / "s", jobs=2)) as process:
        assert until(lambda: len(at_work(tmp_path / "s")) == 2)
        process.kill()
        process.join()
    assert until(lambda: statuses(tmp_path / "s") == ["stopped"] * 2)
