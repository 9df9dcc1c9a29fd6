"""Sweeps without a server: W&B's own files, run here or on many machines.

`engine` is the heart: claim a run, run it, tell what came out. `shares` are what workers claim, and `queue` says who runs what,
in an Optuna study that `storage` keeps and whose `trials` hold it; `sampler` chooses configurations; `workers` are processes
that do this side by side, each a `worker` that `processes` forks. Before them `file` reads a sweep file (`document`, `space`,
`distributions`, `command`, `hyperband`) and `plan` lists its runs; around them `driver` prepares, starts and reports, `live`
shows how it goes, and `stop` takes Ctrl-C.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.runs.sweep.driver import Outcome, Planned, sweep

__all__ = ["Outcome", "Planned", "sweep"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lab.runs.sweep import driver

    return getattr(driver, name)
