"""Every command of the README, run."""

import contextlib
import gzip
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import wandb

from lab.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = [
    "budget.steps=2",
    "batch.rows=2",
    "model.context=32",
    "model.dim=32",
    "model.layers=1",
    "split.max_bytes=2000",
]
SMALL += ["logger=none", "tokenizer=byte", "data=files", "data.path=notes.jsonl"]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands():
    lines = [line.partition("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line]


def notes(folder):
    rows = (
        json.dumps({"text": f"Note {i}: " + "the quick brown fox jumps over the lazy dog. " * 9}) for i in range(80)
    )
    (folder / "notes.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (folder / "sweeps").symlink_to(ROOT / "sweeps")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The runs of a finished sweep of attentions, for copies."""
    folder = tmp_path_factory.mktemp("swept")
    notes(folder)
    with contextlib.chdir(folder):
        assert main(["sweep", "sweeps/attention.yaml", *SMALL]) == 0
    return folder / "runs"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with what the README assumes: notes, the sweeps, verses."""
    monkeypatch.chdir(tmp_path)
    notes(tmp_path)
    books = ["Ruth", "Jonah", "Philippians", "Jude", *map(str, range(20))]
    verses = [
        {"en": f"verse {i} of the book", "es": f"verso {i} del libro", "book": book, "testament": "on"[i % 2] + "t"}
        for i in range(80)
        for book in books
    ]
    with gzip.open(tmp_path / "verses.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(verse) + "\n" for verse in verses)
    return tmp_path


def smaller(words):
    """The same command on tiny sizes: what it sets by itself stays, except sizes and the machine's devices."""
    keys = {word.partition("=")[0] for word in words}
    keys |= {"data.path", "tokenizer"} if "data" in keys else set()
    few = ["data.train=16", "data.validation=8"] if "data=reverse" in words else []
    kept = [word for word in words if not word.startswith("tokenizer.vocab_size")]
    return kept + few + [word for word in SMALL if word.partition("=")[0] not in keys]


@pytest.mark.parametrize("command", commands())
def test_command(command, here, request, capsys):
    words = shlex.split(command)
    if words[0] == "make":
        assert subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True).returncode == 0
    elif words[0] == "wandb":
        if words[1] == "sweep":
            assert main(["sweep", words[2], "--plan", *SMALL]) == 0
    elif "trainer=fsdp" in words:
        assert main(["train", "--cfg", "job", *words[2:]]) == 0
    elif words[0] == "torchrun":
        assert words[3:5] == ["lab", "train"]
        assert main(["train", *smaller(words[5:])]) == 0
    elif "resume=FOLDER" in words:
        assert main(["train", *smaller([]), "folder=done"]) == 0
        assert main(["train", "resume=done"]) == 2
        assert "has ended" in capsys.readouterr().err
    elif words[:2] == ["lab", "train"]:
        assert main(["train", *(words[2:] if "--help" in words else smaller(words[2:]))]) == 0
    elif "data.path=verses.jsonl.gz" in words:
        before = {"sweeps/few_labels.yaml": "sweeps/masked_pretraining.yaml"}.get(words[2])
        if before:
            assert main(["sweep", before, *words[3:], *SMALL[:-4]]) == 0
        assert main([*words[1:], *SMALL[:-4], "--plan"]) == 0
    elif words[:2] == ["lab", "sweep"]:
        if "--status" in words:
            assert words[2] == "sweeps/attention.yaml"
            shutil.copytree(request.getfixturevalue("swept"), here / "runs")
            assert main(words[1:]) == 0
            return
        assert main(["sweep", *words[2:], *[w for w in SMALL if not w.startswith("preset")]]) == 0
    elif words[1] in ("show", "parts", "tokens", "experiment"):
        assert main(words[1:]) == 0
    elif words[1] in ("attention", "generate", "routing", "embeddings", "probe"):
        own = {"routing": ["ffn=moe"], "embeddings": ["tokenizer=word"]}.get(words[1], [])
        assert main(["train", *smaller(own), "folder=RUN"]) == 0
        assert main(words[1:]) == 0
    else:
        assert words[:2] == ["lab", "report"]
        if words[2] == "wandb":
            run = wandb.init(dir=here, mode="offline", settings=wandb.Settings(silent=True, console="off"))
            run.log({"accuracy": 0.5})
            run.finish()
        else:
            shutil.copytree(request.getfixturevalue("swept"), here / "runs")
        assert main(words[1:]) == 0
        assert (here / "attention.csv").exists() == ("--table" in words)


def test_python(here):
    first, families, component = blocks("python")
    names = {}
    exec(first.replace('"seed=1"', ", ".join(['"seed=1"', *map(repr, SMALL[1:])])), names)
    assert names["run"].status == "finished"
    assert names["again"].result["val/bpb"] == names["run"].result["val/bpb"]
    exec(families.replace('"logger=none"', ", ".join(map(repr, SMALL[1:]))), names)
    assert next(iter(names["seen"])) == "blocks.0.attention.weights"
    exec("import torch\nfrom torch import Tensor, nn\n" + component, names)
    assert names["Scale"](4)(names["torch"].ones(2, 4)).shape == (2, 4)
