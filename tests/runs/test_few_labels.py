"""Masked pre-training and what it is worth where labels are few: the two sweeps fit together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lab.runs.sweep import sweep
from lab.runs.sweep.file import read_sweep

SWEEPS = Path(__file__).parents[2] / "sweeps"
BOOKS = ("Genesis", "Ruth", "Jonah", "Mark", "Philippians", "Jude")
SMALL = (
    "model.dim=16",
    "model.layers=1",
    "model.inner=16",
    "trainer.threads=1",
    "trainer.validations=1",
    "logger=none",
)


@pytest.fixture
def verses(tmp_path, monkeypatch):
    """Verses of six books, in an empty folder where the sweeps run."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {
            "testament": "ot" if number < 3 else "nt",
            "book": book,
            "en": f"{book} says {n * n} times that {n} is {number}.",
        }
        for number, book in enumerate(BOOKS)
        for n in range(60)
    ]
    path = tmp_path / "verses.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def shortened(name, folder):
    """A sweep file with two values of what it varies most."""
    content = yaml.safe_load((SWEEPS / f"{name}.yaml").read_text())
    content["parameters"]["seed"]["values"] = [0, 1]
    if "data.per_label" in content["parameters"]:
        content["parameters"]["data.per_label"]["values"] = [8]
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.mark.parametrize("kind", ["", "_long"], ids=["short", "long"])
def test_each_classifier_starts_from_the_encoder_of_its_seed(verses, tmp_path, kind):
    words = [f"data.path={verses}", *SMALL, "tokenizer.vocab_size=120", "batch.rows=4"]
    before = sweep(shortened(f"masked_pretraining{kind}", tmp_path), [*words, "budget.steps=2", "budget.tokens=null"])
    after = sweep(shortened(f"few_labels{kind}", tmp_path), [*words, "budget.steps=2"])
    assert [p.status for p in (*before.planned, *after.planned)] == ["finished"] * (2 + 4)
    results = [json.loads((p.folder / "result.json").read_text()) for p in after.planned]
    for planned, result in zip(after.planned, results, strict=True):
        pretrained = planned.config.choices.preset.endswith("_pretrained")
        assert (result["start"] is not None) == pretrained
        if pretrained:
            assert json.loads((Path(result["start"]) / "result.json").read_text())["seed"] == result["seed"]
    assert len({result["data_fingerprint"] for result in results}) == 1


@pytest.mark.parametrize("kind", ["", "_long"], ids=["short", "long"])
def test_pre_training_reads_none_of_the_judged_books(kind):
    held = [
        read_sweep(SWEEPS / f"{name}{kind}.yaml").parameters["split.holdout"]
        for name in ("masked_pretraining", "few_labels")
    ]
    assert held[0].points() == held[1].points() == [["Ruth", "Jonah", "Philippians", "Jude"]]
