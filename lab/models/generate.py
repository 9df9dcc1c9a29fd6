"""Generation: one token after the other, each computed once thanks to the KV cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lab.layout import Layout
from lab.models.model import LanguageModel
from lab.parts.cache import left_padded


@torch.no_grad()
def generate(
    model: LanguageModel,
    tokens: Tensor | Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    cache: bool = True,
    stop: int | None = None,
) -> list[list[int]]:
    """Continue prompts.

    Args:
        model: is put into evaluation mode while it generates.
        tokens: the prompts: `[batch, time]`, or lists of unequal lengths, none empty.
        max_new_tokens: how many tokens each gets.
        temperature: 0 takes the best token; above, tokens are drawn from `softmax(logits / temperature)`.
        seed: of what is drawn.
        cache: keep keys and values; without, each token computes all before it again, to the same result.
        stop: a token that ends an answer, and is not part of it.

    Returns:
        The new tokens of each prompt.

    Raises:
        ValueError: an empty prompt, a negative number of tokens or temperature.
    """
    prompts = [list(map(int, row)) for row in tokens]
    if not prompts or not all(prompts):
        raise ValueError("tokens: a prompt has at least 1 token")
    if max_new_tokens < 0 or temperature < 0:
        raise ValueError(f"max_new_tokens: {max_new_tokens}, temperature: {temperature}; both are 0 or more")
    device = model.embedding.table.weight.device
    drawing = torch.Generator(device=device).manual_seed(seed)
    lengths = [len(prompt) for prompt in prompts]
    width = max(lengths)
    rows = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
    kept = model.new_cache(len(prompts), width + max_new_tokens) if cache else None

    was_training = model.training
    model.eval()
    try:
        new: Tensor = rows
        layout: Layout | None = left_padded(lengths, device)
        for step in range(max_new_tokens):
            if kept is None:
                x = model.hidden(rows, left_padded([length + step for length in lengths], device))
            else:
                x = model.hidden(new, layout, kept)
            new, layout = _choose(model.embedding.logits(x[:, -1]), temperature, drawing), None
            rows = torch.cat([rows, new], dim=1)
            if stop is not None and bool((rows[:, width:] == stop).any(dim=1).all()):
                break
    finally:
        model.train(was_training)
    answers: list[list[int]] = rows[:, width:].tolist()
    return [answer[: answer.index(stop)] if stop in answer else answer for answer in answers]


def _choose(logits: Tensor, temperature: float, drawing: torch.Generator) -> Tensor:
    """One token a row: `[batch, vocab]` to `[batch, 1]`."""
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    return torch.multinomial((logits.float() / temperature).softmax(dim=-1), 1, generator=drawing)
