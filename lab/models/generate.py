"""Generation: one token after the other, each computed once thanks to the KV cache."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lab.layout import Layout
from lab.models.generating import generating
from lab.models.model import LanguageModel
from lab.models.sampling import Sampling
from lab.parts.cache import left_padded


def generate(
    model: LanguageModel,
    tokens: Tensor | Sequence[Sequence[int]],
    max_new_tokens: int,
    cache: bool = True,
    stop: int | Collection[int] | None = None,
    slide: bool = False,
    **sampling: Any,
) -> list[list[int]]:
    """Continue prompts.

    Args:
        model: is put into evaluation mode while it generates.
        tokens: the prompts: `[batch, time]`, or lists of unequal lengths, none empty.
        max_new_tokens: how many tokens each gets at most.
        cache: keep keys and values; without, each token computes all before it again, to the same result.
        stop: a token, or several, each of which ends an answer and is not part of it.
        slide: at the model's limit forget the older half of a row and go on; else the answer ends there.
        sampling: `temperature`, `top_k`, `top_p`, `min_p`, `repetition`, `seed`, as `lab.models.sampling.Sampling`; by
            default the best token is taken.

    Returns:
        The new tokens of each prompt.

    Raises:
        ValueError: an empty prompt or one beyond the model's limit, a negative number of tokens, or a value of sampling
            that is out of its range.
    """
    return collect(stream(model, tokens, max_new_tokens, Sampling(**sampling), cache, stop, slide), len(tokens))


def collect(steps: Iterator[list[int | None]], rows: int) -> list[list[int]]:
    """The tokens of each row out of those of each step."""
    answers: list[list[int]] = [[] for _ in range(rows)]
    for step in steps:
        for answer, token in zip(answers, step, strict=True):
            if token is not None:
                answer.append(token)
    return answers


@torch.inference_mode()
def stream(
    model: LanguageModel,
    tokens: Tensor | Sequence[Sequence[int]],
    max_new_tokens: int,
    sampling: Sampling,
    cache: bool = True,
    stop: int | Collection[int] | None = None,
    slide: bool = False,
) -> Iterator[list[int | None]]:
    """What `generate` collects, as it is made: at each step the next token of each row, none for a row that has ended.

    Arguments and errors as `generate`; errors are raised when the first token is asked for.
    """
    rows = [list(map(int, row)) for row in tokens]
    if not rows or not all(rows):
        raise ValueError("tokens: a prompt has at least 1 token")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens: {max_new_tokens}; 0 or more")
    longest = max(map(len, rows))
    most = longest + max_new_tokens if model.limit is None else model.limit
    if longest > most:
        raise ValueError(f"tokens: a prompt of {longest:,}; the model takes rows of at most {most:,}")
    stops = {stop} if isinstance(stop, int) else set(stop or ())
    device = model.embedding.table.weight.device
    drawing, seen = sampling.drawing(device), sampling.seen(rows, model.vocab_size, device)
    length = min(longest + max_new_tokens, most)  # of a row that is computed
    ended = [False] * len(rows)

    with generating(model):
        begins = True
        for _ in range(max_new_tokens):
            if max(map(len, rows)) > most:
                ended = [end or (len(row) > most and not slide) for end, row in zip(ended, rows, strict=True)]
                if all(ended):
                    return
                rows = [row[-max(most // 2, 1) :] if len(row) > most else row for row in rows]
                begins = True  # what the cache holds was computed with what is forgotten now
            if begins or not cache:
                layout: Layout | None
                new, layout = _padded(rows, device)
                kept = model.new_cache(len(rows), length) if cache else None
            x = model.hidden(new, layout, kept)
            scores = model.embedding.logits(x[:, -1])[:, : model.vocab_size]  # a table may have rows for no token
            new, layout = sampling.choose(scores, drawing, seen), None
            chosen: list[int] = new[:, 0].tolist()
            for row, token in zip(rows, chosen, strict=True):
                row.append(token)
            begins = any(model.renews(len(row)) for row in rows)
            ended = [end or token in stops for end, token in zip(ended, chosen, strict=True)]
            yield [None if end else token for end, token in zip(ended, chosen, strict=True)]
            if all(ended):
                return


def _padded(rows: list[list[int]], device: torch.device) -> tuple[Tensor, Layout]:
    lengths = [len(row) for row in rows]
    width = max(lengths)
    tokens = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=device)
    return tokens, left_padded(lengths, device)
