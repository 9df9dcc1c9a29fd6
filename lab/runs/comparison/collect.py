"""Run folders, read: what each run was, how it ended and what it measured."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import RequestError

if TYPE_CHECKING:
    import numpy as np

FINISHED, DIVERGED, PRUNED, FAILED = "finished", "diverged", "pruned", "failed"
UNREADABLE = "unreadable"
NO_RESULT = "no result"
NOT_STARTED = "not started"
MEASURED = "measured.json"
"""What was measured of a run after it had ended, as `lab.runs.decoding` does."""
HIGHER = re.compile(
    r"((decode/|train/)?tokens_per_second"
    r"|val/(\w*accuracy|auc|bleu|chrf|entity_f1|exact|labels_written|macro_f1|mrr|\w*recall_at_\d+|spearman|teacher_agreement)"
    r")(/.+)?"
)
"""Measures of which more is better, and their parts."""
LOWER = re.compile(
    r"((val|train)/(loss|bpb|pseudo_perplexity|seconds)(/.+)?|tokens_seen|steps|seconds|parameters(_active)?|flops"
    r"|peak_memory_bytes|decode/cache_bytes)"
)
"""Measures and costs of which less is better."""
NUMBERED = "seed/numbered"
"""Set of a run that recorded no seed and was given a number."""


@dataclass(frozen=True)
class Measure:
    """What runs are compared by: a key of `result.json`, its unit, and which way is better (`min`, `max`)."""

    name: str
    unit: str
    direction: str

    @property
    def title(self) -> str:
        """How a sentence calls it."""
        return "bits per byte" if self.name == "val/bpb" else self.name


BITS_PER_BYTE = Measure("val/bpb", "bits per byte", "min")
LOSS_PER_TOKEN = Measure("val/loss", "nats per token", "min")


@dataclass(frozen=True, eq=False)
class RunRecord:
    """One run folder. What `result.json` does not say is None or empty.

    Attributes:
        folder: where it lies.
        status: as the run left it (finished, diverged, pruned, stopped, failed), or what the reader found:
            `unreadable` (`result.json` is damaged), `no result` (running or killed), `not started` (planned).
        error: why it is not finished, where that is known.
        result: the content of `result.json`.
        overrides: what was typed to get this run.
        foreign: another program than the lab made it.
    """

    folder: Path
    status: str
    error: str | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    foreign: bool = False

    def number(self, key: str) -> float | None:
        """The finite number under this key of `result.json`, else None."""
        value = self.result.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            return None
        return value

    @property
    def seed(self) -> int | None:
        seed = self.number("seed")
        if seed is None and not self.result:  # it runs, was killed or waits: what it was asked for
            asked = [word.removeprefix("seed=") for word in self.overrides if word.startswith("seed=")]
            return int(asked[-1]) if asked and asked[-1].isdecimal() else None
        return None if seed is None else int(seed)

    @property
    def configuration(self) -> str | None:
        """The hash that runs share which differ by seed alone."""
        name = self.result.get("configuration")
        return None if name is None else str(name)

    @property
    def data_fingerprint(self) -> str | None:
        fingerprint = self.result.get("data_fingerprint")
        return None if fingerprint is None else str(fingerprint)

    @property
    def choices(self) -> dict[str, str]:
        """The option chosen of each group."""
        choices = self.result.get("choices")
        return {str(key): str(value) for key, value in choices.items()} if isinstance(choices, dict) else {}

    @property
    def declared(self) -> Measure:
        """The headline; bits per byte where none is named."""
        headline = self.result.get("headline")
        if not isinstance(headline, dict) or "name" not in headline:
            return BITS_PER_BYTE
        direction = "max" if headline.get("direction") == "max" else "min"
        return Measure(str(headline["name"]), str(headline.get("unit", "")), direction)

    @property
    def measure(self) -> Measure:
        """What is declared; the loss per token where bits per byte are null, as text was lost."""
        declared = self.declared
        lost = declared.name == BITS_PER_BYTE.name and self.number(declared.name) is None
        return LOSS_PER_TOKEN if lost else declared

    @property
    def value(self) -> float | None:
        """What the run reached, in the unit of its measure."""
        return self.number(self.measure.name)

    @cached_property
    def started(self) -> datetime:
        """When it began; without a readable `started`, when its folder was last written to."""
        try:
            started = datetime.fromisoformat(str(self.result.get("started")))
        except ValueError:
            written = self.folder.stat().st_mtime if self.folder.exists() else math.inf
            return datetime.max.replace(tzinfo=UTC) if written == math.inf else datetime.fromtimestamp(written, UTC)
        return started if started.tzinfo else started.replace(tzinfo=UTC)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, its keys dotted; empty where `config.yaml` is missing or damaged."""
        import yaml

        try:
            loaded = yaml.safe_load((self.folder / "config.yaml").read_text("utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            return {}
        return dict(flat(loaded)) if isinstance(loaded, dict) else {}

    @cached_property
    def curve(self) -> dict[str, np.ndarray]:
        """Columns of `metrics.csv`, `[rows]` float64, NaN where not measured; empty without the file."""
        import numpy as np

        try:
            with open(self.folder / "metrics.csv", newline="", encoding="utf-8", errors="replace") as file:
                rows = list(csv.DictReader(file))
        except (OSError, csv.Error):
            return {}
        names = [name for name in (rows[0] if rows else {}) if name]
        return {name: np.array([_cell(row.get(name)) for row in rows]) for name in names}


def read_runs(folders: Sequence[str | Path]) -> list[RunRecord]:
    """The runs in and below these folders, in the order of a sweep's `plan.json`, else by their start.

    A run folder's W&B folder means that run; one without a run folder is read by itself.

    Raises:
        RequestError: a folder is missing or can't be read, or no run in any of them can be read.
    """
    if not folders:
        raise RequestError("report: name at least one folder: of a run, a multirun or a sweep")
    from lab.runs.comparison.wandb_files import is_wandb_folder, read_wandb, run_folder_above

    found: dict[Path, RunRecord] = {}
    place: dict[Path, int] = {}
    elsewhere: list[Path] = []
    for root in map(Path, folders):
        if not root.is_dir():
            why = "is not a folder" if root.exists() else "does not exist"
            raise RequestError(f"{root} {why}: give the folder of a run, a multirun or a sweep")
        for path, names in _walk(run_folder_above(root) or root):
            if is_wandb_folder(path, names):
                elsewhere.append(path)
            if "plan.json" in names:
                for run in _read_plan(path):
                    place.setdefault(run.folder.resolve(), len(place))
                    found.setdefault(run.folder.resolve(), run)
            if "result.json" in names or {"config.yaml", "overrides.yaml"} <= names:
                found[path.resolve()] = _read_run(path)
    told = {Path(str(run.result.get("wandb"))).name for run in found.values()}
    foreign = [path for path in elsewhere if path.name not in told and not found.keys() & set(path.resolve().parents)]
    for run in read_wandb(foreign):
        found.setdefault(run.folder.resolve(), run)
    runs = list(found.values())
    _refuse_nothing(runs, folders)
    return sorted(runs, key=lambda run: (place.get(run.folder.resolve(), len(place)), run.started))


def by_measure(runs: Sequence[RunRecord], wanted: str) -> list[RunRecord]:
    """The same runs, to be compared by another number of their records.

    Args:
        runs: of which some hold it.
        wanted: its key, with `:max` or `:min` behind where it is better the other way than `measure_of` takes it.

    Raises:
        RequestError: no run holds a number of that name; it names those that there are.
    """
    name, colon, direction = wanted.rpartition(":")
    if not colon or (direction not in ("min", "max") and any(run.number(wanted) is not None for run in runs)):
        name, direction = wanted, ""
    elif direction not in ("min", "max"):
        raise RequestError(f"--measure {wanted}: behind the colon stands max or min, the better way")
    holding = [run for run in runs if run.number(name) is not None]
    if not holding:
        known = sorted({key for run in runs for key in run.result if run.number(key) is not None and key[0] != "_"})
        raise RequestError(f"--measure {name}: no run holds such a number; there are {', '.join(known) or 'none'}")
    own = measure_of(name, holding)
    if not direction and usual_direction(name) is None and all(run.measure.name != name for run in holding):
        raise RequestError(f"--measure {name}: which way it is better is not known; say {name}:max or {name}:min")
    headline = {"name": name, "unit": own.unit, "direction": direction or own.direction}
    return [replace(run, result={**run.result, "headline": headline}) if run.result else run for run in runs]


def measure_of(name: str, runs: Sequence[RunRecord]) -> Measure:
    """The measure of this name, as those of these runs declare it whose headline it is, else as is usual."""
    usual = Measure(name, "", usual_direction(name) or "min")
    return next((run.measure for run in runs if run.measure.name == name), usual)


def usual_direction(name: str) -> str | None:
    """Which way a measure of the lab is better, `min` or `max`; None of another."""
    if HIGHER.fullmatch(name):
        return "max"
    return "min" if LOWER.fullmatch(name) else None


def searched(folders: Sequence[Path]) -> bool:
    """Whether all of these are of sweeps that looked for the best, by `sweep.yaml`."""
    import yaml

    def method(folder: Path) -> Any:
        try:
            return yaml.safe_load((folder / "sweep.yaml").read_text("utf-8"))["method"]
        except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError):
            return None

    return all(method(folder) in ("random", "bayes") for folder in folders)


def _refuse_nothing(runs: list[RunRecord], folders: Sequence[str | Path]) -> None:
    if any(run.status not in (UNREADABLE, NOT_STARTED) for run in runs):
        return
    where = ", ".join(map(str, folders))
    damaged = [f"{run.folder}: {run.error}" for run in runs if run.status == UNREADABLE]
    if damaged:
        raise RequestError(f"no run can be read in {where}: " + "; ".join(damaged))
    raise RequestError(
        f"no run in {where}: a run is a folder with a result.json, as `lab train` and `lab sweep` leave it, "
        "or an offline folder of W&B's"
    )


def _walk(root: Path) -> Iterator[tuple[Path, set[str]]]:
    """Folders from the root down and the files in each; nothing below a run, nothing hidden."""

    def refuse(error: OSError) -> None:
        raise RequestError(f"{error.filename} can't be read: {error.strerror}")

    for path, folders, files in os.walk(root, onerror=refuse):
        folders[:] = [] if "result.json" in files else sorted(name for name in folders if not name.startswith("."))
        yield Path(path), set(files)


def _read_run(folder: Path) -> RunRecord:
    path = folder / "result.json"
    if not path.exists():
        return RunRecord(folder, NO_RESULT, "still running, or killed", overrides=_typed(folder))
    try:
        result = json.loads(path.read_text("utf-8"))
        json.dumps(result, ensure_ascii=False).encode()  # half a character can be read, and written nowhere
    except OSError as error:
        return RunRecord(folder, UNREADABLE, f"result.json: {error.strerror or error}")
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        return RunRecord(folder, UNREADABLE, f"result.json: damaged, {error}", overrides=_typed(folder))
    if not isinstance(result, dict) or not isinstance(result.get("status"), str):
        return RunRecord(folder, UNREADABLE, "result.json: damaged, it holds no status", overrides=_typed(folder))
    why, overrides = result.get("error"), result.get("overrides")
    typed = tuple(map(str, overrides)) if isinstance(overrides, list) else _typed(folder)
    return RunRecord(folder, result["status"], None if why is None else str(why), result | _measured(folder), typed)


def _measured(folder: Path) -> dict[str, Any]:
    """What was measured of a run after it had ended; nothing where the file is missing or damaged."""
    try:
        found = json.loads((folder / MEASURED).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _typed(folder: Path) -> tuple[str, ...]:
    """What `overrides.yaml` holds; nothing where it is missing or damaged."""
    import yaml

    try:
        typed = yaml.safe_load((folder / "overrides.yaml").read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return ()
    return tuple(map(str, typed)) if isinstance(typed, list) else ()


def _read_plan(folder: Path) -> list[RunRecord]:
    """What a sweep means to run, in its order: `[{"folder": ..., "overrides": [...]}, ...]`.

    Raises:
        RequestError: the plan is damaged.
    """
    path = folder / "plan.json"
    try:
        plan = json.loads(path.read_text("utf-8"))
        return [
            RunRecord(folder / trial["folder"], NOT_STARTED, overrides=tuple(map(str, trial.get("overrides") or ())))
            for trial in plan
        ]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RequestError(
            f"{path} is damaged ({error}): a plan is a list of objects with folder and overrides; "
            "without the file the runs are ordered by when they started"
        ) from error


def flat(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a tree, their keys dotted."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _cell(text: str | None) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError:  # the last row of a run that was killed may be cut off
        return math.nan
