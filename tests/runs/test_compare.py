"""What a swap did: intervals, corrections and verdicts against other formulas; who may be compared."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lab.errors import RequestError
from lab.runs.comparison import words
from lab.runs.comparison.collect import by_measure, read_runs
from lab.runs.comparison.compare import compare
from lab.runs.comparison.differences import paired_difference
from lab.runs.comparison.power import seeds_to_equate, seeds_to_find
from lab.runs.comparison.sequential import look_at_all
from lab.runs.comparison.verdict import (
    BETTER,
    EQUIVALENT,
    FEWEST_PAIRS,
    TOO_FEW,
    UNDECIDED,
    WORSE,
    Evidence,
    Rule,
    correct,
    judge,
)
from tests.runs.synthetic import write_ladder, write_run, write_scale, write_search

values = st.floats(0.5, 5, allow_nan=False)


def write_seeds(folder, overrides: Sequence[str], reached: Sequence[float], **result):
    """One run a value, seeds 0, 1, 2, ..."""
    for seed, value in enumerate(reached):
        write_run(folder / f"{' '.join(overrides)}-{seed}", overrides, value, seed, **result)


def labels_of(folder, baseline=None):
    return [each.label for table in compare(read_runs([folder]), baseline).tables for each in table.configurations]


@given(st.lists(st.tuples(values, values), min_size=2, max_size=12))
@settings(deadline=None, max_examples=60)
def test_difference_is_the_paired_t_test_of_scipy(pairs):
    mine, theirs = ({seed: pair[side] for seed, pair in enumerate(pairs)} for side in (0, 1))
    difference = paired_difference(mine, theirs)
    assert difference.mean == pytest.approx(np.mean([a - b for a, b in pairs]))
    if np.std([a - b for a, b in pairs]) > 1e-6:
        expected = stats.ttest_rel([pair[0] for pair in pairs], [pair[1] for pair in pairs])
        ends = expected.confidence_interval(0.95)
        assert (difference.low, difference.high) == pytest.approx((ends.low, ends.high))
        assert difference.p == pytest.approx(expected.pvalue, abs=1e-12)


def test_difference_by_hand():
    # differences -0.1, -0.2, -0.3: mean -0.2, standard error 0.1 / sqrt(3), t(0.975, 2) = 4.302653
    difference = paired_difference({0: 1.9, 1: 1.8, 2: 1.7}, {0: 2.0, 1: 2.0, 2: 2.0})
    assert difference.mean == pytest.approx(-0.2)
    assert difference.high - difference.mean == pytest.approx(4.302653 * 0.1 / 3**0.5, abs=1e-6)


def test_seeds_without_a_partner_do_not_enter_the_difference():
    baseline = {0: 2.0, 1: 2.1, 2: 2.2, 9: 50.0}
    assert paired_difference({0: 1.9, 1: 2.0, 2: 2.1, 5: -40.0}, baseline).seeds == (0, 1, 2)
    assert paired_difference({0: 1.9, 1: 2.0, 2: 2.1, 5: -40.0}, baseline).mean == pytest.approx(-0.1)
    assert paired_difference({7: 1.0}, baseline).mean is None


def test_the_same_numbers_are_no_difference():
    difference = paired_difference({0: 2.0, 1: 2.1, 2: 2.2}, {0: 2.0, 1: 2.1, 2: 2.2})
    assert (difference.mean, difference.p) == (0, 1)
    assert judge(difference, Evidence(difference.p).shown, "min") == UNDECIDED


def reference_holm(p_values):
    """Holm (1979) as a search: the smallest level at which the step-down procedure rejects a hypothesis."""
    order = sorted(p_values)

    def rejected(p, level):
        for rank, each in enumerate(order):
            if each * (len(order) - rank) > level:
                return False
            if each == p:
                return True
        return False

    levels = sorted({min(1.0, p * factor) for p in p_values for factor in range(1, len(p_values) + 1)} | {1.0})
    return [next((level for level in levels if rejected(p, level)), 1.0) for p in p_values]


@given(st.lists(st.floats(0, 1), max_size=7))
def test_without_a_margin_the_correction_is_holms(p_values):
    corrected = correct([Evidence(p) for p in p_values])
    assert [each.different for each in corrected] == pytest.approx(reference_holm(p_values))


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.integers(1, 6), st.sampled_from(["min", "max"]))
@settings(deadline=None)
def test_a_verdict_never_contradicts_its_interval(differences, comparisons, direction):
    difference = paired_difference(dict(enumerate(differences)), dict.fromkeys(range(len(differences)), 0.0))
    verdict = judge(difference, correct([Evidence(difference.p)] * comparisons)[0].shown, direction)
    if len(differences) < FEWEST_PAIRS:
        assert verdict == TOO_FEW
    elif verdict in (BETTER, WORSE):
        assert difference.excludes_zero
        assert (difference.mean < 0) == ((verdict == BETTER) == (direction == "min"))
    else:
        assert verdict == UNDECIDED


def test_a_clear_difference_is_found(tmp_path):
    write_seeds(tmp_path, ["attention=mha"], [2.30, 2.31, 2.32, 2.29])
    write_seeds(tmp_path, ["attention=mqa"], [2.41, 2.40, 2.43, 2.40])
    write_seeds(tmp_path, ["position=rope"], [2.20, 2.22, 2.21, 2.19])
    write_seeds(tmp_path, ["attention=gqa"], [2.31, 2.30, 2.32, 2.29])
    table = compare(read_runs([tmp_path]), "attention=mha").tables[0]
    assert [each.label for each in table.configurations] == [
        "position=rope",
        "attention=gqa",
        "attention=mha",
        "attention=mqa",
    ]
    assert [each.verdict for each in table.comparisons] == [BETTER, UNDECIDED, WORSE]


def test_runs_that_are_not_finished_never_count(tmp_path):
    write_seeds(tmp_path, ["attention=mha"], [2.3, 2.3, 2.3])
    write_seeds(tmp_path, ["attention=mqa"], [2.4, 2.4, 2.4])
    for number, status in enumerate(("diverged", "pruned", "stopped", "failed")):
        write_run(tmp_path / status, ["attention=mqa"], 0.1, 10 + number, status=status, error=f"was {status}")
    results = compare(read_runs([tmp_path]))
    assert all(0.1 not in each.values.values() for each in results.tables[0].configurations)
    assert {(run.status, why) for _, run, why in results.not_counted} == {
        (status, f"was {status}") for status in ("diverged", "pruned", "stopped", "failed")
    }


def test_of_two_runs_of_a_seed_the_newest_counts(tmp_path):
    write_run(tmp_path / "b", ["attention=mha"], 2.5, 0, started="2025-01-01T00:00:00+00:00")
    write_run(tmp_path / "a", ["attention=mha"], 2.4, 0, started="2025-01-02T00:00:00")
    results = compare(read_runs([tmp_path]))
    assert results.tables[0].configurations[0].values == {0: 2.4}
    assert "ran twice" in results.notes[0]
    assert str(tmp_path / "a") in results.notes[0].partition("counts")[0]


def test_different_data_and_measures_are_not_compared(tmp_path):
    write_seeds(tmp_path, ["data=a"], [2.0, 2.1], data_fingerprint="a")
    write_seeds(tmp_path, ["data=b"], [3.0, 3.1], data_fingerprint="b")
    accuracy = {"name": "val/accuracy", "unit": "share", "direction": "max"}
    write_seeds(tmp_path, ["objective=classify"], [0.0, 0.0], headline=accuracy, **{"val/accuracy": 0.8})
    results = compare(read_runs([tmp_path]))
    assert len(results.tables) == 3
    assert results.comparisons == []
    assert any("different data" in note for note in results.notes)
    assert any("different headline" in note for note in results.notes)


def test_where_examples_are_cut_only_the_same_cuts_are_compared_by_loss(tmp_path):
    for context in (96, 192):
        for position in ("rope", "alibi"):
            for seed in range(3):
                words = [f"model.context={context}", f"position={position}"]
                asked = f"tokenizer bpe 4096, 28 examples cut at {context} tokens"
                loss = {"val/loss": 4.0 + 0.1 * seed, "val/cut_examples": 28, "asks": {"val/loss": asked}}
                write_run(tmp_path / f"{context}{position}{seed}", words, None, seed, **loss)
    results = compare(read_runs([tmp_path]), rule=Rule(margin=0.01))
    assert sorted(table.asked for table in results.tables) == [
        "tokenizer bpe 4096, 28 examples cut at 192 tokens",
        "tokenizer bpe 4096, 28 examples cut at 96 tokens",
    ]
    assert all(len(table.comparisons) == 1 for table in results.tables)
    assert any("undefined where validated examples are cut" in note for note in results.notes)
    assert {each.margin for each in results.comparisons} == {None}  # which would be in bits per byte


def test_a_measure_whose_question_differs_is_not_compared(tmp_path):
    for size in (150, 2000):
        for seed in range(3):
            auc = {"name": "val/auc", "unit": "share of pairs", "direction": "max"}
            asked = {"val/auc": f"tokenizer word {size}", "val/entity_f1": "9 examples cut at 64 tokens"}
            known = {"headline": auc, "asks": asked, "val/auc": 0.6 + size / 1e5, "val/entity_f1/PER": 0.5 + seed / 10}
            write_run(tmp_path / f"{size}{seed}", [f"tokenizer.vocab_size={size}"], 2.0, seed, **known)
    results = compare(read_runs([tmp_path]))
    assert [table.asked for table in results.tables] == ["tokenizer word 150", "tokenizer word 2000"]
    assert not results.comparisons
    assert words.found(results) == "Of 2 configurations no two can be compared"
    assert any("asked different questions (tokenizer word 150; tokenizer word 2000)" in note for note in results.notes)
    (table,) = compare(by_measure(read_runs([tmp_path]), "val/bpb")).tables
    assert table.asked is None
    (table,) = compare(by_measure(read_runs([tmp_path]), "val/entity_f1/PER")).tables
    assert table.asked == "9 examples cut at 64 tokens"


def test_where_text_is_lost_only_the_same_tokenizer_is_compared_by_loss(tmp_path):
    lost = {"val/loss": 4.0, "tokenizer/lost_share": 0.03}
    write_seeds(tmp_path, ["tokenizer=word"], [None, None], **lost)
    write_seeds(tmp_path, ["tokenizer=word", "attention=mqa"], [None, None], **lost)
    write_seeds(tmp_path, ["tokenizer=other"], [None, None], **lost)
    write_seeds(tmp_path, ["tokenizer=bpe"], [2.0, 2.0])
    results = compare(read_runs([tmp_path]))
    together = {(table.measure.name, *sorted(each.label for each in table.configurations)) for table in results.tables}
    assert together == {
        ("val/bpb", "tokenizer=bpe"),
        ("val/loss", "tokenizer=other"),
        ("val/loss", "tokenizer=word", "tokenizer=word attention=mqa"),
    }
    assert any("undefined for tokenizer word 4096" in note for note in results.notes)


def test_a_ladder_compares_each_with_the_one_before_and_the_last_with_the_first(tmp_path):
    rungs = ["ladder_0_2017", "ladder_1_pre_norm", "ladder_3_rope"]
    write_ladder(tmp_path / "sweep", seeds=4, rungs=rungs)
    table = compare(read_runs([tmp_path]), "previous").tables[0]
    assert [each.label for each in table.configurations] == [f"preset={rung}" for rung in rungs]
    pairs = [(each.configuration.label[7:], each.baseline.label[7:]) for each in table.comparisons]
    assert pairs == [(rungs[1], rungs[0]), (rungs[2], rungs[1]), (rungs[2], rungs[0])]
    steps = table.comparisons
    assert steps[2].difference.mean == pytest.approx(steps[0].difference.mean + steps[1].difference.mean)
    assert [each.verdict for each in steps] == [BETTER] * 3


def test_the_plan_gives_the_order_and_names_what_has_not_started(tmp_path):
    write_run(tmp_path / "late", ["attention=mha"], 2.0, started="2025-02-01T00:00:00")
    write_run(tmp_path / "early", ["attention=mqa"], 2.0, started="2025-01-01T00:00:00")
    assert compare(read_runs([tmp_path])).tables[0].baseline.label == "attention=mqa"
    plan = [{"folder": name, "overrides": []} for name in ("late", "early", "never")]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    results = compare(read_runs([tmp_path]))
    assert results.tables[0].baseline.label == "attention=mha"
    assert [run.status for _, run, _ in results.not_counted] == ["not started"]


@pytest.mark.parametrize("content", [None, "{"])
def test_a_run_without_a_result_moves_neither_baseline_nor_order(tmp_path, content):
    """A first run that is killed, still running, or damaged."""
    plan = []
    for seed in range(3):
        for place, dim in enumerate((32, 48, 16)):
            folder = tmp_path / f"{place}-{seed}"
            write_run(folder, [f"model.dim={dim}"], 2.0 + place / 10 + seed / 50 + seed * place / 200, seed)
            plan.append({"folder": folder.name, "overrides": [f"model.dim={dim}", f"seed={seed}"]})
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    (tmp_path / "0-0" / "result.json").unlink()
    if content is not None:
        (tmp_path / "0-0" / "result.json").write_text(content)
    assert compare(read_runs([tmp_path])).tables[0].baseline.label == "model.dim=32"
    ladder = compare(read_runs([tmp_path]), "previous").tables[0]
    assert [each.label for each in ladder.configurations] == ["model.dim=32", "model.dim=48", "model.dim=16"]


def test_labels_hold_what_differs_and_nothing_else(tmp_path):
    common = ["data=stdlib", "trainer.threads=2", "logger=none", "logger.project=x", "name=trial"]
    write_run(tmp_path / "a", [*common, "attention=mha"], 2.0)
    write_run(tmp_path / "b", [*common[:2], "name=other", "attention=mqa", "tokenizer.vocab_size=512"], 2.1)
    assert set(labels_of(tmp_path)) == {"attention=mha", "attention=mqa tokenizer.vocab_size=512"}


def test_a_configuration_without_overrides_is_called_by_its_options(tmp_path):
    write_run(tmp_path / "a", [], 2.0, configuration="plain")
    write_run(tmp_path / "b", ["attention=mqa", "tokenizer.vocab_size=512"], 2.1)
    assert labels_of(tmp_path)[0] == "attention=mha tokenizer.vocab_size=4096"


def test_labels_fall_back_to_choices_and_then_to_values(tmp_path):
    for name, attention in (("a", "mha"), ("b", "mqa")):
        write_run(tmp_path / "choices" / name, ["x=1"], 2.0, configuration=name, choices={"attention": attention})
        write_run(tmp_path / "values" / name, ["x=1"], 2.0, configuration=name)
        (tmp_path / "values" / name / "config.yaml").write_text(
            f"model: {{dim: {len(attention) + ord(name)}}}\nseed: {name}"
        )
        write_run(tmp_path / "hash" / name, ["x=1"], 2.0, configuration=name)
    assert set(labels_of(tmp_path / "choices")) == {"attention=mha", "attention=mqa"}
    assert set(labels_of(tmp_path / "values")) == {"model.dim=100", "model.dim=101"}
    assert set(labels_of(tmp_path / "hash")) == {"(a)", "(b)"}


def test_one_pair_alike_leaves_the_other_labels_short(tmp_path):
    for name, overrides in (("a", ["attention=mha"]), ("b", ["attention=mqa"]), ("c", ["attention=mqa"])):
        write_run(tmp_path / name, overrides, 2.0, configuration=name)
    assert set(labels_of(tmp_path)) == {"attention=mha", "attention=mqa (b)", "attention=mqa (c)"}


@pytest.mark.parametrize(
    "name", ["attention=mqa", "mqa", "tokenizer.vocab_size=512", "attention=mqa tokenizer.vocab_size=512"]
)
def test_a_baseline_is_found_by_label_override_or_option(tmp_path, name):
    write_run(tmp_path / "a", ["attention=mha"], 2.0)
    write_run(tmp_path / "b", ["attention=mqa", "tokenizer.vocab_size=512"], 2.1)
    assert compare(read_runs([tmp_path]), name).tables[0].baseline.label == "attention=mqa tokenizer.vocab_size=512"


def test_a_baseline_that_means_none_several_or_one_without_result_is_refused(tmp_path):
    write_run(tmp_path / "a", ["attention=mha", "norm=rms"], 2.0)
    write_run(tmp_path / "b", ["attention=mqa", "norm=rms"], 2.1)
    write_run(tmp_path / "c", ["attention=gqa"], None, status="failed")
    for name, said in (
        (
            "attention=other",
            "is not among the configurations here: attention=mha norm=rms, attention=mqa norm=rms",
        ),
        ("norm=rms", "means several: attention=mha norm=rms, attention=mqa norm=rms"),
        ("gqa", "has no finished run; with finished runs: attention=mha norm=rms, attention=mqa norm=rms"),
    ):
        with pytest.raises(RequestError) as refused:
            compare(read_runs([tmp_path]), name)
        assert said in str(refused.value)


def test_costs_that_differ_are_named(tmp_path):
    write_run(tmp_path / "a", ["attention=mha"], 2.0, parameters=1000, tokens_seen=100, flops=10)
    write_run(tmp_path / "b", ["attention=mqa"], 2.0, parameters=1120, tokens_seen=100, flops=10.05)
    comparison = compare(read_runs([tmp_path]), "mha").tables[0].comparisons[0]
    assert comparison.unmatched == pytest.approx({"parameters": 0.12})


def test_seeds_that_change_nothing_are_said_to_be_no_replicates(tmp_path):
    write_seeds(tmp_path, ["attention=mha"], [2.0, 2.0, 2.0])
    assert any("no replicates" in note for note in compare(read_runs([tmp_path])).notes)


def test_seeds_added_until_decided_are_judged_by_all_looks_together(tmp_path):
    base = [2.30, 2.31, 2.32, 2.29, 2.30]
    write_seeds(tmp_path, ["attention=mha"], base)
    for name, shifts in (("clear", [0.100, 0.101, 0.099, 0.1, 0.1]), ("close", [0.02, 0.03, 0.005, 0.022, 0.018])):
        write_seeds(tmp_path, [f"attention={name}"], [a + b for a, b in zip(base, shifts, strict=True)])
    once = compare(read_runs([tmp_path]), "mha").tables[0].comparisons
    looked = compare(read_runs([tmp_path]), "mha", Rule(most_seeds=10)).tables[0].comparisons
    assert [each.verdict for each in once] == [WORSE, WORSE]
    assert [each.verdict for each in looked] == [UNDECIDED, WORSE]
    close = looked[0]
    differences = [each.difference.values for each in once]
    assert len(looked[1].difference.values) < 5  # those it was decided by
    assert (close.difference.low, close.difference.high) == (look_at_all(differences, 10)[0].low, close.look.high)
    assert close.look.go_on
    assert close.difference.low < 0 < once[0].difference.low
    with pytest.raises(RequestError, match="5 pairs with at most 4"):
        compare(read_runs([tmp_path]), rule=Rule(most_seeds=4))


def test_a_margin_makes_a_small_difference_equivalent_and_says_what_would_decide_the_rest(tmp_path):
    base = [2.30, 2.31, 2.32, 2.29, 2.30]
    write_seeds(tmp_path, ["attention=mha"], base)
    for name, shifts in (("same", [0.001, -0.001, 0.002, 0, 0]), ("wide", [0.03, -0.05, 0.02, 0.04, -0.03])):
        write_seeds(tmp_path, [f"attention={name}"], [a + b for a, b in zip(base, shifts, strict=True)])
    same, wide = compare(read_runs([tmp_path]), "mha", Rule(0.01)).tables[0].comparisons
    assert (same.verdict, wide.verdict) == (EQUIVALENT, UNDECIDED)
    assert same.seeds_needed is None
    plans = (
        seeds_to_find(wide.difference.mean, wide.difference.sd, wide.level),
        seeds_to_equate(wide.difference.mean, wide.difference.sd, 0.01, wide.level),
    )
    assert wide.seeds_needed == min(plan for plan in plans if plan)
    assert wide.level == 0.05 / 2  # "no difference" is open for both
    assert abs(wide.difference.mean) < wide.detectable


def test_a_grid_over_sizes_is_pointed_to_its_flag_and_a_search_is_not(tmp_path):
    hint = "--scale model.dim compares within each"
    assert any(hint in note for note in compare(read_runs([write_scale(tmp_path / "scale")])).notes)
    scaled = compare(read_runs([tmp_path / "scale"]), scale=["model.dim"])
    assert not any(hint in note for note in scaled.notes)
    searched = compare(read_runs([write_search(tmp_path / "search", 16)]))
    assert not any("--scale" in note for note in searched.notes)
    assert searched.tables[0].is_search
    assert not scaled.tables[0].is_search


def test_no_difference_has_no_direction_and_a_decided_one_shows_that_it_is_none(tmp_path):
    for seed in range(3):
        write_run(tmp_path / f"a{seed}", ["attention=mha"], 2.0 + 0.1 * seed, seed)
        write_run(tmp_path / f"b{seed}", ["attention=mqa"], 2.0 + 0.1 * seed, seed)
        write_run(tmp_path / f"c{seed}", ["attention=gqa"], 2.00002 + 0.100001 * seed, seed)
    (table,) = compare(read_runs([tmp_path])).tables
    decided = next(each for each in table.comparisons if each.configuration.label == "attention=gqa")
    assert decided.verdict == WORSE
    assert words.signed(decided.difference.low, words.places(table)) != words.signed(0.0, words.places(table))
    (one,) = compare([run for run in read_runs([tmp_path]) if run.seed == 0 and "gqa" not in run.overrides[0]]).tables
    assert "leaves bits per byte as it is over 1 paired seed: too few seeds" in words.sentence(
        one.comparisons[0], one, against=False
    )


def test_which_way_a_measure_is_better_is_max_or_min(tmp_path):
    write_seeds(tmp_path, ["attention=mha"], [2.0, 2.1])
    assert by_measure(read_runs([tmp_path]), "val/loss:max")[0].measure.direction == "max"
    with pytest.raises(RequestError, match=r"--measure val/loss:maximum: behind the colon stands max or min"):
        by_measure(read_runs([tmp_path]), "val/loss:maximum")


def test_what_another_folder_holds_is_not_said_to_be_missing(tmp_path):
    planned = [{"folder": f"r{seed}", "overrides": ["attention=mha", f"seed={seed}"]} for seed in range(3)]
    for folder, seeds in (("half", [0]), ("whole", [0, 1])):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "plan.json").write_text(json.dumps(planned))
        for seed in seeds:
            write_run(tmp_path / folder / f"r{seed}", ["attention=mha"], 2.0 + seed, seed)
    results = compare(read_runs([tmp_path / "half", tmp_path / "whole"]))
    assert {run.seed for _, run, _ in results.not_counted} == {2}
