"""What W&B gets of a run, read back with its own reader."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from lab.config import compose
from lab.errors import RequestError
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


class Refusing(BaseHTTPRequestHandler):
    """A server that takes no key."""

    def do_POST(self):
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b'{"errors": [{"message": "invalid key"}]}')

    def log_message(self, *_):
        pass


@pytest.fixture
def refusing(anonymous, monkeypatch):
    """Somebody is logged in, at a server that does not take the key."""
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()


def test_a_key_that_is_refused_makes_the_runs_offline_and_that_is_said_once(refusing, small, tmp_path):
    overrides = [word for word in small if word != "logger=none"]
    command = [
        sys.executable,
        "-m",
        "lab",
        "train",
        "-m",
        *overrides,
        "seed=0,1",
        f"hydra.sweep.dir={tmp_path}/m",
        "--json",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert ended.returncode == 0, ended.stderr
    assert all("offline-run" in run["wandb"] for run in json.loads(ended.stdout))
    assert ended.stderr.count("runs are written offline") == 1
    assert "invalid key" in ended.stderr


def test_without_an_answer_runs_are_offline_and_that_is_said_once(anonymous, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    assert not tracker.server_answers()
    assert not tracker.server_answers()
    assert capfd.readouterr().err.count("runs are written offline") == 1


def test_online_without_a_login_is_refused_not_asked_for(anonymous, small, tmp_path):
    overrides = [word for word in small if word != "logger=none"]
    with pytest.raises(RequestError, match=r"logger.mode: online; takes `wandb login`"):
        train(compose(*overrides, "logger.mode=online"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_seeds_of_a_configuration_share_a_group_and_configurations_do_not(small):
    one, two = (compose(*small, f"seed={seed}") for seed in (0, 1))
    other = compose(*small, "attention=mqa")
    assert tracker.group_name(one) == tracker.group_name(two) != tracker.group_name(other)


def test_two_runs_in_one_process_are_two_runs_in_wandb(small, tmp_path, anonymous):
    overrides = [word for word in small if word != "logger=none"]
    places = {train(compose(*overrides, f"seed={s}"), tmp_path / str(s)).result["wandb"] for s in (0, 1)}
    assert len(places) == 2
    assert [inspect(place)["config"]["seed"] for place in sorted(places)] == [0, 1]
