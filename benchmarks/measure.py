"""Interleaved timing. Two ways of doing the same work take turns, so that a busy machine slows both alike."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from lab.parts.kernels import linear
from lab.runs import machine


@dataclass(frozen=True)
class Finding:
    """One number with what it should be.

    Attributes:
        benchmark, what: which number it is.
        value: the median.
        low, high: the quartiles; both are the value where it was measured once.
        at_least, at_most: the goal, null for none.
        detail: what it is made of, in words.
    """

    benchmark: str
    what: str
    value: float
    low: float
    high: float
    at_least: float | None = None
    at_most: float | None = None
    detail: str = ""

    @property
    def goal(self) -> str:
        """The goal in words."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return "" if self.at_most is None else f"at most {self.at_most:g}"

    @property
    def met(self) -> bool | None:
        """Whether the goal is met, null for none."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most


@dataclass(frozen=True)
class Pairs:
    """Seconds that two ways took, turn by turn."""

    ours: list[float]
    theirs: list[float]

    @property
    def ratios(self) -> list[float]:
        """How many times as fast ours was, in each pair of turns."""
        return [theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    def words(self, ours: str = "ours", theirs: str = "theirs") -> str:
        """Both medians in milliseconds."""
        mine, other = (1e3 * statistics.median(seconds) for seconds in (self.ours, self.theirs))
        return f"{ours} {mine:.1f} ms, {theirs} {other:.1f} ms"


def take_turns(ours: Callable[[], Any], theirs: Callable[[], Any], pairs: int = 40, warm_up: int = 5) -> Pairs:
    """Time both in turn; who goes first alternates, as each finds the caches that the other left."""
    measured = Pairs([], [])
    for turn in range(-warm_up, pairs):
        order = [(ours, measured.ours), (theirs, measured.theirs)]
        for work, seconds in order if turn % 2 else reversed(order):
            began = time.perf_counter()
            work()
            if turn >= 0:
                seconds.append(time.perf_counter() - began)
    return measured


def finding(benchmark: str, what: str, values: Sequence[float], **goal: Any) -> Finding:
    """Median and quartiles of the values."""
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return Finding(benchmark, what, statistics.median(values), low, high, **goal)


def matrix_product_rate(size: int = 1536, repeats: int = 8) -> float:
    """FLOPs per second of a large float32 matrix product: the most this machine gives. Best of several."""
    a, b = torch.randn(2, size, size)
    best = min(_seconds(lambda: linear(a, b)) for _ in range(repeats))
    return 2 * size**3 / best


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def prepare_machine() -> None:
    """Threads and allocator as training sets them, for all in this process: ours and the peers alike."""
    machine.keep_buffers()
    machine.use_threads(None)


def facts() -> dict[str, Any]:
    """The machine, and the settings that both sides of every comparison share."""
    kept = machine.keep_buffers()
    return {
        "cores": machine.cores(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "transformers": _installed("transformers"),
        "allocator": "glibc, mmap and trim thresholds raised" if kept else "as the environment sets it",
    }


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main(run: Callable[[], list[Finding]]) -> None:
    """Run one benchmark as a command: a table, or with `--json` one document."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    wanted = parser.parse_args()
    prepare_machine()
    show({"machine": facts(), "findings": [asdict(found) for found in run()]}, wanted.json)


def show(document: dict[str, Any], as_json: bool) -> None:
    """Print the machine and what was found on it."""
    if as_json:
        print(json.dumps(document, indent=2))
        return
    table = Table(title="Median of the pairs, quartiles in brackets", title_justify="left")
    for heading in ("benchmark", "measured", "value", "", "goal", "", "made of"):
        table.add_column(heading, justify="right" if heading == "value" else "left", overflow="fold")
    for found in (Finding(**values) for values in document["findings"]):
        spread = "" if found.low == found.high else f"[{found.low:.2f} to {found.high:.2f}]"
        mark = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[found.met]
        spread = spread.replace("[", r"\[")
        table.add_row(found.benchmark, found.what, f"{found.value:.2f}", spread, found.goal, mark, found.detail)
    console = Console() if sys.stdout.isatty() else Console(width=140)
    console.print(table)
    console.print(
        "Both sides share one process, or equal ones: "
        + ", ".join(f"{key} {value}" for key, value in document["machine"].items()),
        markup=False,
        highlight=False,
    )
