"""The report in W&B: what its own library would send, kept offline; made through its own classes online."""

import json

import pytest

from lab.errors import RequestError
from lab.runs import tracker
from lab.runs.comparison import wandb_report
from lab.runs.report import report
from tests.runs.synthetic import write_ladder, write_run, write_search


@pytest.fixture(scope="module")
def ladder(tmp_path_factory):
    return write_ladder(tmp_path_factory.mktemp("runs") / "ladder", seeds=3)


def test_offline_the_checked_definition_is_kept(ladder, monkeypatch):
    monkeypatch.setattr(tracker, "server_answers", lambda: False)
    made = report(ladder, "previous")
    assert made.publish() == str(ladder / "report.wandb.json")
    document = json.loads((ladder / "report.wandb.json").read_text("utf-8"))
    text = json.dumps(document, ensure_ascii=False)
    for comparison in made.results.comparisons:
        assert comparison.configuration.label in text
    (grid,) = (block for block in document["report"]["spec"]["blocks"] if block["type"] == "panel-grid")
    (runs,) = grid["metadata"]["runSets"]
    chosen = runs["filters"]["filters"][0]
    assert chosen["key"] == {"section": "config", "name": "configuration"}
    assert chosen["value"] == [f"hash{number}" for number in range(7)]
    kinds = [panel["viewType"] for panel in grid["metadata"]["panelBankSectionConfig"]["panels"]]
    assert kinds == ["Run History Line Plot"] * 2 + ["Scatter Plot"] * 2
    (section,) = document["workspace"]["spec"]["section"]["panelBankConfig"]["sections"]
    assert [panel["viewType"] for panel in section["panels"]] == kinds


def test_a_search_gets_its_hyperparameters(tmp_path):
    made = report(write_search(tmp_path / "search", 10, seeds=1))
    text = wandb_report.definition(made.results, "search")
    assert "Parallel Coordinates Plot" in text
    assert "config:lab.value.optimizer.lr" in text


def test_online_the_page_and_the_workspace_are_saved_where_the_runs_are(tmp_path, monkeypatch):
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    for seed in range(3):
        for name, value in (("mha", 2.0), ("mqa", 2.2)):
            address = f"https://wandb.ai/team/models/runs/{name}{seed}"
            write_run(tmp_path / f"{name}{seed}", [f"attention={name}"], value + seed / 50, seed, wandb=address)
    saved = []
    monkeypatch.setattr(tracker, "server_answers", lambda: True)
    monkeypatch.setattr(wr.Report, "save", lambda page: saved.append((page.entity, page.project, page.title)))
    monkeypatch.setattr(wr.Report, "url", "https://wandb.ai/team/models/reports/1")
    monkeypatch.setattr(ws.Workspace, "save", lambda view: saved.append((view.entity, view.project, view.name)))
    assert report(tmp_path).publish() == "https://wandb.ai/team/models/reports/1"
    assert [place[:2] for place in saved] == [("team", "models")] * 2

    def refuse(page):
        raise ValueError("no such project")

    monkeypatch.setattr(wr.Report, "save", refuse)
    with pytest.raises(RequestError, match="ValueError: no such project"):
        report(tmp_path).publish()


def test_nothing_finished_is_refused(tmp_path):
    write_run(tmp_path / "bad", ["attention=mha"], None, status="failed", error="out of memory")
    with pytest.raises(RequestError, match="--wandb: no run is finished"):
        report(tmp_path).publish()
