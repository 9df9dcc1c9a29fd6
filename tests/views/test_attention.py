"""Where heads look, against figures counted by hand and the weights themselves."""

import numpy as np
import pytest

import lab as api
from lab.views.attention import Maps, to_html


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    words = ("preset=tiny", "tokenizer=byte", "budget.steps=2", "logger=none", "trainer.validations=1")
    return api.train(api.compose(*words), tmp_path_factory.mktemp("attention") / "run")


def maps(weights, ids):
    words = [str(number) for number in ids]
    return Maps("self", words, words, np.array(weights, np.float32)[None, None], np.array(ids))


def test_figures_of_a_head_that_looks_at_one_token():
    before = maps(np.eye(4, k=-1) + np.diag([1, 0, 0, 0]), [5, 6, 5, 6]).heads[0]
    assert (before.entropy, before.distance, before.first, before.previous) == (0, 0.75, 0.5, 1)
    # The third and the fourth token have been there; what followed them stands at 2 and 3.
    assert before.induction == 1
    spread = maps(np.tril(np.ones((4, 4))) / np.arange(1, 5)[:, None], [1, 2, 3, 4]).heads[0]
    assert spread.entropy == pytest.approx(np.mean(np.log2([1, 2, 3, 4])))
    assert spread.distance == pytest.approx(np.mean([0, 1 / 2, 1, 3 / 2]))
    assert spread.induction is None


def test_the_verb_prints_figures_a_map_and_a_row(run, lab, tmp_path):
    (document,) = lab("attention", str(run.folder), "abcabc", "--json").json
    weights = np.array(document["weights"])
    assert weights.shape == (2, 4, 7, 7)
    assert np.allclose(weights.sum(-1), 1, atol=1e-3)
    assert len(document["heads"]) == 8
    row = lab("attention", str(run.folder), "abcabc", "--layer", "2", "--head", "1", "--token", "3").out
    best = weights[1, 0, 2].argmax()
    assert f"{weights[1, 0, 2, best]:.1%}" in row.splitlines()[1]
    assert lab("attention", str(run.folder), "abc", "--layer", "1", "--head", "1").out.count("\n") == 4
    page = tmp_path / "page.html"
    lab("attention", str(run.folder), "</script><b>", "--html", str(page))
    assert page.read_text().count("</script>") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("abc", "--layer", "3"), "--layer: 3; the model has layers 1 to 2"),
        (("abc", "--layer", "1", "--head", "0"), "--head: 0; the model has heads 1 to 4"),
        (("abc", "--layer", "1", "--head", "1", "--token", "9"), "--token: 9; the text has tokens 1 to 4"),
        (("abc", "--token", "1"), "--token: goes with --layer and --head"),
        (("",), "TEXT: is empty"),
        (("a" * 64,), "TEXT: 65 tokens; the model was trained on rows of 64"),
    ],
)
def test_what_is_not_there_is_said(run, lab, words, message):
    done = lab("attention", str(run.folder), *words)
    assert done.code == 2
    assert message in done.err


def test_a_page_of_many_heads_is_small():
    weights = np.random.default_rng(0).dirichlet(np.ones(128), (12, 12, 128)).astype(np.float32)
    words = ["word"] * 128
    page = to_html([Maps("self", words, words, weights, np.arange(128))], "Attention")
    assert len(page.encode()) < 5 * 2**20
