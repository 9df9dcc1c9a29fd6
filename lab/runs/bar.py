"""What a person sees of one run: a progress bar while it trains, one line when it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lab.console import notes
from lab.runs.folder import CHECKPOINT, Run


class Bar:
    """An observer that draws a progress bar on standard error, or a line now and then where that is no terminal."""

    def __init__(self) -> None:
        self.progress = Progress(
            BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"), TimeRemainingColumn(),
            console=notes, transient=True, disable=not notes.is_terminal,
        )  # fmt: skip
        self.task: TaskID | None = None
        self.shown: dict[str, Any] = {}
        self.told = 0.0

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Show one measurement."""
        if self.task is None:
            self.progress.start()
            self.task = self.progress.add_task("", total=1.0)
        self.shown |= {key: value for key, value in row.items() if value is not None}
        self.progress.update(self.task, completed=row["progress"], description=self.words())
        if not notes.is_terminal and row["progress"] >= self.told + 0.25:
            self.told = row["progress"] // 0.25 * 0.25
            notes.print(f"{row['progress']:4.0%}  {self.words()}", soft_wrap=True)

    def words(self) -> str:
        """The latest figures."""
        kinds = {
            "train/loss": "loss {:.3f}",
            "val/bpb": "validation {:.4f} bits per byte",
            "val/loss": "validation loss {:.4f}",
            "val/accuracy": "accuracy {:.3f}",
            "tokens_per_second": "{:,.0f} tokens/s",
        }
        if not self.shown.keys().isdisjoint(("val/bpb", "val/accuracy")):
            del kinds["val/loss"]
        return "  ".join(text.format(self.shown[key]) for key, text in kinds.items() if key in self.shown)


def summary(run: Run) -> str:
    """One line on how a run ended."""
    result = run.result
    parts = [f"{run.folder}  {run.status}"]
    headline = (result.get("headline") or {"name": "val/bpb"})["name"]
    if headline != "val/bpb" and result.get(headline) is not None:
        parts.append(f"{headline.removeprefix('val/')} {result[headline]:.4f}")
    elif result.get("val/bpb") is not None:
        parts.append(f"{result['val/bpb']:.4f} bits per byte")
    elif result.get("val/loss") is not None:
        lost = result.get("tokenizer/lost_share") or 0
        why = f" (no bits per byte: the tokenizer loses {lost:.1%} of them)" if lost else ""
        parts.append(f"{result['val/loss']:.4f} nats per token{why}")
    if result.get("tokens_seen"):
        parts.append(f"{result['tokens_seen']:,} tokens in {result['seconds']:.0f} s")
    if result.get("error"):
        parts.append(result["error"])
    if (run.folder / CHECKPOINT).is_file():
        parts.append(f"continue: lab train resume={run.folder}")
    return "  ".join(parts)
