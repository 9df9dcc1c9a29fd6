"""Small published models, made here: transformers writes them, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("transformers")


@pytest.fixture(scope="session")
def llama(tmp_path_factory) -> Path:
    """A folder with a Llama in one file."""
    from lab.huggingface.family import families
    from lab.huggingface.parity import published

    folder = tmp_path_factory.mktemp("published") / "llama"
    published(families()["llama"].fields("grouped heads"), "llama", folder)
    return folder


@pytest.fixture
def copied(llama, tmp_path):
    """A copy of it that may be spoilt: called with fields for its `config.json`."""
    import shutil

    def make(**fields) -> Path:
        folder = tmp_path / "published"
        shutil.copytree(llama, folder)
        config = json.loads((folder / "config.json").read_text()) | fields
        (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v != "gone"}))
        return folder

    return make
