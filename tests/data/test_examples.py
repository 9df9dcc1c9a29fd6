"""Pairs, labelled texts and tagged words: read as they stand, split by groups, arranged as the special tokens say."""

from __future__ import annotations

import gzip
import json
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lab.data.arrange import Answers, Arranged, Sequences
from lab.data.conll import Conll
from lab.data.corpora import Files, HuggingFace
from lab.data.examples import Example, Labelled, Pairs, Parallel
from lab.data.module import ExampleModule, make_batches
from lab.data.packing import Padded
from lab.data.pieces import WordPiece
from lab.data.scored import Scored
from lab.data.split import Split
from lab.data.store import prepare
from lab.data.tokenizers import BPE, Byte, Tokenizer, Word
from lab.errors import RequestError
from lab.layout import IGNORE

BOOKS = ["Genesis", "Exodus", "Ruth", "Jonah", "Mark", "Jude"]
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
HALF = Split(0.3)


def verse(n: int) -> dict:
    words = [NUMBERS[(n * k) % 9] for k in range(1, 2 + n % 13)]
    return {
        "book": BOOKS[n % 6],
        "testament": "ot" if n % 6 < 4 else "nt",
        "en": f"verse {n} says {' '.join(words)}",
        "es": f"el verso {n} dice {' '.join(words + words[: n % 4])}",
        "both": {"en": f"English {n}", "es": f"Español {n}"},
    }


@pytest.fixture
def verses(tmp_path):
    path = tmp_path / "verses.jsonl"
    path.write_text("".join(json.dumps(verse(n)) + "\n" for n in range(300)))
    return path


def batches(data, recipe=None, split=HALF, context=64, rows=8, **more) -> ExampleModule:
    made = make_batches(data, recipe or Byte(special=["cls", "sep", "end"]), split, Padded(), context, rows, **more)
    assert isinstance(made, ExampleModule)
    return made


# Where they come from


def test_pairs_of_any_table_are_the_same(tmp_path, verses):
    import pyarrow
    from pyarrow import parquet

    rows = [verse(n) for n in range(300)]
    wanted = [Example((row["en"], row["es"])) for row in rows]
    (tmp_path / "v.json").write_text(json.dumps(rows))
    (tmp_path / "v.csv").write_text("es,en\n" + "".join(f"{row['es']},{row['en']}\n" for row in rows))
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "v.parquet")
    with gzip.open(tmp_path / "v.jsonl.gz", "wt") as file:
        file.write(verses.read_text())
    for name in ("verses.jsonl", "v.json", "v.csv", "v.parquet", "v.jsonl.gz"):
        assert list(Pairs(str(tmp_path / name), "en", "es").examples()) == wanted
    (tmp_path / "a.en").write_text("".join(row["en"] + "\n" for row in rows))
    (tmp_path / "a.es").write_text("".join(row["es"] + "\r\n" for row in rows))
    assert list(Parallel(str(tmp_path / "a.en"), str(tmp_path / "a.es")).examples()) == wanted


def test_a_field_within_a_field(tmp_path, verses):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([verse(n) for n in range(5)]), tmp_path / "v.parquet")
    for path in (verses, tmp_path / "v.parquet"):
        first = next(Pairs(str(path), "both.en", "both.es").examples())
        assert first.texts == ("English 0", "Español 0")


def test_pairs_of_a_dataset(tmp_path):
    """As opus_books has them: a column of dictionaries."""
    from datasets import Dataset

    Dataset.from_list([{"id": n, "translation": verse(n)["both"]} for n in range(20)]).save_to_disk(tmp_path / "set")
    data = Pairs(name=str(tmp_path / "set"), source="translation.en", target="translation.es", max_rows=7)
    assert [example.texts for example in data.examples()] == [(f"English {n}", f"Español {n}") for n in range(7)]
    with pytest.raises(RequestError, match=r"data.target='es': not in .*; the fields there: id, translation"):
        list(Pairs(name=str(tmp_path / "set"), source="translation.en", target="es").examples())


def test_class_labels_get_their_names(tmp_path):
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    Dataset.from_dict({"text": ["bad", "good"], "label": [0, 1]}, features).save_to_disk(tmp_path / "set")
    assert [example.labels for example in Labelled(name=str(tmp_path / "set")).examples()] == [("neg",), ("pos",)]
    Dataset.from_dict({"text": ["unknown"], "label": [-1]}, features).save_to_disk(tmp_path / "unlabelled")
    with pytest.raises(RequestError, match="row 1 has no label"):
        list(Labelled(name=str(tmp_path / "unlabelled")).examples())


CONLL = """-DOCSTART- -X- O O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
German JJ B-NP B-MISC

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""


def test_words_and_tags(tmp_path):
    (tmp_path / "a.conll").write_text(CONLL)
    assert list(Conll(str(tmp_path / "a.conll")).examples()) == [
        Example(("EU", "rejects", "German"), ("B-ORG", "O", "B-MISC")),
        Example(("Peter", "Blackburn"), ("B-PER", "I-PER")),
    ]
    assert [e.labels[0] for e in Conll(str(tmp_path / "a.conll"), tag=1).examples()] == ["NNP", "NNP"]
    assert [e.group for e in Conll(str(tmp_path / "a.conll")).examples("file")] == ["a.conll", "a.conll"]


def test_sentences_that_begin_alike_are_split_all_the_same(tmp_path):
    (tmp_path / "a.conll").write_text("".join(f"The X\nnumber X\n{n} Y\n\n" for n in range(400)))
    held = prepare(Conll(str(tmp_path / "a.conll")), Word(500), Split(0.25)).examples
    assert len(held) == pytest.approx(100, abs=30)


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (CONLL + "Brussels NNP B-LOC\n", {}, "a.conll, line 9: 3 columns, the lines before have 4: 'Brussels"),
        (CONLL, {"tag": 4}, "data.tag=4: .*a.conll, line 3 has 4 columns, counted from 0"),
        ("a\tb\n\tc\n", {}, r"a.conll, line 2: the column of data.word=0 is empty"),
        ("\n\n", {}, "data.path=.*a.conll: holds no words"),
        (b"\xff x\n", {}, "a.conll: not UTF-8 at byte 0"),
        (CONLL, {"word": "first"}, "data.word=first: needs the number of a column"),
    ],
)
def test_broken_conll(tmp_path, content, settings, message):
    path = tmp_path / "a.conll"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RequestError, match=message):
        list(Conll(str(path), **settings).examples())


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def scored(number) -> dict:
    return {"source": "x", "target": "y", "score": number}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: Parallel(p("a", "x\ny\nz\n"), p("b", "x\ny\n")), "b: 2 lines, and .*a has 3; each line needs"),
        (lambda p: Parallel(p("a", "x\n"), p("b", "x\ny\nz")), "a: 1 lines, and .*b has 3; each line needs"),
        (lambda p: Parallel(p("a", "x\ny\n"), p("b", "x\n \n")), "b, line 2: is empty"),
        (lambda p: Parallel(p("a", "x\n"), None), "data.target: needs a text file"),
        (lambda p: Parallel(p("a", "x\n"), "nowhere"), "data.target=nowhere: no such file"),
        (
            lambda p: Pairs(p("a.jsonl", lines({"source": "x", "target": "y"}, {"source": "x", "target": " "}))),
            "data.target='target': .*a.jsonl, line 2 is empty",
        ),
        (
            lambda p: Pairs(p("a.jsonl", lines({"source": "x", "target": None}))),
            "data.target='target': .*line 1 is empty",
        ),
        (
            lambda p: Pairs(p("a.jsonl", lines({"source": "x", "target": ["y"]}))),
            "data.target='target': .*line 1 holds list",
        ),
        (
            lambda p: Pairs(p("a.jsonl", lines({"source": "x"})), target="es"),
            "data.target='es': not in .*line 1; the fields there: source",
        ),
        (lambda p: Pairs(p("a.jsonl", lines({"source": "x"})), target="source.es"), "source in .* has no keys"),
        (lambda p: Pairs(p("a.txt", "x")), "a.txt: rows with named fields are needed, from a .jsonl"),
        (lambda p: Pairs(), "data.path: needs a file"),
        (lambda p: Pairs("a", name="b"), "data.name=b: data.path=a is given too"),
        (lambda p: Pairs("a", too_long="drop"), "data.too_long=drop: choose from cut, refuse"),
        (lambda p: Labelled(p("a.jsonl", lines({"text": "x", "label": None}))), "data.label='label': .*has no label"),
        (
            lambda p: Labelled(p("a.jsonl", lines({"text": "x", "label": "\ud800"}))),
            "line 1: half a surrogate pair at character 0",
        ),
        (
            lambda p: Labelled(p("a.jsonl", lines({"text": "x", "label": float("nan")}))),
            "data.label='label': .*line 1 has no label",
        ),
        (lambda p: Scored(p("a.jsonl", lines(scored(1e300)))), "data.score='score': .*line 1 holds '1e\\+300'"),
        (lambda p: Scored(p("a.jsonl", lines(scored(10**400)))), "data.score='score': .*line 1 holds '1000"),
        (
            lambda p: Pairs(p("a.jsonl", lines({"source": "x", "target": "y"})[:-2] + f', "n": {"1" * 5000}}}\n')),
            "line 1: broken JSON",
        ),
        (lambda p: Pairs(name="x", max_rows=0), "data.max_rows=0: needs 1 or more"),
        (lambda p: Labelled("a", per_label=0), "data.per_label=0: needs a whole number"),
    ],
)
def test_wrong_rows_are_named(tmp_path, make, message):
    def put(name: str, content: str) -> str:
        (tmp_path / name).write_text(content)
        return str(tmp_path / name)

    with pytest.raises(RequestError, match=message):
        list(make(put).examples())


def test_a_tables_bytes_are_no_text(tmp_path):
    import pyarrow
    from pyarrow import parquet

    rows = {"text": ["x"], "label": [b"pos"], "source": ["y"], "target": ["z"]}
    parquet.write_table(pyarrow.table(rows), tmp_path / "a.parquet")
    with pytest.raises(RequestError, match=r"data.label='label': .*row 1 has no label"):
        list(Labelled(str(tmp_path / "a.parquet")).examples())
    wrong = pyarrow.array([b"\xff"]).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"source": wrong, "target": ["z"]}), tmp_path / "b.parquet")
    with pytest.raises(RequestError, match=r"b\.parquet: holds text that is not UTF-8"):
        list(Pairs(str(tmp_path / "b.parquet")).examples())


# The split


@pytest.mark.parametrize("corpus", [lambda path: Pairs(path), lambda path: Files(path, "source")])
def test_what_rows_are_grouped_by_is_text(tmp_path, corpus):
    (tmp_path / "a.jsonl").write_text(lines({"source": "x", "target": "y", "book": "\ud800"}))
    with pytest.raises(RequestError, match="line 1: half a surrogate pair at character 0"):
        prepare(corpus(str(tmp_path / "a.jsonl")), Byte(), Split(0.5, by="book"))


def test_whole_books_are_held_out(verses):
    held = Split(by="book", holdout=["Ruth", "Jude"])
    data = prepare(Pairs(str(verses), "en", "es"), Byte(), held)
    assert [example.texts[0] for example in data.examples] == [verse(n)["en"] for n in range(300) if n % 6 in (2, 5)]
    assert data.facts["train"]["documents"] == 200
    shared = Split(0.5, by="book")
    numbers = {
        int(example.texts[0].split()[1]) for example in prepare(Pairs(str(verses), "en", "es"), Byte(), shared).examples
    }
    groups = {n % 6 for n in numbers}
    assert 0 < len(groups) < 6
    assert numbers == {n for n in range(300) if n % 6 in groups}


def test_plain_text_can_be_held_out_by_group_too(verses, tmp_path):
    from datasets import load_dataset

    wanted = [verse(n)["en"] for n in range(300) if n % 6 == 3]
    load_dataset("json", data_files=str(verses), split="train", cache_dir=str(tmp_path)).save_to_disk(tmp_path / "set")
    for corpus in (Files(str(verses), "en"), HuggingFace(str(tmp_path / "set"), field="en")):
        data = prepare(corpus, Byte(), Split(by="book", holdout="Jonah"))
        offsets = data.validation.offsets
        texts = [data.tokenizer.decode(data.validation.ids[a:b]) for a, b in pairwise(offsets)]
        assert texts == wanted


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Split(holdout=["Ruth"]), "split.holdout=Ruth: names groups of a field: split.by=book"),
        (lambda: Split(by="book", holdout=[]), "split.holdout=: names groups"),
        (lambda: Split(by=3), "split.by=3: needs the name of a field"),
    ],
)
def test_groups_that_make_no_sense(make, message):
    with pytest.raises(RequestError, match=message):
        make()


def test_groups_that_are_not_there(verses, tmp_path):
    data = Pairs(str(verses), "en", "es")
    with pytest.raises(
        RequestError, match=r"split.holdout: Rut: no row has that book; there are Exodus, Genesis, Jonah"
    ):
        prepare(data, Byte(), Split(by="book", holdout=["Rut", "Jonah"]))
    with pytest.raises(RequestError, match=r"split.by='boc': not in .*; the fields there: book"):
        prepare(data, Byte(), Split(by="boc"))
    with pytest.raises(RequestError, match=r"split.by=book: lines of text have no fields"):
        prepare(Parallel(str(verses), str(verses)), Byte(), Split(by="book"))


def test_a_label_never_learnt_is_named(verses):
    data = Labelled(str(verses), "en", "book")
    with pytest.raises(RequestError, match=r"split: Ruth to validate: no training example has that label; .*Exodus"):
        prepare(data, Byte(), Split(by="book", holdout=["Ruth"]))
    assert prepare(data, Byte(), HALF).labels == tuple(sorted(BOOKS))


def test_few_examples_of_each_label(verses):
    few, more = (prepare(Labelled(str(verses), "en", "testament", per_label=n), Byte(), HALF) for n in (3, 6))
    assert few.facts["train"]["documents"] == 6
    assert few.facts["validation"] == more.facts["validation"]
    texts = [{few.tokenizer.decode(data.train.field(i, 0)) for i in range(2 * n)} for data, n in ((few, 3), (more, 6))]
    assert texts[0] < texts[1]
    assert sorted(int(few.train.field(i, 1)[0]) for i in range(6)) == [0, 0, 0, 1, 1, 1]


# Rows


def decoded(tokenizer: Tokenizer, row: torch.Tensor, size: int) -> str:
    return "".join(tokenizer.inner.decode([int(i)], skip_special_tokens=False) for i in row[:size])


def test_an_encoder_decoder_gets_both_sides(verses):
    data = batches(Pairs(str(verses), "en", "es"))
    tokenizer = data.prepared.tokenizer
    batch = data.validation_rows.batch(np.arange(4))
    for row, number in enumerate(batch.examples):
        source, target = data.prepared.examples[number].texts
        assert decoded(tokenizer, batch.source[row], batch.source_lengths[row]) == source + "</s>"
        assert decoded(tokenizer, batch.tokens[row], batch.lengths[row]) == "[CLS]" + target
        wanted = batch.targets[row][batch.targets[row] != IGNORE]
        assert decoded(tokenizer, wanted, len(wanted)) == target + "</s>"
        assert batch.layout.documents[row].ge(0).sum() == batch.lengths[row]
        assert batch.source_layout.documents[row].ge(0).sum() == batch.source_lengths[row]
    assert batch.counted == batch.scored == batch.lengths.sum() == int((batch.targets != IGNORE).sum())
    assert batch.to("cpu").source.shape == batch.source.shape
    assert data.prepared.validation_bytes == sum(len(e.texts[1].encode()) for e in data.prepared.examples)
    assert data.prepared.lost_share == 0


def test_a_decoder_gets_the_answer_after_the_question(verses):
    data = batches(Pairs(str(verses), "en", "es"), context=200, arrange=Answers)
    batch = data.validation_rows.batch(np.arange(3))
    tokenizer = data.prepared.tokenizer
    for row, number in enumerate(batch.examples):
        source, target = data.prepared.examples[number].texts
        assert decoded(tokenizer, batch.tokens[row], batch.lengths[row]) == f"[CLS]{source}[SEP]{target}"
        wanted = batch.targets[row][batch.targets[row] != IGNORE]
        assert decoded(tokenizer, wanted, len(wanted)) == target + "</s>"
        places = (batch.targets[row] != IGNORE).nonzero().flatten()
        assert int(batch.tokens[row, places[0]]) == tokenizer.id("sep")
        assert torch.equal(batch.tokens[row, places[1:]], batch.targets[row, places[:-1]])


def test_an_encoder_gets_a_text_or_two_with_their_label(verses):
    single = batches(Labelled(str(verses), "en", "book"), context=200)
    double = batches(Labelled(str(verses), "en", "book", second="es"), context=200)
    for data in (single, double):
        batch = data.validation_rows.batch(np.arange(5))
        for row, number in enumerate(batch.examples):
            example = data.prepared.examples[number]
            text = decoded(data.prepared.tokenizer, batch.tokens[row], batch.lengths[row])
            assert text == "[CLS]" + "".join(f"{part}[SEP]" for part in example.texts)
            assert data.prepared.labels[batch.targets[row]] == example.labels[0]
            second = decoded(data.prepared.tokenizer, batch.tokens[row][batch.segments[row] == 1], 999)
            assert second == "".join(f"{part}[SEP]" for part in example.texts[1:])
        assert batch.counted == 5


@given(st.lists(st.integers(1, 12), min_size=2, max_size=2), st.integers(5, 20))
def test_of_two_texts_the_longer_is_cut_first(sizes, context):
    """Against cutting token by token."""
    rows = object.__new__(Sequences)
    offsets = np.cumsum([0, *sizes, 1])
    from lab.data.store import Tokens

    rows.frame = ("cls", "sep", "sep")
    rows.tokens, rows.context = Tokens(np.arange(offsets[-1]), offsets, 0, fields=3), context
    lengths = list(sizes)
    while sum(lengths) > context - 3:
        lengths[0 if lengths[0] > lengths[1] else 1] -= 1
    found = [len(text) for text in rows._kept(0)]
    assert sum(found) == sum(lengths)
    assert sorted(found) == sorted(lengths)


def test_the_first_piece_of_a_word_has_its_tag(tmp_path):
    words = ["Peter", "Blackburn", "rejects", "German", "lamb", "\u200b"]
    rows = [[f"{words[(n + k) % 6]} {'I' if k else 'B'}-{n % 2}" for k in range(1 + n % 5)] for n in range(60)]
    (tmp_path / "a.conll").write_text("\n\n".join("\n".join(row) for row in rows))
    recipes = (
        WordPiece(60, special=["cls", "sep", "end"]), BPE(280, special=["cls", "sep", "end"]),
        Word(30, special=["cls", "sep", "end"]), Byte(special=["cls", "sep", "end"]),
    )  # fmt: skip
    for recipe in recipes:
        data = batches(Conll(str(tmp_path / "a.conll")), recipe, Split(0.5))
        batch = data.validation_rows.batch(np.arange(len(data.validation_rows)))
        for row, number in enumerate(batch.examples):
            example = data.prepared.examples[number]
            places = (batch.targets[row] != IGNORE).nonzero().flatten().tolist()
            assert tuple(data.prepared.labels[batch.targets[row, place]] for place in places) == example.labels
            ends = [*places[1:], int(batch.lengths[row]) - 1]
            for word, start, end in zip(example.texts, places, ends, strict=True):
                piece = data.prepared.tokenizer.decode(batch.tokens[row, start:end].tolist()).strip(" ")
                assert piece == word or "[UNK]" in piece, (piece, word)


def test_what_is_too_long_is_cut_and_counted_or_refused(verses):
    kinds = [
        (Pairs(str(verses), "en", "es", too_long="cut"), None),
        (Pairs(str(verses), "en", "es", too_long="cut"), Answers),
        (Labelled(str(verses), "en", "book", too_long="cut"), None),
        (Labelled(str(verses), "en", "book", "es", too_long="cut"), None),
    ]
    for data, arrange in kinds:
        made = batches(data, context=20, arrange=arrange)
        rows: Arranged = made.validation_rows
        batch = rows.batch(np.arange(len(rows)))
        assert batch.tokens.shape[1] == rows.lengths.max() == 20
        assert rows.scored(np.arange(len(rows))) == batch.counted
        assert 0 < rows.cut <= len(rows)
        assert made.facts["val/cut_examples"] == rows.cut
    data.too_long = "refuse"
    with pytest.raises(
        RequestError, match=r"data.too_long=refuse: \d+ of \d+ examples \(train\) are longer than model.con"
    ):
        batches(data, context=20)
    with pytest.raises(RequestError, match=r"model.context=4: too short for these examples; 5 at least"):
        batches(data, context=4)


# Batches


@given(st.integers(0, 2**31), st.sampled_from([1, 2, 4]), st.integers(4, 12).map(lambda n: 4 * (n // 4)))
def test_steps_are_of_like_length_and_each_epoch_takes_an_example_once(seed, accumulate, rows):
    random = np.random.default_rng(seed)
    module = object.__new__(ExampleModule)
    module.__dict__ |= {"seed": seed, "rows": rows, "accumulate": accumulate}
    lengths = random.geometric(0.05, size=(500, 1)) + random.integers(0, 6, size=(500, 2))
    fake = type("Fake", (), {"lengths": lengths, "cut": 0, "__len__": lambda self: 500})()
    module.__dict__ |= {"train_rows": fake, "validation_rows": fake, "_permutation": lambda e: module._draw(e)}
    steps = 500 // rows
    first, second = ([module.step_rows(e * steps + k).tolist() for k in range(steps)] for e in (0, 1))
    for epoch in (first, second):
        taken = [number for step in epoch for number in step]
        assert len(set(taken)) == len(taken) == steps * rows
    assert first != second
    assert [module.step_rows(k).tolist() for k in range(steps)] == first
    padded = sum(rows * lengths[step].max(axis=0).sum() for step in first)
    real = sum(lengths[step].sum() for step in first)
    if accumulate == 1:
        assert module.facts["waste_share"] == pytest.approx(1 - real / padded)
    assert module.facts["waste_share"] < 0.2


def test_padding_is_under_a_tenth_and_batches_resume(verses):
    data = batches(Pairs(str(verses), "en", "es"), Word(60))
    assert data.facts["waste_share"] < 0.1
    stream = iter(data.train_dataloader())
    whole = [next(stream) for _ in range(60)]  # more than an epoch of 26 steps
    data.consumed = 40
    again = batches(Pairs(str(verses), "en", "es"), Word(60))
    again.load_state_dict(data.state_dict())
    stream = iter(again.train_dataloader())
    for batch in whole[40:]:
        other = next(stream)
        assert torch.equal(batch.source, other.source)
        assert torch.equal(batch.targets, other.targets)
    widths = [batch.tokens.shape[1] for batch in whole]
    assert widths != sorted(widths)


def test_ranks_share_a_step_and_all_validate(verses):
    from types import SimpleNamespace

    data = batches(Pairs(str(verses), "en", "es"), Word(60))
    whole = data.training_batch(0)
    parts, seen = [], []
    for rank in range(2):
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2)
        parts.append(data.training_batch(0))
        seen += [number for batch in data.val_dataloader() if batch.counted for number in batch.examples]
    assert sorted(seen) == list(range(len(data.validation_rows)))
    assert sum(part.counted for part in parts) == whole.counted == parts[0].scored == parts[1].scored
    assert np.concatenate([part.examples for part in parts]).tolist() == whole.examples.tolist()


def test_the_cache_keeps_what_was_validated(verses, cache):
    made = prepare(Pairs(str(verses), "en", "es"), Byte(), HALF)
    (folder,) = (path for path in (cache / "tokens").iterdir() if path.is_dir())
    assert made.folder == folder
    (folder / "examples.jsonl").write_text("[]")
    from lab.data import store

    store._prepared.clear()
    with pytest.raises(RequestError, match=re.escape("examples.jsonl has 2 bytes")):
        prepare(Pairs(str(verses), "en", "es"), Byte(), HALF)
