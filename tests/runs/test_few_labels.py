"""Masked pre-training and what it is worth where labels are few: the two sweeps fit together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import lab
from lab.runs.sweep import sweep
from lab.runs.sweep.file import read_sweep

SWEEPS = Path(__file__).parents[2] / "sweeps"
OLD = ("Genesis", "Ruth", "Psalms", "Proverbs", "Jeremiah", "Jonah")
NEW = ("Matthew", "Mark", "John", "Romans", "Philippians", "Jude")
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
    """Verses of twelve books, in an empty folder where the sweeps run."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {
            "testament": "ot" if book in OLD else "nt",
            "book": book,
            "en": f"{book} says {n * n} times that {n} is {number}.",
        }
        for number, book in enumerate(OLD + NEW)
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


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("masked_pretraining", "few_labels"),
        ("masked_pretraining_long", "few_labels_long"),
        ("masked_pretraining_long", "search_contrastive_long"),
        ("search_word_vectors", "few_labels_words"),
        ("search_word_vectors", "search"),
        ("search_word_vectors_long", "search_long"),
        ("search_masked", "search"),
        ("search_masked", "search_contrastive"),
        ("search_contrastive", "search_rank"),
    ],
)
def test_what_comes_first_reads_none_of_the_books_that_are_judged(first, then):
    held = [set(read_sweep(SWEEPS / f"{name}.yaml").parameters["split.holdout"].points()[0]) for name in (first, then)]
    assert held[1]
    assert held[0] >= held[1]


def test_what_search_long_judges_was_trained_by_the_sweeps_that_it_names():
    """Its contenders train no further: each stands in the folder of a sweep that there is, with a run for every seed."""
    search = read_sweep(SWEEPS / "search_long.yaml")
    for preset in search.parameters["preset"].points()[1:]:
        config = lab.compose(f"preset={preset}", "objective=contrastive", "data=pairs", "data.path=x", "data.source=a")
        assert config.budget.steps == 0
        assert config.start.startswith("runs/")
        name = Path(config.start).name
        first = read_sweep(SWEEPS / f"{name}.yaml")
        assert name in (SWEEPS / "search_long.yaml").read_text()
        assert set(first.parameters["seed"].points()) >= set(search.parameters["seed"].points())
