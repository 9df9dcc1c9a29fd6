"""W&B's server chooses, its own agent runs here: its client is real, what it would reach by network is not."""

import io
import json

import pytest
import wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from rich.console import Console
from wandb.agents import pyagent
from wandb.apis.public import sweeps as server_calls

from lab.errors import RequestError
from lab.runs import folder as files
from lab.runs.comparison import wandb_report
from lab.runs.sweep import sweep
from lab.runs.sweep.file import read_sweep
from lab.runs.sweep.job import Job
from lab.runs.sweep.live import Live
from lab.runs.sweep.plan import Plan, Point
from tests.runs.sweep.conftest import at_work


@pytest.fixture
def online(file, change):
    change({"logger": {"value": "wandb"}, "optimizer": {"parameters": {"lr": {"value": 0.002}}}}, project="tests")
    return file


class Server:
    """What W&B's server answers: each point of the grid once, then the end."""

    def __init__(self):
        self.definition = None
        self.sent = []
        self.pages = []
        self.ends = lambda run: False  # which runs early termination ends now

    def upsert(self, api, config, **kwargs):
        self.definition = json.loads(json.dumps(config))  # it arrives as JSON
        values = self.definition["parameters"]
        common = {name: value["value"] for name, value in values.items() if "value" in value}
        common |= {"optimizer": {"lr": values["optimizer"]["parameters"]["lr"]["value"]}}
        self.runs = [
            {**common, "attention": attention, "seed": seed}
            for attention in values["attention"]["values"]
            for seed in values["seed"]["values"]
        ]
        return {"name": "abc123"}, []

    def heartbeat(self, api, agent_id, metrics, run_states):
        if any(run_states.values()):
            return [{"type": "stop", "run_id": run} for run, works in run_states.items() if works and self.ends(run)]
        if not self.runs:
            return [{"type": "exit"}]
        self.sent.append(self.runs.pop(0))
        args = {name: {"value": value} for name, value in sorted(self.sent[-1].items())}
        return [{"type": "run", "run_id": f"run{len(self.sent)}", "args": args}]


@pytest.fixture
def server(monkeypatch, tmp_path):
    class Api:
        settings = {"base_url": "https://server", "entity": None, "project": None}
        default_entity = None

    made = Server()
    monkeypatch.setattr(server_calls, "_upsert_sweep", made.upsert)
    monkeypatch.setattr(server_calls, "_register_agent", lambda api, host, **kwargs: {"id": "agent"})
    monkeypatch.setattr(server_calls, "_agent_heartbeat", made.heartbeat)
    monkeypatch.setattr(wandb, "Api", Api)
    monkeypatch.setattr("wandb.sdk.wandb_login._login", lambda **kwargs: True)
    monkeypatch.setattr("lab.runs.tracker.server_answers", lambda: True)
    monkeypatch.setattr(pyagent.Agent, "HEARTBEAT_SLEEP_SECONDS", 0.05)
    monkeypatch.setattr(wandb_report, "home", lambda results: ("team", "tests"))
    monkeypatch.setattr(wr.Report, "save", lambda page: made.pages.append(page))
    monkeypatch.setattr(wr.Report, "url", "https://server/team/tests/reports/1")
    monkeypatch.setattr(ws.Workspace, "save", lambda page: made.pages.append(page))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return made


def test_the_agent_runs_in_this_process_what_the_server_sends(online, server, tmp_path):
    outcome = sweep(online, ["optimizer.weight_decay=0.02"], folder=tmp_path / "s", online=True)
    assert server.definition["command"][-1] == "optimizer.weight_decay=0.02"
    assert len(server.sent) == 4
    assert [p.status for p in outcome.planned] == ["finished"] * 4
    assert {(p.config.choices.attention, p.config.seed) for p in outcome.planned} == {
        (attention, seed) for attention in ("mha", "mqa") for seed in (0, 1)
    }
    assert all(p.config.optimizer.lr == 0.002 and p.config.optimizer.weight_decay == 0.02 for p in outcome.planned)
    assert outcome.exit_code == 0
    assert (tmp_path / "s" / "report.html").exists()
    assert outcome.report.to_json()["wandb_report"] == "https://server/team/tests/reports/1"
    assert [(type(page).__name__, page.project) for page in server.pages] == [
        ("Report", "tests"),
        ("Workspace", "tests"),
    ]
    places = [files.read_result(p.folder)["wandb"] for p in outcome.planned]
    assert sorted(place[-4:] for place in places) == ["run1", "run2", "run3", "run4"]  # the server's own names


def test_a_report_that_the_server_does_not_take_costs_no_run(online, change, server, monkeypatch, capsys, tmp_path):
    def refuse(page):
        raise ValueError("no room")

    change({"attention": {"values": ["mha"]}})
    monkeypatch.setattr(wr.Report, "save", refuse)
    outcome = sweep(online, folder=tmp_path / "s", online=True)
    assert [p.status for p in outcome.planned] == ["finished"] * 2
    assert outcome.exit_code == 0
    assert "ValueError: no room). Made later by: lab report" in " ".join(capsys.readouterr().err.split())


def test_what_the_server_ends_early_is_pruned(online, change, server, tmp_path):
    change({"attention": {"values": ["mha"]}, "budget.steps": {"value": 100000}})
    server.ends = lambda run: len(at_work(tmp_path / "s")) == len(server.sent)
    outcome = sweep(online, folder=tmp_path / "s", online=True)
    results = [files.read_result(p.folder) for p in outcome.planned]
    assert [(r["status"], r["error"]) for r in results] == [("pruned", None)] * 2
    assert all(0 < r["steps"] < 100000 for r in results)
    assert outcome.exit_code == 0


def test_what_would_reach_no_server_is_refused(online, server, monkeypatch, tmp_path):
    for words, named in (({"jobs": 2}, "--jobs"), ({"storage": "sqlite://"}, "--storage")):
        with pytest.raises(RequestError, match=named):
            sweep(online, folder=tmp_path / "s", online=True, **words)
    with pytest.raises(RequestError, match=r"logger\.kind is none"):
        sweep(online, ["logger=none"], folder=tmp_path / "s", online=True)
    monkeypatch.setattr("lab.runs.tracker.server_answers", lambda: False)
    with pytest.raises(RequestError, match="wandb login"):
        sweep(online, folder=tmp_path / "s", online=True)
    assert server.definition is None


def test_the_live_table_shows_what_the_server_chose(online, tmp_path):
    job = Job(Plan(read_sweep(online)), tmp_path / "s")
    listed = job.all_planned()
    chosen = job.planned(Point(7, {**job.plan.points[0].parameters, "optimizer.lr": 0.003}, job.plan.seeds), 0)
    with Live("tests", job, listed, listed, 60.0, maximize=False) as live:
        for run, loss in ((listed[0], 2.5), (chosen, 2.25)):
            live.begin(run)
            live.observe(run, {"progress": 0.5, "val/bpb": loss})
            live.end(run, {"status": "finished", "val/bpb": loss})
        console = Console(width=120, record=True, file=io.StringIO())
        console.print(live.draw())
    lines = console.export_text().splitlines()
    assert any("2.5000" in line and "1/2" in line for line in lines)
    assert any("optimizer.lr=0.003" in line and "2.2500" in line for line in lines), lines


def test_the_first_configuration_of_a_search_has_its_name(online, change, tmp_path):
    change({"optimizer": {"parameters": {"lr": {"values": [0.001, 0.002]}}}})
    job = Job(Plan(read_sweep(online)), tmp_path / "s")
    first = job.all_planned()[0]
    with Live("tests", job, [], [], None, maximize=False) as live:
        live.begin(first)
        assert live.label(first.trial.configuration).split() == ["attention=mha", "optimizer.lr=0.001"]


def test_a_title_is_no_markup(online, tmp_path):
    job = Job(Plan(read_sweep(online)), tmp_path / "s")
    with Live("half [/b] of [size]", job, [], [], None, maximize=False) as live:
        live.begin(job.all_planned()[0])
        console = Console(width=120, record=True, file=io.StringIO())
        console.print(live.draw())
    assert "half [/b] of [size]" in console.export_text()
