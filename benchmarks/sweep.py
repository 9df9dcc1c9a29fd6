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

import yaml

from benchmarks import workload
from benchmarks.measure import Finding, finding, main

SWEEP = {
    "program": "lab",
    "method": "grid",
    "metric": {"name": "val/bpb", "goal": "minimize"},
    "command": ["${env}", "lab", "train", "${args_no_hyphens}"],
    "parameters": {"attention": {"values": ["mha", "gqa", "mqa"]}, "seed": {"values": [0, 1, 2, 3]}},
}
STEPS = 120


def run() -> list[Finding]:
    """Wall time over the sum of `seconds` in the trials' results."""
    overrides = [*workload.OVERRIDES, f"budget.steps={STEPS}"]
    workload.make(workload.composed())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sharing.yaml"
        file.write_text(yaml.safe_dump(SWEEP), encoding="utf-8")
        command = [sys.executable, "-m", "lab", "sweep", str(file), "--folder", f"{folder}/sweep", *overrides]
        began = time.perf_counter()
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"WANDB_MODE": "offline"},
        )
        wall = time.perf_counter() - began
        results = [json.loads(path.read_text(encoding="utf-8")) for path in Path(folder).glob("sweep/*/result.json")]
    assert all(result["status"] == "finished" for result in results), "a trial did not finish"
    fits = [result["seconds"] for result in results]
    detail = f"{wall:.1f} s for {len(fits)} fits of {sum(fits) / len(fits):.1f} s"
    return [finding("sweep", "wall time / sum of fits", [wall / sum(fits)], at_most=1.1, detail=detail)]


if __name__ == "__main__":
    main(run)
