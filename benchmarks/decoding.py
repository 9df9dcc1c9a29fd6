"""Greedy decoding with a KV cache beside transformers' `generate` with its own, of the same weights."""

from __future__ import annotations

import statistics
from typing import Any

import torch

from benchmarks.measure import Finding, finding, main, take_turns
from benchmarks.peers import LLAMA, VOCABULARY, llama
from lab import build, compose, generate

PROMPT, NEW, LONG = 16, 256, 2048
GOALS = {1: 1.7, 16: 1.3}
"""By rows in a batch."""


def decoding(ours: Any, peer: Any) -> list[Finding]:
    """256 tokens after a short prompt, of one row and of several."""
    found = []
    for rows, goal in GOALS.items():
        prompt = torch.randint(3, VOCABULARY, (rows, PROMPT), generator=torch.Generator().manual_seed(0))

        def theirs(prompt: torch.Tensor = prompt) -> torch.Tensor:
            mask = torch.ones_like(prompt)
            return peer.generate(
                prompt, attention_mask=mask, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0
            )

        def mine(prompt: torch.Tensor = prompt) -> list[list[int]]:
            return generate(ours, prompt, NEW)

        assert mine() == theirs()[:, PROMPT:].tolist()
        turns = take_turns(mine, theirs, pairs=7, warm_up=1)
        words = f"{rows * NEW / statistics.median(turns.ours):,.0f} tokens/s; {turns.words()}"
        what = f"{NEW} tokens, {rows} rows: their time / ours"
        found.append(finding("decoding", what, turns.ratios, at_least=goal, detail=words))
    return found


def prompt(ours: Any) -> Finding:
    """A long prompt up to its first token, beside one forward pass over it with the head at its end alone."""
    tokens = torch.randint(3, VOCABULARY, (1, LONG), generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def forward() -> torch.Tensor:
        return ours.embedding.logits(ours.hidden(tokens)[:, -1])

    turns = take_turns(lambda: generate(ours, tokens, 1), forward, pairs=15, warm_up=3)
    what = f"prompt of {LONG:,}: time of a forward pass / ours"
    return finding("decoding", what, turns.ratios, at_least=0.95, detail=turns.words("ours", "forward"))


def run() -> list[Finding]:
    """Decoding, then the prompt."""
    ours: Any = build(compose(*LLAMA, f"model.context={LONG + 1}"), VOCABULARY).eval()
    peer = llama(ours).eval()
    peer.config.use_cache = peer.generation_config.use_cache = True
    peer.generation_config.eos_token_id = None
    return [*decoding(ours, peer), prompt(ours)]


if __name__ == "__main__":
    main(run)
