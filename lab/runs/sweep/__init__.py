"""Sweeps without a server: W&B's own files, run here or on many machines.

`file` reads a sweep file, `space` holds its distributions, `command` what `lab train` gets, `plan` lists the runs;
`driver` runs them, `live` shows them.
"""

from lab.runs.sweep.driver import Outcome, Planned, sweep

__all__ = ["Outcome", "Planned", "sweep"]
