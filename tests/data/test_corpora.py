"""What corpora give, and what they say when they can't."""

from __future__ import annotations

import ast
import gzip
import inspect
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from lab.data.corpora import Files, HuggingFace, PythonDocs, Stdlib, digest
from lab.errors import RequestError

ROWS = [
    {"title": "a", "text": 'first, "quoted"\nline é'},
    {"title": "b", "text": "   "},
    {"title": "c", "text": "second"},
]
TEXTS = ['first, "quoted"\nline é', "second"]


def write(path: Path, rows: list[dict]) -> Path:
    """The rows in the format that the name says."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    if kind == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    elif kind == "json":
        text = json.dumps(rows, indent=1)
    else:
        import csv
        import io

        file = io.StringIO()
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
        text = file.getvalue()
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


NAMES = ["a.jsonl", "a.jsonl.gz", "a.json", "a.json.gz", "a.csv", "a.csv.gz", "a.parquet"]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_same_documents(tmp_path, name):
    path = write(tmp_path / name, ROWS)
    assert [text.replace("\r\n", "\n") for text in Files(str(path)).documents()] == TEXTS
    assert list(Files(str(path), field="title").documents()) == ["a", "b", "c"]


def test_a_text_file_is_one_document_to_the_byte(tmp_path):
    data = "\ttabs, Windows\r\nlines and \U0001f600 \x00\n".encode()
    (tmp_path / "a.txt").write_bytes(data)
    (tmp_path / "b.unknown.gz").write_bytes(gzip.compress(data))
    (tmp_path / "c.txt").write_bytes(b"\xef\xbb\xbf" + data)
    for name in ("a.txt", "b.unknown.gz", "c.txt"):
        assert [text.encode() for text in Files(str(tmp_path / name)).documents()] == [data]


def test_folders_globs_and_lists(tmp_path, monkeypatch):
    (tmp_path / "texts" / "deep").mkdir(parents=True)
    for name, text in {
        "b.txt": "bee",
        "a.md": "ay",
        "deep/c.txt": "sea",
        ".hidden.txt": "no",
        "e.png": "no",
    }.items():
        (tmp_path / "texts" / name).write_text(text)
    (tmp_path / "texts" / "empty.py").write_text("")
    monkeypatch.chdir(tmp_path)
    assert list(Files("texts").documents()) == ["ay", "bee", "sea"]
    assert list(Files("texts/**/*.txt").documents()) == ["bee", "sea"]
    assert list(Files(["texts/b.txt", "texts/a.md"]).documents()) == ["bee", "ay"]


def test_the_fingerprint_is_of_the_content_not_the_place(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = write(tmp_path / "one" / "x.jsonl", ROWS), write(tmp_path / "two" / "y.jsonl", ROWS)
    same = Files(str(one)).fingerprint()
    assert Files(str(two)).fingerprint() == same
    assert Files(str(tmp_path / "two")).fingerprint() == same
    assert Files(str(two), field="title").fingerprint() != same
    write(two, ROWS[:2])
    assert Files(str(two)).fingerprint() != same


def broken(tmp_path: Path) -> dict[str, tuple[str, str]]:
    """Wrong input: the path, and what the message says."""
    good = json.dumps({"text": "x"}) + "\n"
    files = {
        "empty.txt": (b"", "is empty"),
        "blank.txt": (b" \n\t", "no text"),
        "latin.txt": ("déjà".encode("latin-1"), r"latin.txt: not UTF-8 at byte 1 \(0xe9\)"),
        "latin.jsonl": (good.encode() + b'{"text": "\xff"}\n', r"latin.jsonl: not UTF-8 at byte 24 \(0xff\)"),
        "cut.jsonl": (good.encode() + b'{"text": \n', "cut.jsonl, line 2: broken JSON"),
        "list.jsonl": (b"[1]\n", "list.jsonl, line 1: a row is an object"),
        "number.jsonl": (b'{"text": 3}\n', "number.jsonl, line 1 holds int, text is needed"),
        "half.jsonl": (b'{"text": "\\ud800"}\n', "half a surrogate pair"),
        "fields.jsonl": (
            b'{"body": "x", "title": "y"}\n',
            "data.field='text'.*the fields there: body, title",
        ),
        "fields.csv": (b"body,title\nx,y\n", "data.field='text'.*the fields there: body, title"),
        "short.csv": (b"text,title\nx\n", "short.csv, line 2: 1 columns, the header has 2"),
        "quote.csv": (b'text\n"x\n', "quote.csv, line 2: broken CSV"),
        "bad.parquet": (b"PAR1 nonsense", "bad.parquet: the Parquet data is damaged"),
        "bad.txt.gz": (b"no gzip at all", "bad.txt.gz: the gzip data is damaged"),
        "cut.txt.gz": (gzip.compress(b"x" * 999)[:-12], "cut.txt.gz: the gzip data is damaged"),
    }
    for name, (data, _) in files.items():
        (tmp_path / name).write_bytes(data)
    parquet.write_table(pyarrow.table({"body": ["x"]}), tmp_path / "fields.parquet")
    parquet.write_table(pyarrow.table({"text": [1]}), tmp_path / "number.parquet")
    (tmp_path / "none").mkdir()
    return {name: (str(tmp_path / name), message) for name, (_, message) in files.items()} | {
        "missing": (str(tmp_path / "missing.txt"), "missing.txt: no such file"),
        "glob": (str(tmp_path / "*.nothing"), "no such file"),
        "folder": (str(tmp_path / "none"), "no text, JSON, CSV or Parquet file"),
        "fields.parquet": (str(tmp_path / "fields.parquet"), "data.field='text'.*the fields there: body"),
        "number.parquet": (str(tmp_path / "number.parquet"), "row 1 holds int"),
    }


def test_wrong_files_are_named_with_what_is_wrong(tmp_path):
    for path, message in broken(tmp_path).values():
        with pytest.raises(RequestError, match=message) as raised:
            list(Files(path).documents())
        assert "\n" not in str(raised.value)


def test_files_need_a_path():
    with pytest.raises(RequestError, match=r"data.path: needs a file"):
        Files(None)


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "secret.txt"
    path.write_text("x")
    path.chmod(0)
    with pytest.raises(RequestError, match=r"secret.txt: can't be read"):
        list(Files(str(path)).documents())


@pytest.fixture(scope="module")
def docs() -> tuple[PythonDocs, list[str]]:
    corpus = PythonDocs()
    return corpus, list(corpus.documents())


def test_the_python_docs_are_the_same_in_another_process(docs):
    corpus, documents = docs
    code = "from lab.data.corpora import *; p = PythonDocs(); print(p.fingerprint(), digest(*p.documents()))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.split() == [corpus.fingerprint(), digest(*documents)]


def test_the_python_docs_are_prose_without_repetition(docs):
    _, documents = docs
    assert len(documents) > 2000
    assert len(set(documents)) == len(documents)
    assert min(map(len, documents)) >= 80
    assert inspect.cleandoc(textwrap.__doc__ or "") not in documents  # under 80 characters
    assert inspect.getdoc(ast.literal_eval) in documents
    assert inspect.getdoc(textwrap.TextWrapper) in documents
    assert sum(len(text.encode()) for text in documents) > 10**6


def test_the_standard_library_is_whole_files():
    documents = list(Stdlib().documents())
    assert Path(textwrap.__file__).read_text(encoding="utf-8") in documents
    assert Path(pytest.__file__).read_text(encoding="utf-8") not in documents


@pytest.fixture
def rows(tmp_path) -> str:
    lines = [" = A = \n", "one\n", " = = Part = = \n", "two\n", " = B = \n", "three\n"]
    return str(write(tmp_path / "rows.jsonl", [{"text": line} for line in lines]))


@pytest.fixture
def _hugging_face_here(tmp_path, monkeypatch):
    """Hugging Face's own cache in the test's folder, and no network."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.mark.usefixtures("_hugging_face_here")
def test_datasets_of_local_files_streamed_or_not(rows):
    for streaming in (True, False):
        corpus = HuggingFace("json", data_files=rows, streaming=streaming)
        assert len(list(corpus.documents())) == 6
    assert list(HuggingFace("json", data_files=rows, max_documents=2).documents()) == [" = A = \n", "one\n"]
    articles = HuggingFace("json", data_files=rows, begins=r"^ = [^=].* = \n?$")
    assert list(articles.documents()) == [" = A = \none\n = = Part = = \ntwo\n", " = B = \nthree\n"]
    assert len({corpus.fingerprint() for corpus in (corpus, articles)}) == 2


@pytest.mark.usefixtures("_hugging_face_here")
def test_datasets_saved_to_disk(tmp_path):
    from datasets import Dataset, DatasetDict

    data = Dataset.from_dict({"text": ["a", "b"]})
    data.save_to_disk(tmp_path / "plain")
    DatasetDict({"train": data}).save_to_disk(tmp_path / "split")
    for name in ("plain", "split"):
        corpus = HuggingFace(str(tmp_path / name))
        assert list(corpus.documents()) == ["a", "b"]
        assert corpus.fingerprint() == HuggingFace(str(tmp_path / "plain")).fingerprint()
    with pytest.raises(RequestError, match=r"data.split='test'.*has train"):
        list(HuggingFace(str(tmp_path / "split"), split="test").documents())


@pytest.mark.usefixtures("_hugging_face_here")
def test_wrong_datasets_are_named(rows):
    wrong = {
        "data.field='body'.*the fields there: text": HuggingFace("json", data_files=rows, field="body"),
        'data.name=json.*Unknown split "other"': HuggingFace("json", data_files=rows, split="other"),
        "data.name=nobody/nothing: the dataset can't be loaded": HuggingFace("nobody/nothing"),
    }
    for message, corpus in wrong.items():
        with pytest.raises(RequestError, match=message):
            list(corpus.documents())
    with pytest.raises(RequestError, match=r"data.name: needs a dataset"):
        HuggingFace(None)
    with pytest.raises(RequestError, match=r"data.begins='\('"):
        HuggingFace("json", begins="(")
