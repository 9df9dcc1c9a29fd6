"""What is shown of tokenizers, against the tokenizers themselves."""

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers

from lab.data.tokenizers import BPE, Tokenizer, Word
from lab.errors import RequestError
from lab.views.tokens import cut, show, to_html

TEXT = "the lowest newer lower low new " * 20


@pytest.fixture(scope="module")
def bpe():
    return BPE(300).train(iter([TEXT]))


def joined(tree):
    return tree if isinstance(tree, str) else "".join(map(joined, tree))


@given(st.text(min_size=1))
def test_pieces_are_the_text(bpe, text):
    """Of a tokenizer of bytes: every byte stands in one piece, and a piece is what it was merged from."""
    found = cut(bpe, text, "bpe")
    assert [token.id for token in found.tokens] == bpe.encode([text])[0].tolist()
    raw = b"".join(
        bytes.fromhex(token.text.replace("\\x", "")) if token.text.startswith("\\x") and len(token.text) > 3
        else token.text.encode() for token in found.tokens
    )  # fmt: skip
    if "\\x" not in text:
        assert raw == text.encode()
    figures = found.figures()
    assert figures["tokens"] * figures["bytes_per_token"] == pytest.approx(len(text.encode()))


def test_a_piece_shows_the_rules_that_made_it():
    inner = tokenizers.Tokenizer(
        models.BPE({"l": 0, "o": 1, "w": 2, "lo": 3, "low": 4, "<|document|>": 5}, [("l", "o"), ("lo", "w")])
    )
    inner.add_special_tokens(["<|document|>"])
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    (token,) = cut(Tokenizer(inner), "low", "by hand").tokens
    assert token.merged == [["l", "o"], "w"]


def test_merges_end_in_the_piece(bpe):
    merged = [token for token in cut(bpe, TEXT, "bpe").tokens if isinstance(token.merged, list)]
    assert merged
    assert all(joined(token.merged) == token.text for token in merged)


def test_what_a_tokenizer_does_not_know_is_marked():
    found = cut(Word(40).train(iter([TEXT])), "the zebra", "word")
    assert [(token.text, token.kind) for token in found.tokens] == [("the", "text"), ("zebra", "unknown")]
    assert found.figures()["unknown"] == 1


def test_special_tokens_of_a_published_tokenizer_are_marked_and_not_counted():
    inner = tokenizers.Tokenizer(models.WordLevel({"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "hello": 3}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.add_special_tokens(["[CLS]", "[SEP]"])
    inner.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0))
    found = cut(Tokenizer(inner), "hello", "bert")
    assert [token.kind for token in found.tokens] == ["special", "text", "special"]
    assert found.figures()["characters_per_token"] == 5


def test_any_file_will_do_with_bytes_for_what_it_does_not_know(lab, tmp_path):
    """One without special tokens, which spells by bytes as sentencepiece's do."""
    names = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"a": 256, "b": 257, "ab": 258}
    tokenizers.Tokenizer(models.BPE(names, [("a", "b")], byte_fallback=True)).save(str(tmp_path / "any.json"))
    (found,) = lab("tokens", "abcé", "--with", "any.json", "--json").json
    assert [piece["text"] for piece in found["pieces"]] == ["ab", "c", "\\xC3", "\\xA9"]
    refused = lab("tokens", "abc", "--with", "any.json", "tokenizer.vocab_size=300")
    assert (refused.code, refused.out) == (2, "")
    assert "tokenizer.vocab_size=300: is for a tokenizer that is made" in refused.err


@pytest.mark.parametrize("width", [20, 80])
def test_a_piece_stands_whole_in_its_line(bpe, monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", str(width))
    found = cut(bpe, "the lowest\tnewer lower low new zebra " * 5, "bpe")
    show([found])
    lines = capsys.readouterr().out.splitlines()
    pieces = [line for line in lines if "│" in line]
    assert max(map(len, pieces)) <= width
    assert all(line.endswith("│") for line in pieces[:-1])
    assert "".join(pieces).split("│") == [token.text.replace("\t", "⇥") for token in found.tokens]


def test_a_page_has_a_table_of_what_a_touch_cannot_point_at(bpe):
    page = to_html([cut(bpe, "lowest", "bpe")])
    for token in cut(bpe, "lowest", "bpe").tokens:
        assert f"<tr><td>{token.id}</td><td>{token.text}</td>" in page


def test_a_page_holds_text_as_text(bpe):
    page = to_html([cut(bpe, "<script>&", "<b>")])
    assert "<script>" not in page
    assert "&lt;b&gt;" in page


def test_nothing_to_cut_is_refused(bpe):
    with pytest.raises(RequestError, match="TEXT: is empty"):
        cut(bpe, "", "bpe")


def test_the_verb(lab, corpus, tmp_path):
    words = ("--with", "byte", "--with", "char", "--html", "t.html", "data=files", f"data.path={corpus}")
    out = lab("tokens", "low low", *words)
    assert out.out.count("7 tokens") == 2
    assert "l│o│w│ │l│o│w" in out.out
    assert (tmp_path / "t.html").read_text().startswith("<!doctype html>")
    found = lab("tokens", "a", "--with", "byte", "--json", *words[-2:]).json
    assert found[0]["pieces"][0] | {"id": 0} == {"id": 0, "token": "a", "text": "a", "kind": "text", "merged": "a"}
    assert lab("tokens", "a", "--with", "nothing").err.startswith("lab tokens: --with nothing: no such file or folder")
