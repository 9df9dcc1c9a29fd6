"""Runs that only W&B wrote down: its offline folders, read by W&B's own reader.

A run folder of the lab holds more and is preferred: what `wandb agent` started has one, with the W&B folder inside it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.runs.comparison.collect import FINISHED, NO_RESULT, NUMBERED, UNREADABLE, RunRecord, flat

if TYPE_CHECKING:
    import numpy as np


OWN_NAMES = {"step": "_step", "seconds": "_runtime"}
"""What W&B calls columns that the lab logs itself."""


@dataclass(frozen=True, eq=False)
class WandbRecord(RunRecord):
    """A run without a folder of the lab's; its configuration and curve come from W&B's file."""

    settings: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, its keys dotted."""
        return dict(flat(self.settings))

    @cached_property
    def curve(self) -> dict[str, np.ndarray]:
        """Columns of what was logged, `[rows]` float64, NaN where not measured."""
        import numpy as np

        names = dict.fromkeys(name for row in self.history for name in row)
        columns = {
            name: np.array(
                [value if isinstance(value := row.get(name), int | float) else np.nan for row in self.history]
            )
            for name in names
        }
        own = {name: columns[key] for name, key in OWN_NAMES.items() if key in columns}
        return own | columns


def is_wandb_folder(folder: Path, files: Iterable[str]) -> bool:
    """Whether W&B keeps one run there."""
    return folder.name.startswith(("offline-run-", "run-")) and any(name.endswith(".wandb") for name in files)


def run_folder_above(folder: Path) -> Path | None:
    """The lab's run folder that a W&B folder (or the `wandb` above it) lies in, if it does."""
    above = Path(os.path.abspath(folder)).parents
    return next((each for each in above[:2] if (each / "result.json").is_file()), None)


def read_wandb(folders: list[Path]) -> list[RunRecord]:
    """The runs in these W&B folders. Those without a seed get numbers, as they began: what pairs them is that alone."""
    with ThreadPoolExecutor(4) as pool:
        runs = sorted(pool.map(_read, folders), key=lambda run: run.started)
    twins: Counter[tuple[str, ...]] = Counter()
    numbered = []
    for run in runs:
        if run.result and run.seed is None:
            run = replace(run, result={**run.result, "seed": twins[run.overrides], NUMBERED: True})
            twins[run.overrides] += 1
        numbered.append(run)
    return numbered


OWN = ("status", "error", "configuration", "headline", "data_fingerprint")
"""Keys of a result that say what the lab's runs are."""


def _read(folder: Path) -> RunRecord:
    import wandb

    try:
        config, summary, history, facts = _merge(_records(folder))
    except (OSError, ValueError, wandb.Error) as error:
        return RunRecord(folder, UNREADABLE, f"W&B's file can't be read, {error}")
    if "code" not in facts:
        return RunRecord(folder, NO_RESULT, "still running, or killed", overrides=tuple(_typed(config)))
    lab = config.pop("lab", None)
    foreign = not isinstance(lab, dict)
    settings = config if foreign else lab
    overrides = settings.get("overrides")
    typed = tuple(_typed(config)) if foreign or not isinstance(overrides, list) else tuple(map(str, overrides))
    known = {"seconds": summary.get("_runtime"), "started": facts.get("started"), "wandb": str(folder)}
    measured = {**config, **summary}
    if foreign:  # what the lab's keys mean elsewhere is not known
        measured = {key: value for key, value in measured.items() if key not in OWN}
    result = {**known, **measured, "choices": settings.get("choices")}
    status = str(measured.get("status") or (FINISHED if facts["code"] == 0 else "failed"))
    why = None if status == FINISHED else str(summary.get("error") or f"exit code {facts['code']}")
    return WandbRecord(folder, status, why, result, typed, foreign, settings, history)


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    """W&B's log, a record at a time.

    Raises:
        ValueError: it can't be read; with what W&B says.
    """
    from wandb.util import get_core_path

    # What `wandb leet inspect --json` starts, which would import the whole client for each folder.
    file = next(folder.glob("*.wandb"))
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", "--run-file", str(file), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError((done.stderr.strip().splitlines() or ["no reason given"])[-1][:200])
    for line in done.stdout.splitlines():
        yield json.loads(line)


def _merge(
    records: Iterable[dict[str, Any]],
) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """Configuration, summary and history as they were at the end; when it began, and where it ended its exit code."""
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    for record in records:
        match record["type"]:
            case "run":
                config |= record["run"].get("config", {}).get("update", {})
                facts["started"] = record["run"].get("start_time")
            case "config":
                config |= record["config"].get("update", {})
            case "summary":
                summary |= record["summary"].get("update", {})
            case "history":
                history.append(record["history"].get("item", {}))
            case "exit":
                facts["code"] = int(record["exit"].get("exit_code", 0))
    config.pop("_wandb", None)
    return config, summary, history, facts


def _typed(config: dict[str, Any]) -> Iterator[str]:
    """The configuration of a run that is not the lab's, as if each value had been typed."""
    return (f"{key}={value}" for key, value in flat(config))
