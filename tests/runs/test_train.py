"""A run: its record, its budget, its end; the same numbers resumed, on several devices, in several parts."""

import csv
import json
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import lab
from lab.errors import RequestError
from lab.runs import folder as files
from lab.runs.budget import Budget, Spent
from lab.runs.pace import is_lost
from lab.runs.train import continue_run, train


def config(corpus, *overrides):
    return lab.compose(
        "preset=tiny", "model.dim=32", "model.layers=2", "model.context=32", "batch.rows=4", "budget.steps=12",
        "tokenizer=byte", "data=files", f"data.path={corpus}", "logger=none", "trainer.log_every=1", *overrides,
    )  # fmt: skip


def curve(folder, column="train/loss"):
    with open(folder / files.METRICS, newline="") as file:
        return {int(row["step"]): float(row[column]) for row in csv.DictReader(file) if row[column]}


def test_a_run_leaves_its_record(corpus, tmp_path):
    run = train(config(corpus), tmp_path / "run")
    result = json.loads((tmp_path / "run" / files.RESULT).read_text())
    assert result == run.result
    assert result["status"] == "finished"
    assert result["steps"] == 12
    assert result["tokens_seen"] == 12 * 4 * 32
    assert result["val/bpb"] == pytest.approx(result["val/loss"] / np.log(2), rel=1e-6)  # a byte a token
    assert 0 < result["val/bpb"] < 8
    assert result["parameters"] == result["parameters_active"] == sum(p.numel() for p in run.model.parameters())
    assert len(curve(run.folder)) == 12
    assert curve(run.folder)[12] == result["train/loss"]
    for key in ("flops", "tokens_per_second", "seconds", "peak_memory_bytes"):
        assert result[key] > 0
    assert not [p.name for p in (tmp_path / "run").rglob("*") if p.suffix in (".partial", ".ckpt")]


def test_a_loaded_run_is_the_model_that_was_validated(corpus, tmp_path):
    run = train(config(corpus), tmp_path / "run")
    again = lab.load(tmp_path / "run")
    from lab.runs.train import data_module

    nats = targets = 0
    with torch.no_grad():
        for batch in data_module(again.config).val_dataloader():
            nats += again.model.loss(batch.tokens, batch.targets, batch.layout, reduction="sum").item()
            targets += batch.counted
    assert nats / targets == pytest.approx(run.result["val/loss"], rel=1e-5)


def test_the_same_configuration_and_seed_give_the_same_numbers_and_another_seed_does_not(corpus, tmp_path):
    one, two, other = (
        train(config(corpus, f"seed={s}"), tmp_path / name).result for s, name in ((1, "a"), (1, "b"), (2, "c"))
    )
    assert one["val/loss"] == two["val/loss"]
    assert curve(tmp_path / "a") == curve(tmp_path / "b")
    assert one["val/loss"] != other["val/loss"]
    assert one["configuration"] == other["configuration"]


@pytest.mark.parametrize("parts", [1, 2])
def test_a_stopped_run_continues_to_the_numbers_of_an_uninterrupted_one(corpus, tmp_path, parts):
    """With dropout, so that the state of the random numbers matters, and stopped within an epoch."""
    wanted = config(corpus, "model.dropout=0.2", f"batch.accumulate={parts}", "ffn=moe")
    whole = train(wanted, tmp_path / "whole")

    def interrupt(row):
        if row["step"] == 5:
            from lab.runs.signals import Stop

            Stop._open.requested = True

    stopped = train(wanted, tmp_path / "stopped", observers=[interrupt])
    assert stopped.status == "stopped"
    assert (tmp_path / "stopped" / files.CHECKPOINT).exists()
    resumed = continue_run(tmp_path / "stopped")
    assert resumed.status == "finished"
    assert resumed.result["seconds"] > stopped.result["seconds"]
    assert curve(tmp_path / "stopped") == curve(tmp_path / "whole")
    for key in ("val/loss", "val/bpb", "tokens_seen", "flops", "steps"):
        assert resumed.result[key] == whole.result[key], key
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_run_killed_after_it_was_taken_up_has_no_old_result_and_continues(corpus, tmp_path):
    """Killed soon after, and again further on."""
    wanted = config(corpus, "trainer.checkpoint_minutes=0", "model.dropout=0.2", "trainer.threads=1")
    train(wanted, tmp_path / "whole")

    def interrupt(row):
        if row["step"] == 3:
            from lab.runs.signals import Stop

            Stop._open.requested = True

    folder = tmp_path / "killed"
    assert train(wanted, folder, observers=[interrupt]).status == "stopped"
    for step in (6, 9):
        code = f"""
import os, signal
from lab.runs.train import continue_run

def kill(row):
    if row["step"] == {step}:
        os.kill(os.getpid(), signal.SIGKILL)

continue_run({str(folder)!r}, [kill])
"""
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
        assert files.read_result(folder) is None
        with pytest.raises(RequestError, match=f"lab train resume={folder}"):
            lab.load(folder)
    assert continue_run(folder).status == "finished"
    assert curve(folder) == curve(tmp_path / "whole")


@pytest.mark.parametrize(
    ("left", "status", "advised"),
    [
        ("checkpoint", None, True),
        ("checkpoint", "stopped", True),
        ("checkpoint", "finished", False),
        ("half a checkpoint", None, False),
        ("nothing", None, False),
        ("wrong terms", None, False),
    ],
)
def test_to_continue_is_advised_only_where_it_can_work(corpus, tmp_path, left, status, advised):
    wanted, folder = config(corpus), tmp_path / "run"
    files.open_folder(folder, wanted)
    if left != "nothing":
        torch.save({"callbacks": {"Pace": {"spent": {"steps": 1}}}}, folder / files.CHECKPOINT)
    if left == "half a checkpoint":
        (folder / files.CHECKPOINT).write_bytes((folder / files.CHECKPOINT).read_bytes()[:100])
    if left == "wrong terms":
        path = folder / files.CONFIG
        path.write_text(path.read_text().replace("validations: ", "validations: -"))
    if status is not None:
        (folder / files.RESULT).write_text(json.dumps({"status": status}))
    with pytest.raises(RequestError, match="holds a run already; choose another") as refused:
        files.open_folder(folder, wanted)
    assert ("resume=" in str(refused.value)) == advised
    if status is None:
        with pytest.raises(RequestError, match="it runs, or was killed") as refused:
            lab.load(folder)
        assert ("resume=" in str(refused.value)) == advised


@pytest.mark.parametrize(
    ("code", "asked", "status"), [("1", False, "failed"), ("0", False, "failed"), ("input()", True, "stopped")]
)
def test_a_first_rank_that_ends_without_a_word_does_not_leave_the_old_result(
    corpus, tmp_path, monkeypatch, code, asked, status
):
    from lab.runs import ranks
    from lab.runs.signals import Stop

    wanted = config(corpus)
    folder = tmp_path / "run"
    train(wanted, folder, observers=[lambda row: setattr(Stop._open, "requested", True)])
    written = OmegaConf.load(folder / files.CONFIG)
    written.trainer.update({"devices": 2, "strategy": "ddp"})
    OmegaConf.save(written, folder / files.CONFIG)

    def start(command, *rest):
        Stop._open.requested = asked
        return subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"], stdin=subprocess.PIPE)

    monkeypatch.setattr(ranks, "_start", start)
    run = continue_run(folder)
    assert run.status == status == files.read_result(folder)["status"]
    assert run.result["error"] == "the ranks ended without a result"
    assert (folder / files.CHECKPOINT).exists()


def test_several_parts_of_a_step_add_up_to_the_whole(corpus, tmp_path):
    whole = train(config(corpus, "packing=padded"), tmp_path / "whole")
    train(config(corpus, "packing=padded", "batch.accumulate=2"), tmp_path / "parts")
    assert list(curve(tmp_path / "parts").values()) == pytest.approx(list(curve(whole.folder).values()), rel=1e-5)


def test_two_processes_compute_what_one_does(corpus, tmp_path):
    one = train(config(corpus, "packing=padded", "ffn=dense"), tmp_path / "one")
    seen = []
    two = train(
        config(corpus, "packing=padded", "ffn=dense", "trainer=ddp", "trainer.devices=2"), tmp_path / "two",
        observers=[seen.append],
    )  # fmt: skip
    assert two.status == "finished", two.result["error"]
    assert list(curve(two.folder).values()) == pytest.approx(list(curve(one.folder).values()), rel=1e-5)
    for key in ("val/loss", "val/bpb", "tokens_seen", "flops"):
        assert two.result[key] == pytest.approx(one.result[key], rel=1e-5), key
    assert len(seen) == len(curve(two.folder))


STOPPED_RANK = """
import sys
from pathlib import Path
from lab.runs.folder import read_config
from lab.runs.signals import Stop
from lab.runs.train import fit

def interrupt(row):
    if row["step"] == 5:
        Stop._open.requested = True

folder = Path(sys.argv[1])
with Stop(note=None):
    fit(read_config(folder), folder, observers=[interrupt])
"""


@pytest.mark.long
def test_ranks_drop_apart_and_continue_to_the_numbers_of_an_uninterrupted_run(corpus, tmp_path, monkeypatch):
    from lab.runs import ranks

    wanted = config(corpus, "model.dropout=0.2", "trainer=ddp", "trainer.devices=2", "trainer.threads=1")
    whole = train(wanted, tmp_path / "whole")
    assert whole.status == "finished", whole.result["error"]
    start = ranks._start
    with monkeypatch.context() as patched:
        patched.setattr(ranks, "_start", lambda c, *rest: start([c[0], "-c", STOPPED_RANK, *c[3:]], *rest))
        assert train(wanted, tmp_path / "stopped").status == "stopped"
    first, second = files.read_checkpoint(tmp_path / "stopped")["callbacks"]["Pace"]["random"]
    assert not torch.equal(first["cpu"], second["cpu"])
    resumed = continue_run(tmp_path / "stopped")
    assert curve(tmp_path / "stopped") == curve(tmp_path / "whole")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_ranks_of_all_seeds_have_random_numbers_of_their_own():
    from lab.runs.ranks import random_seed

    assert [random_seed(seed, 0) for seed in (0, 7)] == [0, 7]
    started = {random_seed(seed, rank) for seed in range(100) for rank in range(100)}
    assert len(started) == 100 * 100
    torch.manual_seed(max(started))


@pytest.mark.long  # the README's command of it is run each time
def test_ranks_of_torchrun_leave_one_record(small, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "lab", "train", "--json"]
    words = [*small, "trainer=ddp", "trainer.devices=2", f"folder={tmp_path / 'run'}"]
    ended = subprocess.run([*command, *words], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["status"] == "finished"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_no_thread_of_the_process_group_outlives_a_rank(tmp_path):
    """Those that do may abort an interpreter that is ending, rarely: a finished run would count as failed."""
    code = f"""
import atexit, os
from pathlib import Path
import torch
import torch.distributed as dist
from lab.runs.trainer import leave_group_at_exit

def threads():
    return [Path("/proc/self/task", task, "comm").read_text().strip() for task in os.listdir("/proc/self/task")]

atexit.register(lambda: print(*threads()))
leave_group_at_exit()
dist.init_process_group("gloo", init_method="file://{tmp_path}/meet", rank=0, world_size=1)
dist.all_reduce(torch.zeros(1))  # by then the threads run, under their names
print(*threads())
"""
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    before, after = ended.stdout.splitlines()
    assert "gloo" in before
    assert "gloo" not in after


def test_a_rank_that_dies_makes_the_run_failed(corpus, tmp_path, monkeypatch):
    from lab.runs import ranks

    start = ranks._start

    def start_and_kill(command, rank, processes, port):
        process = start(command, rank, processes, port)
        if rank == 1:
            process.kill()
        return process

    monkeypatch.setattr(ranks, "_start", start_and_kill)
    monkeypatch.setattr(ranks, "WAIT", 1.0)
    run = train(config(corpus, "trainer=ddp", "trainer.devices=2"), tmp_path / "run")
    assert run.status == "failed"
    assert "rank 1 of 2 died" in run.result["error"]


def test_a_rank_that_fails_says_why(corpus, tmp_path):
    (tmp_path / "run" / files.WEIGHTS).mkdir(parents=True)  # where the first rank will write a file
    run = train(config(corpus, "trainer=ddp", "trainer.devices=2"), tmp_path / "run")
    assert run.status == "failed"
    assert files.WEIGHTS.name in run.result["error"]


def test_an_infinite_loss_ends_the_run_as_diverged(corpus, tmp_path):
    run = train(config(corpus, "optimizer.lr=1e30", "trainer.clip=null", "block=post_norm"), tmp_path / "run")
    assert run.status == "diverged"
    assert run.result["steps"] < 12
    assert re.match(r"the loss is (nan|inf|\d\.\d*e\+\d+) at step ", run.result["error"])


@pytest.mark.parametrize(
    ("loss", "lost"),
    [(2.5, False), (-3.0, False), (1e5, False), (1e35, True), (float("inf"), True), (float("nan"), True)],
)
def test_a_loss_that_means_nothing_is_one_of_a_run_that_diverged(loss, lost):
    assert is_lost(loss) == lost


def test_a_validation_that_means_nothing_ends_the_run_as_diverged(corpus, tmp_path, monkeypatch):
    from lab.objectives.causal import Causal

    told = Causal.evaluate
    monkeypatch.setattr(Causal, "evaluate", lambda *args: (told(*args)[0] * torch.tensor([1e30, 1.0]), []))
    run = train(config(corpus), tmp_path / "run")
    assert run.status == "diverged"
    assert re.match(r"the loss is \d\.\d*e\+30 at step ", run.result["error"])


def test_an_error_while_training_makes_the_run_failed_and_is_kept(corpus, tmp_path, monkeypatch):
    from lab.parts.embedding import Embedding

    def fall(*args, **kwargs):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(Embedding, "loss", fall)
    run = train(config(corpus), tmp_path / "run")
    assert run.status == "failed"
    assert run.result["error"] == "RuntimeError: out of luck"


@pytest.mark.parametrize(
    ("override", "steps"),
    [("budget.tokens=640", 5), ("budget.tokens=641", 6), ("budget.steps=3", 3), ("budget.minutes=0.001", None)],
)
def test_a_budget_in_any_unit_ends_the_run(corpus, tmp_path, override, steps):
    run = train(config(corpus, override), tmp_path / "run")
    assert run.status == "finished"
    assert steps is None or run.result["steps"] == steps
    assert run.result["val/loss"] is not None


def test_a_budget_of_flops_buys_more_steps_of_a_cheaper_model(corpus, tmp_path):
    rich = train(config(corpus, "budget.flops=1e8", "model.inner=32"), tmp_path / "rich").result
    poor = train(config(corpus, "budget.flops=1e8", "model.inner=512"), tmp_path / "poor").result
    assert rich["steps"] > 1.3 * poor["steps"]
    for result in (rich, poor):
        assert result["flops"] == pytest.approx(1e8, rel=0.75 / result["steps"])  # the nearest step, of uneven ones


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_learning_rate_does_not_depend_on_the_unit_of_the_budget(corpus, tmp_path, accumulate):
    """Its first steps neither: who asks for FLOPs learns from them too."""
    words = ["schedule=linear", "schedule.warmup=0.1", f"batch.accumulate={accumulate}", "trainer.log_every=1"]
    plain = train(config(corpus, "budget.steps=6", *words), tmp_path / "steps").result
    rates = {}
    for unit in ("steps", "tokens", "flops"):
        spent = plain[{"tokens": "tokens_seen"}.get(unit, unit)]
        run = train(config(corpus, f"budget.{unit}={spent}", *words), tmp_path / f"by {unit}")
        assert run.result["steps"] == 6
        rates[unit] = [float(row["lr"]) for row in csv.DictReader((run.folder / "metrics.csv").open()) if row["lr"]]
    assert rates["steps"][0] > rates["steps"][-1]
    assert rates["tokens"] == pytest.approx(rates["steps"])
    assert rates["flops"] == pytest.approx(rates["steps"], rel=0.03)  # steps do not cost quite the same
    run = train(config(corpus, "budget.minutes=0.02", *words), tmp_path / "minutes")
    first, *_ = csv.DictReader((run.folder / "metrics.csv").open())
    assert float(first["lr"]) > 1e-2 * rates["steps"][0]


def test_progress_after_the_step_under_way():
    spent = Spent(steps=4, tokens=400, flops=4e6, minutes=2.0)
    for unit, amount in {"tokens": 1000, "steps": 10, "flops": 1e7, "minutes": 5.0}.items():
        assert Budget(unit, amount).progress_after(spent, Spent(1, 100, 1e6, 0.5)) == 0.5
        assert Budget(unit, amount).progress_after(Spent(), Spent(1, 100, 1e6, 0.5)) == 0.1
    assert Budget("steps", 4).progress(spent) == 1
    assert [Budget("steps", amount).over(spent) for amount in (0, 4, 4.1)] == [True, True, False]
    assert [Budget("flops", amount).over(spent) for amount in (4e6, 4.4e6, 4.6e6)] == [True, True, False]


def test_the_learning_rate_follows_the_schedule_over_the_budget(corpus, tmp_path):
    run = train(config(corpus, "schedule=warmup_cosine", "schedule.warmup=0.25", "optimizer.lr=0.01"), tmp_path / "run")
    rates = curve(run.folder, "lr")
    assert rates[1] == pytest.approx(0.01 / 3)
    assert rates[3] == pytest.approx(0.01)
    assert rates[12] == pytest.approx(0.001)
    assert all(rates[i] > rates[i + 1] for i in range(3, 12))


def test_a_lossy_tokenizer_gets_no_bits_per_byte(corpus, tmp_path):
    run = train(config(corpus, "tokenizer=word"), tmp_path / "run")
    assert run.result["val/bpb"] is None
    assert run.result["val/loss"] > 0
    assert 0 < run.result["tokenizer/lost_share"] < 1


@pytest.mark.parametrize("words", [[], ["attention=mla", "block=sandwich"]], ids=["plain", "norms within"])
def test_half_precision_trains(corpus, tmp_path, words):
    exact = train(config(corpus, *words), tmp_path / "exact").result
    half = train(config(corpus, *words, "trainer.precision=bf16-mixed"), tmp_path / "half").result
    assert half["status"] == "finished", half["error"]
    assert half["val/loss"] == pytest.approx(exact["val/loss"], rel=0.03)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_computes_what_the_cpu_does(corpus, tmp_path):
    cpu = train(config(corpus, "trainer.accelerator=cpu"), tmp_path / "cpu").result
    gpu = train(config(corpus, "trainer.accelerator=cuda"), tmp_path / "gpu").result
    assert gpu["val/loss"] == pytest.approx(cpu["val/loss"], rel=1e-3)
