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
from lab.runs.folder import read_result

if TYPE_CHECKING:
    from lab.runs.sweep.driver import Planned


class Live:
    """Rows are configurations, with the seeds done and their mean; the trial under way has a bar."""

    def __init__(self, title: str, planned: Sequence[Planned], missing: Sequence[Planned], seconds: float) -> None:
        self.title, self.planned, self.seconds = title, list(planned), seconds
        self.results = {id(one): None if one in missing else read_result(one.folder) for one in planned}
        self.labels = _labels(planned)
        self.current: Planned | None = None
        self.progress = 0.0
        self.began = time.monotonic()
        self.ended = 0
        self.to_run = len(missing)
        self.screen = rich.live.Live(console=notes, refresh_per_second=4, transient=True, get_renderable=self.draw)

    def __enter__(self) -> Live:
        if notes.is_terminal and self.to_run:
            self.screen.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.screen.stop()

    def begin(self, one: Planned) -> None:
        """A trial starts."""
        self.current, self.progress = one, 0.0

    def observe(self, row: Mapping[str, Any]) -> None:
        """A measurement of the trial under way."""
        self.progress = row["progress"]

    def end(self, one: Planned, result: Mapping[str, Any]) -> None:
        """A trial ended."""
        self.results[id(one)] = dict(result)
        self.current = None
        self.ended += 1
        done = sum(found is not None for found in self.results.values())
        value = _value(result)
        figure = f"{value:.4f}" if value is not None else (result.get("error") or "")
        line = f"[{done}/{len(self.planned)}] {self.labels[one.trial.configuration]} seed={one.trial.seed}"
        notes.print(
            f"{line}  {result['status']}  {figure}  {result.get('seconds') or 0:.0f} s",
            markup=False,
            soft_wrap=True,
        )

    @property
    def left(self) -> float:
        """Seconds to go: by the pace so far, by the estimate until there is one."""
        spent, done = time.monotonic() - self.began, self.ended + self.progress
        if done < 0.5:
            return max(self.seconds - spent, 0)
        return spent / done * (self.to_run - done)

    def draw(self) -> Group:
        """The table as it is now."""
        table = Table(title=self.title, title_justify="left", box=None, padding=(0, 2, 0, 0))
        for column in ("configuration", "seeds", "mean"):
            table.add_column(column, justify="left" if column == "configuration" else "right")
        means = {number: self._mean(number) for number in self.labels}
        best = min((mean for mean in means.values() if mean is not None), default=None)
        for number, label in self.labels.items():
            mine = [self.results[id(p)] for p in self.planned if p.trial.configuration == number]
            mean = means[number]
            style = "bold" if mean is not None and mean == best else ""
            finished = sum(bool(r) and r["status"] == "finished" for r in mine if r)
            table.add_row(label, f"{finished}/{len(mine)}", "" if mean is None else f"{mean:.4f}", style=style)
        done = sum(result is not None for result in self.results.values())
        share = (done + self.progress * (self.current is not None)) / len(self.planned)
        now = f"{self.labels[self.current.trial.configuration]} seed={self.current.trial.seed}" if self.current else ""
        words = Text(f"{done} of {len(self.planned)} done, {spoken_time(self.left)} left   {now}", style="dim")
        return Group(table, ProgressBar(total=1.0, completed=share, width=48), words)

    def _mean(self, number: int) -> float | None:
        results = [self.results[id(p)] for p in self.planned if p.trial.configuration == number]
        values = [v for r in results if r and r["status"] == "finished" and (v := _value(r)) is not None]
        return sum(values) / len(values) if values else None


def _value(result: Mapping[str, Any]) -> float | None:
    """What the result is judged by."""
    headline = (result.get("headline") or {}).get("name", "val/bpb")
    value = result.get(headline)
    return result.get("val/loss") if value is None else value


def _labels(planned: Sequence[Planned]) -> dict[int, str]:
    """What tells each configuration from the others: its overrides that not all of them have."""
    by_number = {p.trial.configuration: [o for o in p.trial.overrides if not o.startswith("seed=")] for p in planned}
    common = set.intersection(*(set(overrides) for overrides in by_number.values()))
    return {n: " ".join(o for o in overrides if o not in common) or "all" for n, overrides in by_number.items()}


def spoken_time(seconds: float) -> str:
    """A duration in words."""
    if seconds < 90:
        return f"about {max(round(seconds), 1)} s"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"
