"""Experiments: run by one command, judged by the rule of their file, listed with their verdicts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lab.errors import RequestError
from lab.options import conf_folder
from lab.runs import conduct
from lab.runs.comparison.collect import read_runs
from lab.runs.experiment import experiments, read
from lab.runs.sweep.driver import write_plan
from lab.runs.sweep.file import read_sweep
from lab.runs.sweep.job import Job
from lab.runs.sweep.plan import Plan
from tests.runs.test_fair import written

MEASURED = {"better": "attention=mqa over attention=mha on decode/cache_bytes"}
OWN = sorted((conf_folder().parent / "experiments").glob("*/experiment.yaml"))


@pytest.fixture
def made(tmp_path, small):
    """An experiment of two attentions, here."""

    def make(**more):
        folder = tmp_path / "experiments" / "sharing"
        folder.mkdir(parents=True)
        small_and_long = [word for word in small if "budget" not in word] + ["budget.steps=4"]
        written(folder / "sweep.yaml", small_and_long)
        content = {
            "question": "Does sharing keys cost anything?",
            "claim": "It does not, and the cache is smaller.",
            "sweep": "sweep.yaml",
            "margin": 5.0,
            "until_decided": 3,
            "again": {"longer": ["model.context=64"]},
            "decode": {"tokens": 8, "times": 1},
            "rule": [
                {"equivalent": "attention=mqa to attention=mha"},
                {"equivalent": "attention=mqa in longer to attention=mha"},
                {"better": "attention=mqa over attention=mha on decode/cache_bytes"},
            ],
            **more,
        }
        (folder / "experiment.yaml").write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
        return folder

    return make


def test_a_claim_is_tested_by_one_command(lab, made, tmp_path):
    folder = made()
    planned = lab("experiment", "sharing", "--plan", "--json")
    assert planned.code == 0
    assert planned.json["verdict"] == "not run"
    assert not (tmp_path / "runs").exists()
    ended = lab("experiment", "sharing", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["verdict"] == "confirmed"
    kept = yaml.safe_load((folder / "result.yaml").read_text())
    assert kept["verdict"] == "confirmed"
    assert [each["outcome"] for each in kept["statements"]] == ["holds"] * 3
    assert {"date", "machine", "torch", "report"} <= kept.keys()
    page = (tmp_path / "runs" / "experiments" / "sharing" / "report.html").read_text("utf-8")
    assert page.index("It does not, and the cache is smaller.") < page.index("The comparisons of the sweep")
    assert "all 3 hold together with 95%" in page
    root = tmp_path / "runs" / "experiments" / "sharing"
    trained, longer = read_runs([root / "compare"]), read_runs([root / "longer"])
    assert len(trained) == len(longer) == 6
    assert {(run.seed, run.choices["attention"]) for run in trained} == {
        (run.seed, run.choices["attention"]) for run in longer
    }
    for run in longer:
        assert run.config["model.context"] == 64
        assert run.number("tokens_seen") == 0
        origin = Path(run.result["start"])
        assert json.loads((origin / "result.json").read_text())["choices"] == run.choices
    caches = {run.choices["attention"]: run.number("decode/cache_bytes") for run in trained}
    assert caches["mha"] == 4 * caches["mqa"]
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*.json") if "plan" not in path.name}
    shown = lab("experiment", "sharing")
    assert "Verdict: confirmed" in shown.out
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.json") if "plan" not in path.name} == times
    assert lab("experiment", "--list", "--json").json[0]["verdict"] == "confirmed"
    assert "confirmed" in lab("experiment", "--list").out


def test_runs_in_another_folder_leave_the_result_of_record(lab, made, tmp_path):
    folder = made(until_decided=None, again=None, decode=None, rule=[{"equivalent": "attention=mqa to attention=mha"}])
    assert lab("experiment", "sharing").code == 0
    before = (folder / "result.yaml").read_bytes()
    ended = lab("experiment", "sharing", "budget.steps=1", "margin=0.1", "--folder", "smoke")
    assert ended.code == 2  # a term is no override
    ended = lab("experiment", "sharing", "budget.steps=1", "--folder", "smoke")
    assert ended.code == 0, ended.err
    assert "Kept in smoke/result.yaml" in ended.out
    assert (folder / "result.yaml").read_bytes() == before
    assert "budget.steps=1" in yaml.safe_load((tmp_path / "smoke" / "result.yaml").read_text())["overrides"]
    kept = yaml.safe_load(before)
    (folder / "result.yaml").write_text(yaml.safe_dump(kept | {"overrides": ["budget.steps=1", "logger=none"]}))
    assert "et.steps=1" in lab("experiment", "--list").out  # folded


def test_other_terms_of_decoding_are_measured_anew(lab, made, tmp_path):
    folder = made(
        until_decided=None, again=None, rule=[{"better": "attention=mqa over attention=mha on decode/cache_bytes"}]
    )
    assert lab("experiment", "sharing").code == 0
    content = yaml.safe_load((folder / "experiment.yaml").read_text()) | {
        "decode": {"rows": 2, "tokens": 8, "times": 1}
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(content))
    assert lab("experiment", "sharing").code == 0
    runs = read_runs([tmp_path / "runs" / "experiments" / "sharing" / "compare"])
    assert {run.number("decode/rows") for run in runs} == {2}


def test_a_measure_that_no_run_has_is_no_open_question(lab, made):
    made(until_decided=None, again=None, decode=None, rule=[{"better": "attention=mqa over attention=mha on val/chrf"}])
    ended = lab("experiment", "sharing")
    assert ended.code == 2
    assert "val/chrf is nothing that these runs measure; accepted: " in ended.err


def test_a_rule_that_changes_after_the_first_run_is_refused(lab, made, tmp_path):
    folder = made(until_decided=None, again=None, decode=None, rule=[{"equivalent": "attention=mqa to attention=mha"}])
    one = read(folder)
    one.terms.write(tmp_path / "runs" / "experiments" / "sharing" / "compare")
    content = yaml.safe_load((folder / "experiment.yaml").read_text())
    for change in ({"margin": 9.0}, {"rule": [{"worse": "attention=mqa than attention=mha"}]}):
        (folder / "experiment.yaml").write_text(yaml.safe_dump(content | change))
        ended = lab("experiment", "sharing")
        assert ended.code == 2
        assert "has begun on other terms: " in ended.err
        then = (
            "margin 5.0 then, 9.0 now"
            if "margin" in change
            else "claim equivalent: attention=mqa to attention=mha then, worse: "
        )
        assert then in ended.err


def test_a_stage_that_changes_after_its_first_run_is_refused_before_another_run(made, tmp_path):
    one = read(made())
    root = tmp_path / "root"
    one.terms.write(root / "compare")
    judged, own = conduct._stage(one, (), root / "compare", one.again["longer"], [0, 1])
    for name, plan in {"compare": Plan(read_sweep(one.sweep)), "longer": Plan(judged, (), own)}.items():
        job = Job(plan, root / name)
        job.folder.mkdir(exist_ok=True)
        write_plan(job, job.all_planned())

    def driver(*asked):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        conduct.run(one, folder=root, driver=driver)
    with pytest.raises(RequestError, match=r"again: longer: .*longer: holds another sweep"):
        conduct.run(replace(one, again={"longer": ["model.context=32"]}), folder=root, driver=driver)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sharring"], "no such experiment; did you mean sharing?"),
        (["xyz"], "there are sharing"),
        ([], "name one experiment, or --list all"),
        (["sharing", "--list"], "name one experiment, or --list all"),
        (["sharing", "attention=mha"], "varies attention"),
    ],
)
def test_wrong_requests(lab, made, arguments, said):
    made()
    ended = lab("experiment", *arguments)
    assert ended.code == 2
    assert said in ended.err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"marign": 1}, "marign: no such key; did you mean margin?"),
        ({"claim": None}, "claim: is missing"),
        ({"rule": [{"better": "attention=mqq over attention=mha"}]}, "did you mean attention=mqa"),
        ({"rule": [{"better": "attention=mqa in loonger over attention=mha"}]}, "did you mean longer"),
        (
            {"rule": [{"better": "attention=mqa over attention=mha on nosuch"}]},
            "nosuch is nothing of which the better way",
        ),
        ({"rule": [MEASURED], "decode": None}, "decode/cache_bytes is measured where decode asks for it"),
        ({"margin": None}, "equivalent takes a margin"),
        ({"margin": "wide"}, "margin: 'wide'; a number above 0"),
        ({"decode": {"rows": 0}}, "decode.rows: 0; a whole number, at least 1"),
        ({"decode": {"row": 1}}, "a mapping with rows, tokens and times"),
        ({"again": {"longer": "model.context=64"}}, "stages, each a name of letters"),
        ({"again": {"../longer": ["model.context=64"]}}, "stages, each a name of letters"),
        ({"again": {"longer": ["model.contex=64"]}}, "again: longer: model.contex: no such key"),
        ({"until_decided": 2}, "until-decided: 2; at least 3"),
        ({"until_decided": 10**9}, "at most 1000"),
        ({"rule": [{"better": "attention=mqa over attention=mqa"}]}, "says attention=mqa twice"),
        ({"sweep": "none.yaml"}, "can't be read"),
    ],
)
def test_a_wrong_file_is_refused_before_anything_runs(lab, made, tmp_path, more, said):
    made(**more)
    ended = lab("experiment", "sharing")
    assert ended.code == 2
    assert said in ended.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("path", OWN, ids=[path.parent.name for path in OWN])
def test_the_experiments_of_the_lab_can_run(path):
    """Every statement is about a configuration of the sweep, and what is written as a result holds what it must."""
    one = read(path.parent)
    conduct.check_rule(one)
    if one.result:
        assert [each["statement"] for each in one.result["statements"]] == [str(each) for each in one.rule]


def test_without_experiments_the_list_is_empty(lab, tmp_path):
    (tmp_path / "experiments").mkdir()
    assert lab("experiment", "--list", "--json").json == []
    assert experiments() == []
