"""What W&B gets to see of a model while it trains, read back by its own reader."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

import lab as api
from lab.errors import RequestError


def history(run):
    """What was logged, by step."""
    (log,) = Path(run.result["wandb"]).glob("*.wandb")
    command = [Path(sys.executable).parent / "wandb", "leet", "inspect", log, "--json"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    items = [json.loads(line)["history"]["item"] for line in lines if '"type":"history"' in line]
    return {item["_step"]: item for item in items}


def logged(run, item, key):
    """A file that a step holds, as text."""
    return (Path(run.result["wandb"]) / "files" / item[f"{key}.path"]).read_text()


@pytest.fixture
def train(small, tmp_path):
    def made(name, *words):
        other = ("data=", "data.") if "data=reverse" in words else ("data=none",)
        kept = [word for word in small if word != "logger=none" and not word.startswith(other)]
        words = [*kept, "logger.mode=offline", *words]
        run = api.train(api.compose(*words), tmp_path / name)
        assert run.status == "finished", run.result["error"]
        return run

    return made


def test_pictures_come_at_their_steps_and_change_nothing(train):
    words = (
        "ffn=moe",
        "model.inner=32",
        "ffn.experts=4",
        "budget.steps=5",
        "trainer.log_every=1",
        "batch.accumulate=2",
    )
    run = train("on", *words, "logger.pictures_every=2")
    steps = history(run)
    assert list(steps) == [1, 2, 3, 4, 5, 6]
    assert [step for step, item in steps.items() if "samples/text.path" in item] == [2, 4, 6]
    assert steps[2]["train/loss"] > 0  # one line with what was measured there
    assert (steps[4]["tokens"], steps[6]["tokens"]) == (4 * 128, 5 * 128)
    page = logged(run, steps[2], "attention/maps")
    assert "2 layers of 4 heads" in page
    assert "Layer by layer" in logged(run, steps[2], "routing/page")
    load = json.loads(logged(run, steps[2], "routing/load"))
    assert load["columns"] == ["layer", "expert", "load"]
    assert sum(share for layer, _, share in load["data"] if layer == "1") == pytest.approx(1)
    assert steps[2]["routing/layer 1/kind_bits"] >= 0
    heads = json.loads(logged(run, steps[2], "attention/heads"))
    assert len(heads["data"]) == 8
    samples = json.loads(logged(run, steps[6], "samples/text"))
    assert samples["columns"] == ["given", "written", "stands there"]
    given, written, truth = samples["data"][0]
    assert given.startswith("Document ")
    (answer,) = api.generate(run.model, [[run.tokenizer.document_id, *run.tokenizer.encode([given])[0]]], 16, stop=0)
    assert written == run.tokenizer.decode(answer)
    assert any((given + truth).strip() in line for line in Path(run.config.data.path).read_text().splitlines())

    off = train("off", *words)
    assert not [item for item in history(off).values() if "samples/text.path" in item]
    assert not (Path(off.result["wandb"]) / "files" / "media").exists()
    for key in ("val/loss", "train/loss", "flops", "tokens_seen"):
        assert off.result[key] == run.result[key]


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (
            ("model=recurrent_translator", "alignment=bahdanau", "objective=seq2seq", "data=reverse", "tokenizer=word",
             "model.context=64"),
            {"attention", "samples"},
        ),
        (
            ("model=encoder_decoder", "objective=seq2seq", "data=reverse", "tokenizer=word", "model.context=64"),
            {"attention", "samples"},
        ),
        (("model=encoder", "objective=masked"), {"attention"}),
        (("model=recurrent",), {"samples"}),
        (("model=word_vectors", "objective=skip_gram", "tokenizer=word"), set()),
    ],
)  # fmt: skip
def test_every_family_shows_what_it_has(train, words, keys):
    run = train("run", *words, "budget.steps=2", "logger.pictures_every=2")
    (last,) = [item for step, item in history(run).items() if step == 2]
    found = {key.partition("/")[0] for key in last if "/" in key and not key.startswith(("train", "val"))}
    assert found & {"attention", "samples", "routing"} == keys
    assert ("pictures/seconds" in last) is bool(keys)
    if "samples" in keys:
        assert len(json.loads(logged(run, last, "samples/text"))["data"]) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("logger.pictures_every=0",), "logger.pictures_every: 0; a whole number, at least 1"),
        (("logger.pictures_every=5", "trainer=fsdp"), "logger.pictures_every: of a model that is whole on a device"),
    ],
)
def test_what_cannot_be_is_refused(words, message):
    with pytest.raises(RequestError, match=message):
        api.compose("preset=tiny", *words)


@pytest.mark.long
def test_of_two_ranks_the_first_one_draws_and_none_counts_the_time(train):
    run = train("ddp", "budget.steps=4", "logger.pictures_every=2", "trainer=ddp", "trainer.devices=2")
    drawn = {step: item for step, item in history(run).items() if "samples/text.path" in item}
    assert list(drawn) == [2, 4]
    assert len(list((run.folder / "wandb").glob("offline-run-*"))) == 1
    with (run.folder / "metrics.csv").open() as file:
        *_, last = csv.DictReader(file)
    assert float(last["seconds"]) < run.result["seconds"] - sum(item["pictures/seconds"] for item in drawn.values())
