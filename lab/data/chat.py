"""Conversations: turns of a user and an assistant, written as tokens by a template, the assistant's to be learnt.

A base model becomes an assistant by learning what the assistant says and where it ends, and nothing of what it is asked
(Ouyang et al. 2022, arXiv 2203.02155, section 3.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.data.arrange import Answers
from lab.data.corpora import digest
from lab.data.examples import Example, Table
from lab.data.readers import check_text
from lab.errors import RequestError
from lab.layout import IGNORE

if TYPE_CHECKING:
    from lab.data.tokenizers import Tokenizer

SPEAKERS = ("system", "user", "assistant")
LEARNT = "assistant"
TEMPLATES = ("tokens", "plain")


class Template:
    """How turns are written as tokens. With `tokens`, each is

        <|user|> what is said </s>

    with the special token of its speaker before, and the tokenizer's end token after. With `plain`, for a tokenizer that
    has no such tokens, a line that names the speaker and an empty line; the assistant's turns end with the end token.

    Args:
        kind: `tokens` or `plain`.
        tokenizer: whose tokens.

    Raises:
        RequestError: another kind, or a tokenizer without the special tokens.
    """

    def __init__(self, kind: str, tokenizer: Tokenizer) -> None:
        check_template(kind)
        self.tokenizer, self.end = tokenizer, tokenizer.id("end")
        self.after = {speaker: np.array([self.end], tokenizer.dtype) for speaker in SPEAKERS}
        if kind == "tokens":
            try:
                self.before = {each: np.array([tokenizer.id(each)], tokenizer.dtype) for each in SPEAKERS}
            except RequestError as error:
                raise RequestError(f"data.template=tokens: {error}; data.template=plain does without") from None
        else:
            *names, gap = tokenizer.encode([*(f"{speaker.capitalize()}:\n" for speaker in SPEAKERS), "\n\n"])
            self.before = dict(zip(SPEAKERS, names, strict=True))
            self.after |= {speaker: gap for speaker in SPEAKERS if speaker != LEARNT}

    def write(self, turns: Iterable[tuple[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        """Turns as tokens, and which of them are to be learnt, 1 or 0: both `[time]`.

        Args:
            turns: who speaks, and the tokens of what is said.
        """
        tokens, learnt = [], []
        for speaker, said in turns:
            before, after = self.before[speaker], self.after[speaker]
            tokens += [before, said, after]
            learnt += [np.zeros(len(before)), np.full(len(said) + len(after), speaker == LEARNT)]
        dtype = self.tokenizer.dtype
        return np.concatenate(tokens).astype(dtype), np.concatenate(learnt).astype(dtype)

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The row that an answer follows: document token, turns, and the beginning of the assistant's.

        Args:
            messages: each with `role` and `content`.

        Raises:
            RequestError: no messages, or one that is none.
        """
        turns = [turn(message, f"message {number}") for number, message in enumerate(messages, 1)]
        if not turns:
            raise RequestError("messages: none; an answer needs something to answer")
        said = self.tokenizer.encode([text for _, text in turns])
        tokens, _ = self.write((speaker, words) for (speaker, _), words in zip(turns, said, strict=True))
        return [self.tokenizer.document_id, *tokens.tolist(), *self.before[LEARNT].tolist()]


def check_template(kind: str) -> None:
    """Raises `RequestError` for another word than there is."""
    if kind not in TEMPLATES:
        raise RequestError(f"data.template={kind}: choose from {', '.join(TEMPLATES)}")


def turn(message: Any, place: str, role: str = "role", content: str = "content") -> tuple[str, str]:
    """Who speaks in a message, and what.

    Raises:
        RequestError: no such keys, another speaker, or no text.
    """
    if not isinstance(message, Mapping) or role not in message or content not in message:
        raise RequestError(f"{place}: a message needs {role} and {content}, and one is {str(message)[:100]}")
    speaker, text = message[role], message[content]
    if speaker not in SPEAKERS:
        raise RequestError(f"{place}: {role} is {speaker!r}; there are {', '.join(SPEAKERS)}")
    if not isinstance(text, str) or not text.strip():
        raise RequestError(f"{place}: {content} of the {speaker} is empty or no text; every message needs some")
    return speaker, check_text(text, content, place, "data.content")


class Chats(Table):
    """Conversations, one a row.

    Args:
        messages: the column with the list of messages.
        role, content: the keys of a message: who speaks (`system`, `user` or `assistant`) and what.
        template: `tokens` or `plain`, see `Template`.
        table: as `Table`.

    Raises:
        RequestError: as `Table`, or another template.
    """

    kind = "chat"

    def __init__(
        self, path=None, messages: str = "messages", role: str = "role", content: str = "content",
        template: str = "tokens", **table,
    ) -> None:  # fmt: skip
        super().__init__(path, **table)
        check_template(template)
        self.keys, self.template = (role, content), template
        self.columns = {"data.messages": messages}

    def examples(self, by: str | None = None) -> Iterator[Example]:
        for place, row, group in self._rows(by):
            said = row["data.messages"]
            if not isinstance(said, list | tuple):
                raise RequestError(
                    f"data.messages={self.columns['data.messages']!r}: {place} holds no list of messages"
                )
            turns = [turn(message, place, *self.keys) for message in said]
            if LEARNT not in (speaker for speaker, _ in turns):
                raise RequestError(f"{place}: no message of the {LEARNT}; there is nothing to learn from it")
            yield Example(tuple(text for _, text in turns), tuple(speaker for speaker, _ in turns), group)

    def decisive(self, example: Example) -> str:
        """What is asked first: many conversations have the same system message."""
        asked = (text for text, speaker in zip(example.texts, example.labels, strict=True) if speaker != "system")
        return next(asked)

    def encode(self, tokenizer: Tokenizer, examples: Sequence[Example], labels: Mapping[str, int]) -> list[np.ndarray]:
        """The template's tokens, and which of them are learnt."""
        template = Template(self.template, tokenizer)
        said = iter(tokenizer.encode([text for example in examples for text in example.texts]))
        return [
            array for each in examples for array in template.write((speaker, next(said)) for speaker in each.labels)
        ]

    def scored(self, example: Example) -> Sequence[str]:
        """What the assistant says."""
        return [text for text, speaker in zip(example.texts, example.labels, strict=True) if speaker == LEARNT]

    def fingerprint(self) -> str:
        return digest(super().fingerprint(), self.keys, self.template)


class Turns(Answers):
    """Conversations: document token and turns, of which the assistant's and their ends are predicted."""

    def __init__(self, *arranged, **settings) -> None:
        super().__init__(*arranged, **settings)
        fields = (self.tokens.field(i, 1)[: self.context] for i in range(len(self)))
        self.answers = np.array([field.sum() for field in fields])
        if not self.answers.any():
            raise RequestError(
                f"model.context={self.context}: too short for these conversations; no answer is within it"
            )

    def measured(self) -> np.ndarray:
        return self.tokens.lengths(0)[:, None]

    def scored(self, indices: np.ndarray) -> int:
        return int(self.answers[indices].sum())

    def row(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        said, learnt = (self.tokens.field(i, number)[: self.context] for number in (0, 1))
        return np.append(self.tokenizer.document_id, said[:-1]), np.where(learnt, said, IGNORE)
