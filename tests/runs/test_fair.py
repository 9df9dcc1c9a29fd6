"""A sweep on fair terms: matched, tuned, with seeds added until it is decided; kept with its runs, said in its report."""

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from lab.errors import RequestError
from lab.runs import folder as files
from lab.runs.comparison import method
from lab.runs.comparison.collect import read_runs
from lab.runs.fair import fair_sweep
from lab.runs.report import Report, report
from lab.runs.sweep.file import read_sweep
from lab.runs.sweep.plan import Plan, bare
from lab.runs.terms import Terms, kept
from lab.runs.tune import SEED
from tests.runs.synthetic import write_run, write_scale

BAYES = {"method": "bayes", "run_cap": 3, "metric": {"name": "val/bpb"}}


@pytest.fixture
def file(tmp_path, small):
    return written(tmp_path / "little.yaml", small)


def written(path: Path, small, **more) -> Path:
    """A sweep of two configurations."""
    words = (word.partition("=") for word in small)
    parameters = {key: {"value": yaml.safe_load(value)} for key, _, value in words}
    parameters |= {"attention": {"values": ["mha", "mqa"]}, **more.pop("parameters", {})}
    command = ["${env}", "lab", "train", "${args_no_hyphens}"]
    content = {"method": "grid", "command": command, "parameters": parameters, **more}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_matched_and_tuned_each_with_words_of_its_own(file, tmp_path):
    terms = Terms(match="parameters", tune="optimizer.lr=0.0001,0.01,0.02")
    outcome = fair_sweep(file, ["seed=3"], tmp_path / "s", terms)
    assert outcome.exit_code == 0
    tried = read_runs([tmp_path / "s-tuning"])
    assert {run.seed for run in tried} == {SEED}
    best = {}
    for run in tried:
        best.setdefault(run.choices["attention"], {})[run.config["optimizer.lr"]] = run.value
    compared = {run.choices["attention"]: run for run in read_runs([tmp_path / "s"])}
    assert len(tried) == 6
    for name, run in compared.items():
        assert run.seed == 3
        assert run.config["optimizer.lr"] == min(best[name], key=best[name].get)
    assert compared["mha"].config["model.inner"] == 256
    assert compared["mqa"].config["model.inner"] > 256
    ratio = compared["mqa"].result["parameters"] / compared["mha"].result["parameters"]
    assert ratio == pytest.approx(1, abs=0.02)
    notes = " ".join(outcome.report.results.notes)
    inner = compared["mqa"].config["model.inner"]
    assert f"attention=mqa model.inner={inner} {ratio:.3f} of those of attention=mha" in notes
    assert {each.label for each in outcome.report.results.tables[0].configurations} == {
        "attention=mha",
        "attention=mqa",
    }
    assert "optimizer.lr was tuned for each by the same 3 trials (0.0001, 0.01, 0.02)" in notes
    assert notes == " ".join(report(tmp_path / "s").results.notes)


def test_again_it_runs_nothing_and_other_terms_are_refused(file, tmp_path):
    terms = Terms(match="flops")
    fair_sweep(file, (), tmp_path / "s", terms)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob(files.RESULT)}
    fair_sweep(file, (), tmp_path / "s", terms)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob(files.RESULT)} == times
    with pytest.raises(RequestError, match="has begun on other terms"):
        fair_sweep(file, (), tmp_path / "s", Terms(match="parameters"))


@pytest.mark.parametrize("terms", [Terms(match="parameters"), Terms(tune="optimizer.lr=0.01,0.02")])
def test_a_variant_that_came_later_is_not_run_without_its_terms(small, tmp_path, terms):
    file = written(tmp_path / "little.yaml", small)
    fair_sweep(file, (), tmp_path / "s", terms)
    written(file, small, parameters={"attention": {"values": ["mha", "mqa", "gqa"]}})
    with pytest.raises(RequestError, match="attention=gqa is new in this sweep"):
        fair_sweep(file, (), tmp_path / "s", terms)
    written(file, small, parameters={"attention": {"values": ["mha"]}})
    fair_sweep(file, (), tmp_path / "s", terms)


def test_a_tuning_with_more_variants_than_there_are_now_is_read(small, tmp_path):
    file, terms = written(tmp_path / "little.yaml", small), Terms(tune="optimizer.lr=0.01,0.02")
    fair_sweep(file, (), tmp_path / "s", terms)
    shutil.rmtree(tmp_path / "s")  # as after Ctrl-C between the two
    written(file, small, parameters={"attention": {"values": ["mha"]}})
    fair_sweep(file, (), tmp_path / "s", terms)
    assert {run.choices["attention"] for run in read_runs([tmp_path / "s"])} == {"mha"}


def test_what_is_wrong_is_said_of_the_file_and_its_line(small, tmp_path):
    file = written(tmp_path / "little.yaml", small, parameters={"attention": {"values": ["mha", "nope"]}})
    line = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if text.strip() == "attention:")
    with pytest.raises(RequestError, match=rf"^{file}: attention=nope: .*\(line {line}\)$"):
        fair_sweep(file, (), tmp_path / "s", Terms(most_seeds=4))


def test_a_plan_writes_nothing(file, tmp_path):
    terms = Terms(match="tokens", tune="optimizer.lr=0.1,0.2")
    outcome = fair_sweep(file, (), tmp_path / "s", terms, plan_only=True)
    assert outcome.report is None
    assert len(outcome.planned) == 4
    assert list(tmp_path.iterdir()) == [file]


@dataclass
class Simulated:
    """Runs a sweep by writing what its trials would have reached: mha 2.0, the others more by an effect."""

    effects: dict[str, float]
    calls: int = 0
    stopped: bool = False

    def __call__(self, file, overrides, folder, baseline, plan_only, retry_failed, storage, jobs, own, fewer):
        self.calls += 1
        for trial in Plan(file, overrides, own, fewer).trials:
            name = trial.parameters["attention"]
            if not (folder / f"{name}{trial.seed}").exists():
                noise = np.random.default_rng([trial.seed, ("mha", "mqa", "gqa").index(name)]).normal(0, 0.01)
                words = [word for word in trial.overrides if not word.startswith("seed")]
                effect = self.effects.get(name, 0.0)
                write_run(folder / f"{name}{trial.seed}", words, 2 + effect + noise, trial.seed)
        self.report: Report = report(folder)
        self.folder = folder
        return self


@pytest.mark.parametrize(("effect", "seeds"), [(0.3, 3), (0.02, None), (0.0, 8)])
def test_seeds_are_added_until_it_is_decided(file, tmp_path, effect, seeds):
    driver = Simulated({"mqa": effect})
    fair_sweep(file, (), tmp_path / "s", Terms(most_seeds=8), run=driver)
    (comparison,) = driver.report.results.comparisons
    pairs = len(comparison.difference.seeds)
    assert pairs == seeds if seeds else 3 < pairs < 8
    assert comparison.verdict == ("undecided" if effect == 0 else "worse")
    assert driver.report.results.rule.most_seeds == 8
    calls = driver.calls
    fair_sweep(file, (), tmp_path / "s", Terms(most_seeds=8), run=driver)
    assert len(driver.report.results.comparisons[0].difference.seeds) == pairs
    assert driver.calls > calls
    with pytest.raises(RequestError, match="other terms"):
        fair_sweep(file, (), tmp_path / "s", Terms(most_seeds=20), run=driver)


@pytest.mark.parametrize("matched", [[], ["model.inner=271"]])
def test_what_is_decided_gets_no_further_seeds(tmp_path, small, matched):
    file = written(tmp_path / "a.yaml", small, parameters={"attention": {"values": ["mha", "mqa", "gqa"]}})
    driver, terms = Simulated({"gqa": 0.5}), Terms("attention=mha", most_seeds=6)
    own = {
        bare(trial.overrides): matched
        for trial in Plan(read_sweep(file)).trials
        if "attention=mha" not in trial.overrides
    }
    replace(terms, words=own).write(tmp_path / "s")
    fair_sweep(file, (), tmp_path / "s", terms, run=driver)
    (table,) = driver.report.results.tables
    spent = {each.first.choices["attention"]: len(each.runs) for each in table.configurations}
    assert spent["mha"] == spent["mqa"] == 6
    assert spent["gqa"] < 5
    found = {each.configuration.first.choices["attention"]: each for each in table.comparisons}
    assert (found["gqa"].verdict, found["mqa"].verdict) == ("worse", "undecided")
    assert len(found["gqa"].difference.values) == spent["gqa"]


def test_terms_that_come_after_the_first_run_are_refused(file, tmp_path):
    """Seeds that were looked at once without allowing for it can't be allowed for later."""
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "plan.json").write_text("[]")
    with pytest.raises(RequestError, match=r"begun on other terms: most_seeds none then, 8 now; keep"):
        fair_sweep(file, (), tmp_path / "s", Terms(most_seeds=8), run=Simulated({}))


def test_the_seeds_of_the_file_come_first(tmp_path, small):
    file = written(tmp_path / "a.yaml", small, parameters={"seed": {"values": [7, 5]}})
    driver = Simulated({})
    fair_sweep(file, (), tmp_path / "s", Terms(most_seeds=4), run=driver)
    assert driver.report.results.comparisons[0].difference.seeds == (5, 7, 8, 9)


@pytest.mark.parametrize(
    ("terms", "overrides", "more", "said"),
    [
        (Terms(size="model.inner"), (), {}, "says by which size, not what"),
        (Terms(match="params"), (), {}, "can't be matched"),
        (Terms(tune="attention=1,2"), (), {}, "what the file varies"),
        (Terms(match="parameters"), (), BAYES, "known beforehand"),
        (Terms(most_seeds=5), (), BAYES, "known beforehand"),
        (Terms(tune="optimizer.lr=0.1,0.2"), ("optimizer.lr=0.1",), {}, "typed for all"),
        (Terms(tune="seed=1,2"), (), {}, "a replicate"),
        (Terms(tune="optimizer.rl=0.1,0.2"), (), {}, "did you mean"),
        (Terms(most_seeds=2), (), {}, "at least 3"),
        (Terms(most_seeds=4), ("seed=1",), {}, "leave seed out"),
        (Terms(most_seeds=4), (), {"parameters": {"seed": {"values": [0, 1, 2, 3, 4]}}}, "the 5 that the file lists"),
        (Terms(most_seeds=4), (), {"run_cap": 2}, "run_cap 2 cuts the grid off"),
        (Terms(tune="optimizer.lr=0.1,0.2"), (), {"run_cap": 2}, "run_cap 2 cuts the grid off"),
        (Terms(), (), {"parameters": {"seed": {"values": [0, 2**63]}}}, "is not a seed"),
        (Terms(margin=-1), (), {}, "a margin is a number above 0"),
        (Terms(match="parameters", baseline="attention=gqa"), (), {}, "is not among the configurations"),
        (Terms(baseline="attention=gqa"), (), {}, "is not among the configurations"),
        (Terms(tune="optimizer.lr=1,2"), (), {"parameters": {"seed": {"value": SEED}}}, "those of its trials"),
    ],
)
def test_contradictions_are_refused_before_anything_runs(tmp_path, small, terms, overrides, more, said):
    file = written(tmp_path / "a.yaml", small, **more)
    with pytest.raises(RequestError) as refusal:
        fair_sweep(file, overrides, tmp_path / "s", terms)
    assert said in str(refusal.value)
    assert list(tmp_path.iterdir()) == [file]


def test_a_refused_call_leaves_no_terms(tmp_path, file):
    with pytest.raises(RequestError, match="no such key"):
        fair_sweep(file, ["model.dimm=3"], tmp_path / "s", Terms(most_seeds=5))
    assert list(tmp_path.iterdir()) == [file]


def test_where_nothing_is_compared_no_seed_is_spent(tmp_path, small):
    file = written(tmp_path / "a.yaml", small, parameters={"attention": {"value": "mha"}})
    fair_sweep(file, (), tmp_path / "s", Terms(most_seeds=6))
    assert len(read_runs([tmp_path / "s"])) == 3


def kept_beside(folder, terms, values):
    """A sweep's folder with its terms; of each option what its seeds reached."""
    for option, reached in values.items():
        for seed, value in enumerate(reached):
            write_run(folder / f"{option}{seed}", [f"attention={option}"], value, seed)
    terms.write(folder)
    return folder


def test_a_report_keeps_to_the_terms_of_its_folders(tmp_path):
    values = {"mha": [2.30, 2.31, 2.32, 2.29], "mqa": [2.31, 2.33, 2.33, 2.31]}
    one = kept_beside(tmp_path / "one", Terms(margin=0.02, most_seeds=6), values)
    other = kept_beside(tmp_path / "other", Terms(margin=0.02, most_seeds=8), {"gqa": [2.5, 2.4, 2.6]})
    plain = kept_beside(tmp_path / "plain", Terms(margin=0.1), {"gqa": [2.5, 2.4, 2.6]})
    rules = {
        folders: report(list(folders)).results.rule
        for folders in ((one,), (one, other), (one, plain), (one, one / "mha0"))
    }
    assert [(rule.margin, rule.most_seeds) for rule in rules.values()] == [(0.02, 6), (0.02, 8), (None, 6), (None, 6)]
    assert "±0.02, fixed before the first run" in method.said(report(one).results)
    assert "±0.05, given to this report" in method.said(report(one, margin=0.05).results)
    with pytest.raises(RequestError, match="--margin 0: a margin is a number above 0"):
        report(one, margin=0)


def test_the_terms_of_a_sweep_hold_for_a_folder_around_it_and_for_its_runs(tmp_path):
    values = {"mha": [2.30, 2.31, 2.32, 2.29], "mqa": [2.31, 2.322, 2.34, 2.304]}
    sweep = kept_beside(tmp_path / "all" / "s", Terms(most_seeds=8), values)
    for folders in ([sweep], [sweep.parent], [tmp_path], sorted(path.parent for path in sweep.glob("*/result.json"))):
        results = report(folders).results
        assert results.rule.most_seeds == 8, folders
        assert {each.verdict for each in results.comparisons} == {"undecided"}
    assert len(kept([Path(os.path.relpath(sweep)), sweep, sweep / "mha0"])) == 1


@pytest.mark.parametrize(("rate", "verdict"), [(13_500, "worse"), (13_000, "worse"), (12_500, "undecided")])
def test_no_verdict_is_given_on_what_was_to_cost_the_same_and_does_not(tmp_path, rate, verdict):
    terms, bits = (
        Terms(match="time", size="budget", words={"attention=mqa": ["budget.tokens=1000"]}),
        (2.30, 2.31, 2.33),
    )
    terms.write(tmp_path)
    for seed, value in enumerate(bits):
        write_run(tmp_path / f"a{seed}", ["attention=mha"], value, seed, tokens_per_second=13_500)
        write_run(tmp_path / f"b{seed}", ["attention=mqa"], value + 0.2 + seed / 100, seed, tokens_per_second=rate)
    made = report(tmp_path)
    (comparison,) = made.results.comparisons
    missed = "not matched: time 1.080 of the other's, farther than 5%" * (verdict == "undecided")
    assert (comparison.verdict, comparison.missed) == (verdict, missed)
    (told,) = made.to_json()["tables"][0]["comparisons"]
    assert (told["verdict"], told["missed"], missed in told["finding"]) == (verdict, missed, True)
    for ending in ("html", "md", "csv"):
        (made.write_html if ending == "html" else made.write_table)(tmp_path / f"t.{ending}")
        assert ("worse" in (tmp_path / f"t.{ending}").read_text().split("<main")[-1].split("How ")[0]) == (not missed)


def test_a_difference_along_a_scale_is_none_of_variants_that_do_not_cost_the_same(tmp_path):
    write_scale(tmp_path)
    found = report(tmp_path, scale=["model.dim"])
    assert {each.verdict for each in found.results.tables[0].trends} == {"goes away with scale"}
    for path in tmp_path.glob("128-mqa-*/result.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"tokens_per_second": 1000}))
    Terms(match="time", size="budget").write(tmp_path)
    found = report(tmp_path, scale=["model.dim"])
    assert {each.verdict for each in found.results.tables[0].trends} == {"undecided"}
    assert sum(bool(each.missed) for each in found.results.comparisons) == 1


def test_damaged_terms_are_named(tmp_path):
    kept_beside(tmp_path / "text", Terms(margin="wide"), {"mha": [2.0]})
    with pytest.raises(RequestError, match=r"terms\.json: damaged"):
        report(tmp_path / "text")
    write_run(tmp_path / "a", ["attention=mha"], 2.0)
    (tmp_path / "terms.json").write_text(json.dumps({"match": 1}))
    with pytest.raises(RequestError, match=r"terms\.json: damaged"):
        report(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"words": None},
        {"words": []},
        {"words": {"x": 5}},
        {"words": {"x": "abc"}},
        {"words": {"x": [["a"]]}},
        {"match": "zzz"},
        {"most_seeds": "9"},
        {"baseline": ["a"]},
        {"tune": "garbage"},
    ],
)
def test_terms_of_another_kind_are_damaged(tmp_path, wrong):
    write_run(tmp_path / "a", ["attention=mha"], 2.0)
    Terms().write(tmp_path)
    report(tmp_path)
    held = json.loads((tmp_path / "terms.json").read_text())
    (tmp_path / "terms.json").write_text(json.dumps(held | wrong))
    with pytest.raises(RequestError, match=r"terms\.json: damaged"):
        report(tmp_path)
