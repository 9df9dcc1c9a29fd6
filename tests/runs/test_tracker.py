"""What W&B gets of a run, read back with its own reader."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.config import compose
from lab.runs import tracker
from lab.runs.train import train


@pytest.fixture
def anonymous(monkeypatch, tmp_path):
    """Nobody is logged in."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    tracker.server_answers.cache_clear()
    yield
    tracker.server_answers.cache_clear()


def inspect(place):
    """The run's summary by `wandb leet inspect`."""
    command = [Path(sys.executable).parent / "wandb", "leet", "inspect", str(place), "--summary", "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_an_offline_run_holds_choices_configuration_curves_and_result(small, tmp_path, anonymous, capfd):
    overrides = [word for word in small if word != "logger=none"]
    run = train(compose(*overrides, "logger=wandb", "ffn=moe", "trainer.log_every=1"), tmp_path / "run")
    assert run.status == "finished", run.result["error"]
    assert capfd.readouterr().err.count("not logged in") == 1
    seen = inspect(run.result["wandb"])
    assert seen["config"]["ffn"] == "moe"
    assert seen["config"]["seed"] == 0
    assert seen["config"]["lab"]["ffn"]["experts"] == 8
    text = json.dumps(seen)
    for key in ("val/bpb", "val/loss", "train/loss", "grad_norm", "lr", "tokens_per_second", "experts/layer0/expert7"):
        assert key in text, key
    result = {key: value for key, value in run.result.items() if isinstance(value, int | float | str)}
    assert {key: seen["summary"].get(key) for key in result} == pytest.approx(result)


def test_without_an_answer_the_run_is_offline_and_that_is_said_once(anonymous, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert not tracker.server_answers()
    assert not tracker.server_answers()
    assert capfd.readouterr().err.count("does not answer") == 1


def test_seeds_of_a_configuration_share_a_group_and_configurations_do_not(small):
    one, two = (compose(*small, f"seed={seed}") for seed in (0, 1))
    other = compose(*small, "attention=mqa")
    assert tracker.group_name(one) == tracker.group_name(two) != tracker.group_name(other)


def test_two_runs_in_one_process_are_two_runs_in_wandb(small, tmp_path, anonymous):
    overrides = [word for word in small if word != "logger=none"]
    places = {train(compose(*overrides, f"seed={s}"), tmp_path / str(s)).result["wandb"] for s in (0, 1)}
    assert len(places) == 2
    assert [inspect(place)["config"]["seed"] for place in sorted(places)] == [0, 1]
