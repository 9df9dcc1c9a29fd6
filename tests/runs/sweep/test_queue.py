"""Who runs what: every run once, whoever dies; of a search a configuration with all of its seeds."""

import itertools
import statistics
import threading

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from lab.runs.sweep.file import read_sweep
from lab.runs.sweep.plan import Plan
from lab.runs.sweep.queue import Queue
from lab.runs.sweep.sampler import QUANTILE, Sampler
from lab.runs.sweep.storage import open_database, open_journal
from lab.runs.sweep.trials import has_status

GRID = {"method": "grid", "parameters": {"a": {"values": [1, 2, 3]}, "seed": {"values": [0, 1]}}}
SEARCH = {
    "method": "bayes",
    "run_cap": 12,
    "metric": {"name": "loss"},
    "parameters": {
        "x": {"min": 0.0, "max": 1.0},
        "n": {"distribution": "normal", "mu": 0.0, "sigma": 1.0},
        "k": {"values": ["one", "two"]},
        "fixed": {"value": 5},
        "seed": {"values": [0, 1]},
    },
}


def has_failed(point, seed, result):
    """What has failed is made anew."""
    return has_status(result, "failed")


@pytest.fixture(params=["journal", "sqlite"])
def place(request, tmp_path):
    """How each worker opens the storage."""
    if request.param == "journal":
        return lambda: open_journal(tmp_path)
    return lambda: open_database(f"sqlite:///{tmp_path}/study.db")


@pytest.fixture
def journal(tmp_path):
    return lambda: open_journal(tmp_path)


def make(place, tmp_path, content=GRID, known=lambda point: {}):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({"command": ["lab", "train", "${args}"], **content}, sort_keys=False))
    queue = Queue(place(), "study", Sampler(Plan(read_sweep(path))), "loss", False, known)
    queue.fill()
    return queue


def result(claim, value=None):
    a = claim.point.parameters.get("a", 0)
    return {"status": "finished", "loss": a + claim.seed / 2 if value is None else value}


def finish(queue):
    """Run all that is left; what was run, in its order."""
    done = []
    while claim := queue.claim():
        with queue.kept(claim):
            if claim.seed is not None:
                queue.tell(claim, result(claim))
                done.append((claim.point.parameters["a"], claim.seed))
    return done


def test_a_trial_is_a_run_and_all_configurations_come_before_the_next_seed(place, tmp_path):
    queue = make(place, tmp_path)
    order = [(a, seed) for seed in (0, 1) for a in (1, 2, 3)]
    assert finish(queue) == order
    trials = queue.study.trials
    assert [(t.state, t.params, t.value) for t in trials] == [
        (TrialState.COMPLETE, {"a": a, "seed": seed}, a + seed / 2) for a, seed in order
    ]
    assert trials[3].user_attrs["result/1"]["loss"] == 1.5
    assert queue.study.best_params == {"a": 1, "seed": 0}
    assert [(point.parameters["a"], sorted(results)) for point, results in queue.results()] == [
        (a, [0, 1]) for a in (1, 2, 3)
    ]


def test_seeds_of_a_configuration_are_run_side_by_side(place, tmp_path):
    queue = make(place, tmp_path, GRID | {"parameters": {"a": {"value": 1}, "seed": {"values": [4, 2, 7]}}})
    claims = [queue.claim() for _ in range(3)]
    assert [claim.seed for claim in claims] == [4, 2, 7]
    assert queue.claim() is None
    for claim in claims:
        queue.tell(claim, result(claim))
        queue.give_back(claim)
    assert not queue.left()
    ((point, results),) = queue.results()
    assert point.seeds == (4, 2, 7)
    assert {seed: found["loss"] for seed, found in results.items()} == {4: 3.0, 2: 2.0, 7: 4.5}


def test_a_study_of_configurations_goes_on_run_by_run(place, tmp_path, monkeypatch):
    """As an earlier version left it."""
    with monkeypatch.context() as before:
        before.setattr("lab.runs.sweep.shares._by_run", lambda plan, pruning: False)
        queue = make(place, tmp_path)
        for _ in range(4):
            claim = queue.claim()
            queue.tell(claim, result(claim))
            queue.give_back(claim)
    queue = make(place, tmp_path)
    assert queue.left()
    assert finish(queue) == [(2, 1), (3, 1)]
    assert not queue.left()
    assert [len(results) for _, results in queue.results()] == [2, 2, 2]
    queue.fill(has_failed)
    assert finish(queue) == []


def test_workers_at_once_run_everything_once(place, tmp_path):
    """Each with its own connection; all of them find the study empty and fill it."""
    many = {"method": "grid", "parameters": {"a": {"values": list(range(8))}, "seed": {"values": [0, 1]}}}
    queues = [make(place, tmp_path, many) for _ in range(4)]
    done = [[] for _ in queues]
    threads = [threading.Thread(target=lambda q=q, d=d: d.extend(finish(q))) for q, d in zip(queues, done, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs = [(a, seed) for a in range(8) for seed in (0, 1)]
    assert sorted(itertools.chain(*done)) == runs
    complete = [t for t in queues[0].study.trials if t.state == TrialState.COMPLETE]
    assert sorted((t.params["a"], t.params["seed"]) for t in complete) == runs


def test_twins_step_back(place, tmp_path):
    queue = make(place, tmp_path)
    for share in queue.shares.all:
        queue._add(share, [], {}, set())
    assert len(finish(queue)) == 6
    states = [t.state for t in queue.study.trials]
    assert states == [TrialState.COMPLETE] * 6 + [TrialState.FAIL] * 6


def test_a_dead_workers_runs_are_run_by_others(place, tmp_path):
    queue = make(place, tmp_path)
    first = queue.claim()
    queue.tell(first, result(first))
    queue.give_back(first)
    claimed = [queue.claim() for _ in range(5)]
    assert {(c.point.parameters["a"], c.seed) for c in claimed} == {(2, 0), (3, 0), (1, 1), (2, 1), (3, 1)}
    assert queue.claim() is None
    assert queue.others_run()
    queue.end_running()
    assert finish(queue) == [(2, 0), (3, 0), (1, 1), (2, 1), (3, 1)]
    complete = [t for t in queue.study.trials if t.state == TrialState.COMPLETE]
    assert sorted(t.value for t in complete) == [1.0, 1.5, 2.0, 2.5, 3.0, 3.5]


def test_a_dead_workers_configuration_of_a_search_goes_on_where_it_was(place, tmp_path):
    queue = make(place, tmp_path, SEARCH)
    first = queue.claim()
    queue.tell(first, {"status": "finished", "loss": 1.0})
    queue.end_running()
    again = queue.claim()
    assert (again.point, again.seed) == (first.point, 1)


def test_what_a_worker_tells_after_it_was_taken_for_dead_is_not_counted(place, tmp_path):
    queue = make(place, tmp_path)
    claim = queue.claim()
    queue.end_running()
    queue.tell(claim, result(claim, 1000.0))
    queue.give_back(claim)
    assert len(finish(queue)) == 6
    assert max(t.value for t in queue.study.trials if t.value is not None) == 3.5


def test_a_worker_that_dies_after_its_last_word_loses_nothing(journal, tmp_path):
    queue = make(journal, tmp_path, GRID | {"parameters": {"a": {"values": [1]}}})
    claim = queue.claim()
    queue.tell(claim, result(claim))
    queue.end_running()
    assert [t.value for t in queue.study.trials if t.state == TrialState.COMPLETE] == [1.0]
    assert queue.claim() is None


def test_a_run_whose_process_died_is_tried_once_more(journal, tmp_path):
    queue = make(journal, tmp_path, GRID | {"parameters": {"a": {"values": [1, 2]}}})
    for _ in range(2):
        claim = queue.claim()
        assert claim.point.parameters == {"a": 1}
        worker = queue.storage.get_trial(claim.trial_id).user_attrs["worker"]
        queue.end_running(worker, "died of signal 9")
    assert finish(queue) == [(2, 0)]
    (_, failed), (_, finished) = queue.results()
    assert failed[0]["status"] == "failed"
    assert "signal 9, 2 times" in failed[0]["error"]
    assert finished[0]["status"] == "finished"
    queue.fill(has_failed)
    assert finish(queue) == [(1, 0)]


def test_a_run_whose_workers_fall_silent_is_tried_once_more(place, tmp_path):
    queue = make(place, tmp_path, GRID | {"parameters": {"a": {"values": [1, 2]}}})
    for _ in range(2):
        claim = queue.claim()
        assert claim.point.parameters == {"a": 1}
        queue._set(claim.trial_id, TrialState.FAIL)  # as Optuna does without a heartbeat
    assert finish(make(place, tmp_path, GRID | {"parameters": {"a": {"values": [1, 2]}}})) == [(2, 0)]
    (_, failed), _ = queue.results()
    assert failed[0] == {"status": "failed", "error": "its process gave no sign of life, 2 times", "seed": 0}


def test_a_sweep_may_be_killed_as_often_as_one_likes(journal, tmp_path):
    queue = make(journal, tmp_path)
    for _ in range(4):
        assert queue.claim().point.parameters == {"a": 1}
        queue.end_running()
    assert len(finish(queue)) == 6


def test_failures_are_run_again_only_when_asked(journal, tmp_path):
    queue = make(journal, tmp_path)
    while claim := queue.claim():
        with queue.kept(claim):
            broken = claim.point.parameters["a"] == 2
            queue.tell(claim, {"status": "failed"} if broken else result(claim))
    assert [t.state for t in queue.study.trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE] * 2
    assert finish(make(journal, tmp_path)) == []
    queue.fill(has_failed)
    assert finish(queue) == [(2, 0), (2, 1)]
    queue.fill(has_failed)
    assert finish(queue) == []


def test_what_folders_hold_is_not_run(journal, tmp_path):
    queue = make(journal, tmp_path, known=lambda point: {1: {"status": "finished", "loss": 7.0}})
    assert finish(queue) == [(1, 0), (2, 0), (3, 0)]
    assert [t.value for t in queue.study.trials] == [1.0, 2.0, 3.0, 7.0, 7.0, 7.0]


def test_more_seeds_keep_the_results_there_are(journal, tmp_path):
    finish(make(journal, tmp_path))
    more = GRID["parameters"] | {"seed": {"values": [0, 1, 2]}}
    assert finish(make(journal, tmp_path, GRID | {"parameters": more})) == [(1, 2), (2, 2), (3, 2)]


def test_what_diverges_is_no_value(journal, tmp_path):
    queue = make(journal, tmp_path)
    while claim := queue.claim():
        with queue.kept(claim):
            diverged = claim.point.parameters["a"] == 2 and claim.seed == 1
            queue.tell(claim, {"status": "diverged", "loss": None} if diverged else result(claim))
    assert [t.state.name for t in queue.study.trials] == ["COMPLETE"] * 4 + ["PRUNED", "COMPLETE"]


def test_a_target_ends_the_sweep(journal, tmp_path):
    queue = make(journal, tmp_path, GRID | {"metric": {"name": "loss", "target": 1.3}})
    reached = []
    while claim := queue.claim():
        with queue.kept(claim):
            queue.tell(claim, result(claim))
        reached.append(queue.reached())
    assert reached == [False] * 3 + [True] * 3  # the mean over both seeds of the first, not its better one


def search(queue):
    """What a search chooses for a bowl around x = 0.3, n = 1."""
    chosen = []
    while claim := queue.claim():
        with queue.kept(claim):
            p = claim.point.parameters
            loss = (p["x"] - 0.3) ** 2 + (p["n"] - 1) ** 2 + (p["k"] == "two") + claim.seed / 100
            queue.tell(claim, {"status": "finished", "loss": loss})
            chosen.append((claim.point.number, claim.seed, p))
    return chosen


def test_a_search_runs_a_configuration_with_all_seeds_before_the_next(journal, tmp_path):
    queue = make(journal, tmp_path, SEARCH)
    chosen = search(queue)
    assert [(number, seed) for number, seed, _ in chosen] == [(n, seed) for n in range(12) for seed in (0, 1)]
    assert all(first[2] == second[2] for first, second in zip(chosen[::2], chosen[1::2], strict=True))
    assert all(p["fixed"] == 5 and p["k"] in ("one", "two") for _, _, p in chosen)
    trials = queue.study.trials
    assert len(trials) == 12
    assert set(trials[0].params) == {"x", "k", QUANTILE.format("n")}
    assert trials[0].user_attrs["parameters"] == chosen[0][2]
    assert trials[3].value == pytest.approx(sum(trials[3].intermediate_values.values()) / 2)


def test_a_search_finds_better_values_than_chance(journal, tmp_path):
    content = SEARCH | {"run_cap": 60, "parameters": {k: v for k, v in SEARCH["parameters"].items() if k != "seed"}}
    queue = make(journal, tmp_path, content)
    while claim := queue.claim():
        with queue.kept(claim):
            p = claim.point.parameters
            queue.tell(claim, {"status": "finished", "loss": (p["x"] - 0.3) ** 2 + (p["n"] - 1) ** 2})
    values = [t.value for t in queue.study.trials]
    first, last = statistics.median(values[:15]), statistics.median(values[45:])
    assert last < first / 2
    assert min(values) < 0.02


def test_a_search_stopped_and_started_again_chooses_the_same(journal, tmp_path):
    whole = search(make(lambda: optuna.storages.InMemoryStorage(), tmp_path, SEARCH))
    queue = make(journal, tmp_path, SEARCH)
    begun = []
    for _ in range(7):
        claim = queue.claim()
        p = claim.point.parameters
        loss = (p["x"] - 0.3) ** 2 + (p["n"] - 1) ** 2 + (p["k"] == "two") + claim.seed / 100
        queue.tell(claim, {"status": "finished", "loss": loss})
        queue.give_back(claim)
        begun.append((claim.point.number, claim.seed, p))
    assert begun + search(make(journal, tmp_path, SEARCH)) == whole


def test_a_random_search_shows_its_values(journal, tmp_path):
    content = SEARCH | {"method": "random", "run_cap": 3}
    queue = make(journal, tmp_path, content)
    pairs = [(point, seed) for seed in (0, 1) for point in queue.shares.plan.points]
    for trial, (point, seed) in zip(queue.study.trials, pairs, strict=True):
        assert trial.params == {"seed": seed} | {name: point.parameters[name] for name in ("x", "n", "k")}


def seeded(content, *seeds):
    return content | {"parameters": content["parameters"] | {"seed": {"values": list(seeds)}}}


def test_a_search_called_with_other_seeds_keeps_each_result_with_its_configuration(journal, tmp_path):
    ran = {}

    def some(queue, most=None):
        while (most is None or len(ran) < most) and (claim := queue.claim()):
            with queue.kept(claim):
                if claim.seed is not None:
                    key = claim.point.number, claim.seed, repr(claim.point.parameters)
                    assert key not in ran
                    ran[key] = claim.point.parameters["x"] + claim.seed
                    queue.tell(claim, {"status": "finished", "loss": ran[key]})

    some(make(journal, tmp_path, SEARCH), most=3)
    for seeds in ((0,), (0, 1), (0,)):
        queue = make(journal, tmp_path, seeded(SEARCH, *seeds))
        some(queue)
        found = queue.results()
        assert len(found) == 12
        for point, results in found:
            assert {seed: ran[point.number, seed, repr(point.parameters)] for seed in seeds} == {
                seed: results[seed]["loss"] for seed in seeds
            }
    assert len(ran) == 24


def test_workers_that_choose_the_same_run_it_once(place, tmp_path):
    narrow = SEARCH | {"run_cap": 6, "parameters": {"k": {"values": ["one", "two"]}, "seed": {"values": [0, 1]}}}
    first, second = make(place, tmp_path, narrow), make(place, tmp_path, narrow)
    ran, held = [], {}
    for queue in itertools.cycle((first, second)):
        if queue in held:
            claim = held.pop(queue)
            queue.tell(claim, {"status": "finished", "loss": len(claim.point.parameters["k"]) + claim.seed})
            queue.give_back(claim)
        claim = queue.claim()
        while claim is not None and claim.seed is None:
            queue.give_back(claim)
            claim = queue.claim()
        if claim is not None:
            ran.append((claim.point.parameters["k"], claim.seed))
            held[queue] = claim
        elif not held:
            break
    assert sorted(ran) == [("one", 0), ("one", 1), ("two", 0), ("two", 1)]
    assert [t.value for t in first.study.trials if t.state == TrialState.COMPLETE] == [3.5] * 6


def test_of_two_that_choose_the_same_at_once_one_steps_back(place, tmp_path, monkeypatch):
    narrow = SEARCH | {"run_cap": 2, "parameters": {"k": {"values": ["one", "two"]}}}
    first, second = make(place, tmp_path, narrow), make(place, tmp_path, narrow)
    chosen = []

    def choose(self, name, storage, trial_id, number):
        if self is first.sampler and not chosen:
            chosen.append(second.claim())  # chooses, and begins, before the first has written its choice
        return {"k": "one"}

    monkeypatch.setattr(Sampler, "choose", choose)
    monkeypatch.setattr("lab.runs.sweep.queue.MEETING", 0.01)
    assert first.claim() is None
    assert first.others_run()
    second.tell(chosen[0], {"status": "finished", "loss": 3.0})
    second.give_back(chosen[0])
    assert first.claim().seed is None  # taken over


def test_a_worker_waits_for_those_alone_that_run_what_it_wants(place, tmp_path):
    one, more = make(place, tmp_path, seeded(GRID, 0)), make(place, tmp_path, seeded(GRID, 0, 1))
    assert len(finish(one)) == 3
    claim = more.claim()
    assert claim.seed == 1
    assert more.others_run()
    assert not one.others_run()
    assert not one.left()


def test_a_run_that_is_under_way_with_other_seeds_is_not_begun(place, tmp_path, monkeypatch):
    """One worker takes whole configurations, as where it prunes."""
    with monkeypatch.context() as before:
        before.setattr("lab.runs.sweep.shares._by_run", lambda plan, pruning: False)
        whole = make(place, tmp_path)
    first = whole.claim()
    single = make(place, tmp_path)
    claims = [single.claim() for _ in range(4)]
    assert [(c.point.parameters["a"], c.seed) for c in claims] == [(2, 0), (3, 0), (2, 1), (3, 1)]
    assert single.claim() is None
    assert single.others_run()
    whole.tell(first, result(first, 7.0))
    whole.give_back(first)
    assert finish(single) == [(1, 1)]
    assert single.results()[0][1][0]["loss"] == 7.0


def test_a_failure_that_is_tried_again_is_no_result_meanwhile(place, tmp_path):
    queue = make(place, tmp_path)
    while claim := queue.claim():
        with queue.kept(claim):
            queue.tell(claim, {"status": "failed"} if claim.seed else result(claim))
    assert all(results[1]["status"] == "failed" for _, results in queue.results())
    queue.fill(has_failed)
    claim = queue.claim()
    assert [sorted(results) for _, results in queue.results()] == [[0]] * 3
    queue.give_back(claim)
