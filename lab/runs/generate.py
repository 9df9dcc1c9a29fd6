"""Texts that a trained model writes, as they are written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lab.data.tokenizers import Tokenizer
from lab.errors import RequestError
from lab.models.sampling import Sampling
from lab.runs.folder import Run
from lab.runs.subject import encoded

TOKENS = 100
"""That a text is continued by unless told."""

NEAR = 16
"""Tokens of a prompt that are spelt again with each token that follows it."""


@dataclass
class Answer:
    """What a model wrote after a prompt, or from a source.

    Attributes:
        prompt: what it was given.
        text: what it wrote.
        tokens: how many it wrote.
        ended: by `stop` (the model ended it, or a stop text came), `context` (no more fits) or `tokens` (as many as allowed).
    """

    prompt: str
    text: str = ""
    tokens: int = 0
    ended: str = "tokens"


@dataclass
class Written:
    """Several answers, and how fast they came.

    Attributes:
        answers: in the order of the prompts.
        first: seconds until the first token, the prompts read.
        seconds: until the last.
        cache_bytes: memory set aside for what is kept of past tokens.
        slid: answers before which the older part of prompt and answer was forgotten.
    """

    answers: list[Answer] = field(default_factory=list)
    first: float = 0.0
    seconds: float = 0.0
    cache_bytes: int = 0
    slid: int = 0

    @property
    def tokens(self) -> int:
        """That were written in all."""
        return sum(answer.tokens for answer in self.answers)

    @property
    def rate(self) -> float:
        """Tokens a second, those of the first step apart where there are others."""
        later = self.tokens - len(self.answers)
        if later > 0 and self.seconds > self.first:
            return later / (self.seconds - self.first)
        return self.tokens / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "answers": [asdict(answer) for answer in self.answers],
            "seconds_to_first_token": self.first,
            "seconds": self.seconds,
            "tokens_per_second": self.rate,
            "cache_bytes": self.cache_bytes,
        }

    def note(self) -> str:
        """One line for a person."""
        said = f"{self.tokens:,} tokens; the first after {1000 * self.first:.0f} ms, then {self.rate:,.0f} tokens/s"
        said += f"; cache {self.cache_bytes:,} bytes" if self.cache_bytes else "; no cache"
        full = sum(answer.ended == "context" for answer in self.answers)
        if full:
            said += f"; {'stopped' if len(self.answers) == 1 else f'{full} stopped'} at the end of the context"
        if self.slid:
            said += "; slid on past the end of the context, its older half forgotten"
        return said


class Writer:
    """The text of one answer as its tokens come.

    What may yet change is held back: a character whose bytes are not all there, the beginning of a stop text.

    Args:
        tokenizer: of the run.
        before: tokens of the prompt, the last of which decide about white space after it.
        stops: texts that end the answer, and are not part of it.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int] = (), stops: Sequence[str] = ()) -> None:
        self.tokenizer, self.stops = tokenizer, stops
        self.before, self.tokens = list(before)[-NEAR:], list[int]()
        self.begins = len(tokenizer.decode(self.before))
        self.given, self.stopped = "", False

    def add(self, token: int) -> str:
        """Take in a token; gives what is certain to follow what was given before."""
        self.tokens.append(token)
        text = self._text()
        found = [text.find(stop) for stop in self.stops if stop in text]
        if found:
            self.stopped = True
            return self._give(text[: min(found)])
        text = text.rstrip("\N{REPLACEMENT CHARACTER}")
        held = max(
            (n for stop in self.stops for n in range(1, len(stop)) if text.endswith(stop[:n])),
            default=0,
        )
        return self._give(text[: len(text) - held])

    def rest(self) -> str:
        """What was held back, when no token follows."""
        return "" if self.stopped else self._give(self._text())

    def _text(self) -> str:
        return self.tokenizer.decode([*self.before, *self.tokens])[self.begins :]

    def _give(self, text: str) -> str:
        new = text[len(self.given) :]
        self.given += new
        return new


def write(
    run: Run,
    prompts: Sequence[str],
    tokens: int | None = None,
    sampling: Sampling | None = None,
    stops: Sequence[str] = (),
    cache: bool = True,
    slide: bool = False,
    beam: int | None = None,
    heard: Callable[[int, str], None] | None = None,
) -> Written:
    """Continue prompts, all at a time; an encoder-decoder reads them as sources.

    Args:
        run: of a model that generates.
        prompts: texts.
        tokens: of an answer at most; by default 100, or as many as an encoder-decoder was configured to write.
        sampling: how tokens are chosen; by default the best.
        stops: texts that end an answer.
        cache, slide: as `lab.generate`.
        beam: hypotheses that an encoder-decoder follows; over 1 an answer comes at once.
        heard: called with the number of a prompt and what was just written for it.

    Raises:
        RequestError: a prompt that is empty, too long or not to be represented; a family that does not generate, or that does
            not take what was asked.
    """
    check(run, prompts)
    translates = run.outline.family == "encoder_decoder"
    if tokens is not None and tokens < 1:
        raise RequestError(f"--tokens: {tokens}; at least 1")
    if beam is not None and (beam < 1 or not translates):
        raise RequestError(f"--beam: {beam}; at least 1, and of an encoder-decoder")
    if beam is not None and beam > 1 and sampling not in (None, Sampling()):
        raise RequestError(f"--beam: {beam}; follows the most probable targets, and nothing is drawn or filtered")
    if translates and (slide or not cache):
        raise RequestError(
            f"{'--slide' if slide else '--no-cache'}: of decoders and recurrent models; this is an encoder-decoder"
        )
    if "" in stops:
        raise RequestError("--stop: is empty; a text that ends the answer")
    if translates:
        beam = beam or (run.config.objective.get("beam", 1) if sampling in (None, Sampling()) else 1)
        plan = _target(run, prompts, tokens, sampling, beam)
    else:
        plan = _continued(run, prompts, tokens, sampling or Sampling(), cache, slide)
    found = _follow(run, prompts, plan, stops, heard or (lambda number, text: None))
    if beam is not None and beam > 1:
        found.first = found.seconds
    return found


def check(run: Run, prompts: Sequence[str]) -> None:
    """Refuse a model that does not generate, and prompts that it cannot read, by `RequestError`."""
    if not run.outline.generates:
        raise RequestError(
            f"RUN: {run.folder} holds model={run.config.choices.model}, which writes no text; decoders, recurrent models and "
            "encoder-decoders do"
        )
    # The document token, or the one that ends a source, is there too.
    limit = run.outline.limit
    most = None if limit is None else limit - 1
    for prompt in prompts:
        encoded(run, prompt, most, "PROMPT")


@dataclass(frozen=True)
class _Plan:
    """What will be written.

    Attributes:
        before: the tokens that each answer follows.
        most: tokens of each answer at most.
        fits: tokens that fit after each prompt; none without a limit.
        cache_bytes: of the cache.
        steps: the next token of each answer, again and again.
    """

    before: list[list[int]]
    most: list[int]
    fits: list[int | None]
    cache_bytes: int
    steps: Iterator[list[int | None]]


def _continued(
    run: Run, prompts: Sequence[str], tokens: int | None, sampling: Sampling, cache: bool, slide: bool
) -> _Plan:
    from lab.models.generate import stream

    model: Any = run.model
    before = [[*run.begin, *ids.tolist()] for ids in run.tokenizer.encode(prompts)]
    new = tokens or TOKENS
    fits = [None if model.limit is None else model.limit + 1 - len(row) for row in before]
    most = [new if slide or fit is None else min(new, fit) for fit in fits]
    longest = max(map(len, before)) + new
    memory = len(before) * model.cache_bytes(min(longest, model.limit or longest)) if cache else 0
    ends = {run.tokenizer.document_id, run.tokenizer.id("end")}
    return _Plan(before, most, fits, memory, stream(model, before, new, sampling, cache, ends, slide))


def _target(run: Run, prompts: Sequence[str], tokens: int | None, sampling: Sampling | None, beam: int) -> _Plan:
    from lab.data.arrange import layout, table
    from lab.models.translate import stream
    from lab.runs.translate import limits, read

    model: Any = run.model
    sources = read(run, prompts)
    lengths = np.array([len(source) for source in sources])
    most = limits(run, lengths, tokens)
    if beam > 1:
        steps = _searched(run, prompts, tokens, beam)
    else:
        device = model.embedding.table.weight.device
        steps = stream(
            model,
            table(sources, run.tokenizer.id("pad")).to(device),
            layout(lengths).to(device),
            begin=run.tokenizer.document_id,
            end=run.tokenizer.id("end"),
            limits=most,
            sampling=sampling,
        )
    memory = len(sources) * beam * model.cache_bytes(max(most), int(lengths.max()))
    return _Plan([[] for _ in sources], most, [model.context - 1] * len(sources), memory, steps)


def _searched(run: Run, prompts: Sequence[str], tokens: int | None, beam: int) -> Iterator[list[int | None]]:
    """Targets that are known only when all are: step by step all the same."""
    from lab.runs.translate import targets

    found = targets(run, prompts, beam, most=tokens)
    for place in range(max(map(len, found)) + 1):
        yield [target[place] if place < len(target) else None for target in found]


def _follow(
    run: Run, prompts: Sequence[str], plan: _Plan, stops: Sequence[str], heard: Callable[[int, str], None]
) -> Written:
    """Spell the tokens out as they come, until every answer has ended."""
    found = Written([Answer(prompt) for prompt in prompts], cache_bytes=plan.cache_bytes)
    writers = [Writer(run.tokenizer, row, stops) for row in plan.before]
    going = set(range(len(prompts)))
    began = time.perf_counter()
    for step in plan.steps:
        found.first = found.first or time.perf_counter() - began
        for row in sorted(going):
            token = step[row]
            if token is not None:
                heard(row, writers[row].add(token))
            if token is None or writers[row].stopped:
                going.remove(row)
        if not going:
            break
    found.seconds = time.perf_counter() - began
    for row, (answer, writer, most, fits) in enumerate(zip(found.answers, writers, plan.most, plan.fits, strict=True)):
        heard(row, writer.rest())
        answer.text, answer.tokens = writer.given, len(writer.tokens)
        if writer.stopped or answer.tokens < most:
            answer.ended = "stop"
        else:
            answer.ended = "context" if most == fits else "tokens"
        found.slid += fits is not None and answer.tokens > fits
    return found
