"""A step of masked language modelling, its head at the hidden places alone, beside the head at every place and beside Hugging
Face's BERT of the same shape.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import BertConfig, BertForMaskedLM

import lab
from benchmarks import peers
from benchmarks.measure import Finding, finding, main, take_turns
from benchmarks.step import ROWS, step_of
from lab.layout import IGNORE

OURS = ["preset=bert_tiny", *peers.SIZES, "model.dropout=0"]


def bert() -> Any:
    """BERT with values of its own: which they are takes no time."""
    config = BertConfig(
        vocab_size=peers.VOCABULARY, hidden_size=peers.DIM, num_hidden_layers=peers.LAYERS,
        num_attention_heads=peers.HEADS, intermediate_size=peers.INNER, max_position_embeddings=peers.TIME,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BertForMaskedLM._from_config(config, attn_implementation="sdpa").train()


def run() -> list[Finding]:
    """15% of the tokens are hidden."""
    torch.manual_seed(0)
    tokens = torch.randint(peers.VOCABULARY, (ROWS, peers.TIME))
    hidden = torch.rand(tokens.shape) < 0.15
    targets = tokens.masked_fill(~hidden, IGNORE)
    ours: Any = lab.build(lab.compose(*OURS)).train()
    peer = bert()
    step = step_of(ours, lambda: ours.embedding.loss(ours.vectors(tokens)[hidden], targets[hidden]))
    whole = take_turns(step, step_of(ours, lambda: ours.embedding.loss(ours.vectors(tokens), targets)), pairs=20)
    theirs = take_turns(step, step_of(peer, lambda: peer(tokens, labels=targets).loss), pairs=20)
    return [
        finding("masked", "head at every place / at hidden ones", whole.ratios, at_least=1.1, detail=whole.words()),
        finding("masked", "BERT: their time / ours", theirs.ratios, at_least=1.1, detail=theirs.words()),
    ]


if __name__ == "__main__":
    main(run)
