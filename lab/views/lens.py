"""The logit lens: what each layer would say if it were the last (nostalgebraist 2020, "interpreting GPT").

The stream after each block goes through the last norm and the head, so what is shown for the last block is what the model
says. A decoder says the next token. Of an encoder each token of the text is hidden in turn, and what is said is guessed there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lab.errors import RequestError

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
    """One row of the lens: `embedding`, or a block by its number from 1.

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
        layers: from the embedding to the last block.
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
def lens(run: Run, text: str) -> Lens:
    """Look through each layer of a run's model at a text.

    Raises:
        RequestError: an empty text, one longer than the model's context, or a family without blocks that are added up.
    """
    from lab.config import trusted
    from lab.data.arrange import framed, framing
    from lab.models.stack import Stack
    from lab.runs.subject import encoded

    if not issubclass(trusted("model.build._target_", run.config.model.build._target_), Stack):
        raise RequestError(
            f"{run.folder}: model={run.config.choices.model}; the lens is for decoders and encoders, whose layers add to one "
            "stream (without TEXT the losses are shown)"
        )
    model: Any = run.model
    given = encoded(run, text, model.context - framing(model.frame))
    asks: list[int | None]
    if model.family == "encoder":
        mask = run.tokenizer.id("mask")
        ids = framed(run.tokenizer, model.frame, [torch.tensor(given).numpy()])[0]
        places = torch.arange(len(given)) + int(model.frame[0] is not None)
        rows = torch.from_numpy(ids).long().repeat(len(given), 1)
        rows[torch.arange(len(given)), places] = mask
        streams = [stream[torch.arange(len(given)), places] for stream in _streams(model, rows)]
        reads, asks = given, [*given]
    else:
        reads = [run.tokenizer.document_id, *given]
        asks = [*given, None]
        streams = [stream[0] for stream in _streams(model, torch.tensor([reads]))]
    spelt = run.tokenizer.spelt
    final = _logits(model, streams[-1])
    layers = [_layer(n, _logits(model, stream), final, asks, spelt) for n, stream in enumerate(streams)]
    return Lens([spelt(i) for i in reads], [None if i is None else spelt(i) for i in asks], layers)


def _streams(model: Any, rows: Tensor) -> list[Tensor]:
    """`[batch, time, dim]` for the stream that enters the first block, and after each block."""
    found: list[Tensor] = []
    hooks = [model.blocks[0].register_forward_pre_hook(lambda block, inputs: found.append(inputs[0]))]
    hooks += [block.register_forward_hook(lambda block, inputs, output: found.append(output)) for block in model.blocks]
    pieces: list[list[Tensor]] = []
    try:
        for some in rows.split(max(1, 4096 // rows.shape[1])):
            found.clear()
            model.vectors(some)
            pieces.append(list(found))
    finally:
        for hook in hooks:
            hook.remove()
    return [torch.cat(parts) for parts in zip(*pieces, strict=True)]


def _logits(model: Any, stream: Tensor) -> Tensor:
    """`[places, vocab]` log-probabilities that the last norm and the head make of a stream `[places, dim]`."""
    parts = [model.embedding.logits(model.norm(piece)).float().log_softmax(-1) for piece in stream.split(PIECE)]
    return torch.cat(parts)[:, : model.vocab_size]


def _layer(number: int, scores: Tensor, final: Tensor, asks: list[int | None], spelt: Any) -> Layer:
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
                None if truth is None else float(torch.tensor(truth).exp()),
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
