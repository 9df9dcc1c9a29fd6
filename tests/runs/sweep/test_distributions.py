"""Values are spread as their distributions say: by formula at every quantile, and in numbers over many draws."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lab.runs.sweep.distributions import DISTRIBUTIONS
from lab.runs.sweep.space import read_parameters

CONTINUOUS = {
    "uniform": ({"min": -1.0, "max": 3.0}, stats.uniform(-1, 4)),
    "log_uniform": ({"min": -7, "max": 1.5}, stats.loguniform(numpy.exp(-7), numpy.exp(1.5))),
    "log_uniform_values": ({"min": 1e-5, "max": 1e-1}, stats.loguniform(1e-5, 1e-1)),
    "inv_log_uniform": ({"min": -2, "max": 3}, stats.loguniform(numpy.exp(-3), numpy.exp(2))),
    "inv_log_uniform_values": ({"min": 1e-3, "max": 2.0}, stats.loguniform(1e-3, 2.0)),
    "normal": ({"mu": 2.0, "sigma": 0.5}, stats.norm(2, 0.5)),
    "log_normal": ({"mu": -1.0, "sigma": 0.7}, stats.lognorm(0.7, scale=numpy.exp(-1))),
    "beta": ({"a": 2.0, "b": 5.0}, stats.beta(2, 5)),
}
QUANTISED = {
    "q_uniform": ({"min": -1, "max": 3.0, "q": 0.5}, stats.uniform(-1, 4)),
    "q_log_uniform": ({"min": 0, "max": 3, "q": 2}, stats.loguniform(1, numpy.exp(3))),
    "q_log_uniform_values": ({"min": 1, "max": 30, "q": 3}, stats.loguniform(1, 30)),
    "q_normal": ({"mu": 1, "sigma": 2, "q": 0.5}, stats.norm(1, 2)),
    "q_log_normal": ({"mu": 0, "sigma": 1, "q": 1}, stats.lognorm(1)),
    "q_beta": ({"a": 2, "b": 2, "q": 0.1}, stats.beta(2, 2)),
}
COUNTED = {
    "int_uniform": ({"min": 2, "max": 9}, dict.fromkeys(range(2, 10), 1 / 8)),
    "categorical": ({"values": ["x", "y", "z"]}, dict.fromkeys("xyz", 1 / 3)),
    "categorical_w_probabilities": (
        {"values": ["x", "y", "z"], "probabilities": [0.2, 0, 0.8]},
        {"x": 0.2, "z": 0.8},
    ),
    "constant": ({"value": 4}, {4: 1.0}),
}


def parameter(kind: str, settings: dict):
    return read_parameters({"b": {**settings, "distribution": kind}})[0]["b"]


def draws(kind: str, settings: dict, count: int = 4000) -> list:
    drawn = parameter(kind, settings)
    return [drawn.draw(u) for u in numpy.random.default_rng(0).random(count)]


def test_every_distribution_is_tested():
    assert {*CONTINUOUS, *QUANTISED, *COUNTED} == set(DISTRIBUTIONS)


@pytest.mark.parametrize("kind", CONTINUOUS)
def test_draws_follow_a_continuous_distribution(kind):
    settings, reference = CONTINUOUS[kind]
    assert stats.kstest(draws(kind, settings), reference.cdf).pvalue > 0.01


@pytest.mark.parametrize("kind", CONTINUOUS)
@given(st.floats(1e-9, 1 - 1e-9))
def test_a_draw_is_the_quantile(kind, u):
    settings, reference = CONTINUOUS[kind]
    assert parameter(kind, settings).draw(u) == pytest.approx(reference.ppf(u), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("kind", QUANTISED)
def test_draws_of_a_quantised_distribution_have_the_mass_around_each_step(kind):
    settings, reference = QUANTISED[kind]
    q = settings["q"]
    steps, observed = numpy.unique(numpy.rint(numpy.array(draws(kind, settings)) / q), return_counts=True)
    edges = numpy.concatenate([[-numpy.inf], (steps[1:] + steps[:-1]) / 2 * q, [numpy.inf]])
    expected = numpy.diff(reference.cdf(edges)) * observed.sum()
    common = expected >= 5
    seen = numpy.append(observed[common], observed[~common].sum())
    wanted = numpy.append(expected[common], expected[~common].sum())
    kept = wanted > 0
    assert stats.chisquare(seen[kept], wanted[kept]).pvalue > 0.01


@pytest.mark.parametrize("kind", QUANTISED)
@given(st.floats(0.001, 0.999))
def test_a_quantised_draw_is_the_nearest_step(kind, u):
    settings, reference = QUANTISED[kind]
    value, q = parameter(kind, settings).draw(u), settings["q"]
    assert value / q == pytest.approx(round(value / q), abs=1e-9)
    assert abs(value - reference.ppf(u)) <= q / 2 + 1e-9


@pytest.mark.parametrize("kind", [kind for kind in COUNTED if kind != "constant"])
def test_draws_of_counted_values_have_their_probabilities(kind):
    settings, reference = COUNTED[kind]
    drawn = draws(kind, settings)
    assert set(drawn) == set(reference)
    observed = [drawn.count(value) for value in reference]
    assert stats.chisquare(observed, [p * len(drawn) for p in reference.values()]).pvalue > 0.01


@pytest.mark.parametrize("kind", [kind for kind, each in DISTRIBUTIONS.items() if each.range])
def test_a_range_holds_what_is_drawn(kind):
    settings, _ = {**CONTINUOUS, **QUANTISED, **COUNTED}[kind]
    moved = DISTRIBUTIONS[kind].range({**DISTRIBUTIONS[kind].defaults, **settings})
    drawn = draws(kind, settings, 300)
    assert all(moved.low <= value <= moved.high for value in drawn)
    share = stats.loguniform if moved.log else stats.uniform
    if moved.step is None:
        spread = share(moved.low, moved.high) if moved.log else share(moved.low, moved.high - moved.low)
        assert stats.kstest(drawn, spread.cdf).pvalue > 0.01


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_the_ends_are_finite_numbers(kind):
    settings, _ = {**CONTINUOUS, **QUANTISED, **COUNTED}[kind]
    for u in (0.0, 1 - 2.0**-53):
        value = parameter(kind, settings).draw(u)
        assert isinstance(value, str) or numpy.isfinite(value)
