"""Where heads look, against figures counted by hand and the weights themselves."""

import numpy as np
import pytest
import torch

import lab as api
from lab.errors import RequestError
from lab.runs.subject import subject
from lab.runs.translate import targets
from lab.views.attention import Maps, attention, show
from lab.views.attention_page import to_html


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    words = (
        "preset=tiny",
        "tokenizer=byte",
        "budget.steps=1",
        "logger=none",
        "trainer.validations=1",
        "split.max_bytes=9000",
    )
    return api.train(api.compose(*words), tmp_path_factory.mktemp("attention") / "run")


@pytest.fixture(scope="module", params=["encoder_decoder", "bahdanau", "luong", "luong_feeding", "luong_general"])
def translator(request):
    """An encoder-decoder with a stack or a recurrence on each side, untrained."""
    model = (
        "model=encoder_decoder model.decoder_layers=1"
        if request.param == "encoder_decoder"
        else f"model=recurrent_translator alignment={request.param}"
    )
    return subject(f"preset=tiny {model} objective=seq2seq data=reverse model.dim=32 model.context=24")


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
    assert lab("attention", str(run.folder), "abc", "--layer", "1", "--head", "1").out.count("\n") == 4 + 1
    page = tmp_path / "page.html"
    lab("attention", str(run.folder), "</script><b>", "--html", str(page))
    text = page.read_text()
    assert text.count("</script>") == 1
    assert "Entropy: how widely" in text
    assert "induction: to the one" in text
    lab("attention", str(run.folder), "abc", "--html", str(page))
    assert "induction: to the one" not in page.read_text()  # no token repeats


def test_a_map_in_the_terminal_names_its_shades_and_what_its_columns_are(capsys):
    weights = np.array([[[[0.6, 0.3, 0.07, 0.02, 0.01]]]], np.float32)
    show(Maps("cross", ["x"], ["a", "b", "c", "d", "e"], weights, np.arange(5)), 1, 1)
    shown = capsys.readouterr().out.splitlines()[1:]  # after the figures of the one head
    assert shown == [
        "'x' ██▓▓▒▒░░  ",
        "columns: 'a' 'b' 'c' 'd' 'e'",
        "░ over 1%, ▒ over 5%, ▓ over 25%, █ over 50%",
    ]


@pytest.mark.parametrize("words", ["model=decoder", "model=encoder objective=masked"])
def test_within_a_text_the_weights_are_those_of_the_pass_as_it_is_without_looking(words):
    composed = subject(f"preset=tiny {words} tokenizer=byte model.dim=32")
    (found,) = attention(composed, "ab ab")
    assert found.kind == "self"
    assert found.queries == found.keys
    assert np.allclose(found.weights.sum(-1), 1, atol=1e-5)
    ids = torch.from_numpy(found.ids)[None]
    plain = composed.model.vectors(ids)
    with api.record(composed.model, "attention.weights") as seen:
        watched = composed.model.vectors(ids)
    assert (plain - watched).abs().max() <= 1e-5 * plain.abs().max()
    assert np.allclose(found.weights[1], seen["blocks.1.attention.weights"][0].detach())


def test_a_translator_looks_from_what_it_writes_to_its_source(translator):
    text, target = translator.prepared.tokenizer.decode([5, 6, 7]), translator.prepared.tokenizer.decode([8, 9])
    found = {one.kind: one for one in attention(translator, text, target)}
    across = found.get("cross") or found["alignment"]
    begin, end = (translator.tokenizer.spelt(translator.tokenizer.id(role)) for role in ("document", "end"))
    words = [translator.tokenizer.spelt(token) for token in range(10)]
    assert (across.queries, across.keys) == ([*words[8:10], end], [*words[5:8], end])
    source = torch.tensor([[5, 6, 7, translator.tokenizer.id("end")]])
    written = torch.tensor([[translator.tokenizer.document_id, 8, 9]])
    model = translator.model
    if "alignment" in found:
        assert list(found) == ["alignment"]
        assert np.allclose(across.weights[0, 0], model.alignment(source, written)[0].detach(), atol=1e-6)
    else:
        assert {kind: one.weights.shape for kind, one in found.items()} == {
            "encoder": (2, 4, 4, 4),
            "decoder": (1, 4, 3, 3),
            "cross": (1, 4, 3, 4),
        }
        assert found["decoder"].queries == [begin, *words[8:10]]
        assert np.triu(found["decoder"].weights[0, 0], 1).max() == 0 < found["encoder"].weights.min()
        with api.record(model, "cross.weights") as seen:
            model(source, written)
        assert np.allclose(across.weights[0], seen["decoder.blocks.0.cross.weights"][0].detach())
    for one in found.values():
        assert np.allclose(one.weights.sum(-1), 1, atol=1e-5)
    plain = model(source, written)
    with api.record(model, "weights"):
        assert (plain - model(source, written)).abs().max() <= 1e-5 * plain.abs().max()
    assert across.heads[0].previous is across.heads[0].distance is across.heads[0].induction is None


def test_without_a_target_it_is_what_the_model_writes(translator):
    text = translator.prepared.tokenizer.decode([5, 6, 7])
    (written,) = targets(translator, [text])
    across = attention(translator, text)[-1]
    end = translator.tokenizer.id("end")
    assert across.queries == [translator.tokenizer.spelt(token) for token in [*written, end]]
    assert across.weights.shape[-2:] == (len(written) + 1, 4)


def test_the_verb_shows_the_kinds_that_have_what_is_asked_for(lab):
    words = "preset=transformer_2017_pairs model.dim=32 model.layers=2 model.decoder_layers=1 model.inner=32"
    composed = subject(words)
    text = composed.tokenizer.decode([5, 6, 7])
    kinds = [one["kind"] for one in lab("attention", words, text, "--json").json]
    assert kinds == ["encoder", "decoder", "cross"]
    assert [one["kind"] for one in lab("attention", words, text, "--layer", "2", "--json").json] == ["encoder"]
    cross = lab("attention", words, text, "--kind", "cross", "--layer", "1", "--head", "2", "--target", text)
    assert len(cross.out.splitlines()) == 4 + 2
    for extra, message in (
        (("--layer", "3"), "--layer: 3; the model has layers 1 to 2 in encoder"),
        (("--kind", "self"), "--kind: self; this model has encoder, decoder, cross"),
        (("--target", ""), "--target: is empty"),
        (("--kind", "cross", "--layer", "2"), "--layer: 2; the model has layers 1 to 1 in cross"),
    ):
        done = lab("attention", words, text, *extra)
        assert (done.code, message in done.err) == (2, True), done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("model=recurrent", "model=recurrent looks at no tokens; there is no attention to show"),
        ("model=word_vectors objective=skip_gram tokenizer=word", "model=word_vectors looks at no tokens"),
        (
            "model=recurrent_translator alignment=repeated objective=seq2seq data=reverse",
            "knows the source by one vector",
        ),
    ],
)
def test_a_model_without_attention_says_so(words, message):
    with pytest.raises(RequestError, match=message):
        attention(subject(f"preset=tiny {words} model.dim=32"), "a b")


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("settings", [{}, {"NO_COLOR": "1"}])
def test_a_terminal_of_any_width_shows_what_fits_and_says_what_does_not(run, lab, monkeypatch, width, settings):
    for name, value in {"COLUMNS": str(width), **settings}.items():
        monkeypatch.setenv(name, value)
    text = "The quick brown fox jumps over the lazy dog."
    figures = lab("attention", run.folder, text).out
    one = lab("attention", run.folder, text, "--layer", "1", "--head", "1").out
    assert max(map(len, (figures + one).splitlines())) <= width
    assert "\x1b" not in figures + one
    # 45 tokens: two characters each do not fit into 80 columns, one does.
    assert len(one.splitlines()[0].split("' ", 1)[1]) == 45 * (2 if width == 200 else 1)
    long = lab("attention", run.folder, "a" * 63, "--layer", "1", "--head", "1").out
    assert "columns fit" not in long
    monkeypatch.setenv("COLUMNS", "60")
    narrow = lab("attention", run.folder, "a" * 63, "--layer", "1", "--head", "1").out.splitlines()
    assert len(narrow) == 64 + 2
    assert narrow[-1] == "45 of 64 columns fit; a wider terminal or --html shows all"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("abc", "--layer", "3"), "--layer: 3; the model has layers 1 to 2"),
        (("abc", "--layer", "1", "--head", "0"), "--head: 0; the model has heads 1 to 4"),
        (("abc", "--layer", "1", "--head", "1", "--token", "9"), "--token: 9; the text has tokens 1 to 4"),
        (("abc", "--token", "1"), "--token: goes with --layer and --head"),
        (("",), "TEXT: is empty"),
        (("abc", "--target", "x"), "--target: of encoder-decoders"),
        (("a" * 64,), "TEXT: 64 tokens; at most 63, as the model was trained on rows of 64"),
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
