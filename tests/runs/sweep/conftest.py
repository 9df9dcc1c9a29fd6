"""What tests of sweeps share: a small sweep, what became of one, Ctrl-C, a process of its own."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.runs import folder as files
from lab.runs.sweep import processes

COMMAND = ["${env}", "lab", "train", "${args_no_hyphens}"]
OTHER_FORMS = ["${args_no_equals}", "${args_no_boolean_flags}", "${args_json}", "${args_json_file}"]
"""Of parameters, that are not `key=value` each."""


def constants(words) -> dict[str, Any]:
    """Overrides as a sweep's parameters."""
    pairs = (word.partition("=")[::2] for word in words)
    return {key: {"value": yaml.safe_load(value)} for key, value in pairs}


@pytest.fixture
def file(tmp_path, small) -> Path:
    """A sweep of two configurations with two seeds, each run a fraction of a second."""
    parameters = constants(small) | {"attention": {"values": ["mha", "mqa"]}, "seed": {"values": [0, 1]}}
    path = tmp_path / "little.yaml"
    path.write_text(yaml.safe_dump({"method": "grid", "command": COMMAND, "parameters": parameters}, sort_keys=False))
    return path


@pytest.fixture
def change(file) -> Callable[..., None]:
    """Writes the file anew, with other keys and other parameters."""

    def write(parameters: dict | None = None, **keys: Any) -> None:
        content = yaml.safe_load(file.read_text()) | keys
        content["parameters"] |= parameters or {}
        file.write_text(yaml.safe_dump(content, sort_keys=False))

    return write


@pytest.fixture
def agent(tmp_path, monkeypatch) -> Callable[..., list[str]]:
    """What the installed client starts for the parameters of a run: its own agent, stopped before the process."""
    from wandb import wandb_agent

    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "")  # which the agent sets for its children
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    started: list[list[str]] = []
    monkeypatch.setattr(wandb_agent.AgentProcess, "__init__", lambda _, command, **__: started.append(command))

    def start(command: list[str], parameters: dict[str, Any], program: str | None = None) -> list[str]:
        one = wandb_agent.Agent(None, None)
        one._sweep_command = list(command)
        sent = {name: {"value": value} for name, value in parameters.items()}
        one._command_run({"run_id": "r1", "program": program, "args": sent})
        return started[-1]

    return start


def results(folder: Path) -> dict[tuple[str, ...], dict[str, Any]]:
    """What every run came to, by its overrides."""
    found = [json.loads(path.read_text()) for path in Path(folder).glob(f"*/{files.RESULT}")]
    return {tuple(result["overrides"]): result for result in found}


def numbers(folder: Path) -> dict[tuple[str, ...], tuple]:
    """What must be the same, whoever ran it."""
    keys = ("status", "val/bpb", "train/loss", "tokens_seen", "threads")
    return {words: tuple(result[key] for key in keys) for words, result in results(folder).items()}


def statuses(folder: Path) -> list[str]:
    return sorted(result["status"] for result in results(folder).values())


def at_work(folder: Path) -> list[str]:
    """Runs that have measured something."""
    return [path.parent.name for path in Path(folder).glob(f"*/{files.METRICS}")]


def until(what: Callable[[], Any], seconds: float = 90) -> Any:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


@contextmanager
def pressed(*when: Callable[[], Any]) -> Iterator[None]:
    """Ctrl-C in this process, each time that something is so; it does nothing to who does not listen.

    Where it never is so, Ctrl-C ends what runs all the same, and the test fails.
    """
    missed = []

    def press() -> None:
        for each in when:
            if not until(each):
                missed.append(each)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, lambda *_: None)
    pressing = threading.Thread(target=press)
    pressing.start()
    try:
        yield
        pressing.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not missed


@contextmanager
def apart(target: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
    """A process of its own, which has imported all; killed in the end."""
    processes.prepare()
    with processes.main_hidden():
        process = processes.context().Process(target=target, args=arguments)
        process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
