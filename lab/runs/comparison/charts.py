"""What the page's charts draw: learning curves, quality beside cost, scale, hyperparameters. `page.js` draws it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lab.runs.comparison import pareto
from lab.runs.comparison.collect import RunRecord
from lab.runs.comparison.compare import Configuration, Table
from lab.runs.comparison.importance import hyperparameters, is_log, is_numeric
from lab.runs.comparison.labels import told
from lab.runs.comparison.scaling import Scaling

if TYPE_CHECKING:
    import numpy as np

AXES = {"tokens": "training tokens", "flops": "training FLOPs", "seconds": "seconds", "step": "steps"}
CURVES = ("val/bpb", "val/loss", "train/loss")
POINTS = 3000  # of all curves of one kind together
MOST_SHOWN = 10


def chart_data(table: Table, scale: Scaling | None = None, apart: Sequence[RunRecord] = ()) -> dict[str, Any]:
    """Plain values; the browser sets labels as text, never as markup.

    Args:
        apart: one run of each configuration that has no result; hyperparameters show where they lie.
    """
    runs = [*table.firsts, *apart]
    points = max(40, min(250, POINTS // len(table.configurations)))
    names = {table.measure.name, *CURVES}
    return {
        "measure": table.measure.name,
        "measureTitle": table.measure.title,
        "direction": table.measure.direction,
        "xTitles": AXES,
        "costTitles": pareto.COSTS,
        "configurations": [
            {
                "label": each.label,
                "shown": _shown(table, place),
                "curves": {key: curve for key in sorted(names) if (curve := _curve(each, key, points))},
                "mean": each.mean,
                "sd": each.spread or 0,
                "cost": {key: each.average(key) for key in pareto.COSTS},
                "fronts": table.fronts(each),
            }
            for place, each in enumerate(table.configurations)
        ],
        "hyperparameters": [_axis(key, values) for key, values in hyperparameters(runs).items()],
        "apart": [{"label": " ".join(told(run.overrides).values()), "status": run.status} for run in apart],
        "scaling": scale and _scale(scale),
    }


def _shown(table: Table, place: int) -> bool:
    """Of many configurations the curves of the best are drawn at first, and the baseline's."""
    return place < MOST_SHOWN or table.configurations[place] is table.baseline


def _axis(key: str, values: list[Any]) -> dict[str, Any]:
    """A hyperparameter as an axis of the parallel coordinates: numbers, or words in their order of first use."""
    if None not in values and is_numeric(values):
        return {"name": key, "values": values, "log": is_log(values)}
    return {"name": key, "values": [NOT_SET if value is None else str(value) for value in values], "log": False}


NOT_SET = "–"


def _scale(scale: Scaling) -> dict[str, Any]:
    import numpy as np

    costs = [cost for variant in scale.variants for cost in variant.costs]
    along = np.geomspace(min(costs), 3 * max(costs), 60)  # half a decade beyond what was seen

    def line(variant: Any) -> list[list[float]]:
        return [] if variant.curve is None else _rounded(np.stack([along, variant.curve(along)], 1))

    return {
        "title": scale.title,
        "seen": max(costs),
        "variants": [
            {
                "name": each.name,
                "points": [
                    [cost, one.mean, one.spread or 0]
                    for cost, one in zip(each.costs, each.configurations, strict=True)
                    if math.isfinite(cost)
                ],
                "line": line(each),
            }
            for each in scale.variants
        ],
    }


def _rounded(rows: np.ndarray) -> list[list[float]]:
    return [[float(f"{value:.6g}") for value in row] for row in rows]


def _curve(configuration: Configuration, name: str, points: int) -> dict[str, list[float]]:
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
    return {key: [float(f"{value:.5g}") for value in _thinned(column, points)] for key, column in drawn.items()}


def _thinned(column: np.ndarray, points: int) -> np.ndarray:
    """`[rows]` -> at most `points` of them, each the mean of its neighbours."""
    import numpy as np

    if len(column) <= points:
        return column
    return np.array([part.mean() for part in np.array_split(column, points)])
