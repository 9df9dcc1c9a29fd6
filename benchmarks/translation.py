"""A training step of an encoder-decoder on padded pairs, loss included, beside torch's own Transformer of the same computation;
and translating, beside the same model without a cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lab
from benchmarks.measure import Finding, finding, main, take_turns
from lab.data.arrange import layout, table
from lab.layout import IGNORE
from lab.models.translate import translate

DIM, LAYERS, HEADS, INNER, VOCABULARY = 256, 3, 8, 1024, 8192
ROWS, TIME = 32, 64
OVERRIDES = [
    *("preset=transformer_2017_pairs", "model.dropout=0", f"model.dim={DIM}", f"model.layers={LAYERS}"),
    *(f"model.heads={HEADS}", f"model.inner={INNER}", f"model.context={TIME}"),
]
SMOOTHING = 0.1


class Peer(nn.Module):
    """torch's Transformer with our embedding and sines, weights copied, the norms after its last blocks left out."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        shape = {"d_model": DIM, "nhead": HEADS, "dim_feedforward": INNER, "dropout": 0.0, "batch_first": True}
        self.body = nn.Transformer(
            DIM,
            HEADS,
            custom_encoder=nn.TransformerEncoder(
                nn.TransformerEncoderLayer(**shape), LAYERS, enable_nested_tensor=False
            ),
            custom_decoder=nn.TransformerDecoder(nn.TransformerDecoderLayer(**shape), LAYERS),
            batch_first=True,
        )
        self.table = nn.Embedding(VOCABULARY, DIM)
        self.register_buffer("waves", ours.encoder.position.values(torch.arange(TIME), DIM))
        self.register_buffer("later", nn.Transformer.generate_square_subsequent_mask(TIME))
        self.table.weight.data.copy_(ours.embedding.table.weight.data)
        for side in ("encoder", "decoder"):
            for mine, theirs in zip(getattr(ours, side).blocks, getattr(self.body, side).layers, strict=True):
                _copy(mine, theirs)

    def loss(self, source: Tensor, target: Tensor, targets: Tensor, padding: Tensor) -> Tensor:
        """Mean smoothed cross-entropy; `padding` is of the source. What pads the target is behind what it could disturb."""
        x, y = (self.table(tokens) * DIM**0.5 + self.waves[: tokens.shape[1]] for tokens in (source, target))
        time = target.shape[1]
        out = self.body(
            x,
            y,
            tgt_mask=self.later[:time, :time],
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
            tgt_is_causal=True,
        )
        logits = out @ self.table.weight.T
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=SMOOTHING)


def _copy(mine: Any, theirs: Any) -> None:
    pairs = [(mine.attention, theirs.self_attn)]
    norms = [mine.attention_norm, mine.ffn_norm]
    if mine.cross is not None:
        pairs.append((mine.cross, theirs.multihead_attn))
        norms.insert(1, mine.cross_norm)
    for here, there in pairs:
        there.in_proj_weight.data.copy_(here.project.weight.data)
        there.in_proj_bias.data.copy_(here.project.bias.data)
        there.out_proj.load_state_dict(here.output.state_dict())
    theirs.linear1.load_state_dict(mine.ffn.up.state_dict())
    theirs.linear2.load_state_dict(mine.ffn.down.state_dict())
    for number, norm in enumerate(norms, 1):
        getattr(theirs, f"norm{number}").load_state_dict(norm.state_dict())


def batch(random: np.random.Generator) -> tuple[Any, ...]:
    """Pairs of like length, as the data module makes them: sources up to a tenth shorter than 64 tokens, targets near them."""
    lengths = random.integers(TIME * 9 // 10, TIME + 1, (2, ROWS))
    lengths[:, 0] = TIME
    sides = [[random.integers(2, VOCABULARY, n) for n in side] for side in lengths]
    source, target = (table(side, 0) for side in sides)
    targets = table([np.append(row[1:], 1) for row in sides[1]], IGNORE)
    return source, target, targets, lengths


def steps(ours: Any, peer: Peer) -> tuple[Callable[[], None], Callable[[], None]]:
    """Forward and backward of both on the same pairs, layouts new at each step as in training."""
    source, target, targets, lengths = batch(np.random.default_rng(0))
    wanted = int((targets != IGNORE).sum())

    def mine() -> Tensor:
        x = ours.hidden(source, target, layout(lengths[0]), layout(lengths[1]))
        return ours.embedding.loss(x, targets, SMOOTHING) / wanted

    def theirs() -> Tensor:
        return peer.loss(source, target, targets, layout(lengths[0]).padding)

    with torch.no_grad():
        first, second = mine().item(), theirs().item()
    if abs(first - second) > 1e-4 * abs(second):
        raise AssertionError(f"the two losses differ: {first} and {second}")

    def step(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
        def work() -> None:
            model.zero_grad()
            loss().backward()

        return work

    return step(ours, mine), step(peer, theirs)


def searches(ours: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Greedy translation of the sources, 32 tokens each, with a cache and by computing all before each token anew."""
    source, _, _, lengths = batch(np.random.default_rng(1))
    asked = {"begin": 0, "end": VOCABULARY, "limits": 32}  # none ends early

    def cached() -> None:
        translate(ours, source, layout(lengths[0]), **asked)

    @torch.no_grad()
    def anew() -> None:
        memory = ours.read(source, layout(lengths[0]))
        target = torch.zeros(ROWS, 1, dtype=torch.long)
        for _ in range(32):
            whole = layout(np.full(ROWS, target.shape[1]))
            x = ours.decoder.run(ours.embedding(target), whole, memory=memory)
            target = torch.cat([target, ours.embedding.logits(x[:, -1:]).argmax(-1)], dim=1)

    return cached, anew


def run() -> list[Finding]:
    """Training beside torch's Transformer, translating beside no cache."""
    torch.manual_seed(0)
    ours: Any = lab.build(lab.compose(*OVERRIDES), vocab_size=VOCABULARY).train()
    turns = take_turns(*steps(ours, Peer(ours).train()), pairs=20, warm_up=3)
    search = take_turns(*searches(ours), pairs=6, warm_up=1)
    name = f"{LAYERS}+{LAYERS} layers of {DIM}"
    return [
        finding(
            "translation",
            f"{name}, a step: torch's Transformer / ours",
            turns.ratios,
            at_least=1.0,
            detail=turns.words(),
        ),
        finding(
            "translation",
            f"{name}, 32 tokens: without a cache / with",
            search.ratios,
            at_least=1.0,
            detail=search.words("with", "without"),
        ),
    ]


if __name__ == "__main__":
    main(run)
