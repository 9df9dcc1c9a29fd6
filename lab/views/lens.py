"""The logit lens: what each layer would say if it were the last (nostalgebraist 2020, "interpreting GPT").

What leaves a layer goes through what follows the last one (the norm of a stack; in a recurrent translator what joins a state
with what was looked at) and the head, so what is shown for the last layer is what the model says. A decoder says the next
token, and so does the decoder of an encoder-decoder after its source. Of an encoder each token of the text is hidden in turn,
and what is said is guessed there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lab.errors import RequestError
from lab.views.sides import around, sides

if TYPE_CHECKING:
    from lab.runs.folder import Run

TOP = 5
"""Candidates of each layer and place."""
PIECE = 256
"""Places whose scores of the vocabulary are held at a time."""


@dataclass(frozen=True)
class Said:
    """What one layer says at one place.

    Attributes:
        top: the likeliest tokens as text with their probabilities, the likeliest first.
        truth: the probability of the token that stands in the text; none after its end.
        rank: of that token among all, 1 for the likeliest.
        agrees: the likeliest is the model's own.
    """

    top: list[tuple[str, float]]
    truth: float | None
    rank: int | None
    agrees: bool


@dataclass(frozen=True)
class Layer:
    """One row of the lens: `embedding`, or a layer by its number from 1.

    Attributes:
        name: which.
        said: at each place.
        loss: nats of the tokens that stand in the text, as a mean; none for a text of one token.
        agreement: the share of places where it says what the model says.
        divergence: Kullback-Leibler from the model's own probabilities, in nats, as a mean.
    """

    name: str
    said: list[Said]
    loss: float | None
    agreement: float
    divergence: float


@dataclass(frozen=True)
class Lens:
    """A text under the lens.

    Attributes:
        reads: at each place the token that is read there as text; of an encoder the one that is hidden.
        asks: the token that should be said there; none after the text's end.
        layers: from the embedding to the last.
    """

    reads: list[str]
    asks: list[str | None]
    layers: list[Layer]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def check(self, layer: int | None, token: int | None) -> None:
        """Raises `RequestError` for a layer or a token that is not there."""
        for key, value, least, most in (
            ("layer", layer, 0, len(self.layers) - 1),
            ("token", token, 1, len(self.reads)),
        ):
            if value is not None and not least <= value <= most:
                what = f"layers 0 (the embedding) to {most}" if key == "layer" else f"tokens 1 to {most}"
                raise RequestError(f"--{key}: {value}; there are {what}")


@torch.no_grad()
def lens(run: Run, text: str, target: str | None = None) -> Lens:
    """Look through each layer of a run's model at a text.

    Args:
        run: of any family with layers.
        text: what is looked at; of an encoder-decoder its source.
        target: of an encoder-decoder; by default what it writes by itself.

    Raises:
        RequestError: a model that scores no vocabulary; else as `lab.views.sides.sides`.
    """
    if not run.outline.head_flops:
        raise RequestError(
            f"{run.folder}: model={run.config.choices.model}; nothing in it scores the vocabulary, so no layer says a token"
        )
    given = sides(run, text, target)
    model: Any = run.model
    spelt = run.tokenizer.spelt
    asks: Sequence[int | None]
    if model.family == "encoder":
        exits, reads = _hidden_in_turn(run, given["text"])
        asks = reads
    elif model.family == "encoder_decoder":
        reads, asks = given["target"], given["written"]
        exits = [rows[0] for rows in model.exits(torch.tensor([given["source"]]), torch.tensor([reads]))]
    else:
        reads = given["text"]
        exits, asks = [rows[0] for rows in model.exits(torch.tensor([reads]))], [*reads[1:], None]
    final = _logits(model, exits[-1])
    layers = [_layer(n, _logits(model, each), final, asks, spelt) for n, each in enumerate(exits)]
    return Lens([spelt(i) for i in reads], [None if i is None else spelt(i) for i in asks], layers)


def _hidden_in_turn(run: Run, text: list[int]) -> tuple[list[Tensor], list[int]]:
    """For each layer `[tokens, dim]`, what would enter the head at each token of a text while it is hidden; and the tokens."""
    model: Any = run.model
    begin, end = map(len, around(run))
    places = torch.arange(begin, len(text) - end)
    rows = torch.tensor(text).repeat(len(places), 1)
    rows[torch.arange(len(places)), places] = run.tokenizer.id("mask")
    pieces = []
    for some, where in zip(*(x.split(max(1, 4096 // len(text))) for x in (rows, places)), strict=True):
        pieces.append([exit[torch.arange(len(where)), where] for exit in model.exits(some)])
    return [torch.cat(parts) for parts in zip(*pieces, strict=True)], text[begin : len(text) - end]


def _logits(model: Any, vectors: Tensor) -> Tensor:
    """`[places, vocab]` log-probabilities that the head makes of `[places, dim]`."""
    parts = [model.embedding.logits(piece).float().log_softmax(-1) for piece in vectors.split(PIECE)]
    return torch.cat(parts)[:, : model.vocab_size]


def _layer(number: int, scores: Tensor, final: Tensor, asks: Sequence[int | None], spelt: Any) -> Layer:
    best = scores.topk(min(TOP, scores.shape[1]))
    own = final.argmax(-1)
    said, losses = [], []
    for place, token in enumerate(asks):
        candidates = zip(best.indices[place].tolist(), best.values[place].exp().tolist(), strict=True)
        truth = None if token is None else float(scores[place, token])
        if truth is not None:
            losses.append(-truth)
        said.append(
            Said(
                [(spelt(i), share) for i, share in candidates],
                None if truth is None else math.exp(truth),
                None if token is None else 1 + int((scores[place] > scores[place, token]).sum()),
                bool(best.indices[place, 0] == own[place]),
            )
        )
    divergence = (final.exp() * (final - scores)).sum(-1).clamp_min(0)
    return Layer(
        "embedding" if number == 0 else str(number),
        said,
        sum(losses) / len(losses) if losses else None,
        sum(one.agrees for one in said) / len(said),
        float(divergence.mean()),
    )
