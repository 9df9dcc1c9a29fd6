"""A conversation with a trained decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab.data.chat import SPEAKERS, Template
from lab.models.generate import generate
from lab.runs.folder import Run


def chat(
    run: Run,
    messages: Sequence[Mapping[str, str]],
    max_new_tokens: int = 100,
    temperature: float = 0.0,
    seed: int = 0,
) -> str:
    """What the assistant answers, until it ends or has said so many tokens.

    Written by the template that the run learnt from; a run of other data by the one that its tokenizer has tokens for.

    Args:
        run: of a decoder, from `lab.load` or `lab.train`.
        messages: so far, each with `role` (system, user, assistant) and `content`.
        max_new_tokens, temperature, seed: as `lab.generate`.

    Raises:
        RequestError: a message that is none.
    """
    learnt: Any = run.config.data.get("template")
    roles = all(f"<|{speaker}|>" in run.tokenizer.specials for speaker in SPEAKERS)
    template = Template(learnt or ("tokens" if roles else "plain"), run.tokenizer)
    model: Any = run.model
    (answer,) = generate(
        model, [template.prompt(messages)], max_new_tokens, temperature=temperature, seed=seed, stop=template.end
    )
    return run.tokenizer.decode(answer)
