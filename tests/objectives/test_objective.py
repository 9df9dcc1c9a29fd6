"""What all objectives share: what a batch reads, and what their measures ask."""

from __future__ import annotations

import pytest
import yaml

import lab
from lab.config import trusted
from lab.options import conf_folder
from lab.runs.train import data_module

OBJECTIVES = sorted((conf_folder() / "objective").glob("*.yaml"))


@pytest.mark.parametrize("path", OBJECTIVES, ids=lambda path: path.stem)
def test_what_a_measure_asks_depends_on_keys_that_there_are(path):
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    objective = trusted("objective._target_", values["_target_"])
    known = {"tokenizer", "cut", "batch.rows", "batch.accumulate", "trainer.devices", "trainer.nodes"}
    known |= {f"objective.{key}" for key in values}
    for measure, keys in objective.asks.items():
        assert measure.startswith("val/")
        assert set(keys) <= known


@pytest.mark.parametrize(
    "words",
    ["preset=tiny", "preset=bert_tiny", "preset=bert_tiny objective=masked_nsp model.pooler=true", "preset=t5_1_1"],
)
@pytest.mark.parametrize("packing", ["documents", "padded", "stream"])
def test_the_parts_of_a_step_read_all_of_it(corpus, words, packing):
    """So that the losses of experts are weighed by the tokens that met them."""
    common = ["data=files", f"data.path={corpus}", "tokenizer=byte", "model.context=64", "batch.rows=8", "logger=none"]
    config = lab.compose(*words.split(), *common, f"packing={packing}", "batch.accumulate=2")
    data = data_module(config)
    objective = trusted("objective._target_", config.objective._target_)
    for step in range(3):
        parts = [data.training_batch(2 * step + part) for part in range(2)]
        assert sum(objective.tokens_read(None, part) for part in parts) == parts[0].read == parts[1].read
