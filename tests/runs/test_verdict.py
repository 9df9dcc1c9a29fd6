"""Verdicts are calibrated: over thousands of simulated reports false ones stay under 5%, and the power is what is said."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lab.errors import RequestError
from lab.runs.comparison.differences import bootstrap_interval, noise, paired_difference
from lab.runs.comparison.power import detectable, equivalence_power, power, seeds_to_equate, seeds_to_find
from lab.runs.comparison.verdict import (
    ALPHA,
    BETTER,
    EQUIVALENT,
    UNDECIDED,
    WORSE,
    Evidence,
    Rule,
    correct,
    equivalence_p,
    evidence,
    judge,
)

REPORTS = 2000


def allowed(share: float, count: int) -> float:
    """2.6 standard errors of a share over so many."""
    return 2.6 * math.sqrt(share * (1 - share) / count)


def verdicts(truths: Sequence[float], seeds: int, margin: float | None, reports: int, sd: float = 1.0):
    """The verdicts of simulated reports `[reports][comparisons]`: all configurations against one baseline.

    A seed shifts all configurations alike, which pairing takes out; a pair's difference spreads by `sd`.
    """
    random = np.random.default_rng(seeds)
    noise = random.normal(0, sd / math.sqrt(2), (reports, len(truths) + 1, seeds))
    reached = noise + random.normal(0, 3, (reports, 1, seeds)) + np.array([0.0, *truths])[None, :, None]
    found = []
    for report in reached.tolist():
        baseline, *others = (dict(enumerate(row)) for row in report)
        differences = [paired_difference(other, baseline) for other in others]
        corrected = correct([evidence(each, margin) for each in differences])
        found.append([judge(each, p.shown, "min") for each, p in zip(differences, corrected, strict=True)])
    return found


def false(verdict: str, truth: float, margin: float | None) -> bool:
    if verdict == EQUIVALENT:
        return abs(truth) >= margin
    return verdict in (BETTER, WORSE) and (truth == 0 or (verdict == BETTER) != (truth < 0))


@pytest.mark.parametrize("seeds", [3, 6])
@pytest.mark.parametrize(
    ("truths", "margin"),
    [
        ([0, 0, 0, 0], None),
        ([0, 0, 0, 0], 1.0),
        ([0, 1, 0, -1], 1.0),  # at the margin, where "equivalent" is wrong and hardest to tell
        ([1, 1, 1, 1], 1.0),
        ([0, 9, -9, 9], None),  # what is obvious leaves more to the rest, and no more than that
        ([0, 9, 1, -1], 1.0),
    ],
)
def test_false_verdicts_stay_under_five_percent_of_reports(truths, margin, seeds):
    found = verdicts(truths, seeds, margin, REPORTS)
    wrong = sum(any(false(v, t, margin) for v, t in zip(row, truths, strict=True)) for row in found)
    assert wrong / REPORTS < ALPHA + allowed(ALPHA, REPORTS)


def test_the_level_is_used_up():
    """A procedure that never decides would pass the test above."""
    found = verdicts([0, 0, 0], 6, None, REPORTS)
    assert sum(any(v != UNDECIDED for v in row) for row in found) / REPORTS > 0.03


@pytest.mark.parametrize(("seeds", "size"), [(3, 4.0), (5, 1.2), (10, 1.0)])
def test_a_difference_is_found_as_often_as_power_says(seeds, size):
    found = verdicts([-size], seeds, None, REPORTS)
    share = sum(row == [BETTER] for row in found) / REPORTS
    said = power(seeds, size, 1.0)
    assert 0.2 < said < 0.99
    assert share == pytest.approx(said, abs=allowed(said, REPORTS))


@pytest.mark.parametrize(("seeds", "size", "margin"), [(5, 0.0, 2.0), (10, 0.0, 1.0), (12, 0.3, 1.0)])
def test_an_equivalence_is_found_as_often_as_power_says(seeds, size, margin):
    found = verdicts([size], seeds, margin, REPORTS)
    share = sum(row == [EQUIVALENT] for row in found) / REPORTS
    said = equivalence_power(seeds, size, 1.0, margin)
    assert 0.2 < said < 0.99
    assert share == pytest.approx(said, abs=allowed(said, REPORTS))


def test_the_seeds_that_would_decide_do_in_four_of_five_reports():
    level = ALPHA / 4  # of four comparisons of which none is decided yet
    seeds = seeds_to_find(1.0, 1.0, level)
    found = verdicts([1.0, 0, 0, 0], seeds, None, 1500)
    share = sum(row[0] == WORSE for row in found) / 1500
    assert 0.8 - allowed(0.8, 1500) < share < 0.9
    assert power(seeds - 1, 1.0, 1.0, level) < 0.8 <= power(seeds, 1.0, 1.0, level)


def test_seeds_and_sizes_that_are_found_are_inverse():
    for seeds in (3, 8, 30):
        size = detectable(seeds, 0.02, 0.01)
        assert power(seeds, size, 0.02, 0.01) == pytest.approx(0.8)
        assert seeds_to_find(size * 1.0001, 0.02, 0.01) == seeds


def test_plans_against_published_numbers():
    # Cohen (1988), one-sample t at 5% two-sided and 80% power: d = 0.5 takes 34, d = 0.8 takes 15, d = 0.2 takes 199.
    assert [seeds_to_find(size, 1.0) for size in (0.5, 0.8, 0.2)] == [34, 15, 199]
    assert seeds_to_find(0.0, 1.0) is None
    assert seeds_to_find(1e-5, 1.0) is None
    assert seeds_to_equate(0.3, 1.0, 0.2) is None
    # For many seeds: n = (z(0.95) + z(0.9))^2 / margin^2.
    many = (stats.norm.ppf(0.95) + stats.norm.ppf(0.9)) ** 2 / 0.05**2
    assert seeds_to_equate(0.0, 1.0, 0.05) == pytest.approx(many, rel=0.01)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=9, unique=True), st.floats(0.01, 2))
@settings(deadline=None)
def test_equivalence_is_two_one_sided_tests_of_scipy(values, margin):
    difference = paired_difference(dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0))
    if not difference.varies:
        return
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    assert equivalence_p(difference, margin) == pytest.approx(max(above, below), rel=1e-6, abs=1e-9)


def slow_correct(pairs: Sequence[Sequence[float]]) -> list[list[float]]:
    """The smallest level at which each hypothesis is rejected, step by step at every level that may matter."""
    levels = sorted({min(1.0, p * many) for pair in pairs for p in pair for many in range(1, len(pairs) + 1)} | {1.0})
    found = [[1.0] * len(pair) for pair in pairs]
    for level in reversed(levels):
        left = {(place, kind): p for place, pair in enumerate(pairs) for kind, p in enumerate(pair)}
        while left:
            first = min(left, key=lambda key: (left[key], key))
            if left[first] * len({place for place, _ in left}) > level:
                break
            del left[first]
        for place, pair in enumerate(pairs):
            for kind in range(len(pair)):
                if (place, kind) not in left:
                    found[place][kind] = level
    return found


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5))
def test_correction_against_the_procedure_it_stands_for(pairs):
    corrected = correct([Evidence(*pair) for pair in pairs])
    expected = slow_correct(pairs)
    assert [list(each.both) for each in corrected] == [pytest.approx(pair) for pair in expected]


def test_differences_that_do_not_vary_prove_nothing():
    for shift in (0.0, 0.3):
        difference = paired_difference({0: 2.0 + shift, 1: 2.1 + shift, 2: 2.2 + shift}, {0: 2.0, 1: 2.1, 2: 2.2})
        assert judge(difference, correct([evidence(difference, 1.0)])[0].shown, "min") == UNDECIDED


@pytest.mark.parametrize("margin", [0.0, -0.1, float("nan"), float("inf")])
def test_a_margin_that_is_none_is_refused(margin):
    with pytest.raises(RequestError, match="--margin"):
        Rule(margin)


def test_the_bootstrap_covers_skewed_means_better_than_students_interval():
    random = np.random.default_rng(3)
    samples = random.exponential(1.0, (250, 12))
    students = [stats.ttest_1samp(sample, 0).confidence_interval(0.95) for sample in samples]
    covered = sum(low <= 1 <= high for low, high in students) / 250
    drawn = [bootstrap_interval(sample) for sample in samples]
    share = sum(low <= 1 <= high for low, high in drawn) / 250
    assert covered < share
    assert share == pytest.approx(0.95, abs=0.04)


def test_the_bootstrap_against_a_slow_one():
    sample = [0.3, 1.2, -0.4, 0.9, 0.1, 0.5, 2.5, 0.2, 0.6]
    random = np.random.default_rng(0)
    ratios = []
    for _ in range(10_000):
        drawn = [sample[place] for place in random.integers(0, 9, 9)]
        ratios.append((np.mean(drawn) - np.mean(sample)) / (np.std(drawn, ddof=1) / 3))
    low, high = np.quantile(ratios, [0.025, 0.975])
    error = np.std(sample, ddof=1) / 3
    assert bootstrap_interval(sample) == pytest.approx((np.mean(sample) - high * error, np.mean(sample) - low * error))


def test_a_configuration_against_itself_stays_within_the_noise_floor():
    random = np.random.default_rng(4)
    known = [noise(groups.tolist()).floor(5) for groups in random.normal(0, 0.02, (1500, 6, 5))]
    beyond = np.abs(np.diff(random.normal(0, 0.02, (1500, 2, 5)).mean(2))[:, 0]) > known
    assert beyond.mean() == pytest.approx(0.05, abs=allowed(0.05, 1500))


def test_the_noise_is_the_pooled_spread_and_effects_are_hedges():
    groups = [[1.0, 2.0, 4.0], [2.0, 2.5], [7.0]]
    pooled = (np.var(groups[0], ddof=1) * 2 + np.var(groups[1], ddof=1)) / 3
    seen = noise(groups)
    assert (seen.sd, seen.freedom) == (pytest.approx(pooled**0.5), 3)
    assert seen.effect(1.0) == pytest.approx((1 - 3 / 11) / pooled**0.5)
    assert noise([[1.0, 2.0], [3.0]]).effect(1.0) is None  # Hedges' factor is none of one degree of freedom
    assert noise([[1.0], [2.0, 2.0]]) is None
