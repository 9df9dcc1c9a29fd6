"""What verbs look into: a run's folder, or a composition that never ran."""

import pytest
import torch

import lab as api
from lab.errors import RequestError
from lab.runs.folder import Run
from lab.runs.subject import Untrained, subject


def test_a_folder_is_the_run_and_words_are_what_the_run_would_begin_with(small, tmp_path):
    run = api.train(api.compose(*small, "budget.steps=0"), tmp_path / "seed=0")  # a folder may have = in its name
    opened = subject(run.folder)
    assert type(opened) is Run
    assert opened.status == "finished"
    composed = subject(" ".join([*small, "budget.steps=0"]))
    assert isinstance(composed, Untrained)
    assert composed.status == "untrained"
    assert composed.config.model.dim == 32
    assert composed.tokenizer.inner.get_vocab() == opened.tokenizer.inner.get_vocab()
    for name, weight in opened.model.state_dict().items():
        torch.testing.assert_close(composed.weights[name], weight, rtol=0, atol=0)
    assert not composed.model.training


def test_words_that_start_from_a_run_have_its_weights(small, tmp_path):
    run = api.train(api.compose(*small), tmp_path / "run")
    begun = subject(" ".join([*small, f"start={run.folder}"]))
    assert torch.equal(begun.weights["embedding.table.weight"], run.weights["embedding.table.weight"])


def test_a_task_brings_its_own_tokenizer():
    made = subject("preset=tiny objective=recall data=multi_recall")
    assert made.model.vocab_size == made.tokenizer.vocab_size


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nowhere", "nowhere: no run there"),
        ("preset=nothing", "preset"),
        ("preset=tiny nonsense=1", "nonsense"),
        ("name='open", "RUN: name='open; no closing quotation"),
        ("preset=llama31_405b", r"GiB of weights, and this machine has .*`lab show` describes"),
    ],
)
def test_what_is_neither_is_said(words, message):
    with pytest.raises(RequestError, match=message):
        subject(words).model  # noqa: B018, made when asked for


def test_generate_takes_a_composition(lab):
    words = "preset=tiny tokenizer=byte model.dim=32"
    done = lab("generate", words, "Hello", "--tokens", "4", "--json")
    assert done.code == 0, done.err
    assert done.json["answers"][0]["tokens"] == 4
