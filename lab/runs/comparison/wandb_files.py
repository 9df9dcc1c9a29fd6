"""Runs that only W&B wrote down: its offline folders, read by W&B's own reader.

A run folder of the lab holds more and is preferred: what `wandb agent` started has one, with the W&B folder inside it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.runs.comparison.collect import FINISHED, NO_RESULT, UNREADABLE, RunRecord, flat

if TYPE_CHECKING:
    import numpy as np


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
        return {
            name: np.array(
                [value if isinstance(value := row.get(name), int | float) else np.nan for row in self.history]
            )
            for name in names
        }


def is_wandb_folder(folder: Path, files: Iterable[str]) -> bool:
    """Whether W&B keeps one run there."""
    return folder.name.startswith(("offline-run-", "run-")) and any(name.endswith(".wandb") for name in files)


def run_folder_above(folder: Path) -> Path | None:
    """The lab's run folder that a W&B folder (or the `wandb` above it) lies in, if it does."""
    above = Path(os.path.abspath(folder)).parents
    return next((each for each in above[:2] if (each / "result.json").is_file()), None)


def read_wandb(folders: list[Path]) -> list[RunRecord]:
    """The runs in these W&B folders."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(_read, folders))


def _read(folder: Path) -> RunRecord:
    try:
        config, summary, history, code = _merge(_records(folder))
    except (OSError, ValueError) as error:
        return RunRecord(folder, UNREADABLE, f"W&B's file can't be read, {error}")
    lab = config.pop("lab", None)
    lab = lab if isinstance(lab, dict) else config
    result = {**config, **summary, "choices": lab.get("choices"), "wandb": str(folder)}
    status = str(summary.get("status") or (NO_RESULT if code is None else FINISHED if code == 0 else "failed"))
    why = "still running, or killed" if code is None else None if status == FINISHED else summary.get("error")
    overrides = lab.get("overrides")
    typed = tuple(map(str, overrides)) if isinstance(overrides, list) else tuple(_typed(config))
    if code is None:
        result = {}
    return WandbRecord(folder, NO_RESULT if code is None else status, why, result, typed, lab, history)


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    """W&B's log, a record at a time.

    Raises:
        ValueError: it can't be read; with what W&B says.
    """
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError((done.stderr.strip().splitlines() or ["no reason given"])[-1][:200])
    for line in done.stdout.splitlines():
        yield json.loads(line)


def _merge(
    records: Iterable[dict[str, Any]],
) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]], int | None]:
    """Configuration, summary and history as they were at the end, and the exit code; None without an end."""
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    code = None
    for record in records:
        match record["type"]:
            case "run":
                config |= record["run"].get("config", {}).get("update", {})
            case "config":
                config |= record["config"].get("update", {})
            case "summary":
                summary |= record["summary"].get("update", {})
            case "history":
                history.append(record["history"].get("item", {}))
            case "exit":
                code = int(record["exit"].get("exit_code", 0))
    config.pop("_wandb", None)
    return config, summary, history, code


def _typed(config: dict[str, Any]) -> Iterator[str]:
    """The configuration of a run that is not the lab's, as if each value had been typed."""
    return (f"{key}={value}" for key, value in flat(config))
