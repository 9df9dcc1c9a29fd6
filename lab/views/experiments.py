"""What experiments claim and what came out, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.runs.claim import CONFIRMED, CONTRADICTED, HOLDS, OPEN, REFUTED, UNDECIDED
from lab.runs.conduct import Ended
from lab.runs.experiment import NOT_RUN, Experiment

STYLES = {
    CONFIRMED: "bold green",
    HOLDS: "green",
    REFUTED: "bold red",
    CONTRADICTED: "red",
    UNDECIDED: "yellow",
    OPEN: "yellow",
    NOT_RUN: "dim",
}


def show(experiments: Sequence[Experiment]) -> None:
    """All of them with their verdicts."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="")
    for title in ("experiment", "claim", "verdict", "date"):
        table.add_column(title, overflow="fold")
    for each in experiments:
        verdict, result = each.verdict, each.result
        others = [word for word in result.get("overrides", ()) if not str(word).startswith("logger")]
        said = Text(verdict, STYLES[verdict]).append(f" with {' '.join(map(str, others))}" if others else "", "dim")
        table.add_row(each.name, Text(each.claim), said, str(result.get("date", "")))
    Console().print(
        table if experiments else Text("There is no experiment: a folder of experiments/ holds an experiment.yaml.")
    )


def show_ended(ended: Ended) -> None:
    """The report, then the verdict on the claim and each statement of its rule."""
    ended.outcome.print()
    console = Console()
    if not ended.found:
        if ended.outcome.stopped:
            console.print(Text("No verdict yet: the same command goes on from there.", "bold"))
        return
    verdict = ended.experiment.verdict
    console.print()
    console.print(Text("Claim: ", "bold"), Text(ended.experiment.claim), sep="")
    for each in ended.found:
        text = Text(f"• {each.sentence()}")
        text.highlight_regex(rf"(?<=: ){each.outcome}(?=[;,])", STYLES[each.outcome])
        console.print(text)
    console.print(Text("Verdict: ", "bold").append(verdict, STYLES[verdict]))
    if ended.outcome.report is not None and ended.outcome.report.preface is not None:
        console.print(Text(ended.outcome.report.preface.rule, "dim"))
    console.print(Text(f"Kept in {ended.experiment.record}", "dim"), soft_wrap=True)
