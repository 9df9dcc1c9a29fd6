"""Routes of tokens through experts, against tables counted by hand, another library's information, and planted chance."""

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

import lab as api
from lab.errors import RequestError
from lab.runs.subject import subject
from lab.views.chance import information, told
from lab.views.kinds import KINDS, kind, kinds
from lab.views.routes import Layer, Read, Routes
from lab.views.routing import routing
from lab.views.routing_text import verdict

WORDS = "preset=tiny ffn=moe model.dim=32 model.inner=32 tokenizer=bpe tokenizer.vocab_size=400"


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    words = ("ffn=moe", "model.inner=32", "ffn.experts=4", "trainer.validations=1")
    return api.train(api.compose(*small, *words), tmp_path_factory.mktemp("routing") / "run")


@pytest.fixture(scope="module")
def bpe():
    return subject(WORDS)


def routes(ids, kinds, *chosen, experts=4):
    """Of tokens a, b, ..., one expert each in each layer."""
    ids = np.asarray(ids)
    read = Read("text", ids, np.asarray(kinds), {i: chr(97 + i) for i in range(int(ids.max()) + 1)})
    return Routes("a text", [Layer(str(i + 1), read, experts, np.asarray(c)) for i, c in enumerate(chosen)])


def test_information_is_what_another_library_says():
    random = np.random.default_rng(0)
    one, two = random.integers(0, 5, 300), random.integers(0, 3, 300)
    two = np.where(random.random(300) < 0.5, one % 3, two)
    table = np.zeros((5, 3))
    np.add.at(table, (one, two), 1)
    assert information(table) == pytest.approx(mutual_info_score(one, two) / np.log(2))
    assert information(np.eye(4)) == pytest.approx(2)
    assert information(np.outer([1, 2, 3], [4, 5])) == pytest.approx(0)


def test_what_does_not_depend_is_above_chance_about_once_in_twenty():
    random = np.random.default_rng(1)
    above = sum(
        told(random.integers(0, 3, 200), np.eye(4)[random.integers(0, 4, 200)], 3, seed=n, shuffles=99).above
        for n in range(100)
    )
    assert above <= 12  # 5 expected; 13 or more once in 700 times
    labels = random.integers(0, 3, 200)
    assert told(labels, np.eye(4)[labels], 3).above


def text_like(seed):
    """3,000 tokens of 200 words as frequent as those of a text, the ten most frequent of one kind, and which are of which."""
    random = np.random.default_rng(seed)
    shares = 1 / np.arange(1, 201)
    ids = random.choice(200, 3000, p=shares / shares.sum())
    return random, ids, np.where(ids < 10, 0, 1 + ids % 3)


def test_experts_by_word_are_by_kind_no_oftener_than_by_chance():
    above = told_apart = 0
    for seed in range(60):
        random, ids, of_kind = text_like(seed)
        by_word = random.integers(0, 8, 200)[ids]  # any expert, but always the same for a word
        layer = layer_of(ids, of_kind, by_word)
        told_apart += layer.kind_told.above
        above += layer.kind_told_of_words.above
    assert told_apart == 60  # shuffled over tokens alone, every one of them would be called specialised
    assert above <= 8  # 3 expected; 9 or more once in 300 times


def test_experts_by_kind_are_by_kind():
    random, ids, of_kind = text_like(1)
    layer = layer_of(ids, of_kind, 2 * of_kind + random.integers(0, 2, 3000))
    assert layer.kind_told_of_words.above
    assert verdict(layer) == "by kind"
    assert verdict(layer_of(ids, of_kind, random.integers(0, 8, 3000))) == "not above chance"


def layer_of(ids, of_kind, experts):
    return Layer("1", Read("text", ids, of_kind, {i: str(i) for i in range(200)}), 8, experts[:, None])


def test_figures_of_a_layer_counted_by_hand():
    #      a       a       b       c
    one = [[0, 1], [0, 1], [1, 2], [3, 1]]
    layer = routes([0, 0, 1, 2], [0, 0, 3, 4], one).layers[0]
    assert layer.load.tolist() == [2 / 8, 4 / 8, 1 / 8, 1 / 8]
    assert layer.uneven == 2
    assert layer.by_kind[0].tolist() == [2, 2, 0, 0]
    (first,) = layer.taken(0)
    assert (first.token, first.count, first.share, first.excess) == ("a", 2, 1, 2 - 4 * 2 / 8)
    pairs = layer.together
    expected = np.outer(layer.load, layer.load)
    np.fill_diagonal(expected, 0)
    expected *= 8 / expected.sum()  # four tokens, each pair counted in both directions
    assert pairs[0, 1] == pytest.approx(2 / expected[0, 1])
    assert pairs[0, 2] == pairs[0, 0] == 0


def test_changes_stand_beside_chance_and_groups_share_a_route():
    random = np.random.default_rng(3)
    first = random.integers(0, 4, 400)
    found = routes(first, np.zeros(400, int), first[:, None], ((first + 1) % 4)[:, None], experts=4)
    (change,) = found.changes
    assert change.stay == 0
    assert change.stay_by_chance == pytest.approx(
        sum(np.mean(first == e) * np.mean((first + 1) % 4 == e) for e in range(4))
    )
    assert change.told.bits == pytest.approx(information(np.diag(np.bincount(first))))
    assert change.told.above
    assert {(group.route, *group.tokens) for group in found.groups} == {
        ((e + 1, (e + 1) % 4 + 1), chr(97 + e)) for e in range(4)
    }
    assert all(group.follow == 1 and 0.15 < group.chance < 0.35 for group in found.groups)


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("12", False, "digits"), ("...", False, "punctuation"), (" the", False, "words"), ("\n\n", False, "white space"),
        ("(", False, "punctuation"), ("(", True, "brackets"), (" ==", True, "operators"), (" ==", False, "punctuation"),
        ("def", True, "keywords"), ("def", False, "words"), (" def", True, "keywords"), ("x1", True, "words"),
        ("ñ", False, "words"), (".", True, "punctuation"),
    ],
)  # fmt: skip
def test_what_a_token_is_by_its_spelling(text, code, expected):
    from tokenizers import Tokenizer as Inner
    from tokenizers import decoders, models, pre_tokenizers

    from lab.data.tokenizers import Tokenizer

    letters = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    spelt = "".join(piece for piece, _ in letters)
    inner = Inner(models.BPE({spelt: 0}, []))
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<|document|>"])
    tokenizer = Tokenizer(inner)
    assert kind(tokenizer, 0, code) == expected
    assert kind(tokenizer, 1, code) == "special"


def test_words_are_common_until_half_of_all_and_rare_after_nine_tenths(bpe):
    tokenizer = bpe.tokenizer
    ids = [int(tokenizer.encode([f" {word}"])[0][0]) for word in ("the", "of", "in", "is")]
    assert len(set(ids)) == 4
    text = np.repeat(ids, [50, 30, 15, 5])
    names = [KINDS[k] for k in kinds(tokenizer, text)[[0, 50, 80, 95]]]
    assert names == ["common words", "middle words", "middle words", "rare words"]


def test_the_validation_text_goes_where_the_router_said(run):
    from lab.runs.train import data_module

    found = routing(run, tokens=500)
    assert [layer.name for layer in found.layers] == ["1", "2"]
    ids, chosen = [], []
    for batch in data_module(run.config).val_dataloader():
        with api.record(run.model, "blocks.1.ffn.router") as seen, torch.no_grad():
            run.model(batch.tokens, batch.layout)
        real = ~batch.layout.padding
        ids.append(batch.tokens[real])
        chosen.append(seen["blocks.1.ffn.router"].chosen)
    assert np.array_equal(found.layers[1].read.ids, torch.cat(ids)[:500])
    assert np.array_equal(found.layers[1].chosen, torch.cat(chosen)[:500])
    assert not run.model.training


def test_a_text_longer_than_the_context_is_read_in_rows(run):
    text = "Document 7 says that 49 is the square of 7. " * 3
    (first, _) = routing(run, text).layers
    begin = run.tokenizer.document_id
    assert first.read.ids.tolist() == [
        token
        for start in range(0, len(text), 31)
        for token in [begin, *run.tokenizer.encode([text])[0][start : start + 31].tolist()]
    ]


def test_an_encoder_decoder_has_layers_that_read_either_side():
    made = subject("preset=switch model.dim=32 model.inner=32 tokenizer.vocab_size=400")
    found = routing(made, tokens=300)
    assert [(layer.name, layer.read.name) for layer in found.layers] == [
        ("encoder 2", "source"),
        ("decoder 2", "target"),
    ]
    assert len(found.layers[0].chosen) == len(found.layers[0].read.ids) == 300
    assert found.changes == []
    assert found.layers[0].together is None
    given = routing(made, "The value is a string.")
    assert given.layers[0].read.words[made.tokenizer.id("end")]


@pytest.mark.parametrize("width", ["60", "80", "200"])
def test_the_verb_shows_it_in_any_width_and_without_colour(run, lab, monkeypatch, width, tmp_path):
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("NO_COLOR", "1")
    page = tmp_path / "page.html"
    whole = lab("routing", run.folder, "--tokens", "400", "--html", page).out
    one = lab("routing", run.folder, "--tokens", "400", "--layer", "2").out
    assert max(map(len, (whole + one).splitlines())) <= int(width)
    assert "\x1b" not in whole + one
    assert whole.startswith("400 tokens of the validation text; 4 experts, 2 a token")
    assert "Where tokens of each kind go" in one
    assert page.read_text().count("<details>") == 2


def test_many_experts_are_shaded_where_numbers_do_not_fit(lab, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = lab("routing", f"{WORDS} ffn.experts=64", "The value of it.", "--layer", "1").out
    assert max(map(len, done.splitlines())) <= 80
    assert "a column for each expert" in done


def test_json_holds_shares_that_sum_to_one(run, lab):
    document = lab("routing", run.folder, "Document 12 says (that).", "--code", "--json").json
    assert (document["experts"], document["top_k"], document["text"]) == (4, 2, "the text given")
    for layer in document["layers"]:
        assert sum(layer["load"]) == pytest.approx(1, abs=1e-4)
        assert sum(map(sum, layer["kinds"].values())) == 2 * layer["tokens"]
        assert layer["kinds"]["brackets"]
    assert np.sum(document["changes"][0]["counts"]) == document["layers"][0]["tokens"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("preset=tiny", "abc"), "preset=tiny: ffn=gated has no experts; there are no routes to show"),
        ((WORDS, ""), "TEXT: is empty"),
        ((WORDS, "abc", "--layer", "3"), "--layer: 3; layers 1, 2 have experts"),
        ((WORDS, "--tokens", "0"), "--tokens: 0; at least 1"),
        ((WORDS, "abc", "--tokens", "2"), "--tokens: of the validation text; a TEXT is read whole"),
        ((f"{WORDS} tokenizer=word", "zyxwv"), "TEXT: the run's tokenizer has no token for 'zyxwv'"),
    ],
)
def test_what_cannot_be_shown_is_said(lab, words, message):
    done = lab("routing", *words)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


def test_data_that_changed_since_is_not_taken_for_the_run_s(run, monkeypatch):
    from lab.runs import train

    other = subject("preset=tiny tokenizer=bpe tokenizer.vocab_size=300").prepared
    monkeypatch.setattr(train, "data_module", lambda config: type("Data", (), {"prepared": other}))
    with pytest.raises(RequestError, match="its data gives another tokenizer now"):
        routing(run)
