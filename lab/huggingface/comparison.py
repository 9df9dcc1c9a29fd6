"""How near a model of the lab comes to transformers' own: both on the same tokens, with the same weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.huggingface.family import Family
from lab.huggingface.incoming import attach
from lab.layout import Layout
from lab.models.decoder import Decoder
from lab.models.encoder import Encoder
from lab.models.encoder_decoder import EncoderDecoder
from lab.models.generate import generate
from lab.models.translate import translate
from lab.objectives.classify import Classify
from lab.objectives.contrastive import Contrastive
from lab.objectives.masked import MaskedNextSentence
from lab.objectives.tag import Tag
from lab.parts.cache import left_padded
from lab.runs.classify import trained_objective
from lab.runs.folder import Run

TIME, NEW = 24, 100
SIZES = [TIME, 15]
"""Tokens in padded rows."""

RESIDUE = 1e-3
"""Gradients under this share of the largest of all parameters count as if they were that large."""

FIRST = 3
"""The first token that is not special."""


@dataclass(frozen=True)
class Parity:
    """Largest differences of one model, each as a share of the largest absolute value of the tensor that differs.

    Attributes:
        logits, hidden: of two rows; hidden states of every layer.
        gradients: of the loss, of every parameter.
        padded: logits, of rows of unequal lengths with padding behind and before.
        packed: logits, of two documents in one row, each against itself alone.
        same, tokens: greedily generated tokens that are the same, and all.
        different: how many different ones there are in the row that has fewest; where it is 1, the same says little.
    """

    logits: float
    hidden: float
    gradients: float
    padded: float
    packed: float
    same: int
    tokens: int
    different: int


def compare(family: Family, run: Run, theirs: Any) -> Parity:
    """Both on the same tokens."""
    family = family.of(type(theirs).__name__)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(FIRST, theirs.config.vocab_size, (2, TIME), generator=generator)
    by_kind = {Decoder: _compare_decoders, Encoder: _compare_encoders, EncoderDecoder: _compare_pairs}
    return by_kind[family.built](family, run, theirs, tokens)


def _compare_decoders(family: Family, run: Run, theirs: Any, tokens: Tensor) -> Parity:
    ours: Any = run.model
    with torch.no_grad(), _watched(ours) as states:
        mine = ours(tokens)
        out = theirs(input_ids=tokens, output_hidden_states=True)
    ours.zero_grad()
    theirs.zero_grad()
    targets = torch.full_like(tokens, -100)
    targets[:, :-1] = tokens[:, 1:]
    ours.loss(tokens, targets).backward()
    theirs(input_ids=tokens, labels=tokens).loss.backward()
    made = generate(ours, [tokens[0, :9].tolist()], NEW)[0]
    others = _continued(theirs, tokens[0, :9].tolist())
    return Parity(
        _share(mine, out.logits),
        _farthest(ours, states, out.hidden_states),
        _of_parameters(family, ours, theirs),
        _padded(ours, theirs, tokens),
        _packed(ours, theirs, tokens),
        sum(a == b for a, b in zip(made, others, strict=True)),
        len(others),
        len(set(others)),
    )


def _share(mine: Tensor, theirs: Tensor, least: float = 0.0) -> float:
    """The largest difference as a share of the largest absolute value, or of `least` if that is more."""
    largest = max(theirs.abs().max().item(), least)
    return (mine - theirs).abs().max().item() / (largest or 1.0)


@contextmanager
def _watched(stack: Any) -> Iterator[list[Tensor]]:
    """What leaves each block of a stack."""
    states: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, __, out: states.append(out)) for block in stack.blocks]
    yield states
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def _farthest(stack: Any, states: Sequence[Tensor], layers: Sequence[Tensor]) -> float:
    """Of the layers of theirs, which begin with what enters, and count the last norm to the last."""
    mine = [*states[:-1], stack.norm(states[-1])]
    return max(_share(a, b) for a, b in zip(mine, layers[1:], strict=True))


def _of_parameters(family: Family, ours: Any, theirs: Any) -> float:
    given = dict(_as_written(theirs))
    parameters = dict(ours.named_parameters())

    def expected(weight: Any) -> Tensor:
        found = [given[name] for name in weight.theirs]
        return torch.cat([weight.here(gradient) for gradient in found])

    pairs = [(parameters[w.ours].grad, expected(w)) for w in family.weights(ours)]
    overall = max(gradient.abs().max().item() for _, gradient in pairs)
    # A router of a single expert that counts fully has no gradient: what there is is rounding of others.
    return max(_share(mine, other, RESIDUE * overall) for mine, other in pairs)


def _as_written(theirs: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Gradients by the names that the file has: experts there are one by one."""
    for name, parameter in theirs.named_parameters():
        gradient = parameter.grad
        if gradient is None:  # an expert that no token met
            gradient = torch.zeros_like(parameter)
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            at = name.replace(".mlp.experts.", ".block_sparse_moe.experts.{}.").rpartition(".")[0]
            for number, expert in enumerate(gradient):
                if name.endswith("gate_up_proj"):
                    gate, up = expert.chunk(2)
                    yield f"{at}.w1.weight".format(number), gate
                    yield f"{at}.w3.weight".format(number), up
                else:
                    yield f"{at}.w2.weight".format(number), expert
        else:
            yield name.replace(".mlp.gate.", ".block_sparse_moe.gate."), gradient


@torch.no_grad()
def _padded(ours: Any, theirs: Any, tokens: Tensor) -> float:
    """Rows of 24 and 15 tokens, padded behind, and before."""
    found = []
    for real, layout in ((_real(), _behind()), (_real().flip(1), left_padded(SIZES))):
        places = (real.cumsum(1) - 1).clamp_min(0)
        given = tokens.masked_fill(~real, theirs.config.pad_token_id or 0)
        reference = theirs(input_ids=given, attention_mask=real.long(), position_ids=places).logits
        found.append(_share(ours(given, layout)[real], reference[real]))
    return max(found)


@torch.no_grad()
def _packed(ours: Any, theirs: Any, tokens: Tensor) -> float:
    """A row of documents of 14 and 10 tokens against each alone."""
    mine = ours(tokens[:1], Layout.packed([[14, TIME - 14]]))[0]
    return _share(mine, torch.cat([theirs(input_ids=piece).logits[0] for piece in _pieces(tokens)]))


def _real() -> Tensor:
    """`[2, TIME]` bool, which places of two rows are no padding, where it stands behind."""
    return torch.arange(TIME) < torch.tensor(SIZES).unsqueeze(1)


def _behind() -> Layout:
    return Layout.packed([[n] for n in SIZES], TIME)


def _pieces(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Two documents of the first row."""
    return tokens[:1, :14], tokens[:1, 14:]


def _continued(theirs: Any, prompt: list[int]) -> list[int]:
    """Greedy, and never stopping."""
    given = torch.tensor([prompt])
    settings: Mapping[str, Any] = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0, "bos_token_id": None}
    return theirs.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=NEW, **settings)[
        0, len(prompt) :
    ].tolist()


def _compare_encoders(family: Family, run: Run, theirs: Any, tokens: Tensor) -> Parity:
    objective = trained_objective(run)
    ours: Any = objective.model
    attach(ours, objective.head)
    with torch.no_grad(), _watched(ours) as states:
        mine = _scored(objective, tokens)
    with torch.no_grad():
        out = theirs(input_ids=tokens, output_hidden_states=True)
        real, layout = _real(), _behind()
        given = tokens.masked_fill(~real, theirs.config.pad_token_id or 0)
        padded = _scored(objective, given, layout)
        wanted = _told(theirs(input_ids=given, attention_mask=real.long()))
        alone = [theirs(input_ids=piece, output_hidden_states=True).hidden_states[-1][0] for piece in _pieces(tokens)]
        packed = ours.vectors(tokens[:1], Layout.packed([[14, TIME - 14]]))[0]
    for outputs in (_scored(objective, tokens), _told(theirs(input_ids=tokens))):
        _any_loss(outputs).backward()
    return Parity(
        max(_share(a, b) for a, b in zip(mine, _told(out), strict=True)),
        _farthest(ours, states, out.hidden_states),
        _of_parameters(family, ours, theirs),
        max(_share(_seen(a, real), _seen(b, real)) for a, b in zip(padded, wanted, strict=True)),
        _share(packed, torch.cat(alone)),
        0,
        0,
        0,
    )


def _scored(objective: Any, tokens: Tensor, layout: Layout | None = None) -> list[Tensor]:
    """All that a class of transformers gives beside its loss: of tokens `[rows, time, ...]`, of rows `[rows, ...]`."""
    model = objective.model
    if isinstance(objective, Classify):
        return [objective.head(model.represent(tokens, layout))]
    vectors = model.vectors(tokens, layout)
    if isinstance(objective, Tag):
        return [objective.head(vectors)]
    if isinstance(objective, Contrastive):
        return [vectors] + ([] if model.pooler is None else [model.pooled(vectors)])
    follows = [objective.follows(vectors).flip(1)] if isinstance(objective, MaskedNextSentence) else []
    return [model.embedding.logits(vectors), *follows]


def _seen(output: Tensor, real: Tensor) -> Tensor:
    """What is not of padding."""
    return output[real] if output.ndim == 3 else output


def _told(out: Any) -> list[Tensor]:
    """The same of what a class of transformers returns."""
    names = ("logits", "prediction_logits", "seq_relationship_logits", "last_hidden_state", "pooler_output")
    return [out[name] for name in names if out.get(name) is not None]


def _any_loss(outputs: Sequence[Tensor]) -> Tensor:
    """That of guessing fixed classes, whatever the outputs are."""
    rows = [output.flatten(0, -2) for output in outputs]
    return torch.stack([F.cross_entropy(of, torch.arange(len(of)) % of.shape[1]) for of in rows]).sum()


def _compare_pairs(family: Family, run: Run, theirs: Any, tokens: Tensor) -> Parity:
    """An encoder-decoder: sources of 24 tokens, targets of 20 that follow the padding."""
    ours: Any = run.model
    source, target = tokens, torch.cat([torch.zeros_like(tokens[:, :1]), tokens.flip(0, 1)[:, :19]], dim=1)
    with _watched(ours.encoder) as encoded, _watched(ours.decoder) as decoded:
        mine = ours.embedding.logits(ours.hidden(source, target))
    out = theirs(input_ids=source, decoder_input_ids=target, output_hidden_states=True)
    ours.zero_grad()
    theirs.zero_grad()
    given, wanted = target[:, :-1], target[:, 1:].contiguous()
    (ours.embedding.loss(ours.hidden(source, given), wanted) / wanted.numel()).backward()
    theirs(input_ids=source, labels=wanted).loss.backward()
    found = translate(ours, source, _behind(), begin=0, end=-1, limits=NEW)
    others = _translated(theirs, source, _real(), family.steady)
    return Parity(
        _share(mine, out.logits),
        max(
            _farthest(ours.encoder, encoded, out.encoder_hidden_states),
            _farthest(ours.decoder, decoded, out.decoder_hidden_states),
        ),
        _of_parameters(family, ours, theirs),
        _padded_pairs(ours, theirs, source, target),
        _packed_pairs(ours, theirs, source, target),
        sum(a == b for one, other in zip(found, others, strict=True) for a, b in zip(one, other, strict=True)),
        sum(len(other) for other in others),
        min(len(set(other)) for other in others),
    )


@torch.no_grad()
def _padded_pairs(ours: Any, theirs: Any, source: Tensor, target: Tensor) -> float:
    """Sources of 24 and 15 tokens, targets of 11 and 20, padded behind."""
    sizes = SIZES, [11, target.shape[1]]
    seen, known = (
        torch.arange(x.shape[1]) < torch.tensor(n).unsqueeze(1) for x, n in zip((source, target), sizes, strict=True)
    )
    layouts = [Layout.packed([[n] for n in of], x.shape[1]) for of, x in zip(sizes, (source, target), strict=True)]
    source, target = source.masked_fill(~seen, 0), target.masked_fill(~known, 0)
    mine = ours.embedding.logits(ours.hidden(source, target, *layouts))
    masks = {"attention_mask": seen.long(), "decoder_attention_mask": known.long()}
    reference = theirs(input_ids=source, decoder_input_ids=target, **masks).logits
    return _share(mine[known], reference[known])


@torch.no_grad()
def _packed_pairs(ours: Any, theirs: Any, source: Tensor, target: Tensor) -> float:
    """Two pairs in one row against each alone."""
    sides = [(source[:1], [14, TIME - 14]), (target[:1], [8, target.shape[1] - 8])]
    layouts = [Layout.packed([sizes]) for _, sizes in sides]
    mine = ours.embedding.logits(ours.hidden(source[:1], target[:1], *layouts))[0]
    pieces = zip(*(row.split(sizes, dim=1) for row, sizes in sides), strict=True)
    alone = [theirs(input_ids=one, decoder_input_ids=other).logits[0] for one, other in pieces]
    return _share(mine, torch.cat(alone))


def _translated(theirs: Any, source: Tensor, seen: Tensor, cached: bool) -> list[list[int]]:
    """Greedy, and never stopping."""
    settings: Mapping[str, Any] = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0, "use_cache": cached}
    made = theirs.generate(source, attention_mask=seen.long(), max_new_tokens=NEW, **settings)
    return made[:, 1:].tolist()
