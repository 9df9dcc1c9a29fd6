"""Tokenizers lose nothing where they say so, and count truly what they lose."""

from __future__ import annotations

import importlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.data.tokenizers import BPE, DOCUMENT, Byte, Recipe, Tokenizer, Word
from lab.errors import RequestError

TEXTS = [f"the cat {n} sat on the mat, the dog didn't. Straße naïve 猫 {DOCUMENT}\n\n" for n in range(50)]
BYTE_PAIRS = BPE(400).train(iter(TEXTS))
BYTES = Byte().train(iter(()))
WORDS = Word(30).train(iter(TEXTS))

# Whatever Python can write as UTF-8, and what trips tokenizers up.
anything = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    [
        "",
        " ",
        "\r\n",
        "\x00",
        DOCUMENT,
        f" {DOCUMENT}{DOCUMENT}",
        "[UNK]",
        "Ġ",
        "\ufeff",
        "e\u0301",
        "\u202e",
        "👩‍👩‍👧",
        "\u3000 x",
    ]
)


@pytest.mark.parametrize("tokenizer", [BYTE_PAIRS, BYTES], ids=["bpe", "byte"])
@given(texts=st.lists(anything, max_size=4))
@settings(max_examples=150, deadline=None)
def test_what_is_lossless_comes_back(tokenizer: Tokenizer, texts: list[str]):
    assert tokenizer.lossless
    assert tokenizer.lost_bytes(texts) == 0
    encoded = tokenizer.encode(texts)
    assert [tokenizer.decode(ids) for ids in encoded] == texts
    assert not any(tokenizer.document_id in ids for ids in encoded)


@given(text=anything)
def test_bytes_are_numbered_by_their_value(text):
    assert [int(token) - 1 for token in BYTES.encode([text])[0]] == list(text.encode())
    assert BYTES.document_id == 0


def test_byte_pairs_are_fewer_than_bytes():
    assert BYTE_PAIRS.vocab_size <= 400
    assert sum(map(len, BYTE_PAIRS.encode(TEXTS))) < sum(map(len, BYTES.encode(TEXTS))) / 3


def test_words_lose_white_space_and_unknown_words():
    assert not WORDS.lossless
    assert WORDS.decode(WORDS.encode(["the  cat,\nzebra sat."])[0]) == "the cat , [UNK] sat ."
    known = len("the" + "cat" + "," + "sat" + ".")
    assert WORDS.lost_bytes(["the  cat,\nzebra sat."]) == len("the  cat,\nzebra sat.") - known
    assert WORDS.lost_bytes(["猫 猪", "the"]) == len(" 猪".encode())
    assert WORDS.document_id not in WORDS.encode([DOCUMENT])[0]


def test_words_keep_the_most_frequent():
    small = Word(4).train(iter(["a b b c c c"]))
    assert sorted(small.inner.get_vocab()) == [DOCUMENT, "[UNK]", "b", "c"]


@pytest.mark.parametrize("recipe", [BPE(300), Word(20)])
def test_training_again_gives_the_same(recipe: Recipe):
    assert recipe.train(iter(TEXTS)).inner.to_str() == recipe.train(iter(TEXTS)).inner.to_str()


@pytest.mark.parametrize("tokenizer", [BYTE_PAIRS, BYTES, WORDS], ids=["bpe", "byte", "word"])
def test_saved_and_loaded(tokenizer: Tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    text = f"the cat {DOCUMENT} 猫"
    assert loaded.encode([text])[0].tolist() == tokenizer.encode([text])[0].tolist()
    assert (loaded.vocab_size, loaded.document_id, loaded.lossless) == (
        tokenizer.vocab_size,
        tokenizer.document_id,
        tokenizer.lossless,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


def test_lossless_is_not_claimed_for_what_changes_text():
    from tokenizers import models, normalizers, pre_tokenizers

    lower = BPE(300).train(iter(TEXTS))
    lower.inner.normalizer = normalizers.Lowercase()
    spaced = BPE(300).train(iter(TEXTS))
    spaced.inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    few = BPE(300).train(iter(TEXTS))
    few.inner.model = models.BPE({"a": 0}, [])
    assert not any(tokenizer.lossless for tokenizer in (lower, spaced, few))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BPE(256), "tokenizer.vocab_size=256: tokenizer=bpe needs 257 or more"),
        (lambda: Word(2), "tokenizer.vocab_size=2: tokenizer=word needs 3 or more"),
        (lambda: Byte(300), "tokenizer.vocab_size=300: tokenizer=byte has 257"),
        (lambda: BPE(4096.5), "tokenizer.vocab_size=4096.5: needs a whole number"),
    ],
)
def test_wrong_sizes(make, message):
    with pytest.raises(RequestError, match=message):
        make()


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"version": "1.0"'])
def test_damaged_files(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(RequestError, match=r"tokenizer.json"):
        Tokenizer.load(tmp_path)
    with pytest.raises(RequestError, match=r"missing.json"):
        Tokenizer.load(tmp_path / "missing.json")


@pytest.mark.parametrize("edited", ["plain", "other"])
def test_an_edit_of_ones_own_recipe_is_another_recipe(tmp_path, monkeypatch, edited):
    """Its tokens in the cache would be those of the code before."""
    monkeypatch.syspath_prepend(tmp_path)
    prints = set()
    for number, word in enumerate(("plain", edited)):
        name = f"recipe_{edited}_{number}"
        code = f"from lab.data.tokenizers import Byte\nclass Mine(Byte):\n    def train(self, texts): '{word}'\n"
        (tmp_path / f"{name}.py").write_text(code)
        prints.add(importlib.import_module(name).Mine().fingerprint())
    assert len(prints) == (1 if edited == "plain" else 2)
