"""The page of `lab generate`: what was written and how fast, or one token step by step."""

from __future__ import annotations

import html
from collections.abc import Iterator
from functools import singledispatch
from typing import Any

from lab.runs.generate import Written
from lab.views.step import Candidate, Step
from lab.views.terminal import visible
from lab.views.web import page, table

STYLE = """
.text { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid var(--line); padding-left: .8rem }
.before, .after { display: block; height: .5em; background: #8aa; margin: .1em 0 }
.after { background: #3b82c4 } .words:last-child { min-width: min(12rem, 20vw) } .chosen { outline: 2px solid #3b82c4 }
"""

ENDED = {"stop": "it ended", "context": "at the end of the context", "tokens": "as many as were asked for"}


@singledispatch
def to_html(what: Any, title: str) -> str:
    """The page of a `Written`, or of a `Step`."""
    raise TypeError(type(what).__name__)


@to_html.register
def _(written: Written, title: str) -> str:
    body = [f"<p class='faint'>{html.escape(written.note())}</p>"]
    for number, answer in enumerate(written.answers, 1):
        body.append(
            f"<h2>Prompt {number}</h2><p class='text faint'>{html.escape(answer.prompt)}</p>"
            f"<h2>Answer {number}: {answer.tokens:,} tokens, {ENDED[answer.ended]}</h2>"
            f"<p class='text'>{html.escape(answer.text)}</p>"
        )
    return page(title, "\n".join(body), STYLE)


@to_html.register
def _(one: Step, title: str) -> str:
    read = [(str(i), _code(word)) for i, word in zip(one.ids, one.words, strict=True)]
    stages = [(stage.place, str(stage.shape), f"{stage.times} times" * (stage.times > 1)) for stage in one.stages]
    _, before, after = one.chosen.said()
    body = [
        f"<p>{_code(one.chosen.text)} is chosen: probability {before}, drawn with {after}.</p>",
        "<h2>What may follow</h2><p class='faint'>Above the probability that the model gives, below the one that a token is "
        "drawn with, after penalty, temperature and filters.</p>",
        table(("id", "candidate", "score", "probability", "drawn with", " "), _candidates(one), raw=("candidate", " ")),
        "<h2>What becomes of it</h2>",
        table(("place", "shape", ""), stages),
        "<h2>What is read</h2>",
        table(("id", "token"), read, raw=("token",)),
    ]
    return page(title, "\n".join(body), STYLE)


def _candidates(one: Step) -> Iterator[tuple[str, ...]]:
    every = one.candidates if one.chosen in one.candidates else [*one.candidates, one.chosen]
    most = max(max(each.before, each.after) for each in every) or 1.0
    for each in every:
        yield str(each.id), _code(each.text, each == one.chosen), *each.said(), _bars(each, most)


def _bars(each: Candidate, most: float) -> str:
    shares = (("before", each.before), ("after", each.after))
    return "".join(f"<span class='{look}' style='width:{100 * share / most:.1f}%'></span>" for look, share in shares)


def _code(word: str, chosen: bool = False) -> str:
    return f"<code{' class=chosen' if chosen else ''}>{html.escape(visible(word))}</code>"
