"""The store splits fairly, makes everything once, and never gives half of it."""

from __future__ import annotations

import json
import multiprocessing
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lab.data import coding, disk, store
from lab.data.examples import Pairs
from lab.data.store import Split, prepare
from lab.data.tokenizers import BPE, Byte, Word
from lab.errors import RequestError
from tests.data.conftest import Texts, sentences

SPLIT = Split(validation=0.2)


def texts_of(tokens, tokenizer) -> list[str]:
    """The documents of a part, cut apart at its offsets."""
    pieces = np.split(tokens.ids, tokens.offsets[1:-1])
    assert all(piece[0] == tokenizer.document_id for piece in pieces)
    return [tokenizer.decode(piece) for piece in pieces]


def parts(texts: list[str], split: Split = SPLIT) -> tuple[list[str], list[str]]:
    prepared = prepare(Texts(texts), Byte(), split)
    return texts_of(prepared.train, prepared.tokenizer), texts_of(prepared.validation, prepared.tokenizer)


def test_each_document_is_in_one_part_in_the_order_of_the_corpus():
    texts = sentences(300)
    train, held = parts(texts)
    assert [text for text in texts if text in set(train)] == train
    assert [text for text in texts if text in set(held)] == held
    assert sorted(train + held) == sorted(texts)
    assert 30 < len(held) < 90  # 60 +- 4 standard deviations


def test_the_split_depends_on_a_documents_text_alone():
    texts = sentences(200)
    _, held = parts(texts)
    shuffled = random.Random(0).sample(texts, 200)
    assert set(parts(shuffled)[1]) == set(held)
    more, held_of_more = parts(texts + [f"new {n}" for n in range(50)] + texts[:20])
    assert set(held) <= set(held_of_more)
    assert not set(more) & set(held_of_more)


def test_a_larger_share_keeps_what_was_held_out():
    texts = sentences(200)
    assert set(parts(texts)[1]) < set(parts(texts, Split(0.5))[1])


def test_the_validated_bytes_are_limited_by_whole_documents_whatever_their_order():
    texts = sentences(300)
    train, held = parts(texts)
    limited_train, limited = parts(texts, Split(0.2, max_bytes=1000))
    assert limited_train == train
    assert set(limited) < set(held)
    assert 800 < sum(len(text.encode()) for text in limited) <= 1000
    assert set(parts(texts[::-1], Split(0.2, max_bytes=1000))[1]) == set(limited)


def test_every_tokenizer_validates_the_same_text():
    texts = sentences(200)
    made = [prepare(Texts(texts), recipe, Split(0.2, 2000)) for recipe in (Byte(), BPE(300), Word(50), BPE(280))]
    assert len({prepared.data_fingerprint for prepared in made}) == 1
    assert len({prepared.folder for prepared in made}) == 4
    assert [prepared.tokenizer.vocab_size for prepared in made] == [257, 300, 50, 280]
    held = texts_of(made[0].validation, made[0].tokenizer)
    assert held == texts_of(made[1].validation, made[1].tokenizer)
    assert {prepared.validation_bytes for prepared in made} == {sum(len(text.encode()) for text in held)}
    assert made[0].lost_share == made[1].lost_share == 0
    words = made[2]
    assert words.lost_share == pytest.approx(words.tokenizer.lost_bytes(held) / words.validation_bytes)
    assert words.lost_share > 0
    assert prepare(Texts(texts), Byte(), Split(0.2, 1000)).data_fingerprint != made[0].data_fingerprint


def test_the_tokenizer_never_sees_validation_text():
    texts = [f"w{n} " * 5 for n in range(200)]
    prepared = prepare(Texts(texts), Word(177), SPLIT)
    train = {f"w{n}" for n in range(200) if store.drawn(np.frombuffer(texts[n].encode(), np.uint8)) >= 0.2}
    assert set(prepared.tokenizer.inner.get_vocab()) == train | {"[UNK]", "<|document|>"}
    assert prepared.lost_share == 1.0


@pytest.mark.parametrize("limit", [100, 1000, 5000])
def test_a_tokenizer_learns_from_as_much_text_as_it_may(monkeypatch, limit):
    """Also where the first document alone is more."""
    monkeypatch.setattr(store, "TRAINING_BYTES", limit)
    texts = ["grün und " * 100 + str(n) for n in range(20)]
    seen = []

    class Spy(BPE):
        def train(self, texts):
            return super().train(text for text in texts if not seen.append(text))

    prepare(Texts(texts), Spy(300), SPLIT)
    assert limit - 1 <= len("".join(seen).encode()) <= limit
    whole = [text for text in seen if text in texts]
    assert len(whole) == limit // 1001


def test_the_facts_are_counted_truly():
    prepared = prepare(Texts(sentences(100)), BPE(300), SPLIT)
    for part in ("train", "validation"):
        tokens = getattr(prepared, part)
        held = texts_of(tokens, prepared.tokenizer)
        assert prepared.facts[part] == {
            "documents": len(held),
            "bytes": sum(len(text.encode()) for text in held),
            "tokens": len(tokens.ids),
        }
        assert not tokens.ids.flags.writeable


def test_a_second_call_reads_nothing_again(monkeypatch):
    corpus = Texts(sentences(100))
    first = prepare(corpus, Byte(), SPLIT)
    assert prepare(Texts(corpus.texts), Byte(), {"validation": 0.2, "max_bytes": None}) is first
    prepare(corpus, BPE(300), SPLIT)
    assert corpus.read == 1
    monkeypatch.setattr(store, "_prepared", {})
    monkeypatch.setattr(store, "_build", lambda *_: pytest.fail("built again"))
    again = prepare(corpus, Byte(), SPLIT)
    assert again.train.ids.tolist() == first.train.ids.tolist()


def test_a_smaller_vocabulary_than_asked_for_is_said_in_a_line(capsys):
    prepared = prepare(Texts(sentences(20)), BPE(5000), Split(0.5))
    made = prepared.tokenizer.vocab_size
    assert made < 5000
    assert f"tokenizer.vocab_size=5000: the training text yields {made} tokens only\n" in capsys.readouterr().err


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Killed(BaseException):
    """What a kill looks like to a program: no handler for errors sees it."""


@pytest.mark.parametrize("appends", [1, 2, 3, 12, 24, 25, 30])
def test_after_a_kill_it_goes_on_and_gives_the_same_files(monkeypatch, tmp_path, appends):
    monkeypatch.setattr(store, "BATCH_BYTES", 1500)
    corpus, recipe = Texts(sentences(150)), BPE(300)
    prepare(corpus, recipe, SPLIT, cache=tmp_path / "whole")
    left = appends

    def append(self, part, documents):
        nonlocal left
        left -= 1
        whole_append(self, part, documents if left else documents[:1])
        if not left:  # with some of the batch on disk, and not recorded
            self._items[part].flush()
            raise Killed

    whole_append = disk.Writer.append
    monkeypatch.setattr(disk.Writer, "append", append)
    with pytest.raises(Killed):
        prepare(corpus, recipe, SPLIT, cache=tmp_path / "killed")
    monkeypatch.setattr(disk.Writer, "append", whole_append)
    prepare(corpus, recipe, SPLIT, cache=tmp_path / "killed")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_resumed_build_repeats_nothing_that_was_recorded(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "BATCH_BYTES", 1500)
    encoded = []
    whole = coding._tokens

    def tokens(tokenizer, texts):
        if len(encoded) == 3:
            encoded.append("killed")
            raise Killed
        encoded.append(list(texts))
        return whole(tokenizer, texts)

    monkeypatch.setattr(coding, "_tokens", tokens)
    with pytest.raises(Killed):
        prepare(Texts(sentences(150)), Byte(), SPLIT)
    prepare(Texts(sentences(150)), Byte(), SPLIT)
    read = [text for batch in encoded if batch != "killed" for text in batch]
    assert sorted(read) == sorted(sentences(150))


@pytest.mark.parametrize("suffix", ["bin", "offsets"])
@pytest.mark.parametrize("size", [0, 5, 10**5])
def test_what_a_machine_that_went_down_left_is_mended(tmp_path, suffix, size):
    """Files shorter than was recorded are begun anew, longer ones are cut."""
    documents = [np.arange(n + 1, dtype=np.uint16) for n in range(9)]
    for name in ("whole", "mended"):
        (tmp_path / name).mkdir()
    with disk.Writer(tmp_path / "mended", np.dtype(np.uint16)) as writer:
        writer.append("train", documents[:4])
        writer.commit()
    with (tmp_path / "mended" / f"train.{suffix}").open("r+b") as file:
        file.truncate(size)
    for name in ("whole", "mended"):
        with disk.Writer(tmp_path / name, np.dtype(np.uint16)) as writer:
            assert writer.written["train"] == ([4, 10] if name == "mended" and size > 100 else [0, 0])
            writer.append("train", documents[writer.written["train"][0] :])
            writer.publish({})
    assert contents(tmp_path / "mended") == contents(tmp_path / "whole")
    written = disk.open_documents(tmp_path / "mended", "train", np.dtype(np.uint16))
    assert [document.tolist() for document in written] == [document.tolist() for document in documents]


@pytest.mark.parametrize("state", ["", "[]", '{"train": 3}', '{"train": [1, 2]}'])
def test_a_damaged_record_of_what_was_written_begins_anew(tmp_path, state):
    (tmp_path / disk.STATE).write_text(state)
    with disk.Writer(tmp_path, np.dtype(np.uint16)) as writer:
        assert writer.written == {"train": [0, 0], "validation": [0, 0]}


SCRIPT = """
import os, signal, sys
from lab.data import disk, store
from lab.data.tokenizers import BPE
from tests.data.conftest import Texts, sentences
store.BATCH_BYTES = 1500
commit, left = disk.Writer.commit, int(sys.argv[2])
def killing(self):
    global left
    commit(self)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
disk.Writer.commit = killing
store.prepare(Texts(sentences(150)), BPE(300), store.Split(0.2), cache=sys.argv[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_real_kill(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "BATCH_BYTES", 1500)
    root = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "killed"), "3"], cwd=root, check=False)
    assert killed.returncode == -9
    for name in ("killed", "whole"):
        prepare(Texts(sentences(150)), BPE(300), SPLIT, cache=tmp_path / name)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


class Slow(Texts):
    """A corpus whose reading takes a while, and is noted in a file."""

    def __init__(self, texts, note: Path) -> None:
        super().__init__(texts)
        self.note = note

    def documents(self):
        import time

        with self.note.open("a") as file:
            file.write("read\n")
        for number, text in enumerate(self.texts):
            if number % 50 == 0:
                time.sleep(0.1)
            yield text


def _in_a_process(folder: Path, queue) -> None:
    build = store._build

    def noted(at: Path, make) -> None:
        with (folder / "note").open("a") as file:
            file.write(f"built {at.parent.name}\n")
        build(at, make)

    store._build = noted
    prepared = prepare(Slow(sentences(200), folder / "note"), BPE(300), SPLIT, cache=folder, progress=False)
    queue.put((prepared.data_fingerprint, prepared.train.ids.tolist()))


def test_two_processes_at_once_make_one_cache(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    both = [context.Process(target=_in_a_process, args=(tmp_path, queue)) for _ in range(2)]
    for process in both:
        process.start()
    results = [queue.get(timeout=60) for _ in both]
    for process in both:
        process.join()
    assert results[0] == results[1]
    assert (tmp_path / "note").read_text().split("\n") == ["built tokens", "built texts", "read", ""]
    assert len([path for path in (tmp_path / "tokens").iterdir() if path.is_dir()]) == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "train.bin").unlink(), "train.bin is missing"),
        (lambda folder: (folder / "train.bin").write_bytes(b"12"), "train.bin has 2 bytes"),
        (lambda folder: flip(folder / "train.offsets"), "train.offsets is not what was written"),
        (lambda folder: flip(folder / "tokenizer.json"), "tokenizer.json is not what was written"),
        (lambda folder: (folder / "meta.json").write_text("{"), "meta.json can't be read"),
        (lambda folder: (folder / "meta.json").write_text("[]"), "meta.json can't be read"),
        (lambda folder: lie(folder / "meta.json"), "meta.json is not what was written"),
    ],
)
def test_a_damaged_cache_is_named_and_not_used(monkeypatch, damage, message):
    folder = prepare(Texts(sentences(50)), Byte(), SPLIT).folder
    monkeypatch.setattr(store, "_prepared", {})
    damage(folder)
    with pytest.raises(RequestError, match=f"{folder}: the cache is damaged \\({message}.*delete this folder"):
        prepare(Texts(sentences(50)), Byte(), SPLIT)


def lie(path: Path) -> None:
    """Changes a number."""
    path.write_text(path.read_text().replace('"bytes": ', '"bytes": 1', 1))


def flip(path: Path) -> None:
    """Changes one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_damaged_texts_are_found_before_they_are_tokenized(cache):
    prepare(Texts(sentences(50)), Byte(), SPLIT)
    (texts,) = (path for path in (cache / "texts").iterdir() if path.is_dir())
    flip(texts / "validation.bin")
    with pytest.raises(RequestError, match=f"{texts}: the cache is damaged"):
        prepare(Texts(sentences(50)), BPE(300), SPLIT)


def test_a_checksum_of_a_long_file_looks_at_both_ends(monkeypatch, tmp_path):
    monkeypatch.setattr(disk, "BLOCK", 16)
    path = tmp_path / "long"
    data = bytes(range(256)) * 16
    path.write_bytes(data)
    whole = disk.checksum(path)
    for place in (0, 15, len(data) - 16, len(data) - 1):
        path.write_bytes(data[:place] + b"\xee" + data[place + 1 :])
        assert (disk.checksum(path) != whole) == (data[place] != 0xEE)


@pytest.mark.parametrize(
    ("texts", "split", "message"),
    [
        ([], SPLIT, "data: 0 documents, and at least 2"),
        (["alone"], SPLIT, "data: 1 document, and at least 2"),
        (sentences(5), Split(1e-9), "split.validation=1e-09: none of the 5 documents is for validation"),
        (sentences(5), Split(1 - 1e-9), "none of the 5 documents is for train"),
        (
            sentences(50),
            Split(0.2, max_bytes=3),
            r"split.max_bytes=3: the first document to validate has \d+ bytes",
        ),
    ],
)
def test_too_small_to_split(cache, texts, split, message):
    with pytest.raises(RequestError, match=message):
        prepare(Texts(texts), Byte(), split)
    assert not list(cache.glob("tokens/*/*"))


@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9])
def test_the_share_that_is_proposed_works(share):
    with pytest.raises(RequestError) as raised:
        prepare(Texts(sentences(5)), Byte(), Split(share))
    proposed = float(str(raised.value).rpartition("=")[2])
    assert parts(sentences(5), Split(proposed))


@pytest.mark.parametrize(("validation", "max_bytes"), [(0, None), (1, None), (-0.1, None), (0.1, 0)])
def test_splits_that_make_no_sense(validation, max_bytes):
    with pytest.raises(RequestError, match=r"split\.(validation|max_bytes)="):
        Split(validation, max_bytes)


def test_a_wrong_corpus_leaves_nothing_behind(cache):
    class Wrong(Texts):
        def documents(self):
            yield from self.texts
            raise RequestError("line 51 is broken")

    with pytest.raises(RequestError, match="line 51"):
        prepare(Wrong(sentences(50)), Byte(), SPLIT)
    assert not [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_broken_connection_is_continued(monkeypatch):
    monkeypatch.setattr(store, "BATCH_BYTES", 500)

    class Stream(Texts):
        broken = True

        def documents(self):
            yield from self.texts[:40]
            if self.broken:
                raise ConnectionError("data.name=some/where: reading broke off")
            yield from self.texts[40:]

    stream = Stream(sentences(80))
    with pytest.raises(RequestError, match="some/where: reading broke off; start again to go on from there"):
        prepare(stream, Byte(), SPLIT)
    stream.broken = False
    prepared = prepare(stream, Byte(), SPLIT)
    assert prepared.facts["train"]["documents"] + prepared.facts["validation"]["documents"] == 80


def test_a_full_disk_is_named_and_leaves_nothing(monkeypatch, cache):
    def full(self, part, documents):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.Writer, "append", full)
    with pytest.raises(RequestError, match=f"{cache}.*can't be written \\(No space left on device\\)"):
        prepare(Texts(sentences(50)), Byte(), SPLIT)
    assert not [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_cache_that_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"file.*can't be written"):
        prepare(Texts(sentences(50)), Byte(), SPLIT, cache=tmp_path / "file")


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "lab"))
    assert store.cache_folder(tmp_path / "chosen") == tmp_path / "chosen"
    assert store.cache_folder() == tmp_path / "lab"
    monkeypatch.delenv("LAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert store.cache_folder() == tmp_path / "xdg" / "lab"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert store.cache_folder() == Path.home() / ".cache" / "lab"


def test_a_share_of_rows_is_not_proposed(tmp_path, cache):
    rows = [{"source": f"q{n}", "target": f"a{n}"} for n in range(4)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(RequestError, match="none of the 4 rows is for validation; give more, or another share"):
        prepare(Pairs(str(tmp_path / "pairs.jsonl")), Byte(), Split(1e-9))


def test_equal_documents_are_said_to_be(tmp_path):
    with pytest.raises(
        RequestError, match=r"^data: all 40 documents are the same, so that none is left for (train|valid)"
    ):
        prepare(Texts(["one and the same text"] * 40), Byte(), Split(0.5))
