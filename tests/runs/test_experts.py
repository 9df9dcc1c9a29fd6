"""Experts over a run: balanced over the whole step on several devices and in several parts, resumed, and their figures."""

import csv

import pytest
import torch

from lab.runs import folder as files
from lab.runs.train import continue_run, train
from tests.runs.test_train import config, curve

SHORT = ("budget.steps=6", "packing=padded", "split.max_bytes=2000", "trainer.threads=1")


def figures(folder):
    with open(folder / files.METRICS, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    return [{key: float(value) for key, value in row.items() if key.startswith("experts/")} for row in rows]


def assert_same(one, other):
    assert list(curve(other).values()) == pytest.approx(list(curve(one).values()), rel=1e-5)
    for mine, theirs in zip(figures(one), figures(other), strict=True):
        assert theirs == pytest.approx(mine, abs=1e-5)


def assert_same_bias(one, other):
    for mine, theirs in zip(one.model.expert_layers, other.model.expert_layers, strict=True):
        assert mine.balance.bias.abs().sum() > 0
        assert torch.allclose(mine.balance.bias, theirs.balance.bias)


@pytest.mark.long
def test_two_processes_balance_over_both_by_loss_and_by_bias(corpus, tmp_path):
    words = (*SHORT, "ffn=moe_deepseek", "ffn.balance.loss=0.1", "ffn.balance.bias_rate=0.1")
    one = train(config(corpus, *words), tmp_path / "one")
    two = train(config(corpus, *words, "trainer=ddp", "trainer.devices=2"), tmp_path / "two")
    assert two.status == "finished", two.result["error"]
    assert_same(one.folder, two.folder)
    assert_same_bias(one, two)


def test_parts_of_a_step_move_the_bias_as_the_whole_does(corpus, tmp_path):
    words = (*SHORT, "ffn=moe_deepseek", "ffn.balance.z_loss=0.1", "ffn.balance.bias_rate=0.1")
    one = train(config(corpus, *words), tmp_path / "one")
    two = train(config(corpus, *words, "batch.accumulate=2"), tmp_path / "two")
    assert_same(one.folder, two.folder)
    assert_same_bias(one, two)


@pytest.mark.parametrize("option", ["moe_deepseek", "moe_noisy"])
def test_a_stopped_run_continues_with_its_bias_and_its_noise(corpus, tmp_path, option):
    from lab.runs.signals import Stop

    def interrupt(row):
        if row["step"] == 3:
            Stop._open.requested = True

    wanted = config(corpus, *SHORT, f"ffn={option}", "batch.accumulate=2")
    whole = train(wanted, tmp_path / "whole")
    assert train(wanted, tmp_path / "stopped", observers=[interrupt]).status == "stopped"
    resumed = continue_run(tmp_path / "stopped")
    assert curve(resumed.folder) == curve(whole.folder)
    assert figures(resumed.folder) == figures(whole.folder)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_the_figures_say_which_block_they_are_of(corpus, tmp_path):
    run = train(config(corpus, *SHORT, "ffn=moe_alternating", "ffn.options.1.capacity=0.5"), tmp_path / "run")
    names = {f"expert{i}" for i in range(8)} | {"entropy", "dropped"}
    for step in figures(run.folder):
        assert set(step) == {f"experts/layer1/{name}" for name in names}
        assert sum(value for key, value in step.items() if "/expert" in key[12:]) == pytest.approx(1)
        assert 0.4 < step["experts/layer1/dropped"] < 1
        assert 0 < step["experts/layer1/entropy"] < 2.08
