"""Looking again after each seed errs no more often than looking once, and stops early where the difference is clear."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lab.errors import RequestError
from lab.runs.comparison.sequential import look, look_at_all, nominal_levels, spent
from lab.runs.comparison.verdict import ALPHA

PATHS = 40_000


def paths(mean: float, most: int, count: int = PATHS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, (count, most))


def running(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and its standard error after each pair, `[paths, pairs]`."""
    pairs = np.arange(1, values.shape[1] + 1)
    mean = values.cumsum(1) / pairs
    squares = (values**2).cumsum(1) - pairs * mean**2
    return mean, np.sqrt(np.maximum(squares, 0) / np.maximum(pairs - 1, 1) / pairs)


def crossings(values: np.ndarray, looks, levels) -> np.ndarray:
    """At which look each path is decided, `len(looks)` where at none."""
    mean, error = running(values)
    columns = np.array(looks) - 1
    p = 2 * stats.t.sf(np.abs(mean[:, columns]) / error[:, columns], np.array(looks) - 1)
    crossed = np.column_stack([p < np.array(levels), np.ones(len(values), bool)])
    return crossed.argmax(1)


@pytest.mark.parametrize("looks", [(3, 4, 5), tuple(range(3, 13)), (3, 6, 12), (4, 5, 9, 20)])
def test_errors_of_optional_stopping_are_what_was_spent(looks):
    most = looks[-1]
    first = crossings(paths(0, most), looks, nominal_levels(looks, most))
    for place, pairs in enumerate(looks):
        share, said = (first <= place).mean(), spent(pairs / most)
        assert share == pytest.approx(said, abs=3.2 * math.sqrt(said * (1 - said) / PATHS) + 1e-4)
    assert spent(1.0) == pytest.approx(ALPHA)


def test_stopping_at_the_first_p_under_five_percent_errs_much_more_often():
    looks = tuple(range(3, 13))
    assert (crossings(paths(0, 12), looks, [0.05] * 10) < 10).mean() > 0.14


def test_for_many_pairs_the_boundaries_are_the_published_ones():
    # Lan and DeMets' for O'Brien and Fleming's type at 5 equal looks, two-sided 5%, known variance.
    published = [4.877, 3.357, 2.680, 2.290, 2.031]
    levels = nominal_levels((12, 24, 36, 48, 60), 60)
    found = [stats.norm.isf(level / 2) for level in levels]
    assert found[1:] == pytest.approx(published[1:], abs=0.015)


def test_the_interval_covers_the_truth_at_all_looks_together():
    looks = tuple(range(3, 11))
    levels = np.array(nominal_levels(looks, 10))
    mean, error = running(paths(0.7, 10, seed=5))
    columns = np.array(looks) - 1
    reach = stats.t.isf(levels / 2, columns) * error[:, columns]
    missed = (np.abs(mean[:, columns] - 0.7) > reach).any(1).mean()
    assert missed == pytest.approx(0.05, abs=3.2 * math.sqrt(0.05 * 0.95 / PATHS))


@given(st.lists(st.floats(-2, 4), min_size=1, max_size=9, unique=True), st.integers(9, 12))
@settings(deadline=None, max_examples=60)
def test_a_look_follows_the_levels_and_stays_decided(values, most):
    state = look(values, most)
    looks = tuple(range(3, len(values) + 1))
    first = None
    for pairs, level in zip(looks, nominal_levels(tuple(range(3, most + 1)), most), strict=False):
        p = stats.ttest_1samp(values[:pairs], 0).pvalue
        if p < level * (1 - 1e-9):
            first = pairs
            break
        if p < level * (1 + 1e-9):
            return  # too close to call
    assert state.decided == (first is not None)
    if first:
        assert (state.pairs, state.decided, state.go_on) == (first, True, False)
        assert state.low > 0 or state.high < 0
    else:
        assert state.go_on == (len(values) < most)


def test_clear_differences_stop_early_and_none_goes_on_to_the_cap():
    assert look([0.30, 0.31, 0.29], 12).go_on
    assert look([0.30, 0.31, 0.29, 0.30, 0.31], 12).decided
    tied = look([0.1, -0.1] * 6, 12)
    assert (tied.decided, tied.last, tied.go_on) == (False, True, False)
    assert look([0.001, -0.001] * 6, 12, margin=0.01).decided
    assert look([0.2, 0.2, 0.2, 0.2], 12).go_on  # no replicates, no verdict


def test_fewer_seeds_than_a_fixed_number_for_the_same_power():
    looks = tuple(range(3, 13))
    first = crossings(paths(1.2, 12), looks, nominal_levels(looks, 12))
    fixed = (stats.ttest_1samp(paths(1.2, 12), 0, axis=1).pvalue < 0.05).mean()
    assert (first < 10).mean() > fixed - 0.02
    assert np.append(looks, 12)[first].mean() < 9


def test_with_a_cap_spending_finds_more_than_an_anytime_valid_test():
    """Wang and Ramdas' (2024) mixture over effects for unknown variance: valid for ever, and dearer for it."""
    looks = np.arange(3, 13)
    values = paths(1.0, 12)
    mean, error = running(values)
    ratio = (mean[:, 2:] / error[:, 2:]) ** 2 / (looks - 1)
    found = {}
    for scale in (0.25, 1.0, 4.0):
        shrunk = scale / (looks + scale)
        evidence = np.sqrt(shrunk) * ((1 + ratio) / (1 + shrunk * ratio)) ** (looks / 2)
        found[scale] = (evidence > 20).any(1).mean()
    spending = (crossings(values, tuple(looks), nominal_levels(tuple(looks), 12)) < 10).mean()
    assert spending > max(found.values()) + 0.2


@pytest.mark.parametrize(("truths", "margin"), [([0, 0, 0, 0], None), ([0, 5, -5, 0], None), ([0, 1, -1, 5], 1.0)])
def test_several_comparisons_err_in_five_percent_of_reports_together(truths, margin):
    reports, most = 600, 8
    random = np.random.default_rng(7)
    wrong = 0
    for _ in range(reports):
        values = random.normal(0, 1, (len(truths), most)) + np.array(truths)[:, None]
        for truth, state in zip(
            truths, look_at_all(values.tolist(), most, margins=[margin] * len(truths)), strict=True
        ):
            within = margin is not None and -margin < state.low and state.high < margin
            if within and state.decided:
                bad = abs(truth) >= margin
            else:
                bad = state.decided and (truth == 0 or (state.low > 0) != (truth > 0))
            if bad:
                wrong += 1
                break
    assert wrong / reports < 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / reports)


def test_what_is_decided_leaves_its_share_to_the_rest():
    clear, close = [3.0, 3.1, 2.9, 3.0, 3.05, 2.95], [0.9, -0.1, 0.5, 0.05, 0.28, 0.4]
    alone = look(close, 6, ALPHA / 2)
    together = look_at_all([clear, close], 6)
    assert together[0].decided
    assert together[1].high - together[1].low < alone.high - alone.low


def test_more_pairs_than_planned_are_refused():
    with pytest.raises(RequestError, match="4 pairs with at most 3"):
        look([0.1, 0.2, 0.3, 0.4], 3)
    with pytest.raises(RequestError, match="at least 3"):
        look([], 2)
