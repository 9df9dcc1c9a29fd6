"""The same file on W&B's server: it chooses the runs, and its agent runs them in this process, which imports once.

Any number of machines may join. Nested parameters, which the agent would hand to a command as the text of a dictionary,
arrive here as they are.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from lab.console import say
from lab.errors import RequestError
from lab.runs.comparison.collect import flat
from lab.runs.pace import Pruned
from lab.runs.sweep.command import override_key
from lab.runs.sweep.engine import Watch, run_one
from lab.runs.sweep.job import Job, Planned
from lab.runs.sweep.plan import Point
from lab.runs.sweep.stop import SweepStop

LOOK = 0.1
"""Seconds between looks at whether a run has ended."""


class AgentStop(SweepStop):
    """Ctrl-C beside W&B's agent, which is left once the run under way has ended."""

    leaving = False

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.leaving:
            raise KeyboardInterrupt  # what the agent ends by
        super()._ask(number, frame)


def definition(job: Job) -> dict[str, Any]:
    """What the server gets: the file, with the overrides typed beside it as words of its command."""
    content = {**job.plan.sweep.document.content, "command": [*job.plan.sweep.command, *job.plan.overrides]}
    typed = {override_key(word, "override") for word in job.plan.overrides}
    content["parameters"] = {name: value for name, value in content["parameters"].items() if name not in typed}
    return content


def work_online(job: Job, stop: AgentStop, watch: Watch, joined: str | None = None) -> list[Planned]:
    """Create the sweep on the server, or join one, and run what it sends until it has no more.

    Args:
        job: of the file.
        stop: open.
        watch: told how it goes.
        joined: the address of a sweep that is there: ID, PROJECT/ID or ENTITY/PROJECT/ID.

    Returns:
        The runs that this process made.

    Raises:
        RequestError: nobody is logged in, the server does not answer or refuses.
    """
    import wandb

    check_online(job)
    try:
        sweep_id = joined or wandb.sweep(definition(job), project=job.plan.sweep.project)
        say(f"W&B sweep {sweep_id}: `lab sweep {job.plan.sweep.path} --join {sweep_id}` joins from another machine")
        runs: list[Planned] = []

        def run_next() -> None:
            run = sent(job, _parameters())
            runs.append(run)
            watch.begin(run)
            watch.end(run, _attended(run, watch))
            if stop.finishing:
                stop.leaving = True
                _thread.interrupt_main(signal.SIGINT)

        wandb.agent(sweep_id, run_next, project=job.plan.sweep.project)
    except wandb.Error as error:
        raise RequestError(f"--online: {str(error).strip() or type(error).__name__}") from None
    return runs


def _attended(run: Planned, watch: Watch) -> Mapping[str, Any]:
    """Run it in a thread of its own, and prune it where the server wants it ended early.

    W&B's agent ends a run by an exception in the thread that it has called, wherever that is; this one only waits.
    """
    over, unwanted = threading.Event(), threading.Event()
    came: list[Mapping[str, Any]] = []
    broken: list[BaseException] = []

    def observe(row: Mapping[str, Any]) -> None:
        watch.observe(run, row)
        if unwanted.is_set():
            raise Pruned

    def train() -> None:
        try:
            came.append(run_one(run, observe))
        except BaseException as error:  # for the thread that waits
            broken.append(error)
        finally:
            over.set()

    threading.Thread(target=train, name=run.folder.name).start()
    while not over.is_set():
        try:
            while not over.is_set():
                time.sleep(LOOK)
        except Exception:  # the agent's
            unwanted.set()
    if broken:
        raise broken[0]
    return came[0]


def check_online(job: Job) -> None:
    """Refuse what would reach no server.

    Raises:
        RequestError: the runs are not logged to W&B, or nobody is logged in.
    """
    from lab.runs.tracker import server_answers

    if job.example().config.logger.kind != "wandb":
        raise RequestError("--online: logger.kind is none, so the server would hear of no run; accepted: logger=wandb")
    if job.plan.sweep.method != "grid" and len(job.plan.seeds) > 1:
        say("--online: seeds are drawn like any other parameter by W&B's server; grids alone pair them")
    if not server_answers():
        raise RequestError("--online: takes a server that answers and `wandb login` or WANDB_API_KEY")


def sent(job: Job, parameters: Mapping[str, Any]) -> Planned:
    """The run that the server sent, numbered as the file's plan numbers it, else as a new configuration."""
    chosen = {name: value for name, value in parameters.items() if name != "seed" and name in job.plan.space}
    known = {repr(sorted((point.parameters or {}).items())): point.number for point in job.plan.points}
    there = {int(path.name.partition("-")[0]) for path in job.folder.glob("[0-9]*-seed*")}
    number = known.get(repr(sorted(chosen.items())), max([*there, len(job.plan.points) - 1]) + 1)
    return job.planned(Point(number, chosen, job.plan.seeds), int(parameters.get("seed", job.plan.seeds[0])))


def _parameters() -> dict[str, Any]:
    """What the agent's file says of this run, under dotted names."""
    written = yaml.safe_load(Path(os.environ["WANDB_SWEEP_PARAM_PATH"]).read_text(encoding="utf-8"))
    return dict(flat({name: each["value"] for name, each in written.items() if isinstance(each, dict)}))
