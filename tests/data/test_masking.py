"""Hidden tokens: which, how many, what stands in their place; the same whatever shares the work."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lab.data.masking import Masking, NextSentence
from lab.data.module import MaskedModule
from lab.data.packing import Packed, Padded
from lab.data.store import prepare
from lab.data.tokenizers import Byte
from lab.errors import RequestError
from lab.layout import IGNORE
from tests.data.conftest import Texts, sentences

ROLES = ("cls", "sep", "mask", "pad")
CONTEXT = 24


@pytest.fixture
def prepared():
    return prepare(Texts(sentences(80)), Byte(special=ROLES), {"validation": 0.2}, progress=False)


def module(prepared, masking=None, packing=None, rows=8, accumulate=1, seed=0, rank=0, world=1) -> MaskedModule:
    made = MaskedModule(prepared, packing or Packed(), CONTEXT, rows, accumulate, seed, masking=masking or Masking())
    made.trainer = SimpleNamespace(global_rank=rank, world_size=world)
    return made


def documents(tokens, sep):
    """Each document with its separator."""
    pieces = np.split(tokens.ids.astype(int), tokens.offsets[1:-1])
    return [np.append(piece, sep) for piece in pieces]


@pytest.mark.parametrize("packing", [Packed(), Padded(), Packed(mask=False, restart=False)], ids=str)
def test_rows_are_the_documents_each_closed_with_some_tokens_hidden(prepared, packing):
    tokenizer = prepared.tokenizer
    special = [tokenizer.id(role) for role in ROLES]
    whole = documents(prepared.validation, tokenizer.id("sep"))
    stream = np.concatenate(whole)
    rows = module(prepared, packing=packing).validation_rows
    read = []
    for number in range(len(rows)):
        batch = rows.batch(np.array([number]))
        tokens, targets = batch.tokens[0].numpy(), batch.targets[0].numpy()
        real, hidden = ~batch.layout.padding[0].numpy(), targets != IGNORE
        plain = np.where(hidden, targets, tokens)
        choosable = real & ~np.isin(plain, special)
        assert not (hidden & ~choosable).any()
        expected = max(1, round(0.15 * choosable.sum())) if choosable.any() else 0
        assert hidden.sum() == expected == batch.counted == batch.scored == rows.scored(np.array([number]))
        assert rows.read(np.array([number])) == real.sum()
        read.append(plain[real])
    assert np.concatenate(read).tolist() == stream.tolist()


def test_four_fifths_become_the_mask_and_a_tenth_another_token(prepared):
    mask, fates = prepared.tokenizer.id("mask"), []
    data = module(prepared, rows=len(module(prepared).train_rows))
    for step in range(25):
        batch = data.training_batch(step)
        hidden = batch.targets != IGNORE
        fates.append((batch.tokens[hidden].numpy(), batch.targets[hidden].numpy()))
    stands, was = (np.concatenate(side) for side in zip(*fates, strict=True))
    assert len(stands) > 6000
    assert (stands == mask).mean() == pytest.approx(0.8, abs=0.02)
    assert ((stands != mask) & (stands != was)).mean() == pytest.approx(0.1, abs=0.015)
    assert not np.isin(stands[stands != mask], list(prepared.tokenizer.specials.values())).any()
    assert len(np.unique(stands[(stands != mask) & (stands != was)])) > 200  # of 256 bytes


def test_shares_are_as_configured(prepared):
    rows = module(prepared, Masking(share=0.5, mask=0.0, random=1.0)).train_rows
    batch = rows.batch(np.arange(len(rows)))
    hidden = batch.targets != IGNORE
    assert hidden.sum() / (~batch.layout.padding).sum() == pytest.approx(0.5, abs=0.03)
    assert (batch.tokens[hidden] != batch.targets[hidden]).float().mean() > 0.98  # 1 in 256 draws itself


@pytest.mark.parametrize("masking", [Masking(), NextSentence()], ids=["masked", "next_sentence"])
def test_what_is_hidden_is_the_same_for_any_ranks_and_micro_batches(prepared, masking):
    whole = module(prepared, masking).training_batch(3)
    for accumulate, world in ((1, 2), (4, 1), (2, 4)):
        shares = [
            module(prepared, masking, accumulate=accumulate, rank=rank, world=world).training_batch(
                3 * accumulate + part
            )
            for part in range(accumulate)
            for rank in range(world)
        ]
        assert {share.scored for share in shares} == {whole.scored}
        assert {share.read for share in shares} == {whole.read}
        assert sum(share.counted for share in shares) == whole.scored
        width = whole.tokens.shape[1]
        for name in ("tokens", "targets"):
            rows = [row[:width].tolist() for share in shares for row in getattr(share, name)]
            for mine, reference in zip(rows, getattr(whole, name).tolist(), strict=True):
                assert mine == reference[: len(mine)]


def test_masks_are_new_at_every_step_unless_static(prepared):
    def hidden(masking, step, seed=0):
        rows = module(prepared, masking, seed=seed).rows_at(step)
        return (rows.batch(np.arange(6)).targets != IGNORE).tolist()

    assert hidden(Masking(), 3) == hidden(Masking(), 3)
    assert len({str(hidden(Masking(), step, seed)) for step in (3, 4) for seed in (0, 1)}) == 4
    static = Masking(dynamic=False)
    assert hidden(static, 3) == hidden(static, 4) != hidden(static, 3, seed=1)


@pytest.mark.parametrize("kind", [Masking, NextSentence])
def test_validation_hides_the_same_whatever_the_seed_and_whatever_training_hides(prepared, kind):
    """Who leaves answers in plain sight while it trains is not asked those."""
    others = [kind(), kind(share=0.4, mask=0.4, random=0.0), kind(dynamic=False)]
    asked = [list(module(prepared, each, seed=seed).val_dataloader()) for seed, each in enumerate(others)]
    for name in ("tokens", "targets"):
        assert len({str([getattr(batch, name).tolist() for batch in batches]) for batches in asked}) == 1


@pytest.mark.parametrize("context", [16, CONTEXT, 64])
def test_no_length_tells_whether_a_piece_follows(prepared, context):
    """Halves of one chunk are equally long; if those of two were not, nobody had to read."""
    data = MaskedModule(prepared, Packed(), context, 8, 1, 0, masking=NextSentence())
    follows, equal = [], []
    for step in range(30):
        batch = data.rows_at(step).batch(np.arange(len(data.train_rows)))
        second = batch.segments.sum(1)
        first = torch.from_numpy(batch.lengths) - second
        follows.append(batch.follows)
        equal.append((second - first).clamp(-1, 2))
    follows, equal = torch.cat(follows).double(), torch.cat(equal)
    for difference in equal.unique():
        asked = equal == difference
        assert follows[asked].mean() == pytest.approx(0.5, abs=0.05 + 2 / math.sqrt(asked.sum()))


def test_a_resumed_run_reads_the_same(prepared):
    stream = iter(module(prepared).train_dataloader())
    expected = [next(stream) for _ in range(5)][3:]
    again = module(prepared)
    again.load_state_dict(again.state_dict() | {"consumed": 3})
    resumed = iter(again.train_dataloader())
    for batch in expected:
        assert next(resumed).tokens.tolist() == batch.tokens.tolist()


def test_second_pieces_follow_in_half_of_the_rows_and_are_of_other_documents_in_the_rest(prepared):
    tokenizer = prepared.tokenizer
    cls, sep = tokenizer.id("cls"), tokenizer.id("sep")
    whole = [" ".join(map(str, document[1:-1])) for document in documents(prepared.train, sep)]
    data = module(prepared, NextSentence())
    follows = []
    for step in range(20):
        batch = data.training_batch(step)
        assert batch.pairs == len(batch.tokens) == 8
        assert batch.tokens.shape[1] <= CONTEXT
        for row in range(8):
            real = ~batch.layout.padding[row]
            tokens = batch.tokens[row].where(batch.targets[row] == IGNORE, batch.targets[row])[real].tolist()
            segments = batch.segments[row][real].tolist()
            assert len(tokens) == batch.lengths[row]
            assert tokens[0] == cls
            first, second = (" ".join(map(str, piece)) for piece in split(tokens[1:], sep))
            assert segments == [0] * (tokens.index(sep) + 1) + [1] * (len(tokens) - tokens.index(sep) - 1)
            together = f"{first} {second}"
            if batch.follows[row]:
                assert any(together in document for document in whole)
            else:
                assert any(second in document for document in whole)
            follows.append(int(batch.follows[row]))
    assert 0.35 < np.mean(follows) < 0.65


def split(tokens, sep):
    first = tokens.index(sep)
    assert tokens[-1] == sep
    return tokens[:first], tokens[first + 1 : -1]


def test_the_other_document_is_another():
    """Each document is one letter, so a second piece of the same one would show."""
    texts = [letter * (10 + 7 * n) for n, letter in enumerate("abcdefgh")]
    prepared = prepare(Texts(texts), Byte(special=ROLES), {"validation": 0.3}, progress=False)
    rows = module(prepared, NextSentence(mask=0.0, random=0.0), rows=2).train_rows
    batch = rows.batch(np.arange(len(rows)))
    for tokens, follows in zip(batch.tokens.tolist(), batch.follows.tolist(), strict=True):
        pieces = split(
            tokens[1 : len(tokens) - tokens[::-1].index(prepared.tokenizer.id("sep"))], prepared.tokenizer.id("sep")
        )
        assert (set(pieces[0]) == set(pieces[1])) == bool(follows)


def test_an_emptied_batch_asks_nothing(prepared):
    batch = module(prepared, NextSentence()).validation_rows.batch(np.arange(3)).emptied()
    assert (batch.targets == IGNORE).all()
    assert (batch.follows == IGNORE).all()
    assert batch.pairs == batch.scored == batch.counted == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 0.0}, "objective.masking.share: 0.0; a share of the tokens, over 0 and under 1"),
        ({"share": 1}, "objective.masking.share: 1; a share"),
        ({"mask": 1.2}, "objective.masking.mask: 1.2; a share of what is guessed, from 0 to 1"),
        ({"random": 0.3}, "objective.masking.random: 0.3; with objective.masking.mask of 0.8 more than all"),
    ],
)
def test_shares_out_of_range_are_refused(settings, message):
    with pytest.raises(RequestError, match=message.replace(".", r"\.")):
        Masking(**settings)


def test_a_tokenizer_without_a_mask_is_refused():
    plain = prepare(Texts(sentences(40)), Byte(), {"validation": 0.2}, progress=False)
    with pytest.raises(RequestError, match=r"^tokenizer: has no \[MASK\] or <mask>; model\.special"):
        module(plain)
