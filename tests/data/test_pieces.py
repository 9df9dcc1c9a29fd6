"""Pieces are those of a slow reference, what is lost is counted, and special tokens are what the family asked for."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from lab.data.pieces import BPEWord, Char, Unigram, WordPiece
from lab.data.pretrained import Pretrained
from lab.data.special import DOCUMENT, SENTINELS
from lab.data.tokenizers import BPE, Byte, Recipe, Tokenizer, Word
from lab.errors import RequestError

TEXTS = [f"the lower cats sat on the newest mats, {n} dogs didn't.\n Straße naïve lowest" for n in range(60)]
CHARS = Char(200).train(iter(TEXTS))
PAIRS = BPEWord(90).train(iter(TEXTS))
PIECES = WordPiece(90).train(iter(TEXTS))
UNIGRAMS = Unigram(90).train(iter(TEXTS))
EACH = [(CHARS, "char"), (PAIRS, "bpe_word"), (PIECES, "wordpiece"), (UNIGRAMS, "unigram")]
each = pytest.mark.parametrize("tokenizer", [one for one, _ in EACH], ids=[name for _, name in EACH])
texts = st.lists(
    st.sampled_from(
        ["the", "cats", "lowest", "newer", "mats,", " ", "\n", "zq", "Straße", "猫", "▁", "[UNK]", DOCUMENT]
    )
    | st.text("abcdelorstw n", max_size=5)
).map("".join)


def pieces_of(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.inner.id_to_token(int(i)) for i in tokenizer.encode([text])[0]]


@given(texts)
def test_characters_are_characters(text):
    known = {character for example in TEXTS for character in example}
    assert pieces_of(CHARS, text) == [character if character in known else "[UNK]" for character in text]
    assert CHARS.lost_bytes([text]) == sum(len(character.encode()) for character in text if character not in known)


@given(texts)
def test_words_are_merged_as_sennrich_wrote_it(text):
    model = json.loads(PAIRS.inner.to_str())["model"]
    vocabulary, merges = model["vocab"], [tuple(merge) for merge in model["merges"]]
    expected: list[str] = []
    for word in re.findall(r"\w+|[^\w\s]", text):
        symbols = [s if s in vocabulary else None for s in [*word[:-1], word[-1] + "</w>"]]
        while True:
            pairs = {pair: merges.index(pair) for pair in pairwise(symbols) if pair in merges}
            if not pairs:
                break
            best = min(pairs, key=pairs.__getitem__)
            place = list(pairwise(symbols)).index(best)
            symbols[place : place + 2] = ["".join(best)]
        expected += [symbol or "[UNK]" for symbol in symbols]
    assert pieces_of(PAIRS, text) == expected


@given(texts)
def test_the_longest_piece_comes_first(text):
    text = text.replace("▁", "")  # a letter to this reference, a symbol to BERT, whose symbols do not end words
    vocabulary = PIECES.inner.get_vocab()
    expected: list[str] = []
    for word in re.findall(r"[^\W_]+|[^\w\s]|_", text):
        found, start = [], 0
        while start < len(word):
            fits = (("##" if start else "") + word[start:stop] for stop in range(len(word), start, -1))
            piece = next((piece for piece in fits if piece in vocabulary), None)
            if piece is None:
                found = ["[UNK]"]
                break
            found.append(piece)
            start += len(piece) - 2 * bool(start)
        expected += found
    assert pieces_of(PIECES, text) == expected


@given(st.lists(st.sampled_from(["the", "cats", "lowest", "newest", "sat", " ", "mats"])).map("".join))
def test_unigram_takes_the_likeliest_pieces(text):
    """Viterbi's algorithm, slowly. Pieces may differ where two ways are equally likely: the likelihood may not."""
    scores = dict(json.loads(UNIGRAMS.inner.to_str())["model"]["vocab"])
    scores.pop("[UNK]")
    written = text.replace(" ", "▁")
    best = [0.0]
    for stop in range(1, len(written) + 1):
        ways = (best[start] + scores.get(written[start:stop], -math.inf) for start in range(stop))
        best.append(max(ways))
    found = pieces_of(UNIGRAMS, text)
    assert "".join(found) == written
    assert sum(scores[piece] for piece in found) == pytest.approx(best[-1])


@each
@given(text=texts)
def test_lost_bytes_are_what_the_pieces_do_not_spell(tokenizer, text):
    """Counted from the pieces alone: what they spell, one after the other, is found in the text, and the rest is lost."""
    lost, at = len(text.encode()), 0
    for piece in pieces_of(tokenizer, text):
        if piece == "[UNK]":
            continue
        spelt = piece.removeprefix("##").removesuffix("</w>")
        spelt = spelt.replace("▁", " ") if tokenizer is UNIGRAMS else spelt
        found = text.find(spelt, at)
        if found < 0:  # a space that stands for U+2581
            continue
        lost, at = lost - len(spelt.encode()), found + len(spelt)
    if "▁" not in text:
        assert tokenizer.lost_bytes([text]) == lost
    assert not tokenizer.lossless
    assert tokenizer.document_id not in tokenizer.encode([text])[0]


@given(st.lists(st.sampled_from(["the", "cats", "lowest", "\n", " ", "  "])).map("".join))
def test_characters_and_unigrams_lose_nothing_that_they_know(text):
    for tokenizer in (CHARS, UNIGRAMS):
        assert tokenizer.lost_bytes([text]) == 0
        assert tokenizer.decode(tokenizer.encode([text])[0]) == text


def test_a_space_stands_for_what_unigram_writes_spaces_with():
    assert UNIGRAMS.decode(UNIGRAMS.encode(["▁"])[0]) == " "
    assert UNIGRAMS.lost_bytes(["▁"]) == len("▁".encode())


def test_what_comes_back():
    assert CHARS.decode(CHARS.encode(["the cat\n sat"])[0]) == "the cat\n sat"
    assert UNIGRAMS.decode(UNIGRAMS.encode([" the  cats"])[0]) == " the  cats"
    assert PAIRS.decode(PAIRS.encode(["the  lowest,cats"])[0]) == "the lowest , cats"
    assert PIECES.decode(PIECES.encode(["the  lowest,cats"])[0]) == "the lowest , cats"


RECIPES: list[type[Recipe]] = [BPE, Byte, Word, Char, BPEWord, WordPiece, Unigram]


@pytest.mark.parametrize("recipe", RECIPES)
def test_special_tokens_are_those_asked_for(recipe, tmp_path):
    size = 257 if recipe is Byte else 420
    plain = recipe(size).train(iter(TEXTS))
    assert {*plain.specials} - {"[UNK]"} == {DOCUMENT}
    assert plain.id("cls") == plain.id("pad") == plain.id("end") == plain.id("document") == plain.document_id
    with pytest.raises(RequestError, match=r"has no \[MASK\] or <mask>; model.special .* mask is needed"):
        plain.id("mask")
    special = ["cls", "sep", "mask", "pad", "end", "sentinels"]
    made = recipe(size, special=special).train(iter(TEXTS))
    assert {*made.specials} - {"[UNK]"} == {"[CLS]", "[SEP]", "[MASK]", "[PAD]", "</s>", *SENTINELS}
    assert made.id("cls") == made.document_id
    assert len({made.id(role) for role in special[:-1]}) == 5
    assert [made.inner.id_to_token(int(i)) for i in made.sentinels] == list(SENTINELS)
    text = "the [MASK] </s> <extra_id_3> [CLS] cats"
    made.save(tmp_path)
    for tokenizer in (made, Tokenizer.load(tmp_path)):
        assert not {*tokenizer.specials.values()} - {tokenizer.unknown_id} & {*tokenizer.encode([text])[0].tolist()}
        assert tokenizer.id("mask") == made.id("mask")


def test_the_size_counts_special_tokens():
    assert BPEWord(70, special=["cls", "mask"]).train(iter(TEXTS)).vocab_size == 70
    assert Unigram(70, special=["cls", "mask"]).train(iter(TEXTS)).vocab_size <= 70
    with pytest.raises(RequestError, match=r"vocab_size=50: tokenizer=bpe_word needs 103 or more with .* sentinels"):
        BPEWord(50, special=["sentinels"])
    with pytest.raises(RequestError, match=r"model.special=\['cls', 'masc'\]: each once from cls, sep, mask"):
        Char(50, special=["cls", "masc"])


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (BPEWord(70), r"vocab_size=70: the letters of the training text alone are \d{3} tokens"),
        (WordPiece(70), r"vocab_size=70: the letters of the training text alone are \d{3} tokens"),
        (Unigram(70), r"vocab_size=70: no pieces can be chosen .*more than the training text has characters"),
    ],
)
def test_more_letters_than_tokens(recipe, message):
    many = ["".join(chr(0x4E00 + 7 * n + k) for n in range(30)) for k in range(5)]
    with pytest.raises(RequestError, match=message) as raised:
        recipe.train(iter(many))
    number = re.search(r"alone are (\d+)", str(raised.value))
    if number:
        assert type(recipe)(int(number[1])).train(iter(many)).vocab_size == int(number[1])


def test_published_unigrams_take_no_text_for_a_special_token(tmp_path):
    """Whose special tokens are among the pieces, as T5's are."""
    inner = tokenizers.Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    inner.train_from_iterator(TEXTS, trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="<unk>"))
    inner.add_special_tokens(special)
    inner.save(str(tmp_path / "tokenizer.json"))
    loaded = Tokenizer.load(tmp_path, begins=False)
    inner.encode_special_tokens = True
    for text in (*TEXTS, "newest 猫 cats", "zzz"):
        assert loaded.encode([text])[0].tolist() == inner.encode(text).ids
    assert {0, 1} <= {*inner.encode("a </s> b<pad>").ids}
    assert not {0, 1} & {*loaded.encode(["a </s> b<pad>"])[0].tolist()}


def published(folder, **changes) -> None:
    """A folder as `save_pretrained` writes it: BERT's tokenizer with a small vocabulary, made by transformers."""
    from transformers import BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "sat"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}, **changes).save_pretrained(folder)


def test_a_published_tokenizer_keeps_its_numbers(tmp_path):
    from transformers import AutoTokenizer

    published(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    recipe = Pretrained(path=str(tmp_path), special=["cls", "sep", "mask", "pad"])
    ours = recipe.train(iter(()))
    text = "The cats sat zebra [MASK]"
    assert (
        ours.encode(["The cats sat zebra"])[0].tolist()
        == theirs("The cats sat zebra", add_special_tokens=False).input_ids
    )
    assert (ours.document_id, ours.id("sep"), ours.id("mask"), ours.id("pad")) == (
        theirs.cls_token_id,
        theirs.sep_token_id,
        theirs.mask_token_id,
        theirs.pad_token_id,
    )
    assert theirs.mask_token_id not in ours.encode([text])[0]
    assert ours.lost_bytes(["the cats"]) == 1
    assert ours.lost_bytes(["The cats"]) == 4  # its capital letter is not to be had again
    assert recipe.fingerprint() == Pretrained(path=f"{tmp_path}/tokenizer.json", special=recipe.special).fingerprint()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": None}, "tokenizer.path: needs a tokenizer.json"),
        ({"path": "nowhere"}, "tokenizer.path=nowhere: no tokenizer.json there"),
        ({"vocab_size": 5}, "tokenizer.vocab_size=5: .* has 9 tokens; allow as many"),
        ({"special": ["sentinels"]}, "has no <extra_id_0>, which model.special asks for"),
    ],
)
def test_a_published_tokenizer_that_does_not_fit(settings, message, tmp_path):
    published(tmp_path)
    with pytest.raises(RequestError, match=message):
        Pretrained(**{"path": str(tmp_path)} | settings).train(iter(()))


def test_a_tokenizer_of_a_run_can_be_used_again(tmp_path):
    WordPiece(90, special=["cls", "mask"]).train(iter(TEXTS)).save(tmp_path)
    again = Pretrained(path=str(tmp_path), special=["cls", "mask"]).train(iter(()))
    assert again.encode(TEXTS[:1])[0].tolist() == Tokenizer.load(tmp_path).encode(TEXTS[:1])[0].tolist()
    with pytest.raises(RequestError, match=r"has no \[SEP\] or </s>, which model.special asks for"):
        Pretrained(path=str(tmp_path), special=["sep"]).train(iter(()))
