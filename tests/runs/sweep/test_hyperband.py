"""Early termination ends the runs that W&B's controller ends."""

import math

from hypothesis import given
from hypothesis import strategies as st

from lab.runs.sweep.hyperband import Hyperband, read_early_terminate


def test_bands_are_wandbs():
    """The values that its documentation works out."""
    assert read_early_terminate({"type": "hyperband", "max_iter": 27, "s": 2}).bands == (3, 9)
    assert read_early_terminate({"type": "hyperband", "min_iter": 3}).bands[:4] == (3, 9, 27, 81)
    assert read_early_terminate({"type": "hyperband", "max_iter": 5, "s": 5, "eta": 2}).bands == (1, 2)


def test_the_example_of_wandbs_controller():
    """hyperband_stop_runs in wandb/sweeps: `b` ends at the first band, `c` at the second, `d` goes on."""
    rule = read_early_terminate({"type": "hyperband", "max_iter": 5, "eta": 2, "s": 2})
    runs = {"a": [10, 9], "b": [10, 10], "c": [10, 8, 8], "d": [10, 7, 7], "e": [10, 6, 6]}
    others = {name: [history for other, history in runs.items() if other != name] for name in runs}
    assert [name for name in "bcd" if rule.ends(runs[name], others[name])] == ["b"]


def published(history, runs, bands, eta, strict):
    """W&B's rule in its own words, over all runs, this one among them."""
    thresholds = []
    for band in bands:
        values = sorted(run[band - 1] for run in runs if len(run) >= band)
        thresholds.append(values[int(1 / eta * len(values))] if values else math.inf)
    met = [(band, threshold) for band, threshold in zip(bands, thresholds, strict=True) if band <= len(history)]
    if not met:
        return False
    band, threshold = met[-1]
    return (history[band - 1] if strict else min(history)) > threshold


histories = st.lists(st.integers(0, 9), min_size=1, max_size=7)


@given(histories, st.lists(histories, max_size=6), st.sampled_from([2, 3, 4]), st.booleans())
def test_it_ends_what_wandb_ends(history, others, eta, strict):
    rule = Hyperband((1, 3, 6), eta, strict)
    assert rule.ends(history, others) == published(history, [*others, history], rule.bands, eta, strict)


@given(histories, st.lists(histories, max_size=6), st.sampled_from([2, 3, 4]))
def test_the_best_of_all_never_ends(history, others, eta):
    best = [min([10, *(value for run in others for value in run)]) - 1 for _ in history]
    assert not Hyperband((1, 3, 6), eta).ends(best, others)
