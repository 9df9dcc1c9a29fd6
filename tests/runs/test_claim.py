"""The verdict on a claim: what a statement says, which interval decides it, how often it errs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from lab.config import trusted
from lab.errors import RequestError
from lab.options import conf_folder, groups
from lab.runs.claim import Found, Side, Statement, judge, verdict
from lab.runs.comparison.collect import RunRecord, measure_of
from lab.runs.comparison.verdict import FEWEST_PAIRS


def runs(values, words, **more):
    """Runs of one configuration, one a seed."""
    return [
        RunRecord(
            Path(f"{words}-{seed}"),
            "finished",
            result={
                "status": "finished",
                "seed": seed,
                "val/bpb": float(value),
                "configuration": words,
                "data_fingerprint": "d",
                **more,
            },
            overrides=(*words.split(), f"seed={seed}"),
        )
        for seed, value in enumerate(values)
    ]


def found(text, left, right, margin=None, **more):
    form, _, rest = text.partition(": ")
    stages = {None: [*runs(left, "a=1", **more), *runs(right, "a=2")]}
    (one,) = judge([Statement.read({form: rest})], stages, margin)
    return one


SPREAD = np.array([-0.02, 0.0, 0.02, 0.01, -0.01])


@pytest.mark.parametrize(
    ("form", "difference", "margin", "outcome"),
    [
        ("better: a=1 over a=2", -0.1, None, "holds"),
        ("better: a=1 over a=2", 0.1, None, "contradicted"),
        ("better: a=1 over a=2", 0.001, None, "open"),
        ("better: a=1 over a=2", 0.001, 0.05, "contradicted"),
        ("better: a=1 over a=2", -0.1, 0.2, "contradicted"),
        ("worse: a=1 than a=2", 0.1, None, "holds"),
        ("worse: a=1 than a=2", -0.1, None, "contradicted"),
        ("equivalent: a=1 to a=2", 0.001, 0.05, "holds"),
        ("equivalent: a=1 to a=2", 0.1, 0.05, "contradicted"),
        ("equivalent: a=1 to a=2", 0.04, 0.05, "open"),
        ("not worse: a=1 than a=2", -0.1, 0.05, "holds"),
        ("not worse: a=1 than a=2", 0.02, 0.05, "holds"),
        ("not worse: a=1 than a=2", 0.04, 0.05, "open"),
        ("not worse: a=1 than a=2", 0.1, 0.05, "contradicted"),
        ("not worse: a=1 than a=2", 0.1, None, "contradicted"),
    ],
)
def test_a_statement_is_judged_by_its_interval(form, difference, margin, outcome):
    """The differences spread by 0.016 over five seeds: their interval is ±0.02."""
    one = found(form, 2 + difference + SPREAD, np.full(5, 2.0), margin)
    assert one.outcome == outcome
    assert one.difference == pytest.approx(difference)
    assert one.high - one.low == pytest.approx(2 * 2.776 * np.std(SPREAD, ddof=1) / 5**0.5, rel=1e-3)


@pytest.mark.parametrize("objective", groups()["objective"])
def test_what_objectives_declare_is_what_is_known_of_their_measures(objective):
    path = yaml.safe_load((conf_folder() / "objective" / f"{objective}.yaml").read_text("utf-8"))["_target_"]
    headline = trusted("objective._target_", path).headline
    assert measure_of(headline["name"], []).direction == headline["direction"]


def test_more_is_better_where_the_headline_says_so():
    headline = {"headline": {"name": "val/bpb", "unit": "", "direction": "max"}}
    assert found("better: a=1 over a=2", 2.1 + SPREAD, np.full(5, 2.0), **headline).outcome == "holds"


@pytest.mark.parametrize("name", ["val/accuracy", "val/chrf/source_16-31", "tokens_per_second"])
def test_more_is_better_of_what_is_known_to_be_so(name):
    """Whether it is the headline of the runs, or another number of their records."""

    def measured(values, words, **more):
        pairs = zip(runs(np.ones(5), words, **more), values, strict=True)
        return [replace(run, result={**run.result, name: float(value)}) for run, value in pairs]

    for headline in ({}, {"headline": {"name": name, "unit": "", "direction": "max"}}):
        sides = measured(0.9 + SPREAD, "a=1", **headline), measured(np.full(5, 0.8), "a=2", **headline)
        (one,) = judge([Statement.read({"better": f"a=1 over a=2 on {name}"})], {None: [*sides[0], *sides[1]]})
        assert one.outcome == "holds"


def test_too_few_seeds_leave_it_open():
    one = found("better: a=1 over a=2", [1.0, 1.1], [2.0, 2.0])
    assert (one.outcome, one.low, one.pairs) == ("open", None, 2)
    assert len([1, 2]) < FEWEST_PAIRS


def test_what_is_counted_needs_no_spread():
    rule = [Statement.read({"better": "a=1 over a=2 on decode/cache_bytes"})]
    for mine, outcome in ((10, "holds"), (20, "contradicted"), (30, "contradicted")):
        stages = {
            None: [*runs([1], "a=1", **{"decode/cache_bytes": mine}), *runs([1], "a=2", **{"decode/cache_bytes": 20})]
        }
        assert judge(rule, stages)[0].outcome == outcome
        (not_worse,) = judge([Statement.read({"not worse": "a=1 than a=2 on decode/cache_bytes"})], stages)
        assert not_worse.outcome == ("contradicted" if mine > 20 else "holds")


def test_stages_are_paired_by_seed():
    stages = {None: runs([2.0, 2.1, 2.2], "a=1"), "twice": runs([2.51, 2.6, 2.69], "a=1 model.context=8")}
    rule = [Statement.read({"not worse": "a=1 in twice than a=1"})]
    (one,) = judge(rule, stages, 0.1)
    assert one.outcome == "contradicted"
    assert one.difference == pytest.approx(0.5)
    assert "a=1 in twice" in one.sentence()


@pytest.mark.parametrize(("rate", "outcome"), [(100.0, "holds"), (96.0, "holds"), (90.0, "open")])
def test_a_statement_on_two_that_do_not_cost_the_same_is_open(rate, outcome):
    stages = {
        None: [
            *runs(2 + SPREAD - 0.1, "a=1", tokens_seen=1000, tokens_per_second=rate),
            *runs(np.full(5, 2.0), "a=2", tokens_seen=1000, tokens_per_second=100.0),
        ]
    }
    stages["again"] = [replace(run, result={**run.result, "tokens_seen": 0}) for run in stages[None]]
    for text in ("a=1 over a=2", "a=1 in again over a=2 in again"):
        (one,) = judge([Statement.read({"better": text})], stages, match="time")
        assert (one.outcome, "time 1.111 of the other's" in one.sentence()) == (outcome, outcome == "open")
        assert ("missed" in one.to_json()) == (outcome == "open")


def test_different_data_is_not_compared():
    stages = {None: [*runs([2.0] * 3, "a=1"), *runs([2.0] * 3, "a=2", data_fingerprint="other")]}
    with pytest.raises(RequestError, match="different data, and are not compared"):
        judge([Statement.read({"better": "a=1 over a=2"})], stages)


@pytest.mark.parametrize(
    ("outcomes", "whole"),
    [
        (["holds", "holds"], "confirmed"),
        (["holds", "open"], "undecided"),
        (["open", "contradicted"], "refuted"),
        ([], "undecided"),
    ],
)
def test_a_claim_is_as_its_statements(outcomes, whole):
    statement = Statement.read({"better": "a=1 over a=2"})
    assert verdict([Found(statement, outcome, "val/bpb") for outcome in outcomes]) == whole


@pytest.mark.parametrize("most", [None, 8])
def test_a_claim_about_nothing_is_decided_wrongly_at_most_once_in_twenty(most):
    """Three statements of configurations that do not differ, looked at after every seed from the third on."""
    rule = [Statement.read({"better": f"a={name} over a=0"}) for name in (1, 2, 3)]
    random = np.random.default_rng(0)
    wrong, times = 0, 300
    for _ in range(times):
        values = random.normal(2, 0.02, (4, 8))
        known = [run for name in range(4) for run in runs(values[name], f"a={name}")]
        looks = range(3, 9) if most else [8]
        seen = ([run for run in known if run.seed < count] for count in looks)
        wrong += any(each.outcome != "open" for some in seen for each in judge(rule, {None: some}, None, most))
    assert wrong / times < 0.05 + 2 * (0.05 * 0.95 / times) ** 0.5


@pytest.mark.parametrize(
    "written",
    [
        "better",
        {"good": "a over b"},
        {"better": "a than b"},
        {"better": "a over b", "worse": "a than b"},
        {"worse": "a"},
    ],
)
def test_what_is_no_statement_is_refused(written):
    with pytest.raises(RequestError, match=r"rule: .*write better: A over B"):
        Statement.read(written)


def test_sides_mean_one_configuration():
    known = [*runs([1.0], "position=rope lr=0.10"), *runs([1.0], "position=learned lr=0.1")]
    assert Side.read("position=rope").find(known) == "position=rope lr=0.10"
    assert Side.read("position=learned lr=1e-1").find(known) == "position=learned lr=0.1"
    with pytest.raises(RequestError, match=r"lr=0\.1 means 2 configurations"):
        Side.read("lr=0.1").check(known, [])
    with pytest.raises(
        RequestError, match="position=roep: no configuration of the sweep has it; did you mean position=rope"
    ):
        Side.read("position=roep").check(known, [])
    with pytest.raises(RequestError, match="in twise: no such stage; did you mean twice"):
        Side.read("position=rope in twise").check(known, ["twice"])
