"""What the page's charts draw: learning curves over seeds, quality beside cost."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from lab.runs.compare import Configuration, Table

if TYPE_CHECKING:
    import numpy as np

AXES = {"tokens": "training tokens", "flops": "training FLOPs", "seconds": "seconds"}
CURVES = ("val/bpb", "val/loss", "train/loss")
COST_AXES = {
    "parameters": "parameters",
    "flops": "training FLOPs",
    "seconds": "training seconds",
    "peak_memory_bytes": "peak memory, bytes",
}
CURVE_POINTS = 250


def chart_data(table: Table) -> dict[str, Any]:
    """What the charts draw. Plotly reads labels as markup, so they are escaped for it."""
    return {
        "measure": table.measure.name,
        "measureTitle": escape(table.measure.title),
        "xTitles": AXES,
        "costTitles": COST_AXES,
        "configurations": [
            {
                "label": escape(each.label),
                "curves": {name: curve for name in {table.measure.name, *CURVES} if (curve := _curve(each, name))},
                "mean": each.mean,
                "sd": each.spread or 0,
                "cost": {key: each.average(key) for key in COST_AXES},
            }
            for each in table.configurations
        ],
    }


def _curve(configuration: Configuration, name: str) -> dict[str, list[float]]:
    """Mean, lowest and highest over the seeds, at the first seed's steps as far as all seeds went."""
    import numpy as np

    runs = [run.curve for run in configuration.runs.values() if {name, "step"} <= run.curve.keys()]
    measured = [(curve, np.isfinite(curve[name]) & np.isfinite(curve["step"])) for curve in runs]
    measured = [(curve, rows) for curve, rows in measured if rows.any()]
    if not measured:
        return {}
    first, rows = measured[0]
    last = min(curve["step"][rows].max() for curve, rows in measured)
    steps = first["step"][rows]
    steps = steps[steps <= last]
    values = np.stack([np.interp(steps, curve["step"][rows], curve[name][rows]) for curve, rows in measured])
    drawn = {"mean": values.mean(0), "low": values.min(0), "high": values.max(0)}
    for axis in AXES.keys() & first.keys():
        along = [np.interp(steps, curve["step"][rows], curve[axis][rows]) for curve, rows in measured if axis in curve]
        if np.isfinite(along).all():
            drawn[axis] = np.mean(along, axis=0)
    return {key: [float(f"{value:.6g}") for value in _thinned(column)] for key, column in drawn.items()}


def _thinned(column: np.ndarray) -> np.ndarray:
    """`[points]` -> at most CURVE_POINTS of them, each the mean of its neighbours."""
    import numpy as np

    if len(column) <= CURVE_POINTS:
        return column
    return np.array([part.mean() for part in np.array_split(column, CURVE_POINTS)])
