"""Tasks ask for what a reader of the row would answer, and say truly how far back it stands."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lab.data.module import Batches, make_batches
from lab.data.packing import Packed
from lab.data.tasks import ASK, BEGIN, Copy, Induction, MultiRecall, Needle, Recall, Reverse, Task
from lab.errors import RequestError
from lab.layout import IGNORE, PADDING

SIZES = {"length": 25, "symbols": 12, "train": 200, "validation": 50}
TASKS: list[Task] = [
    Copy(**SIZES),
    Reverse(**SIZES),
    Induction(**SIZES),
    Recall(**SIZES),
    MultiRecall(**SIZES, pairs=4, power=0.3),
    Needle(**SIZES),
]
each = pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)


def rows(task: Task, training: bool = True) -> list[tuple[list[int], dict[int, int], dict[int, int]]]:
    """Of each row its tokens, what is asked after which place, and the distances."""
    part = task.part(training)
    batch = part.batch(np.arange(len(part)))
    found = []
    for tokens, targets, distances, documents in zip(
        batch.tokens.tolist(),
        batch.targets.tolist(),
        batch.distances.tolist(),
        batch.layout.documents.tolist(),
        strict=True,
    ):
        length = sum(number != PADDING for number in documents)
        asked = {place: target for place, target in enumerate(targets) if target != IGNORE}
        assert max(asked) < length
        assert {place for place, distance in enumerate(distances) if distance} == set(asked)
        found.append((tokens[:length], asked, {place: distances[place] for place in asked}))
    return found


@each
def test_an_answer_repeats_what_stands_at_its_distance(task):
    for tokens, asked, distances in rows(task):
        assert tokens[0] == BEGIN
        assert len(tokens) <= task.length
        for place, target in asked.items():
            assert tokens[place + 1 - distances[place]] == target
        for place in set(asked) & set(range(len(tokens) - 1)):
            assert tokens[place + 1] == asked[place]


def test_copies_and_reversals():
    for task in TASKS[:2]:
        for tokens, asked, _ in rows(task):
            middle = tokens.index(ASK)
            wanted = tokens[1:middle] if isinstance(task, Copy) and not task.backwards else tokens[middle - 1 : 0 : -1]
            assert list(asked) == list(range(middle, 2 * middle - 1))
            assert list(asked.values()) == wanted


def test_induction_goes_on_as_before():
    for tokens, asked, _ in rows(TASKS[2]):
        count = len(tokens) // 2
        first = tokens[1 : count + 1]
        assert len(set(first)) == count
        assert [asked[place] for place in range(count + 1, 2 * count)] == first[1:]
        assert all(asked[place] == first[first.index(tokens[place]) + 1] for place in asked)


def test_recall_gives_the_value_of_the_key():
    for tokens, asked, _ in rows(TASKS[3]):
        pairs, (mark, key) = tokens[1:-2], tokens[-2:]
        values = dict(zip(pairs[::2], pairs[1::2], strict=True))
        assert len(values) == len(pairs) // 2
        assert mark == ASK
        assert asked == {len(tokens) - 1: values[key]}


def test_every_key_is_asked_for_once_among_many():
    task = TASKS[4]
    late = []
    for tokens, asked, _ in rows(task):
        values = dict(zip(tokens[1:9:2], tokens[2:9:2], strict=True))
        assert {tokens[place]: target for place, target in asked.items()} == values
        assert len(tokens) == task.length
        late += [place for place in asked if place > 9 + 8]
    soon = MultiRecall(**SIZES, pairs=4, power=0.01)
    sooner = [place for _, asked, _ in rows(soon) for place in asked if place > 9 + 8]
    even = MultiRecall(**SIZES, pairs=4, power=1.0)
    assert len(sooner) < len(late) < len([place for _, asked, _ in rows(even) for place in asked if place > 9 + 8])


def test_a_needle_is_found_at_every_distance():
    task = Needle(length=200, symbols=12, train=3000)
    distances = [distance for _, _, found in rows(task) for distance in found.values()]
    counts = np.histogram(distances, [3, 6, 12, 24, 48, 96, 192])[0]
    assert min(distances) == 3
    assert counts.min() > 0.7 * counts.max()
    for tokens, asked, _ in rows(task):
        assert tokens.count(tokens[-1]) == 2
        assert asked[len(tokens) - 1] == tokens[tokens.index(tokens[-1]) + 1]


@each
def test_rows_are_the_same_each_time_and_others_for_another_seed(task):
    def all_of(task: Task, training: bool = True) -> np.ndarray:
        return task.part(training).drawn.sequence

    assert np.array_equal(all_of(task), all_of(task))
    other = dataclasses.replace(task, seed=1)
    assert not np.array_equal(all_of(task)[:50], all_of(task, False)[:50])
    one, two = (make_batches(each, None, None, Packed(), 25, 8) for each in (task, other))  # type: ignore[arg-type]
    assert one.prepared.data_fingerprint != two.prepared.data_fingerprint


@each
def test_the_module_gives_them_and_the_tokenizer_writes_them(task):
    data = make_batches(task, None, None, Packed(), 25, 8, seed=1)  # type: ignore[arg-type]
    assert isinstance(data, Batches)
    batch = next(iter(data.train_dataloader()))
    assert batch.tokens.shape[0] == 8
    assert batch.scored == batch.counted == int((batch.targets != IGNORE).sum())
    assert batch.to("cpu").distances is not None
    tokenizer = data.prepared.tokenizer
    line = tokenizer.decode(batch.tokens[0].tolist())
    real = [int(token) for token in batch.tokens[0] if token != BEGIN]
    assert tokenizer.encode([line])[0].tolist() == real
    assert int(torch.stack([batch.tokens.max(), batch.targets.max()]).max()) < tokenizer.vocab_size
    assert sum(len(part.tokens) for part in data.val_dataloader()) == 50
    assert 0 <= data.facts["waste_share"] < 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Copy(length=5), "data.length=5: needs a whole number, 6 or more"),
        (lambda: Recall(symbols=2.5), "data.symbols=2.5: needs a whole number"),
        (lambda: MultiRecall(pairs=40), "data.pairs=40: needs data.symbols of 80 or more"),
        (lambda: MultiRecall(power=0), "data.power=0: needs a number over 0, at most 1"),
        (lambda: Needle(train=0), "data.train=0: needs a whole number, 1 or more"),
    ],
)
def test_tasks_that_cannot_be(make, message):
    with pytest.raises(RequestError, match=message):
        make()


@each
def test_what_is_trained_on_and_asked_too_is_counted(task):
    trained = {tuple(row) for row in task.drawn(True).sequence.tolist()}
    held = task.drawn(False)
    answers = [
        int(asked.sum()) for row, asked in zip(held.sequence.tolist(), held.asked, strict=True) if tuple(row) in trained
    ]
    data = make_batches(task, None, None, Packed(), 25, 5, 1, 0)
    assert data.facts["val/seen_share"] == pytest.approx(sum(answers) / held.asked.sum())


def test_a_task_of_few_rows_is_known_by_heart():
    data = make_batches(Copy(length=6, symbols=4, train=2000, validation=50), None, None, Packed(), 6, 5, 1, 0)
    assert data.facts["val/seen_share"] == 1
