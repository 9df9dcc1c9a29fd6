"""The report in Weights & Biases: a page there with the verdicts, and live charts of the very runs that were compared.

Online it is made by W&B's own library (wandb-workspaces), a workspace beside it. Offline the same definitions are built and
checked, and kept as a file; the command given again when online makes both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from lab.errors import RequestError
from lab.runs.comparison import method, words
from lab.runs.comparison.compare import Results, Table
from lab.runs.comparison.export import as_markdown, save
from lab.runs.comparison.importance import hyperparameters
from lab.runs.comparison.numbers import plain

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

SAVED = "report.wandb.json"


def publish(results: Results, title: str, folder: Path) -> str:
    """Make the page and a workspace beside it; returns the page's address, or offline the file that keeps the definition.

    Raises:
        RequestError: no run is finished, the library is not installed, the file can't be written, or the server refuses,
            with what it says.
    """
    from importlib.util import find_spec

    from lab.runs.tracker import server_answers

    if find_spec("wandb_workspaces") is None:
        raise RequestError("--wandb: takes the package wandb-workspaces, which is not installed")
    if not results.tables:
        raise RequestError("--wandb: no run is finished; there is nothing to show")
    if not server_answers():
        path = folder / SAVED
        save(path, definition(results, title))
        return str(path)
    try:
        entity, project = home(results)
        page = report(results, title, entity, project)
        page.save()
        workspace(results, title, entity, project).save()
    except Exception as error:  # the library raises bare ones
        raise RequestError(f"--wandb: the server did not take the page ({type(error).__name__}: {error})") from error
    return str(page.url)


def home(results: Results) -> tuple[str, str]:
    """Entity and project of the runs that are on the server; else the user's own, and the project the runs name."""
    for place in words.wandb_places(results):
        parts = urlparse(place).path.strip("/").split("/")
        if "://" in place and len(parts) >= 2:
            return parts[0], parts[1]
    import wandb

    first = results.tables[0].configurations[0].first
    return str(wandb.Api().default_entity), str(first.config.get("logger.project") or "lab")


def definition(results: Results, title: str) -> str:
    """The page and the workspace as W&B's library would send them, JSON; they have passed its checks, but for names on
    the server.
    """
    made: dict[str, Any] = {"report": report(results, title, "", ""), "workspace": workspace(results, title, "", "")}
    sent = {
        name: each._to_model().model_dump(mode="json", by_alias=True, exclude_none=True) for name, each in made.items()
    }
    return json.dumps(sent, indent=1)


def report(results: Results, title: str, entity: str, project: str) -> wr.Report:
    """The page: verdicts in words, the table, and for each table of the report a grid of charts over its runs."""
    import wandb_workspaces.reports.v2 as wr

    blocks: list[Any] = [wr.MarkdownBlock(text=f"**{words.found(results)}.**")]
    for table in results.tables:
        found: list[Any] = [plain(words.sentence(each, table, against=True)) for each in table.comparisons]
        blocks += [wr.H2(text=words.heading(table, results)), wr.UnorderedList(items=found)]
        blocks.append(wr.PanelGrid(runsets=[_runs(table, entity, project)], panels=_panels(table)))
    blocks += [wr.H2(text="All numbers"), wr.MarkdownBlock(text=as_markdown(results))]
    blocks += [wr.H2(text="How the verdicts are reached"), wr.P(text=method.said(results))]
    return wr.Report(project=project, entity=entity, title=title, description="Made by lab report", blocks=blocks)


def workspace(results: Results, title: str, entity: str, project: str) -> ws.Workspace:
    """The same charts as a view of the project, for looking around."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    sections = [
        ws.Section(name=words.heading(table, results), panels=_panels(table), is_open=True) for table in results.tables
    ]
    keys = [each.key for table in results.tables for each in table.configurations]
    shared = expr.Config("configuration")
    shown = ws.RunsetSettings(filters=[shared.isin(keys)], groupby=[shared])
    return ws.Workspace(entity=entity, project=project, name=title, sections=sections, runset_settings=shown)


def _runs(table: Table, entity: str, project: str) -> wr.Runset:
    """The runs of a table, by the configurations that they share; seeds of one are a group."""
    import wandb_workspaces.reports.v2 as wr
    from wandb_workspaces import expr

    keys = [each.key for each in table.configurations]
    chosen = [expr.Config("configuration").isin(keys)]
    return wr.Runset(entity=entity, project=project, name="compared", filters=chosen, groupby=["group"])


def _panels(table: Table) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    measure = table.measure.name
    where = [{"x": 12 * (place % 2), "y": 8 * (place // 2), "w": 12, "h": 8} for place in range(6)]
    panels: list[Any] = [
        wr.LinePlot(title=f"{measure} over tokens", x="tokens", y=[measure]),
        wr.LinePlot(title=f"{measure} over FLOPs", x="flops", y=[measure]),
        wr.ScatterPlot(title="Quality against cost", x=wr.SummaryMetric("flops"), y=wr.SummaryMetric(measure)),
        wr.ScatterPlot(title="Quality against size", x=wr.Config("parameters"), y=wr.SummaryMetric(measure)),
    ]
    keys = [key if "." not in key else f"lab.{key}" for key in hyperparameters(table.firsts)]
    if len(keys) > 1:
        columns = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key)) for key in keys]
        measured = wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(measure))
        panels.append(wr.ParallelCoordinatesPlot(columns=[*columns, measured]))
        panels.append(wr.ParameterImportancePlot(with_respect_to=measure))
    for panel, place in zip(panels, where, strict=False):
        panel.layout = wr.Layout(**place)
    return panels
