"""A sweep as a SLURM array: every task is one more worker on the sweep's database, and none coordinates them.

    lab sweep sweeps/attention.yaml --storage postgresql://USER@HOST/DATABASE --slurm 8 | sbatch

A task that is preempted gets SIGTERM: its run stops with a checkpoint, and whoever claims it goes on from there, where the
tasks share their folder. SLURM kills without one what does not end in time; then the run is taken over after its heartbeat.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.errors import RequestError
from lab.runs.sweep.file import read_sweep

GRACE = 120
"""Seconds before the time limit at which a task is asked to stop."""


def script(
    file: str | Path, arguments: Sequence[str], workers: int, storage: str | None, count: int | None = None
) -> str:
    """The batch script; options of the cluster, such as the partition, go to `sbatch` or into the script.

    Args:
        file: of the sweep.
        arguments: of `lab sweep`, as they were given.
        workers: tasks of the array.
        storage: that they share.
        count: as of `read_sweep`.

    Raises:
        RequestError: the file is wrong, there is no storage to share, or no worker.
    """
    read_sweep(file, count)
    if workers < 1:
        raise RequestError(f"--slurm: {workers}; accepted: a number of workers from 1")
    if storage is None:
        raise RequestError("--slurm: workers share a database; add --storage postgresql://USER@HOST/DATABASE")
    if storage.startswith("sqlite"):
        raise RequestError(f"--slurm: {storage} is one machine's; accepted: --storage postgresql://USER@HOST/DATABASE")
    return "\n".join(
        [
            "#!/bin/bash",
            f"#SBATCH --job-name={Path(file).stem}",
            f"#SBATCH --array=1-{workers}",
            "#SBATCH --ntasks=1",
            "#SBATCH --cpus-per-task=4",
            "#SBATCH --time=24:00:00",
            f"#SBATCH --signal=TERM@{GRACE}",
            f"#SBATCH --output={Path(file).stem}-%A_%a.log",
            f"cd {shlex.quote(str(Path.cwd()))} || exit 2",
            f"exec srun {shlex.quote(sys.executable)} -m lab sweep {shlex.join(_without(arguments, '--slurm'))}",
            "",
        ]
    )


def _without(arguments: Sequence[str], flag: str) -> list[str]:
    """Arguments but for one flag and its value, whether they are one word or two."""
    kept, skip = [], False
    for word in arguments:
        if skip:
            skip = False
        elif word == flag:
            skip = True
        elif not word.startswith(f"{flag}="):
            kept.append(word)
    return kept
