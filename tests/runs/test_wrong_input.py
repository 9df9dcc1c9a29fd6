"""Wrong input: one message that names it and what is accepted, exit code 2, nothing left behind, nothing touched.

Once a run trains, what goes wrong ends it as failed, with exit code 1.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
import yaml

from lab.data import store
from lab.errors import RequestError
from lab.options import groups
from lab.runs import folder as run_folder
from lab.runs.folder import MetricsFile


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """A cache of this test alone."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LAB_CACHE", str(folder))
    monkeypatch.setattr(store, "_prepared", {})
    return folder


def content(*folders: Path) -> dict[str, str]:
    """Every file and folder below, with a digest of what it holds. A cache keeps its lock files."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for folder in folders
        for path in folder.rglob("*")
        if not path.name.endswith(".lock") and path.parent != folder
    } | {str(path): "" for folder in folders for path in folder.iterdir() if path.name not in ("texts", "tokens")}


@pytest.fixture
def refused(lab, tmp_path, cache):
    """Runs a command that must be refused: see above."""

    def run(*arguments, code: int = 2) -> str:
        before = content(tmp_path, cache)
        ended = lab(*arguments)
        assert ended.code == code, ended
        assert ended.out == ""
        assert ended.err.count("\n") == 1, ended.err
        assert "Traceback" not in ended.err
        assert content(tmp_path, cache) == before
        return ended.err

    return run


def lines(count: int, **fields) -> str:
    return "".join(json.dumps({"text": f"Document {n}, and what it says. " * 9} | fields) + "\n" for n in range(count))


FILES = {
    "good.jsonl": lines(60),
    "empty.txt": "",
    "blank.txt": " \n \n",
    "one.txt": "One document cannot be split. " * 99,
    "two.jsonl": lines(2),
    "latin.txt": "Füße".encode("latin-1"),
    "latin.csv": "text\nFüße\n".encode("latin-1"),
    "broken.jsonl": lines(3) + '{"text": "cut o',
    "list.jsonl": "[1, 2]\n",
    "number.jsonl": lines(3, text=3),
    "table.csv": "title,body\na,b\n",
    "cut.jsonl.gz": gzip.compress(lines(60).encode())[:-20],
    "plain.jsonl.gz": lines(60),
    "cut.parquet": b"PAR1 and no more",
    "empty_folder/.keep": "",
    "broken.yaml": "method: grid\nparameters: [",
    "binary.yaml": b"\xff\xfe\x00",
    "number.yaml": "3",
    "method.yaml": "method: magic\nparameters: {seed: {value: 0}}",
    "option.yaml": 'method: grid\ncommand: ["${env}", lab, train, "${args_no_hyphens}"]\n'
    "parameters: {attention: {values: [mha, gqaa]}}",
    "path.yaml": 'method: grid\ncommand: ["${env}", lab, train, "${args_no_hyphens}"]\n'
    "parameters: {data: {value: files}, data.path: {values: [good.jsonl, missing.jsonl]}, logger: {value: none}}",
    "half_run/config.yaml": "seed: 0",
    "bad_run/result.json": '{"status": "fin',
}


@pytest.fixture
def files(tmp_path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path


WRONG = {
    # what was asked for does not exist, or not in this kind
    "train attention=gqaa": f"attention=gqaa: no such option; attention is one of {', '.join(groups()['attention'])}",
    "train model.dimm=64": "model.dimm: no such key in the configuration; did you mean model.dim",
    "train data.path=good.jsonl": "data.path: data=docs has no such key; it belongs to data=ag_news, data=chat, data=conll",
    "train model.dim=wide": "model.dim: wide; expected a whole number",
    "train attention.scale=abc": "attention.scale: abc; a number over 0, or null",
    "train embedding.softcap=abc": "embedding.softcap: abc; a number over 0, or null",
    "train optimizer=adafactor optimizer.eps=[1,a]": "optimizer.eps: [1, 'a']; two numbers, 0 or more",
    "train position=rope_yarn position.trained=abc": "position.trained: abc; a number over 0",
    "train position=rope_yarn position.base=1": "position.base: 1.0; YaRN asks which pair turns how often",
    "train attention=mla attention.value_dim=true": "attention.value_dim: True; a whole number, at least 1",
    "train attention=mla attention.rope_dim=2.5": "attention.rope_dim: 2.5; an even number",
    "train attention=mla position=rope_long position.long=[1,2,3,4,5,6,7,8]": "for each of the 4 pairs that turn",
    "train pattern=alternating pattern.options=[]": "pattern: options: a list that cycles over the layers",
    "train model.inner=x4": "model.inner: x4; expected a whole number, or 4x for four times model.dim",
    "train model.heads=3": "model.heads: 3 does not divide model.dim 64",
    "train model.heads=0": "model.heads: 0; a whole number, at least 1",
    "train attention=gqa model.kv_heads=3": "3 does not divide model.heads 4",
    "train attention=gqa model.kv_heads=4": "attention=gqa shares keys and values, which takes fewer than model.heads 4",
    "train pattern=sliding model.window=0": "model.window: 0; a whole number, at least 1",
    "train ffn=moe ffn.top_k=9": "ffn.top_k: 9; choose from 1 to ffn.experts 8",
    "train tokenizer.vocab_size=100": "tokenizer.vocab_size=100: tokenizer=bpe needs 257 or more",
    "train budget.steps=-1": "budget.steps: -1; a number 0 or more",
    "train gqa": "gqa: not an override; write KEY=VALUE or GROUP=OPTION",
    "train seed=0,1": "seed=0,1: several values for one run; use `lab train -m`",
    "train trainer.nodes=2 trainer=ddp": "trainer.nodes: 2; several are started from outside",
    "train --fast": "fast: no such key",
    "train --config-dir=x": "--config-dir: the lab's configuration is in conf/",
    "train -m attention=mha,gqaa": "attention=gqaa: no such option",
    "train -m seed=0,,1": "seed=0,,1: not an override",
    "train -m seed=0,1 folder=x": "folder: several runs cannot share one",
    "train -m seed=0 hydra.swep.dir=x": "hydra.swep",
    # data
    "train data=files": "data.path: needs a file, a folder or a glob",
    "train data=files data.path=missing.jsonl": "data.path=missing.jsonl: no such file",
    "train data=files data.path=empty.txt": "data.path=empty.txt: the file is empty",
    "train data=files data.path=blank.txt": "data.path=blank.txt: holds no text",
    "train data=files data.path=empty_folder": "data.path=empty_folder: no text, JSON, CSV or Parquet file",
    "train data=files data.path=good.jsonl data.field=a": "data.field='a': not in good.jsonl, line 1; the fields there: text",
    "train data=files data.path=table.csv": "data.field='text': not in table.csv",
    "train data=files data.path=number.jsonl": "number.jsonl, line 1",
    "train data=files data.path=list.jsonl": "list.jsonl",
    "train data=files data.path=broken.jsonl": "broken.jsonl, line 4",
    "train data=files data.path=latin.txt": "latin.txt: not UTF-8",
    "train data=files data.path=latin.csv": "latin.csv: not UTF-8",
    "train data=files data.path=cut.jsonl.gz": "cut.jsonl.gz: the gzip data is damaged",
    "train data=files data.path=plain.jsonl.gz": "plain.jsonl.gz: the gzip data is damaged",
    "train data=files data.path=cut.parquet": "cut.parquet",
    "train data=files data.path=one.txt": "data: 1 document, and at least 2 are needed to hold one out",
    "train data=files data.path=two.jsonl": "split.validation=0.05: none of the 2 documents is for validation",
    "train data=huggingface": "data.name: needs a dataset",
    "train data=huggingface data.name=no/such": "data.name=no/such",
    # places
    "train resume=nowhere": "nowhere: no run there; a run's folder has a config.yaml",
    "train resume=half_run": "half_run/config.yaml: ",
    "train resume=half_run seed=1": "resume: a run continues with its own configuration",
    "train resume=good.jsonl": "good.jsonl: no run there",
    # sweeps and reports
    "sweep": "the following arguments are required: FILE",
    "sweep missing.yaml": "missing.yaml: can't be read (No such file or directory)",
    "sweep broken.yaml": "broken.yaml: line 2 is not YAML",
    "sweep binary.yaml": "binary.yaml: is not UTF-8 text",
    "sweep number.yaml": "number.yaml: holds a int; accepted: a mapping",
    "sweep method.yaml": "method.yaml: method: 'magic' is not supported; accepted: grid, random",
    "sweep option.yaml": "option.yaml: attention=gqaa: no such option",
    "sweep good.jsonl": "good.jsonl",
    "sweep option.yaml --fast": "--fast: no such option; `lab sweep --help`",
    "sweep option.yaml --scale model.dim": "--scale: goes with `lab report FOLDER`, once the sweep has run",
    "report": "the following arguments are required: folders",
    "report nowhere": "nowhere does not exist",
    "report good.jsonl": "good.jsonl is not a folder",
    "report empty_folder": "no run in empty_folder",
    "report bad_run": "bad_run: result.json: damaged",
    "bake": "bake: no such verb; there are train, sweep, report",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_request_is_one_message(refused, files, line):
    assert WRONG[line] in refused(line.split())


def tiny(path: Path | str) -> list[str]:
    return [
        *("preset=tiny", "data=files", f"data.path={path}", "tokenizer=byte", "model.dim=32", "model.context=32"),
        *("batch.rows=4", "budget.steps=3", "trainer.validations=1", "trainer.threads=1", "logger=none"),
    ]


def test_too_little_text_to_fill_one_batch(lab, files, tmp_path):
    """The tokens are right and stay in the cache; a run is not begun."""
    ended = lab("train", tiny("good.jsonl"), "batch.rows=4096", "folder=run")
    assert ended.code == 2
    assert "batch.rows=4096: the training text of" in ended.err
    assert "too few to fill one batch; give more text, or lower one of the two" in ended.err
    assert not (tmp_path / "run").exists()


def test_a_sweep_with_wrong_data_runs_nothing(lab, files, tmp_path):
    ended = lab("sweep", "path.yaml", "budget.steps=2", "--folder", "out")
    assert ended.code == 2
    assert "data.path=missing.jsonl: no such file" in ended.err.splitlines()[-1]
    assert not list((tmp_path / "out").glob("*/*"))


def test_a_device_that_is_not_there(refused, files):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert "this machine has 0 CUDA devices" in refused("train", tiny("good.jsonl"), "trainer=fsdp")
    message = refused("train", tiny("good.jsonl"), "trainer=fsdp", "trainer.accelerator=cpu")
    assert "trainer.accelerator: cpu; trainer=fsdp needs cuda" in message
    assert "trainer.accelerator=cpu runs without" in refused("train", tiny("good.jsonl"), "trainer.accelerator=cuda")


# Folders that hold something


def test_a_folder_that_holds_a_run_is_left_alone(refused, lab, files):
    assert lab("train", tiny("good.jsonl"), "folder=run").code == 0
    assert "run holds a run already" in refused("train", tiny("good.jsonl"), "folder=run", "seed=1")
    assert "nothing is left to do" in refused("train", "resume=run")
    assert "--baseline nobody is not among the configurations" in refused("report", "run", "--baseline", "nobody")


@pytest.fixture
def stopped(lab, files, tmp_path, monkeypatch) -> Path:
    """A run that can be continued."""
    from lab.data.module import DataModule

    fetch = DataModule.training_batch
    with monkeypatch.context() as during:
        during.setattr(
            DataModule,
            "training_batch",
            lambda self, n: (os.kill(os.getpid(), signal.SIGTERM) if n == 3 else None, fetch(self, n))[1],
        )
        assert lab("train", tiny("good.jsonl"), "budget.steps=40", "folder=run").code == 130
    return tmp_path / "run"


class Bomb:
    """Unpickled, it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("canary",)


DAMAGE = {
    "empty": lambda whole: b"",
    "truncated": lambda whole: whole[: len(whole) // 2],
    "random": lambda whole: bytes(range(256)) * 20,
    "code": lambda whole: pickle.dumps(Bomb()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint(refused, stopped, tmp_path, damage):
    path = stopped / "checkpoints/last.ckpt"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert "run/checkpoints/last.ckpt: damaged" in refused("train", "resume=run")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("state", [{}, {"callbacks": {"Pace": Bomb()}}, [1, 2]], ids=["nothing", "code", "list"])
def test_a_checkpoint_of_something_else(refused, stopped, tmp_path, state):
    torch.save(state, stopped / "checkpoints/last.ckpt")
    assert "run/checkpoints/last.ckpt: damaged" in refused("train", "resume=run")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data", {"_target_": "os.mkdir", "path": "canary"}),
        ("tokenizer", {"_target_": "lab.runs.folder.Path", "vocab_size": 257}),
        ("split", {"max_bytes": 3}),
        ("choices", None),
        ("another", 3),
        ("trainer", None),
        ("budget", 3),
        ("model", "${nowhere}"),
    ],
)
def test_a_damaged_configuration(refused, stopped, tmp_path, key, value):
    path = stopped / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {key: value}))
    assert "run/config.yaml: " in refused("train", "resume=run")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("text", ["", "{}", "[1]", "a: [", "!!python/object/apply:os.mkdir [canary]", b"\xff\x00"])
def test_a_configuration_that_is_none(refused, stopped, tmp_path, text):
    (stopped / "config.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert "run/config.yaml: " in refused("train", "resume=run")
    assert "run/config.yaml: " in refused("show", "run")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", None), ("model", [1]), ("init", {"a": 1}), ("tokenizer", 0.5), ("tokenizer", {"vocab_size": "x"}),
        ("overrides", 0.5), ("overrides", [1]), ("seed", None),
    ],
)  # fmt: skip
def test_a_damaged_configuration_that_is_shown(refused, stopped, key, value):
    path = stopped / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {key: value}))
    for verb in (["show", "run"], ["generate", "run", "Once"]):
        assert "run/config.yaml: damaged" in refused(*verb)


def test_a_run_that_was_killed_before_it_saved(refused, stopped):
    (stopped / "checkpoints/last.ckpt").unlink()
    assert "run left no checkpoints/last.ckpt; start it anew in another folder" in refused("train", "resume=run")


def test_a_damaged_result(refused, stopped):
    (stopped / "result.json").write_text('{"status": "stop')
    assert "run/result.json: damaged" in refused("train", "resume=run")


def test_other_data_than_the_run_began_with(refused, stopped, files):
    (files / "good.jsonl").unlink()
    assert "data.path=good.jsonl: no such file" in refused("train", "resume=run")


# The cache


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(("train.bin", damage) for damage in ("cut", "flipped", "gone")),
        *((name, "flipped") for name in ("validation.offsets", "tokenizer.json", "meta.json")),
        ("meta.json", "gone"),
    ],
)
def test_a_damaged_cache(refused, lab, files, cache, monkeypatch, name, damage):
    assert lab("train", tiny("good.jsonl"), "budget.steps=1", "folder=first").code == 0
    monkeypatch.setattr(store, "_prepared", {})  # as in another process
    (path,) = (cache / "tokens").glob(f"*/{name}")
    whole = path.read_bytes()
    path.write_bytes(whole[:-8] if damage == "cut" else bytes([whole[0] ^ 1]) + whole[1:])
    if damage == "gone":
        path.unlink()
    if (name, damage) == ("meta.json", "gone"):  # as if its making had been killed: it is made again
        assert lab("train", tiny("good.jsonl"), "budget.steps=1", "folder=second").code == 0
        return
    message = refused("train", tiny("good.jsonl"), "folder=second")
    assert "the cache is damaged" in message
    assert "delete this folder and start again" in message
    shutil.rmtree(path.parent)
    assert lab("train", tiny("good.jsonl"), "budget.steps=1", "folder=second").code == 0


def test_a_cache_that_cannot_be_written(refused, files, monkeypatch):
    monkeypatch.setenv("LAB_CACHE", str(files / "good.jsonl" / "cache"))
    message = refused("train", tiny("good.jsonl"))
    assert "can't be written (Not a directory); LAB_CACHE names another" in message


# Places that cannot be written, disks that are full


@pytest.mark.parametrize("place", ["good.jsonl/run", "/proc/run", "x" * 300])
def test_a_folder_that_cannot_be_made(refused, lab, files, place):
    assert lab("train", tiny("good.jsonl"), "budget.steps=1", "folder=first").code == 0  # fills the cache
    assert f"folder: {place} cannot be written (" in refused("train", tiny("good.jsonl"), f"folder={place}")
    several = ("-m", f"hydra.sweep.dir={place}", "seed=0,1")
    assert f"folder: {place} cannot be written (" in refused("train", tiny("good.jsonl"), several)
    for option in ("--html", "--table"):
        assert "cannot be written: " in lab("report", "first", option, f"{place}/x.csv").err


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a small disk of its own, or skips."""
    mounted = []

    def mount(options: str) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        try:
            done = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            done = False
        if not done:
            pytest.skip("mounting a file system takes root, and a container that allows it")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_folder_of_a_read_only_disk(refused, lab, files, disk):
    place = disk("ro")
    assert lab("train", tiny("good.jsonl"), "budget.steps=1", "folder=first").code == 0
    message = refused("train", tiny("good.jsonl"), f"folder={place}/run")
    assert f"folder: {place}/run cannot be written (Read-only file system)" in message


@pytest.mark.parametrize("kilobytes", [4, 8, 16, 32, 96])
def test_a_disk_that_is_full_sooner_or_later(lab, files, disk, kilobytes):
    """Wherever it is full: a refusal, or a run that is marked failed; no traceback, nothing half-written."""
    place = disk(f"size={kilobytes}k")
    ended = lab("train", tiny("good.jsonl"), "budget.steps=40", f"folder={place}/run")
    assert ended.code in (1, 2)
    assert "Traceback" not in ended.err
    assert "No space left on device" in ended.err + ended.out
    left = {path.name for path in place.rglob("*")}
    assert not [name for name in left if name.startswith(".") or name.endswith(".partial")]
    if ended.code == 1:
        assert json.loads((place / "run/result.json").read_text())["status"] == "failed"
    if "config.yaml" not in left:
        assert not left


def test_a_cache_on_a_full_disk(lab, files, disk, monkeypatch, tmp_path):
    place = disk("size=16k")
    monkeypatch.setenv("LAB_CACHE", str(place))
    ended = lab("train", tiny("good.jsonl"), "folder=run")
    assert ended.code == 2
    assert "can't be written (No space left on device); LAB_CACHE names another" in ended.err
    assert not list(place.glob("t*/*[!k]")) or all(path.suffix == ".lock" for path in place.glob("t*/*"))
    assert not (tmp_path / "run").exists()


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_at_the_first_file(refused, lab, files, monkeypatch):
    assert lab("train", tiny("good.jsonl"), "budget.steps=1", "folder=first").code == 0
    monkeypatch.setattr("lab.atomic.os.replace", full)
    message = refused("train", tiny("good.jsonl"), "folder=run")
    assert "folder: run cannot be written (No space left on device)" in message


def test_a_disk_that_is_full_while_it_trains(lab, files, monkeypatch, tmp_path):
    monkeypatch.setattr("lab.runs.folder.MetricsFile.append", full)
    ended = lab("train", tiny("good.jsonl"), "folder=run", "--json")
    assert ended.code == 1
    assert ended.json["status"] == "failed"
    assert "No space left on device" in ended.json["error"]
    assert json.loads((tmp_path / "run/result.json").read_text())["status"] == "failed"


def test_a_measurement_is_written_whole_or_not_at_all(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.csv")
    metrics.append({"step": 10, "train/loss": 2.5})
    before = metrics.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 1, limits[1]))  # room for one character
    try:
        with pytest.raises(OSError, match="No space left on device"):
            metrics.append({"step": 20, "train/loss": 2.25})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert metrics.path.read_bytes() == before


def test_a_disk_that_is_full_at_a_checkpoint(lab, stopped, monkeypatch, tmp_path):
    """What was saved before stays, so the run can go on once there is room."""
    before = (stopped / "checkpoints/last.ckpt").read_bytes()

    def half(trainer, path, *_, **__):
        Path(path).write_bytes(b"half")
        full()

    with monkeypatch.context() as during:
        during.setattr("pytorch_lightning.Trainer.save_checkpoint", half)
        during.setattr("lab.runs.train.Stop.__call__", lambda self: True)
        ended = lab("train", "resume=run", "--json")
    assert ended.code == 1
    assert [path.name for path in (stopped / "checkpoints").iterdir()] == ["last.ckpt"]
    assert (stopped / "checkpoints/last.ckpt").read_bytes() == before
    assert lab("train", "resume=run").code == 0


@pytest.mark.parametrize("content", [b"garbage\n1,2\n", b"step,val/bpb\nx,2\n", b"\xff\xfe\x00", b"step\n\xff\n"])
def test_a_run_with_damaged_measurements_is_not_resumed_and_nothing_is_lost(tmp_path, content):
    (tmp_path / run_folder.RESULT).write_text('{"status": "stopped"}')
    (tmp_path / run_folder.METRICS).write_bytes(content)
    with pytest.raises(RequestError, match=r"metrics\.csv is damaged"):
        run_folder.take_up(tmp_path, 3)
    assert (tmp_path / run_folder.METRICS).read_bytes() == content
    assert run_folder.read_result(tmp_path) == {"status": "stopped"}
