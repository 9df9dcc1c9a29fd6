"""Neighbours, planes, senses and files of vectors, against NumPy's own arithmetic and the files read again."""

import json
import re
import shutil
import subprocess
import sys
from importlib import resources

import numpy as np
import pyarrow.parquet
import pytest

import lab as api
from lab.errors import RequestError
from lab.views.embeddings import (
    Named,
    Plane,
    near,
    plane,
    read,
    senses,
    to_parquet,
    to_projector,
    vocabulary,
    words_or_texts,
)
from lab.views.embeddings_page import to_html
from lab.views.embeddings_text import show_plane

BROWSER = """
const created = () => ({
  parts: [], append(part) { this.parts.push(part); }, get lastChild() { return this.parts.at(-1); },
  values: {}, setAttribute(key, value) { this.values[key] = value; },
  classes: {}, get classList() { return { toggle: (name, on) => { this.classes[name] = on; } }; },
  clientWidth: 600, getComputedTextLength() { return 8 * this.textContent.length; },
  getBoundingClientRect: () => ({ width: 600, height: 600, left: 0, top: 0 }),
});
const known = {};
globalThis.document = { getElementById: (id) => (known[id] ??= created()), createElementNS: created };
globalThis.addEventListener = () => {};
"""
"""A window of 600 pixels, as far as the script of the page asks, in which a letter takes 8."""
TOLD = "console.log(JSON.stringify(points.map((one) => one.classes.crowded ? null : one.lastChild.values.x)))"
"""Where each name begins beside its dot; null for one without room."""
TEXTS = ["Document 7 says that", "the square of 49", "Document 9 says that", "Document"]


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    """A decoder of words."""
    words = [word for word in small if not word.startswith("tokenizer")]
    config = api.compose(*words, "tokenizer=word", "tokenizer.vocab_size=60", "budget.steps=1")
    return api.train(config, tmp_path_factory.mktemp("embeddings") / "run")


@pytest.fixture(scope="module")
def corners():
    """Twelve points in two heaps of eight dimensions."""
    random = np.random.default_rng(0)
    heaps = np.repeat(5 * np.eye(8)[:2], 6, axis=0) + 0.1 * random.normal(size=(12, 8))
    return Named([f"{heap}{n}" for heap in "ab" for n in range(6)], heaps.astype(np.float32), "texts")


def test_words_are_near_by_the_table_and_texts_by_what_the_model_gives(run):
    table = run.model.embedding.table.weight.detach().numpy()
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    index = run.tokenizer.inner.get_vocab()
    ((word, cosine), *_) = near(run, ["square"], 3)["square"]
    others = {w: float(unit[index["square"]] @ unit[i]) for w, i in index.items() if w not in run.tokenizer.specials}
    del others["square"]
    assert (word, cosine) == (max(others, key=others.get), pytest.approx(max(others.values()), abs=1e-6))

    found = near(run, [TEXTS[0]], 2, TEXTS)[TEXTS[0]]
    rows = api.embed(run, TEXTS).astype(float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = {text: float(rows[0] @ row) for text, row in zip(TEXTS[1:], rows[1:], strict=True)}
    assert [text for text, _ in found] == sorted(cosines, key=lambda text: -cosines[text])[:2]
    assert dict(found) == pytest.approx({text: cosines[text] for text, _ in found}, abs=1e-5)


def test_a_words_senses_are_the_cosines_of_its_vectors(run):
    texts = ["Document 7 says", "the square says"]
    first, second = (api.word_in(run, text, "says").astype(float) for text in texts)
    found = senses(run, "says", texts)
    expected = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert found.cosines == pytest.approx(np.array([[1, expected], [expected, 1]]), abs=1e-5)


def test_principal_components_are_those_of_the_decomposition(corners):
    found = plane(corners)
    centred = corners.vectors - corners.vectors.mean(0)
    left, values, _ = np.linalg.svd(centred.astype(float), full_matrices=False)
    assert np.abs(found.points) == pytest.approx(np.abs(left[:, :2] * values[:2]), abs=1e-4)
    assert found.kept == pytest.approx((values[:2] ** 2).sum() / (values**2).sum(), abs=1e-5)


def test_no_name_touches_the_dot_of_another(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    points = np.array([[0, 0], [6, 0], [39, 1.0]])  # the second is where the name of the first has ended
    show_plane(Plane(["first", "b", "c"], points, "pca", None, [[], [], []]))
    assert "·first·" not in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("node") is None, reason="runs the page's script by node")
def test_no_name_of_the_page_touches_the_dot_of_another():
    """To the right of its own the name of the first would cover the second, to the left there is room."""
    points = [("a name", 0.5, 0.5), ("b", 0.53, 0.5), ("c", 0.0, 0.0), ("d", 1.0, 1.0)]
    data = json.dumps({"points": points, "neighbours": [[]] * 4})
    script = (resources.files("lab.views") / "embeddings.js").read_text("utf-8")
    page = f"const DATA = {data};{BROWSER}{script};{TOLD}"
    placed = subprocess.run(["node", "-"], input=page, capture_output=True, text=True, check=True)
    assert json.loads(placed.stdout) == [-7 - 6 * 8, 7, 7, 7]


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_a_plane_keeps_heaps_apart_and_is_always_the_same(corners, method):
    found = plane(corners, method)
    assert np.array_equal(found.points, plane(corners, method).points)
    heaps = found.points[:6], found.points[6:]
    apart = np.linalg.norm(heaps[0].mean(0) - heaps[1].mean(0))
    assert apart > 2 * max(np.linalg.norm(heap - heap.mean(0), axis=1).max() for heap in heaps)
    for number, neighbours in enumerate(found.neighbours):
        assert {other // 6 for other, _ in neighbours[:5]} == {number // 6}
        assert number not in [other for other, _ in neighbours]


def test_words_of_the_table_are_taken_from_it_and_others_are_read(run):
    table = run.model.embedding.table.weight.detach().numpy()
    index = run.tokenizer.inner.get_vocab()
    found = words_or_texts(run, ["square", "says", "Document"])
    assert found.kind == "tokens"
    assert np.array_equal(found.vectors, table[[index["square"], index["says"], index["Document"]]])
    texts = words_or_texts(run, ["square", "the square", "Document"])
    assert texts.kind == "texts"
    assert np.array_equal(texts.vectors, api.embed(run, ["square", "the square", "Document"]))


def test_files_hold_the_vectors_and_their_names(run, tmp_path):
    named = vocabulary(run)
    assert len(named.names) == run.tokenizer.vocab_size - len(run.tokenizer.specials)
    to_projector(named, tmp_path / "projector")
    assert np.loadtxt(tmp_path / "projector/vectors.tsv", delimiter="\t") == pytest.approx(named.vectors, rel=1e-5)
    assert (tmp_path / "projector/metadata.tsv").read_text().splitlines() == named.names
    texts = read(run, TEXTS)
    to_parquet(texts, tmp_path / "vectors.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "vectors.parquet")
    assert table["text"].to_pylist() == TEXTS
    assert np.array_equal(np.array(table["vector"].to_pylist(), np.float32), texts.vectors)


def test_names_that_would_break_the_projectors_table_do_not(tmp_path):
    to_projector(Named(["a\tb", "\n", " "], np.zeros((3, 2)), "tokens"), tmp_path)
    assert (tmp_path / "metadata.tsv").read_text().splitlines() == ["a\\x09b", "\\x0a", "' '"]


def test_umap_is_asked_for_by_name_where_it_is_not_there(corners, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(RequestError, match=r"--method: umap; needs umap-learn, which is not installed"):
        plane(corners, "umap")


def test_the_verb_prints_writes_and_answers(lab, run, tmp_path, monkeypatch):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    asked = [
        *("--near", "square", "says"), *("--plane", "square", "says", "Document"),
        *("--word", "says", "--in", "Document 7 says", "--in", "square says"),
        *("--analogy", "square", "says", "Document"),
    ]  # fmt: skip
    for columns in ("80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        printed = lab("embeddings", run.folder, *asked).out
        assert max(map(len, printed.splitlines())) <= int(columns)
        assert "\x1b" not in printed
        assert "·Document" in printed
    answer = lab("embeddings", run.folder, *asked, "--json", "--html", "page.html", "--parquet", "v.parquet").json
    assert set(answer) == {"near", "plane", "senses", "written"}
    assert list(answer["near"]) == ["square", "says", "says - square + Document"]
    assert [point["name"] for point in answer["plane"]["points"]] == ["square", "says", "Document"]
    page = (tmp_path / "page.html").read_text()
    assert not re.search(r"(src|href)=", page)
    data = json.loads(re.search(r"const DATA = (.*);\n", page)[1])
    assert [name for name, _, _ in data["points"]] == ["square", "says", "Document"]
    (tmp_path / "texts.txt").write_bytes(
        "\ufeff".encode() + "\r\n".join([*TEXTS[:-1], ""]).encode() + TEXTS[-1].encode()
    )
    texts = lab("embeddings", run.folder, "--plane", "--among", "texts.txt", "--tensorboard", "tb", "--json").json
    assert [point["name"] for point in texts["plane"]["points"]] == TEXTS
    assert texts["written"] == ["tb/vectors.tsv", "tb/metadata.tsv"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "what to show: one of --near, --analogy, --plane, --word, --tensorboard, --parquet"),
        (["--near", "squre"], "'squre': not a word of this vocabulary"),
        (["--near", " "], "' ': not a word of this vocabulary"),
        (["--near", "square", "-k", "0"], "-k: 0; how many neighbours, 1 or more"),
        (["--near", "square", "--among", "nowhere.txt"], "--among: nowhere.txt: "),
        (["--near", "", "--among", "texts.txt"], "texts: '' gives no token"),
        (["--near", "square", "--among", "empty.txt"], "--among: empty.txt holds no text; one a line is read"),
        (["--plane"], "--plane: the words to lay on a plane, or --among FILE for texts"),
        (["--plane", "square", "says"], "--plane: 2 points; a plane takes 3 or more"),
        (["--plane", "square", "says", "square"], "--plane: 'square' twice; each once"),
        (["--plane", "square", "--method", "dance"], "argument --method: invalid choice: 'dance'"),
        (["--word", "says"], "--word, --in: go together"),
        (["--word", "says", "--in", "Document says"], "--in: 1 text with 'says'; 2 or more are compared"),
        (["--word", "says", "--in", "Document", "--in", "says"], "--word: 'says' does not stand in 'Document' as"),
        (["--word", "Doc", "--in", "Document", "--in", "Doc"], "--word: the run's tokenizer has no token for 'Doc'"),
        (["--near", "square", "--method", "tsne"], "--method: of a --plane"),
        (["--plane", "square", "--among", "texts.txt"], "--among: texts for --near"),
        (["--tensorboard", "there", "--html", "page.html"], "--html: a page of what is shown"),
        (["--near", "square", "--parquet", "."], "--parquet: . cannot be written"),
        (["--parquet", "nowhere/v.parquet"], "--parquet: nowhere/v.parquet cannot be written"),
    ],
)
def test_wrong_input_gets_one_line(lab, run, tmp_path, arguments, complaint):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    (tmp_path / "empty.txt").write_text("\n\n")
    ended = lab("embeddings", run.folder, *arguments)
    assert ended.code == 2
    assert ended.err.startswith(f"lab embeddings: {complaint}")
    assert ended.err.count("\n") == 1


def test_a_bag_of_words_has_vectors_of_texts_and_none_of_words(run):
    from types import SimpleNamespace

    from omegaconf import OmegaConf

    from lab.models.bag_of_words import BagOfWords

    model = BagOfWords(run.tokenizer.vocab_size, 32).eval()
    bag = SimpleNamespace(
        outline=model,
        model=model,
        tokenizer=run.tokenizer,
        folder="bag",
        config=OmegaConf.create({"choices": {"model": "bag_of_words"}}),
    )
    with pytest.raises(RequestError, match="bag: model=bag_of_words has no table of embeddings"):
        near(bag, ["square"], 3)
    found = near(bag, ["Document 7 says that"], 3, TEXTS)["Document 7 says that"]
    assert found[0][0] == "Document 9 says that"
    assert len(plane(read(bag, TEXTS)).points) == 4


def test_a_name_neither_ends_the_script_nor_begins_a_comment(corners):
    odd = Named(["<!-- note", "a <script> here", "</script>", *corners.names[3:]], corners.vectors, corners.kind)
    html = to_html("t", None, None, plane(odd))
    script = html.partition("const DATA = ")[2]
    data = script.partition(";\n")[0]
    assert not set("<>&") & set(data)
    assert [name for name, _, _ in json.loads(data)["points"]] == odd.names


def test_what_no_token_stands_for_has_no_neighbours(lab, tmp_path):
    """A vocabulary of symbols has a token for all that it does not know."""
    (tmp_path / "texts.txt").write_text("s1 s2\ns2 s3\n")
    words = "preset=translate_transformer data=reverse model.dim=32"
    for asked, message in (
        (("--near", "zzz"), "'zzz': not a word of this vocabulary"),
        (("--near", "zzz yyy", "--among", "texts.txt"), "--near: the run's tokenizer has no token for 'zzz', 'yyy'"),
        (("--word", "a", "--in", "a b", "--in", "b a"), "--word: the run's tokenizer has no token for 'a'"),
        (("--plane", "s1", "s2", "zzz"), "--plane: the run's tokenizer has no token for 'zzz'"),
    ):
        refused = lab("embeddings", words, *asked)
        assert (refused.code, refused.out) == (2, "")
        assert message in refused.err
    found = lab("embeddings", words, "--near", "s1 zzz", "--among", "texts.txt")
    assert found.code == 0
    assert "'zzz', which count as the unknown token" in found.err
    found = lab("embeddings", words, "--near", "s1", "-k", "10000", "--json").json
    assert "?" not in {one["text"] for one in found["near"]["s1"]}
