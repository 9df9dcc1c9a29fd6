"""The Pareto front: what is not beaten on quality by anything that costs as little."""

from __future__ import annotations

from collections.abc import Sequence

COSTS = {
    "flops": "training FLOPs",
    "train/seconds": "training seconds",
    "peak_memory_bytes": "peak memory",
    "parameters": "parameters",
}


def front(points: Sequence[tuple[float | None, float]]) -> list[int]:
    """Places of the (cost, loss) pairs that no other pair dominates: costs as little, is as good, and one of them is less.

    A point without a cost is not on the front.
    """
    best = float("inf")
    kept: list[int] = []
    known = [(cost, loss, place) for place, (cost, loss) in enumerate(points) if cost is not None]
    for cost, loss, place in sorted(known):
        twin = kept and points[kept[-1]] == (cost, loss)
        if loss < best or twin:
            kept.append(place)
            best = loss
    return kept
