"""Every option of `optimizer`, found by walking conf/: it learns, decays what should decay, and goes on where it was."""

import copy
import csv

import pytest
import torch

import lab
from lab.config import construct
from lab.errors import RequestError
from lab.optim.groups import make_optimizer, parameter_groups
from lab.options import groups
from lab.runs import folder as files
from lab.runs.train import continue_run, train

OPTIMIZERS = groups()["optimizer"]
RATES = {"sgd_word2vec": 2.0, "adamw_bert": 2e-3, "adamw_gpt": 2e-3}
"""Of options whose own rate is for other models, or for larger ones."""

TOKENS = torch.randint(40, (8, 24), generator=torch.Generator().manual_seed(0))


def made(option, *words):
    config = lab.compose("preset=tiny", "model.dim=32", f"optimizer={option}", "embedding=untied", *words)
    model = lab.build(config, vocab_size=40)
    return model, make_optimizer(parameter_groups(model), construct(config, "optimizer"))


def learn(model, optimizer, steps):
    """Losses of some steps, at rates that a schedule sets."""
    losses = []
    peaks = [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]
    for step in range(steps):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * (1 - 0.02 * step)
        optimizer.zero_grad()
        loss = model.loss(TOKENS, TOKENS.roll(-1, 1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("init", ["normal", "mup"])
@pytest.mark.parametrize("option", OPTIMIZERS)
def test_it_learns_a_small_text_by_heart(option, init):
    rate = [f"optimizer.lr={RATES[option]}"] if option in RATES else []
    model, optimizer = made(option, f"init={init}", "ffn=moe", *rate)
    losses = learn(model, optimizer, 30)
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.parametrize("option", OPTIMIZERS)
def test_a_rate_of_nothing_changes_nothing(option):
    """Where a schedule ends at 0."""
    model, optimizer = made(option)
    before = copy.deepcopy(model.state_dict())
    model.loss(TOKENS, TOKENS).backward()
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("option", OPTIMIZERS)
def test_weight_decay_takes_a_share_of_the_matrices_and_nothing_of_the_rest(option):
    model, optimizer = made(
        option, "optimizer.weight_decay=0.5", "optimizer.lr=0.01", "norm=layernorm", "model.bias=true"
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)  # biases start at nothing, which decays to nothing
    before = copy.deepcopy(model.state_dict())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, value in model.state_dict().items():
        kept = "norm" in name or name.endswith(("bias", "table.weight"))
        rest = name == "embedding.head.weight" and option == "muon_2024"  # at a tenth of the rate
        share = 0.0 if kept else 0.01 * 0.5 * (0.1 if rest else 1.0)
        # SGD's momentum is as usual part of what decays, and looks ahead.
        expected = before[name] * (1 - share * (1.9 if option == "sgd" else 1.0))
        assert torch.allclose(value, expected, rtol=1e-6, atol=1e-8), name


@pytest.mark.parametrize("option", OPTIMIZERS)
def test_a_restored_optimizer_goes_on_to_equal_numbers(option):
    model, optimizer = made(option, "init=mup")
    learn(model, optimizer, 3)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    expected = learn(model, optimizer, 3)
    again, fresh = made(option, "init=mup")
    again.load_state_dict(saved[0])
    fresh.load_state_dict(saved[1])
    assert learn(again, fresh, 3) == expected
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("adamw", lambda p: torch.optim.AdamW(p, 0.003, (0.9, 0.95), 1e-8, 0.1)),
        ("adamw_2017", lambda p: torch.optim.Adam(p, 0.003, (0.9, 0.98), 1e-9)),
        ("adafactor", lambda p: torch.optim.Adafactor(p, 0.003)),
        ("sgd", lambda p: torch.optim.SGD(p, 0.003, 0.9, weight_decay=1e-4, nesterov=True)),
    ],
)
def test_it_is_torchs_on_the_same_groups(ours, theirs):
    (model, optimizer), (other, _) = made(ours, "optimizer.lr=0.003"), made(ours)
    groups = [{k: v for k, v in g.items() if k in ("params", "weight_decay")} for g in parameter_groups(other)]
    assert learn(model, optimizer, 4) == pytest.approx(learn(other, theirs(groups), 4), rel=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_adafactors_rate_by_width_holds_at_every_step(decay):
    """Also where `1 / sqrt(steps)` is what limits the step."""
    one, wide = (torch.nn.Parameter(torch.full((8, 8), 0.5)) for _ in range(2))
    groups = [{"params": [p], "role": "hidden", "width": width} for p, width in ((one, 1.0), (wide, 4.0))]
    optimizer = make_optimizer(groups, lambda groups: lab.optim.adafactor.Adafactor(groups, lr=0.1, weight_decay=decay))
    for step in range(1, 301):
        for parameter in (one, wide):
            torch.nn.init.constant_(parameter, 0.5)
            parameter.grad = torch.ones(8, 8)
        optimizer.step()
        shrunk = 0.1 * decay * 0.5
        moved = [0.5 - float(p.detach().mean()) - shrunk for p in (one, wide)]
        assert moved[1] == pytest.approx(moved[0] / 2, rel=1e-3), step
        assert moved[0] == pytest.approx(0.5 * min(0.1, step**-0.5), rel=0.02), step
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.05]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("optimizer=adamw optimizer.betas=[0.9]", "optimizer.betas: [0.9]; two numbers, each from 0 to under 1"),
        ("optimizer=adamw optimizer.betas=[0.9,1.0]", "optimizer.betas: [0.9, 1.0]; two numbers"),
        ("optimizer=adamw optimizer.weight_decay=-1", "optimizer.weight_decay: -1.0; a number, 0 or more"),
        ("optimizer=adamw_2017 optimizer.eps=-1", "optimizer.eps: -1.0; a number, 0 or more"),
        ("optimizer=muon optimizer.momentum=1", "optimizer.momentum: 1.0; a number from 0 to under 1"),
        ("optimizer=muon optimizer.scale=none", "optimizer.scale: none; choose from adamw, spectral"),
        ("optimizer=muon optimizer.steps=0", "optimizer.steps: 0; a whole number from 1 to 100"),
        ("optimizer=muon optimizer.rest=0", "optimizer.rest: 0.0; a number over 0"),
        ("optimizer=muon optimizer.lr=0", "optimizer.lr: 0.0; a rate over 0"),
        ("optimizer=muon optimizer.lr=nan", "optimizer.lr: nan; expected a finite number"),
        ("optimizer=muon trainer=fsdp", "trainer.strategy: fsdp; optimizer=muon needs whole matrices"),
        ("optimizer=adafactor optimizer.d=0.5", "optimizer.d: 0.5; a number, 1 or more"),
        ("optimizer=adafactor optimizer.beta2_decay=1", "optimizer.beta2_decay: 1.0; a number, 0 or less"),
        ("optimizer=adafactor optimizer.eps=[null,null]", "optimizer.eps: [None, None]; two numbers"),
        ("optimizer=sgd optimizer.momentum=0", "optimizer.nesterov: true; takes optimizer.momentum over 0"),
        ("optimizer=sgd optimizer.momentum=-0.1", "optimizer.momentum: -0.1; a number from 0 to under 1"),
        ("init=mup init.base_dim=0", "init.base_dim: 0; a whole number, at least 1"),
        ("init=mup init.base_head_dim=-4", "init.base_head_dim: -4; a whole number, at least 1"),
    ],
)
def test_values_out_of_range_are_refused_when_composed(words, message):
    with pytest.raises(RequestError) as refused:
        lab.compose(*words.split())
    assert str(refused.value).startswith(message)


# Whole runs


def curve(folder):
    with open(folder / files.METRICS, newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def test_a_stopped_run_by_muon_under_mup_continues_to_the_numbers_of_an_uninterrupted_one(small, tmp_path):
    config = lab.compose(*small, "optimizer=muon", "init=mup", "schedule=wsd", "budget.steps=8", "trainer.log_every=1")
    whole = train(config, tmp_path / "whole")

    def interrupt(row):
        if row["step"] == 4:
            from lab.runs.signals import Stop

            Stop._open.requested = True

    assert train(config, tmp_path / "stopped", observers=[interrupt]).status == "stopped"
    assert continue_run(tmp_path / "stopped").status == "finished"
    assert curve(tmp_path / "stopped") == curve(whole.folder)


@pytest.mark.long
def test_two_processes_compute_by_muon_what_one_does(small, tmp_path):
    words = (*small, "optimizer=muon", "packing=padded", "trainer.log_every=1")
    one = train(lab.compose(*words), tmp_path / "one")
    two = train(lab.compose(*words, "trainer=ddp", "trainer.devices=2"), tmp_path / "two")
    assert two.status == "finished", two.result["error"]
    assert curve(two.folder) == pytest.approx(curve(one.folder), rel=1e-4)
