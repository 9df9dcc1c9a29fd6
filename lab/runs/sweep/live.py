"""What a person sees of a sweep while it runs: a table that lives in a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import rich.live
from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lab.console import notes
from lab.runs.folder import headline_value, read_result
from lab.runs.sweep.plan import apart

if TYPE_CHECKING:
    from lab.runs.sweep.job import Job, Planned

ROWS = 20
"""Configurations shown at most: the best, and those under way."""
BAR = 24


class Live:
    """Rows are configurations, with the seeds done and their mean; each run under way has a bar.

    Args:
        title: of the sweep.
        job: its plan.
        planned: runs that are known beforehand.
        missing: those of them that are to run.
        seconds: that remain, as estimated.
        maximize: whether more is better.
    """

    def __init__(
        self,
        title: str,
        job: Job,
        planned: Sequence[Planned],
        missing: Sequence[Planned],
        seconds: float | None,
        maximize: bool,
    ) -> None:
        self.title, self.job, self.seconds, self.maximize = title, job, seconds, maximize
        self.seeds = {point.number: len(point.seeds) for point in job.plan.points}
        self.total = sum(self.seeds.values())
        self.results: dict[tuple[int, int], Mapping[str, Any]] = {}
        self.words: dict[int, Sequence[str]] = {}
        for run in planned:
            self._know(run)
            if run not in missing and (result := read_result(run.folder)):
                self.results[_key(run)] = result
        self.running: dict[tuple[int, int], float] = {}
        self.began, self.ended = time.monotonic(), 0
        self.to_run = self.total - len(self.results)
        self.screen = rich.live.Live(console=notes, refresh_per_second=4, transient=True, get_renderable=self.draw)

    def __enter__(self) -> Live:
        if notes.is_terminal and self.to_run:
            self.screen.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.screen.stop()

    def _know(self, run: Planned) -> None:
        self.words.setdefault(run.trial.configuration, apart(run.trial.overrides))

    def begin(self, run: Planned) -> None:
        """A run starts."""
        self._know(run)
        self.running[_key(run)] = 0.0

    def observe(self, run: Planned, row: Mapping[str, Any]) -> None:
        """A measurement of one."""
        self.running[_key(run)] = row["progress"]

    def end(self, run: Planned, result: Mapping[str, Any]) -> None:
        """One ended."""
        self._know(run)
        self.running.pop(_key(run), None)
        self.ended += 1
        if result["status"] != "stopped":
            self.results[_key(run)] = result
        value = headline_value(result)
        figure = f"{value:.4f}" if value is not None else (result.get("error") or "")
        line = f"[{len(self.results)}/{self.total}] {self.label(run.trial.configuration)} seed={run.trial.seed}"
        notes.print(
            f"{line}  {result['status']}  {figure}  {result.get('seconds') or 0:.0f} s", markup=False, soft_wrap=True
        )

    def label(self, number: int) -> str:
        """What tells a configuration from the others: its overrides of what the sweep varies, and those that not all have."""
        varied = self.job.plan.varied
        shared = set.intersection(*map(set, self.words.values()))
        words = (w for w in self.words[number] if w not in shared or w.lstrip("+").partition("=")[0] in varied)
        return " ".join(words) or "all"

    @property
    def left(self) -> float | None:
        """Seconds to go: by the pace so far, by the estimate until there is one; none where there is neither."""
        spent, done = time.monotonic() - self.began, self.ended + sum(self.running.values())
        if done < 0.5:
            return None if self.seconds is None else max(self.seconds - spent, 0)
        return spent / done * max(self.to_run - done, 0)

    def draw(self) -> Group:
        """The table as it is now."""
        means = {number: self._mean(number) for number in self.words}
        known = [mean for mean in means.values() if mean is not None]
        best = (max if self.maximize else min)(known, default=None)
        table = Table(title=Text(self.title), title_justify="left", box=None, padding=(0, 2, 0, 0))
        for column in ("configuration", "seeds", "mean"):
            table.add_column(column, justify="left" if column == "configuration" else "right")
        for number in self._shown(means):
            mean = means[number]
            mine = [result for (which, _), result in self.results.items() if which == number]
            finished = sum(result["status"] == "finished" for result in mine)
            style = "bold" if mean is not None and mean == best else ""
            seeds = self.seeds.get(number, len(self.job.plan.seeds))  # a server may choose what no plan lists
            table.add_row(self.label(number), f"{finished}/{seeds}", "" if mean is None else f"{mean:.4f}", style=style)
        bars = Table.grid(padding=(0, 2, 0, 0))
        for (number, seed), progress in sorted(self.running.items()):
            bars.add_row(ProgressBar(1.0, progress, BAR), f"{self.label(number)} seed={seed}")
        figure = "" if best is None else f", best {best:.4f}"
        words = f"{len(self.results)} of {self.total} done{figure}, {spoken_time(self.left)} left"
        return Group(table, bars, Text(words, style="dim"))

    def _shown(self, means: Mapping[int, float | None]) -> list[int]:
        """In the order of the plan; of many the best and those under way."""
        if len(self.words) <= ROWS:
            return sorted(self.words)
        valued = [(mean, number) for number, mean in means.items() if mean is not None]
        best = [number for _, number in sorted(valued, reverse=self.maximize)]
        under_way = [number for number, _ in self.running]
        return list(dict.fromkeys([*best[: max(ROWS - len(under_way), 1)], *under_way]))

    def _mean(self, number: int) -> float | None:
        results = [result for (which, _), result in self.results.items() if which == number]
        values = [v for r in results if r["status"] == "finished" and (v := headline_value(r)) is not None]
        return sum(values) / len(values) if values else None


def _key(run: Planned) -> tuple[int, int]:
    return run.trial.configuration, run.trial.seed


def spoken_time(seconds: float | None) -> str:
    """A duration in words."""
    if seconds is None:
        return "an unknown time"
    if seconds < 90:
        return f"about {max(round(seconds), 1)} s"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"
