"""Schedules: shares of the peak rate, of the progress alone."""

import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import lab
from lab.config import construct
from lab.errors import RequestError
from lab.optim.schedules import SHAPES, Constant, Linear, Noam, WarmupCosine, WarmupStableDecay
from lab.options import groups

shares = st.floats(0.01, 0.9)


@pytest.mark.parametrize("option", groups()["schedule"])
def test_every_schedule_is_a_continuous_share_that_peaks_at_one_and_never_falls_while_it_warms(option):
    schedule = construct(lab.compose(f"schedule={option}"), "schedule")
    steps = 10_000
    values = [schedule((step + 1) / steps) for step in range(steps)]
    assert all(0 <= value <= 1 for value in values)
    assert max(values) == pytest.approx(1, abs=1e-3)
    # The steepest are straight lines over a tenth of the budget; the square root starts vertically, but short.
    assert max(abs(b - a) for a, b in itertools.pairwise(values)) < 0.03
    assert values[: values.index(max(values)) + 1] == sorted(values[: values.index(max(values)) + 1])


@given(warmup=shares, final=st.floats(0, 1), progress=st.floats(1e-6, 1))
def test_warm_up_and_the_two_that_fall_all_the_way(warmup, final, progress):
    cosine, line = WarmupCosine(warmup, final), Linear(warmup, final)
    if progress < warmup:
        assert cosine(progress) == line(progress) == pytest.approx(progress / warmup)
    else:
        done = (progress - warmup) / (1 - warmup)
        assert line(progress) == pytest.approx(1 + done * (final - 1), abs=1e-9)
        assert cosine(progress) == pytest.approx(final + (1 - final) * math.cos(math.pi * done / 2) ** 2, abs=1e-9)
    assert cosine(1.0) == line(1.0) == pytest.approx(final, abs=1e-9)


@given(warmup=st.floats(0, 0.9), decay=shares, final=st.floats(0.01, 1), shape=st.sampled_from(sorted(SHAPES)))
def test_stable_until_the_decay_then_down_to_the_final_share(warmup, decay, final, shape):
    assume(warmup + decay <= 1)
    schedule = WarmupStableDecay(warmup, decay, final, shape)
    assert schedule((warmup + 1 - decay) / 2) == pytest.approx(1)
    assert schedule(1.0) == pytest.approx(final)
    down = [schedule(1 - decay * (1 - i / 50)) for i in range(51)]
    assert down == sorted(down, reverse=True)
    assert all(final - 1e-9 <= value <= 1 for value in down)


@pytest.mark.parametrize(
    ("shape", "halfway"),
    [("linear", 0.55), ("cosine", 0.55), ("sqrt", 0.1 + 0.9 * (1 - 0.5**0.5)), ("exponential", 0.1**0.5)],
)
def test_shapes_of_the_decay_halfway_to_a_tenth(shape, halfway):
    schedule = WarmupStableDecay(0.1, 0.2, 0.1, shape)
    assert schedule(0.9) == pytest.approx(halfway)
    assert schedule(0.8) == pytest.approx(1)


def test_the_exponential_decay_is_minicpms():
    """Hu et al. 2024, equation in section 4.2: after the stable steps `0.5^((s - S) / T)`."""
    half_life = 0.05
    schedule = WarmupStableDecay(0.01, 0.2, 0.5 ** (0.2 / half_life), "exponential")
    for progress in (0.8, 0.85, 0.9, 0.97, 1.0):
        assert schedule(progress) == pytest.approx(0.5 ** ((progress - 0.8) / half_life))


@given(steps=st.integers(10, 10_000), warmup=shares, dim=st.sampled_from([64, 512]))
def test_noam_is_the_papers_formula_over_its_peak(steps, warmup, dim):
    """Vaswani et al. 2017, equation 3."""

    def paper(step, warm):
        return dim**-0.5 * min(step**-0.5, step * warm**-1.5)

    schedule, warm = Noam(warmup), warmup * steps
    for step in {1, steps // 3, steps // 2, steps}:
        assert schedule(step / steps) == pytest.approx(paper(step, warm) / paper(warm, warm), rel=1e-6)


def test_constant_is_one():
    assert {Constant()(progress) for progress in (0.001, 0.5, 1.0)} == {1.0}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["schedule=linear", "schedule.warmup=1"], "schedule.warmup: 1.0; a share of the budget, from 0 to under 1"),
        (["schedule=linear", "schedule.warmup=-0.1"], "schedule.warmup: -0.1; a share of the budget"),
        (["schedule=linear", "schedule.final=1.5"], "schedule.final: 1.5; a share of the peak rate, from 0 to 1"),
        (["schedule=warmup_cosine", "schedule.final=-1"], "schedule.final: -1.0; a share of the peak rate"),
        (["schedule=noam", "schedule.warmup=0"], "schedule.warmup: 0; the inverse square root"),
        (["schedule=wsd", "schedule.decay=0"], "schedule.decay: 0.0; a share of the budget, over 0 to 1"),
        (["schedule=wsd", "schedule.decay=0.95"], "schedule.decay: 0.95; with schedule.warmup 0.1 it is more than"),
        (["schedule=wsd", "schedule.final=0"], "schedule.final: 0; schedule.shape=exponential never gets there"),
        (
            ["schedule=wsd", "schedule.shape=cubic"],
            "schedule.shape: cubic; choose from linear, cosine, sqrt, exponential",
        ),
    ],
)
def test_values_out_of_range_are_refused_when_composed(words, message):
    with pytest.raises(RequestError) as refused:
        lab.compose(*words)
    assert str(refused.value).startswith(message)


def test_a_decay_without_end_may_be_linear_to_nothing():
    assert construct(lab.compose("schedule=wsd", "schedule.shape=linear", "schedule.final=0"), "schedule")(1.0) == 0
