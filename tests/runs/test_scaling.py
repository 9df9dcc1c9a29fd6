"""Curves over sizes and what becomes of a difference along them, on losses made by known laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from lab.errors import RequestError
from lab.runs.comparison import method
from lab.runs.comparison.collect import read_runs
from lab.runs.comparison.compare import compare
from lab.runs.comparison.scaling import fit, scaling
from lab.runs.comparison.trends import CHANGES, GROWS, SHRINKS
from lab.runs.comparison.verdict import EQUIVALENT, UNDECIDED, WORSE, Rule
from lab.runs.report import report
from lab.runs.terms import Terms
from tests.runs.synthetic import write_run, write_scale

COSTS = np.geomspace(1e12, 1e15, 6)


def law(floor, factor, exponent, costs=COSTS):
    return floor + factor * (costs / 1e13) ** -exponent


@given(st.floats(0, 3), st.floats(0.05, 2), st.floats(0.05, 0.8))
@settings(deadline=None, max_examples=30)
def test_a_curve_without_noise_is_found_again(floor, factor, exponent):
    losses = law(floor, factor, exponent)
    curve = fit(COSTS, losses)
    assert curve(COSTS) == pytest.approx(losses, rel=1e-4)
    assert curve(1e16) == pytest.approx(law(floor, factor, exponent, 1e16), rel=0.01)


def test_a_curve_with_noise_is_the_least_squares_fit_of_scipy():
    losses = law(1.6, 0.9, 0.25) + np.random.default_rng(0).normal(0, 0.01, 6)
    curve = fit(COSTS, losses)
    expected, _ = curve_fit(law_at, COSTS / curve.reference, losses, p0=(1.5, 1.0, 0.3))
    assert (curve.floor, curve.factor, curve.exponent) == pytest.approx(tuple(expected), rel=1e-4)


def law_at(costs, floor, factor, exponent):
    return floor + factor * costs**-exponent


@pytest.mark.parametrize(
    "losses", [[2.0, 1.5, 1.52, 1.53, 1.5, 1.51], [2.0, 2.1, 2.2, 2.1, 2.0, 2.2], [2.0] * 6, [3, 2, 2, 2, 2, 2]]
)
def test_losses_that_follow_no_law_have_a_curve_all_the_same(losses):
    """Their best offset lies above the least of them."""
    curve = fit(COSTS, losses, [0.01] * 6, draws=50)
    assert np.square(curve(COSTS) - losses).sum() <= np.var(losses) * 6 + 1e-9
    assert curve.floor_ends[0] <= curve.floor_ends[1]


def test_an_offset_is_never_negative():
    assert fit(COSTS, 2 - 0.1 * np.log(COSTS / 1e12)).floor == pytest.approx(0, abs=1e-9)


def test_intervals_cover_the_law_that_made_the_losses():
    random, hits, count = np.random.default_rng(1), 0, 120
    for _ in range(count):
        curve = fit(COSTS, law(1.5, 0.8, 0.3) + random.normal(0, 0.005, 6), [0.005] * 6, draws=200)
        hits += curve.exponent_ends[0] <= 0.3 <= curve.exponent_ends[1]
    assert 0.89 <= hits / count <= 0.995


@pytest.mark.parametrize(("closing", "verdict"), [(0.5, SHRINKS), (-0.2, GROWS), (0.0, UNDECIDED)])
def test_a_difference_grows_goes_away_or_stays(tmp_path, closing, verdict):
    write_scale(tmp_path, closing=closing)
    table = compare(read_runs([tmp_path]), scale=["model.dim"]).tables[0]
    found = scaling(table)
    assert found.axis == "flops"
    (trend,) = found.trends
    assert (trend.variant, trend.baseline, trend.verdict) == ("attention=mqa", "attention=mha", verdict)
    base = next(each for each in found.variants if each.name == "attention=mha")
    assert base.curve.exponent == pytest.approx(0.3, abs=0.03)
    assert base.curve.floor == pytest.approx(1.5, abs=0.05)


def test_a_difference_that_turns_changes_and_is_not_said_to_grow(tmp_path):
    """As much better at the small end as it is worse at the large one."""
    random = np.random.default_rng(2)
    for place, dim in enumerate((32, 64, 128)):
        for attention, effect in (("mha", 0.0), ("mqa", 0.1 * (place - 1))):
            for seed in range(4):
                value = 2 - place / 10 + effect + random.normal(0, 0.004)
                overrides = [f"model.dim={dim}", f"attention={attention}"]
                write_run(tmp_path / f"{dim}{attention}{seed}", overrides, value, seed, parameters=48 * dim**2)
    (trend,) = compare(read_runs([tmp_path]), scale=["model.dim"]).tables[0].trends
    assert trend.verdict == CHANGES
    decades = np.log10([48.0 * dim**2 for dim in (32, 64, 128)])
    assert trend.slope.mean == pytest.approx(0.2 / (decades[2] - decades[0]), rel=0.1)


def test_trends_are_corrected_with_all_other_questions_of_the_report(tmp_path):
    """A slope with p = 0.035 by itself is no verdict among four questions."""
    slopes = np.array([-0.3, 1.0, 0.9, 0.8, 1.2, 0.1]) * 0.004
    for dim in (32, 128):
        for seed, slope in enumerate(slopes):
            shift = slope * np.log10((dim / 64) ** 2) * (1 if dim else 0)
            for attention, extra in (("mha", 0.0), ("mqa", shift)):
                overrides = [f"model.dim={dim}", f"attention={attention}"]
                value = 2 + seed / 50 + extra
                write_run(tmp_path / f"{dim}{attention}{seed}", overrides, value, seed, parameters=48 * dim**2)
    results = compare(read_runs([tmp_path]), scale=["model.dim"])
    (trend,) = results.tables[0].trends
    assert 0.0125 < trend.slope.p < 0.05
    assert trend.verdict == UNDECIDED
    assert "2 comparisons, 1 slope and 1 mean along the scale" in method.said(results)


def test_where_seeds_were_added_trends_allow_for_the_looks(tmp_path):
    write_scale(tmp_path, seeds=4)
    once, looked = (compare(read_runs([tmp_path]), rule=rule, scale=["model.dim"]) for rule in (Rule(), Rule(None, 8)))
    narrow, wide = (results.tables[0].trends[0].slope for results in (once, looked))
    assert wide.high - wide.low > 1.2 * (narrow.high - narrow.low)


@pytest.mark.parametrize("name", ["attention=mqa", "mqa", "model.dim=64 attention=mqa"])
def test_a_baseline_on_a_scale_may_be_a_variant_at_all_its_sizes(tmp_path, name):
    write_scale(tmp_path, seeds=3)
    for path in tmp_path.glob("32-mqa-*/result.json"):
        path.write_text(path.read_text().replace("finished", "diverged"))
    table = compare(read_runs([tmp_path]), name, scale=["model.dim"]).tables[0]
    assert name in table.baseline.label
    assert [each.baseline.label for each in table.comparisons] == [
        f"model.dim={dim} attention=mqa" for dim in (64, 128, 256, 512)
    ]
    with pytest.raises(RequestError, match=r"model\.dim=64 means several: model\.dim=64 attention=m"):
        compare(read_runs([tmp_path]), "model.dim=64", scale=["model.dim"])


def test_each_size_is_a_question_of_its_own(tmp_path):
    write_scale(tmp_path, seeds=5, noise=0.002)
    table = compare(read_runs([tmp_path]), rule=Rule(0.012), scale=["model.dim"]).tables[0]
    for each in table.comparisons:
        assert each.baseline.label == each.configuration.label.replace("mqa", "mha")
    assert [each.verdict for each in table.comparisons] == [WORSE] * 4 + [EQUIVALENT]
    sizes = [each.first.overrides[0] for each in table.configurations]
    assert sizes == sorted(sizes, key=lambda text: int(text.partition("=")[2]))


def test_three_sizes_have_a_trend_and_no_curve(tmp_path):
    write_scale(tmp_path)
    for folder in [*tmp_path.glob("32-*"), *tmp_path.glob("64-*")]:
        (folder / "result.json").unlink()
    found = scaling(compare(read_runs([tmp_path]), scale=["model.dim"]).tables[0])
    assert [each.curve for each in found.variants] == [None, None]
    assert found.trends[0].verdict == SHRINKS


def test_a_variant_with_a_tuned_value_for_each_size_is_one_variant(tmp_path):
    """By the report of the folder, whose terms say which words the tuning gave."""
    words = {}
    for dim in (32, 64, 128):
        for attention, effect in (("mha", 0.0), ("mqa", 0.05)):
            own, tuned = (f"model.dim={dim}", f"attention={attention}"), f"optimizer.lr={0.1 / dim + effect}"
            words[" ".join(own)] = [tuned]
            for seed in range(3):
                value = 2 - dim / 1000 + effect + seed / 100 * (1 + effect)
                write_run(tmp_path / f"{dim}{attention}{seed}", [*own, tuned], value, seed, parameters=48 * dim**2)
    Terms(tune="optimizer.lr=0.001,0.003", words=words).write(tmp_path)
    (table,) = report(tmp_path, scale=["model.dim"]).results.tables
    assert {len(sizes) for sizes in table.grid.values()} == {3}
    assert set(table.grid) == {"attention=mha", "attention=mqa"}
    assert len(table.comparisons) == 3
    assert not any("lr" in each.label for each in table.configurations)
    (plain,) = report(tmp_path).results.tables
    assert {"model.dim=32 attention=mha", "model.dim=128 attention=mqa"} < {each.label for each in plain.configurations}


def test_what_was_tuned_and_what_was_not_are_two_variants(tmp_path):
    for name, rate in (("tuned", "0.01"), ("plain", "0.002")):
        for attention in ("mha", "mqa"):
            for seed in range(3):
                place, words = (
                    tmp_path / name / f"{attention}{seed}",
                    [f"attention={attention}", f"optimizer.lr={rate}"],
                )
                write_run(place, words, 2 + seed / 100 + (attention == "mqa") / 10, seed)
    words = {f"attention={each}": ["optimizer.lr=0.01"] for each in ("mha", "mqa")}
    Terms(tune="optimizer.lr=0.001,0.01", words=words).write(tmp_path / "tuned")
    (alone,), (both,) = (
        report(folders).results.tables for folders in (tmp_path / "tuned", [tmp_path / "tuned", tmp_path / "plain"])
    )
    assert {each.label for each in alone.configurations} == {"attention=mha", "attention=mqa"}
    assert {each.label for each in both.configurations} == {
        f"attention={attention} optimizer.lr={rate}" for attention in ("mha", "mqa") for rate in (0.01, 0.002)
    }


def test_a_key_that_sets_no_size_is_refused(tmp_path):
    for attention in ("mha", "mqa"):
        write_run(tmp_path / attention, [f"attention={attention}", "model.dim=32"], 2.0)
    for key in ("attention", "model.dim", "model.width"):
        with pytest.raises(RequestError, match=f"--scale {key}: is no number that differs.*: none"):
            compare(read_runs([tmp_path]), scale=[key])


def test_two_of_one_variant_and_size_are_refused_by_name(tmp_path):
    write_scale(tmp_path, seeds=2)
    write_run(tmp_path / "again", ["model.dim=32", "attention=mha"], 2.0, configuration="later")
    with pytest.raises(RequestError, match=r"--scale: .*later.* are one variant at one size"):
        compare(read_runs([tmp_path]), scale=["model.dim"])
