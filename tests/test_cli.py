"""The command line: what its verbs print, how they end, and that a stopped run loses nothing."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from lab.cli import VERBS, main
from lab.options import groups

TIMES = ("seconds", "tokens_per_second")


def metrics(folder) -> list[dict[str, str]]:
    """What a run measured, without what depends on the clock."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{key: cell for key, cell in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def result(folder) -> dict:
    return json.loads((folder / "result.json").read_text())


# Help, verbs and flags


def test_help_takes_under_a_second_and_imports_nothing_heavy():
    program = "import sys, lab.cli; code = lab.cli.main(['--help']); print(*sys.modules); sys.exit(code)"
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        best = min(best, time.perf_counter() - began)
    text, _, modules = done.stdout.rstrip("\n").rpartition("\n")
    assert all(f"lab {verb}" in text for verb in VERBS)
    heavy = {"torch", "hydra", "wandb", "datasets", "numpy", "plotly", "scipy", "tokenizers", "rich"}
    assert not heavy & set(modules.split())
    assert best < 1


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself(lab, verb):
    ended = lab(verb, "--help")
    assert ended.code == 0
    assert f"lab {verb}" in ended.out


def test_the_help_of_train_lists_every_group_with_its_options(lab):
    text = lab("train", "--help").out
    for group, options in groups().items():
        assert f"{group}: {', '.join(options)}" in text


def test_nothing_asked_is_a_wrong_request(lab):
    assert lab().code == 2
    assert lab("--version").out.count(".") == 2


def test_cfg_prints_the_configuration_and_trains_nothing(lab, tmp_path):
    ended = lab("train", "--cfg", "job", "attention=gqa", "--resolve")
    assert ended.code == 0
    assert "GroupedQueryAttention" in ended.out
    part = lab("train", "--cfg", "job", "--package", "budget", "budget.steps=3").out
    absent = lab("train", "--cfg", "job", "--package", "nosuch")
    assert (absent.code, absent.out) == (2, "")
    assert absent.err.startswith("lab train: --package: nosuch; no key")
    assert part == "tokens: null\nsteps: 3\nflops: null\nminutes: null\n"
    assert lab("train", "--cfg", "job", "--json", "--resolve", "attention=mqa").json["attention"]["kv_heads"] == 1
    assert not list(tmp_path.iterdir())


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "lab", "bake"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"lab bake: bake: no such verb; there are {', '.join(VERBS)} (lab --help)\n"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("lab tr", "train"),
        ("lab ", " ".join(VERBS)),
        ("lab train atten", "attention. attention="),
        ("lab train attention=", " ".join(f"attention={option}" for option in groups()["attention"])),
        ("lab train attention=mha pos", "position. position="),
        ("lab train model.di", "model.dim="),
        ("lab sweep seed", ""),
        ("lab sweep file.yaml attention=", " ".join(f"attention={option}" for option in groups()["attention"])),
    ],
)
def test_the_shell_completes_verbs_groups_options_and_keys(lab, monkeypatch, line, offered):
    monkeypatch.setenv("COMP_LINE", line)
    ended = lab("-sc", "query=bash")
    assert ended.code == 0
    assert ended.out.split() == offered.split()


# Results


def test_a_run_leaves_its_record_and_prints_one_document(lab, small, tmp_path):
    ended = lab("train", small, "folder=run", "--json", "--seed=3")
    assert ended.code == 0
    assert ended.json == {"folder": "run"} | result(tmp_path / "run")
    assert ended.json["status"] == "finished"
    assert ended.json["seed"] == 3
    assert ended.json["overrides"] == [*small, "folder=run", "seed=3"]
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"config.yaml", "overrides.yaml", "result.json", "metrics.csv", "checkpoints", "tokenizer.json"}
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["model.safetensors"]


def test_a_person_reads_one_line_a_run(lab, small):
    ended = lab("train", small, "folder=run")
    assert ended.out.startswith("run  finished  ")
    assert ended.out.count("\n") == 1


def test_a_run_without_a_folder_goes_under_runs(lab, small, tmp_path):
    first, second = (lab("train", small, "name=twice", "--json").json["folder"] for _ in range(2))
    assert first != second
    assert first.startswith("runs/")
    assert "twice" in first


def test_a_multirun_is_one_run_for_each_combination_and_one_document(lab, small, tmp_path):
    several = ("attention=mha,gqa", "seed=0,1", "hydra.sweep.dir=many", "--json")
    ended = lab("train", small, "-m", several)
    assert ended.code == 0
    assert [run["folder"] for run in ended.json] == [f"many/{number}" for number in range(4)]
    assert {(run["choices"]["attention"], run["seed"]) for run in ended.json} == {
        (attention, seed) for attention in ("mha", "gqa") for seed in (0, 1)
    }
    report = lab("report", "many", "--json")
    assert report.code == 0
    assert [len(table["configurations"]) for table in report.json["tables"]] == [2]
    again = lab("train", small, "-m", several)
    assert again.code == 2
    assert "many/0 holds a run already" in again.err


def test_one_combination_is_still_a_list(lab, small):
    assert len(lab("train", "-m", small, "hydra.sweep.dir=one", "--json").json) == 1


def test_flags_may_stand_between_overrides(lab, small):
    assert len(lab("train", "seed=0,1", "-m", small, "hydra.sweep.dir=two", "--json").json) == 2


def test_a_sweep_is_one_document_and_is_not_run_twice(lab, small, tmp_path):
    words = "".join(f"  {key}: {{value: {value}}}\n" for key, value in (word.split("=") for word in small))
    (tmp_path / "two.yaml").write_text(
        'method: grid\ncommand: ["${env}", lab, train, "${args_no_hyphens}"]\n'
        f"parameters:\n{words}  attention: {{values: [mha, mqa]}}\n  seed: {{values: [0]}}\n"
    )
    planned = lab("sweep", "two.yaml", "--plan", "--json")
    assert planned.code == 0
    assert not (tmp_path / "runs").exists()
    elsewhere = lab("sweep", "two.yaml", "--plan", "--json", "--folder=there", "--budget.tokens=9")
    assert elsewhere.json["folder"] == "there"
    assert all("budget.tokens=9" in trial["overrides"] for trial in elsewhere.json["trials"])
    ended = lab("sweep", "two.yaml", "--json")
    assert ended.code == 0
    assert [trial["status"] for trial in ended.json["trials"]] == ["finished", "finished"]
    before = [path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("result.json")]
    assert lab("sweep", "two.yaml", "--json").code == 0
    assert before == [path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("result.json")]


def test_several_runs_take_a_path_as_it_stands(lab, small, tmp_path):
    ended = lab("train", "-m", small, "name=nö(1)", "seed=0,1", "hydra.sweep.dir=all", "--json")
    assert ended.code == 0
    assert "nö(1)" in (tmp_path / "all" / "0" / "config.yaml").read_text("utf-8")


def test_a_diverged_run_is_a_result_that_no_mean_counts(lab, small, tmp_path):
    ended = lab("train", small, "optimizer.lr=1e20", "trainer.clip=null", "folder=runs/high", "--json")
    assert ended.code == 0
    assert ended.json["status"] == "diverged"
    assert ended.json["val/bpb"] is None
    assert lab("train", small, "folder=runs/usual").code == 0
    report = lab("report", "runs", "--json").json
    assert [run["status"] for run in report["not_counted"]] == ["diverged"]
    assert [len(table["configurations"]) for table in report["tables"]] == [1]
    for words in (
        ["probe"],
        ["generate", "the"],
        ["attention", "the"],
        ["embeddings", "--near", "a"],
        ["export", "out"],
    ):
        refused = lab(words[0], "runs/high", words[1:])
        assert (refused.code, refused.out) == (2, "")
        assert "model.safetensors: the run has diverged, and its weights are no numbers" in refused.err
    assert not (tmp_path / "out").exists()


def test_a_reader_that_leaves_is_no_failure(small, lab, tmp_path):
    lab("train", small, "folder=runs/one")
    for words in ("report runs", "show runs/one"):
        process = subprocess.Popen(
            [sys.executable, "-m", "lab", *words.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
        )
        process.stdout.close()
        assert (process.wait(), process.stderr.read()) == (0, b"")


def test_a_run_that_fails_says_why_and_ends_with_1(lab, small, tmp_path, monkeypatch):
    from lab.objectives.causal import Causal

    monkeypatch.setattr(Causal, "training_step", lambda *_: (_ for _ in ()).throw(RuntimeError("out of\nluck")))
    ended = lab("train", small, "folder=run", "--json")
    assert ended.code == 1
    assert ended.json["status"] == "failed"
    assert ended.json["error"] == "RuntimeError: out of luck"
    assert "training_step" in (tmp_path / "run/error.txt").read_text()
    assert not list((tmp_path / "run/checkpoints").iterdir())
    assert "Traceback" not in ended.err


# Stopping and continuing


def stop_at(monkeypatch, micro: int, *signals: int) -> None:
    """Send signals to this process while it fetches a micro-batch."""
    from lab.data.module import DataModule

    fetch = DataModule.training_batch

    def fetch_and_send(self, number):
        if number == micro:
            for each in signals:
                os.kill(os.getpid(), each)
        return fetch(self, number)

    monkeypatch.setattr(DataModule, "training_batch", fetch_and_send)


LONGER = (
    *("model.dropout=0.2", "batch.accumulate=2", "budget.steps=12"),
    *("trainer.log_every=4", "trainer.validations=4", "packing=padded", "optimizer.lr=0.01"),
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("micro", [5, 12])
def test_a_stopped_run_continues_to_the_numbers_of_an_uninterrupted_one(
    lab, small, tmp_path, monkeypatch, number, micro
):
    whole = lab("train", small, LONGER, "folder=whole", "--json")
    with monkeypatch.context() as during:
        stop_at(during, micro, number)
        stopped = lab("train", small, LONGER, "folder=stopped", "--json")
    assert stopped.code == 130
    assert stopped.json["status"] == "stopped"
    assert 0 < stopped.json["steps"] < 12
    assert [path.name for path in (tmp_path / "stopped/checkpoints").iterdir()] == ["last.ckpt"]
    assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)

    continued = lab("train", "resume=stopped", "--json")
    assert continued.code == 0
    assert metrics(tmp_path / "stopped") == metrics(tmp_path / "whole")
    assert len(metrics(tmp_path / "whole")) > 3
    for key in ("status", "val/loss", "val/bpb", "train/loss", "steps", "tokens_seen", "flops", "configuration"):
        assert continued.json[key] == whole.json[key], key
    weights = [(tmp_path / name / "checkpoints/model.safetensors").read_bytes() for name in ("stopped", "whole")]
    assert weights[0] == weights[1]

    again = lab("train", "resume=stopped")
    assert again.code == 2
    assert again.err == "lab train: resume: stopped has ended (finished); nothing is left to do\n"


def test_a_second_ctrl_c_interrupts_at_once(lab, small, tmp_path, monkeypatch):
    stop_at(monkeypatch, 6, signal.SIGINT, signal.SIGINT)
    ended = lab("train", small, "budget.steps=40", "folder=run", "--json")
    assert ended.code == 130
    assert ended.json["status"] == "stopped"
    assert not list((tmp_path / "run/checkpoints").glob("*.partial"))
    assert lab("train", "resume=run").code == 2


def test_a_stopped_multirun_starts_no_further_run(lab, small, tmp_path, monkeypatch):
    stop_at(monkeypatch, 6, signal.SIGINT)
    ended = lab("train", "-m", small, "budget.steps=40", "seed=0,1", "hydra.sweep.dir=many")
    assert ended.code == 130
    assert result(tmp_path / "many/0")["status"] == "stopped"
    assert not (tmp_path / "many/1/result.json").exists()


def test_sigterm_ends_the_process_with_130_and_what_continues_it(small, tmp_path):
    command = [sys.executable, "-m", "lab", "train", *small, "budget.steps=100000", "folder=run"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not (tmp_path / "run/metrics.csv").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert result(tmp_path / "run")["status"] == "stopped"
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()


def test_sigterm_before_a_run_begins_leaves_nothing(tmp_path):
    command = [sys.executable, "-m", "lab", "train", "logger=none", "folder=run"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "")
    assert not list(tmp_path.iterdir())


def test_the_words_of_a_program_default_to_its_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lab", "--version"])
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main() == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().out


def test_what_is_no_utf_8_is_refused(lab, monkeypatch):
    assert lab("tokens", "a\udcff", "--with", "byte").err == "lab tokens: 'a\\udcff': is not UTF-8\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\xff"), encoding="utf-8"))
    assert lab("tokens", "-", "--with", "byte").err == "lab tokens: standard input: is not UTF-8 at byte 2\n"
