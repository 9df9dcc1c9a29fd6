"""Conversations: what is learnt is what the assistant says and where it ends; several share a row without seeing each other."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lab
from lab.config import construct
from lab.data.chat import SPEAKERS, Chats, Template, Turns
from lab.data.examples import Example
from lab.data.joined import Joined, fill
from lab.data.module import JoinedModule, make_batches
from lab.data.packing import Packed, Padded
from lab.data.split import Split
from lab.data.store import Prepared, Tokens
from lab.data.tokenizers import Byte
from lab.errors import RequestError
from lab.layout import IGNORE
from lab.runs.train import data_module

ROLES = ("system", "user", "assistant", "end")
SPECIAL = f"model.special=[{','.join(ROLES)}]"


def conversation(n: int) -> list[dict]:
    turns = [("system", "Be brief."), ("user", f"What comes after {n}?"), ("assistant", f"{n + 1}.")]
    turns += [("user", "And then?"), ("assistant", f"{n + 2}.")] * (n % 3)
    return [{"role": role, "content": content} for role, content in turns[n % 2 :]]


@pytest.fixture
def chats(tmp_path):
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps({"messages": conversation(n)}) + "\n" for n in range(120)))
    return path


def written(messages: list[dict]) -> str:
    return "".join(f"<|{each['role']}|>{each['content']}</s>" for each in messages)


def test_a_row_is_the_template_and_its_targets_what_the_assistant_says(chats):
    made = make_batches(Chats(str(chats)), Byte(special=ROLES), Split(0.3), Padded(), 200, 4)
    tokenizer, rows = made.prepared.tokenizer, made.validation_rows
    batch = rows.batch(np.arange(len(rows)))
    for row, number in enumerate(batch.examples):
        example = made.prepared.examples[number]
        messages = [{"role": r, "content": c} for r, c in zip(example.labels, example.texts, strict=True)]
        size = batch.lengths[row]
        text = tokenizer.inner.decode(batch.tokens[row, 1:size].tolist(), skip_special_tokens=False)
        assert text + "</s>" == written(messages)
        assert batch.tokens[row, 0] == tokenizer.document_id
        asked = batch.targets[row] != IGNORE
        said = "".join(f"{each['content']}</s>" for each in messages if each["role"] == "assistant")
        assert tokenizer.inner.decode(batch.targets[row][asked].tolist(), skip_special_tokens=False) == said
        followed = asked[: size - 1]
        assert torch.equal(batch.tokens[row, 1:size][followed], batch.targets[row, : size - 1][followed])
    says = [t for e in made.prepared.examples for t, r in zip(e.texts, e.labels, strict=True) if r == "assistant"]
    assert made.prepared.validation_bytes == sum(map(len, says))


TURNS = st.lists(st.tuples(st.sampled_from(SPEAKERS), st.text("ab\n", min_size=1, max_size=9)), min_size=1, max_size=5)


def prepared(conversations, kind="tokens") -> Prepared:
    """Conversations as the store would hold them."""
    tokenizer = Byte(special=ROLES if kind == "tokens" else ()).train(iter([]))
    template = Template(kind, tokenizer)
    fields = [
        array
        for turns in conversations
        for array in template.write((speaker, tokenizer.encode([text])[0]) for speaker, text in turns)
    ]
    offsets = np.cumsum([0, *map(len, fields)])
    tokens = Tokens(np.concatenate(fields), offsets, tokenizer.document_id, 2)
    return Prepared(tokens, tokens, tokenizer, "", 1, 0.0, None)


@given(st.lists(TURNS.filter(lambda turns: "assistant" in dict(turns)), min_size=1, max_size=8), st.integers(12, 60),
       st.sampled_from(["tokens", "plain"]))  # fmt: skip
def test_joined_rows_hold_each_example_once_as_if_it_were_alone(conversations, context, kind):
    held = prepared(conversations, kind)
    try:
        alone = Turns(held, "train", context)
    except RequestError as error:
        assert "no answer is within it" in str(error)
        return
    joined = Joined(alone)
    batch = joined.batch(np.arange(len(joined)))
    assert sorted(batch.examples) == list(range(len(conversations)))
    assert batch.tokens.shape[1] <= context
    segments = batch.layout.segments
    assert [stop - start for _, start, stop in segments] == batch.lengths.tolist()
    for number, (row, start, stop) in zip(batch.examples, segments, strict=True):
        single = alone.batch(np.array([number]))
        assert torch.equal(batch.tokens[row, start:stop], single.tokens[0])
        assert torch.equal(batch.targets[row, start:stop], single.targets[0])
        assert torch.equal(batch.layout.positions[row, start:stop], single.layout.positions[0])
    assert batch.counted == int((batch.targets != IGNORE).sum()) == joined.scored(np.arange(len(joined)))
    assert joined.read(np.arange(len(joined))) == alone.lengths.sum()
    said = sum(len(text) + 1 for turns in conversations for speaker, text in turns if speaker == "assistant")
    assert batch.counted <= said
    if not joined.cut:
        assert batch.counted == said


@given(st.lists(st.integers(1, 50), min_size=1, max_size=80), st.integers(50, 100))
def test_rows_are_filled(sizes, room):
    """No two rows could be one."""
    rows = fill(np.array(sizes), room)
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(sizes)))
    filled = [sum(sizes[item] for item in row) for row in rows]
    assert max(filled) <= room
    assert all(one + other > room for n, one in enumerate(filled) for other in filled[:n])


def test_many_conversations_waste_little(chats):
    made = make_batches(Chats(str(chats)), Byte(special=ROLES), Split(0.3), Packed(), 400, 2)
    assert isinstance(made, JoinedModule)
    assert made.facts["waste_share"] < 0.1
    assert made.facts["train/cut_examples"] == 0
    short = make_batches(Chats(str(chats)), Byte(special=ROLES), Split(0.3), Packed(), 60, 2)
    assert 0 < short.facts["train/cut_examples"] == (short.prepared.train.lengths(0) > 60).sum()
    wide = make_batches(Chats(str(chats)), Byte(special=ROLES), Split(0.3), Packed(restart=False), 400, 2)
    assert len(wide.train_rows) > len(made.train_rows)


def test_conversations_that_begin_alike_are_split_by_what_is_asked(chats):
    examples = list(Chats(str(chats)).examples())
    assert {Chats(str(chats)).decisive(example) for example in examples} == {
        f"What comes after {n}?" for n in range(120)
    }
    assert Example.from_json(examples[0].to_json()) == examples[0]


WRONG = {
    "no list": ({"messages": "hello"}, "data.messages='messages': .*, line 1 holds no list of messages"),
    "no role": ({"messages": [{"content": "x"}]}, "line 1: a message needs role and content, and one is"),
    "another": (
        {"messages": [{"role": "bot", "content": "x"}]},
        "line 1: role is 'bot'; there are system, user, assis",
    ),
    "empty": ({"messages": [{"role": "user", "content": " "}]}, "line 1: content of the user is empty or no text"),
    "half": (
        {"messages": [{"role": "user", "content": "a \ud800"}]},
        "line 1: half a surrogate pair at character 2",
    ),
    "no answer": ({"messages": [{"role": "user", "content": "x"}]}, "line 1: no message of the assistant"),
}


@pytest.mark.parametrize(("row", "message"), WRONG.values(), ids=WRONG)
def test_wrong_conversations_are_named(tmp_path, row, message):
    (tmp_path / "wrong.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(RequestError, match=message):
        list(Chats(str(tmp_path / "wrong.jsonl")).examples())


TINY = ("preset=tiny", "tokenizer=byte", "split.validation=0.2", "trainer.validations=1", "trainer.threads=1",
        "trainer.log_every=1", "logger=none", "model.context=128", "batch.rows=4", "optimizer.lr=0.01")  # fmt: skip


def test_a_base_model_becomes_an_assistant(corpus, chats, tmp_path):
    base = lab.train(
        lab.compose(*TINY, SPECIAL, "data=files", f"data.path={corpus}", "budget.steps=5"), tmp_path / "base"
    )
    chat = ("data=chat", f"data.path={chats}", f"start={base.folder}", "budget.steps=60")
    run = lab.train(lab.compose(*TINY, SPECIAL, *chat), tmp_path / "chat")
    assert run.result["val/loss"] < 0.7 * base.result["val/loss"]
    answer = lab.chat(run, [{"role": "user", "content": "What comes after 7?"}], max_new_tokens=30)
    assert answer.endswith(".")
    assert len(answer) < 5  # it ends by itself
    with pytest.raises(RequestError, match=r"^message 1: role is 'me'; there are"):
        lab.chat(run, [{"role": "me", "content": "x"}])


def test_an_answer_ends_before_the_token_that_ends_it():
    """The longest of several prompts decides when all stop."""
    model = lab.build(lab.compose("preset=tiny"), vocab_size=7)
    prompts = [[1, 2, 3], [4], [5, 6]]
    for stop in range(7):
        whole = lab.generate(model, prompts, 40, temperature=1.0, seed=3)
        wanted = [answer[: answer.index(stop)] if stop in answer else answer for answer in whole]
        assert lab.generate(model, prompts, 40, temperature=1.0, seed=3, stop=stop) == wanted


def test_a_base_without_the_tokens_is_refused_or_takes_the_plain_template(corpus, chats, tmp_path):
    base = lab.train(lab.compose(*TINY, "data=files", f"data.path={corpus}", "budget.steps=1"), tmp_path / "base")
    chat = ("data=chat", f"data.path={chats}", f"start={base.folder}", "budget.steps=2")
    with pytest.raises(RequestError, match=r"^data.template=tokens: tokenizer: has no <\|system\|>; model.special lists .*; "
                       r"data.template=plain does without$"):  # fmt: skip
        lab.train(lab.compose(*TINY, *chat), tmp_path / "refused")
    run = lab.train(lab.compose(*TINY, *chat, "data.template=plain"), tmp_path / "plain")
    assert run.status == "finished"
    prompt = Template("plain", run.tokenizer).prompt([{"role": "user", "content": "Hi"}])
    assert run.tokenizer.decode(prompt) == "User:\nHi\n\nAssistant:\n"


def test_the_head_is_computed_where_an_answer_is_predicted_and_nowhere_else(chats, monkeypatch):
    config = lab.compose(
        "preset=tiny", "data=chat", f"data.path={chats}", SPECIAL, "tokenizer=byte", "model.dim=32", "logger=none"
    )
    data = data_module(config)
    model = lab.build(config, vocab_size=data.prepared.tokenizer.vocab_size)
    objective = construct(config, "objective", model=model, optimizer=None, prepared=data.prepared)
    batch = data.training_batch(0)
    expected = model.loss(batch.tokens, batch.targets, batch.layout, reduction="sum")
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    rows, loss = [], model.embedding.loss
    monkeypatch.setattr(model.embedding, "loss", lambda x, targets: rows.append(len(x)) or loss(x, targets))
    nats = objective.nats(batch)
    assert rows == [batch.counted]
    assert 0 < batch.counted < batch.lengths.sum()
    assert nats.item() == pytest.approx(expected.item(), rel=1e-5)
    for found, wanted in zip(torch.autograd.grad(nats, list(model.parameters())), gradients, strict=True):
        assert torch.allclose(found, wanted, atol=1e-4)
    everywhere = float(model.flops(batch.lengths).sum())
    assert everywhere - objective.flops(batch) == model.head_flops * (batch.lengths.sum() - batch.counted)
    assert objective.nats(batch.emptied()).item() == 0
