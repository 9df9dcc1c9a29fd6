"""What a sweep takes beyond its fits: start, composition, tables, W&B, report. Offline runs in W&B are on.

The sweep is a process as a person starts it, of the trials of sweeps/attention.yaml; its tokens are made beforehand.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks import workload
from benchmarks.measure import Finding, finding, main, take_turns

SWEEP = {
    "program": "lab",
    "method": "grid",
    "metric": {"name": "val/bpb", "goal": "minimize"},
    "command": ["${env}", "lab", "train", "${args_no_hyphens}"],
    "parameters": {"attention": {"values": ["mha", "gqa", "mqa"]}, "seed": {"values": [0, 1, 2, 3]}},
}
STEPS = 120


SMALL = {"model.dim": 64, "model.layers": 2, "budget.steps": 60}
"""A model that is too small to keep two cores busy."""


def run() -> list[Finding]:
    """Wall time over the sum of `seconds` in the trials' results; then trials per hour of two jobs over those of one."""
    workload.make(workload.composed())
    wall, fits = swept({"budget.steps": STEPS})
    detail = f"{wall:.1f} s for {len(fits)} fits of {sum(fits) / len(fits):.1f} s"
    found = [finding("sweep", "wall time / sum of fits", [wall / sum(fits)], at_most=1.1, detail=detail)]
    turns = take_turns(lambda: swept(SMALL, 2), lambda: swept(SMALL, 1), pairs=3, warm_up=0)
    what = f"{len(fits)} small trials an hour: two jobs / one"
    return [*found, finding("sweep", what, turns.ratios, at_least=1.2, detail=turns.words("two", "one"))]


def swept(settings: dict[str, Any], jobs: int = 1) -> tuple[float, list[float]]:
    """Seconds of a sweep as a person starts it, and of each of its fits."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sharing.yaml"
        file.write_text(yaml.safe_dump(SWEEP), encoding="utf-8")
        values = dict(word.split("=") for word in workload.OVERRIDES) | settings
        words = [f"{key}={value}" for key, value in values.items()]
        command = [sys.executable, "-m", "lab", "sweep", str(file), "--folder", f"{folder}/sweep", "--jobs", str(jobs)]
        began = time.perf_counter()
        subprocess.run(
            [*command, *words],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"WANDB_MODE": "offline"},
        )
        wall = time.perf_counter() - began
        results = [json.loads(path.read_text(encoding="utf-8")) for path in Path(folder).glob("sweep/*/result.json")]
    assert all(result["status"] == "finished" for result in results), "a trial did not finish"
    return wall, [result["seconds"] for result in results]


if __name__ == "__main__":
    main(run)
