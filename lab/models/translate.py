"""Generation of targets from sources: token by token, and beam search with the length penalty of Wu et al. 2016 (GNMT)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from lab.layout import Layout
from lab.models.generate import collect
from lab.models.generating import generating
from lab.models.model import SequenceToSequence
from lab.models.sampling import Sampling


@torch.inference_mode()
def translate(
    model: SequenceToSequence,
    source: Tensor,
    source_layout: Layout | None = None,
    *,
    begin: int,
    end: int,
    limits: int | Sequence[int],
    beam: int = 1,
    penalty: float = 0.6,
) -> list[list[int]]:
    """The target of each source that the model finds most probable, as far as it searches.

    Args:
        model: is put into evaluation mode while it generates.
        source: `[batch, source time]` int64.
        source_layout: of the source; by default one document a row, without padding.
        begin: the token that targets follow.
        end: the token that ends one; it is left out of what is returned.
        limits: tokens that a target has at most, the one that ends it left out; for each row, or one for all.
        beam: hypotheses that are followed; 1 takes the best token at each step.
        penalty: the exponent of the length in the score of a hypothesis; 0 prefers short ones.

    Raises:
        ValueError: a beam or a limit under 1, a penalty under 0, or not as many limits as rows.
    """
    most = _checked(source, limits)
    if beam < 1 or not penalty >= 0:
        raise ValueError(f"beam: {beam}, at least 1; penalty: {penalty}, at least 0")
    if not most:
        return []
    if beam == 1:
        return collect(stream(model, source, source_layout, begin=begin, end=end, limits=most), len(source))
    with generating(model):
        return _beam(model, source, source_layout, begin, end, most, beam, penalty)


@torch.inference_mode()
def stream(
    model: SequenceToSequence,
    source: Tensor,
    source_layout: Layout | None = None,
    *,
    begin: int,
    end: int,
    limits: int | Sequence[int],
    sampling: Sampling | None = None,
) -> Iterator[list[int | None]]:
    """The targets as they are made: at each step the next token of each row, none for a row that has ended.

    Args:
        sampling: how a token is chosen; by default the best one.

    The others, and errors, as `translate`; errors are raised when the first token is asked for.
    """
    sampling = sampling or Sampling()
    limits = _checked(source, limits)
    drawing = sampling.drawing(source.device)
    seen = sampling.seen([[begin]] * len(source), model.vocab_size, source.device)
    with generating(model):
        # What is derived of a layout in here could not serve training.
        own = None if source_layout is None else source_layout.afresh()
        state = model.begin(source, own, max(limits, default=0))
        last = torch.full((len(source), 1), begin, device=source.device)
        going = [True] * len(source)
        for length in range(1, max(limits, default=0) + 1):
            scores = model.embedding.logits(model.step(last, state)[:, -1])[:, : model.vocab_size]
            last = sampling.choose(scores, drawing, seen)
            chosen: list[int] = last[:, 0].tolist()
            going = [go and token != end for go, token in zip(going, chosen, strict=True)]
            yield [token if go else None for go, token in zip(going, chosen, strict=True)]
            going = [go and length < limit for go, limit in zip(going, limits, strict=True)]
            if not any(going):
                return


def _checked(source: Tensor, limits: int | Sequence[int]) -> list[int]:
    most = [limits] * len(source) if isinstance(limits, int) else [int(limit) for limit in limits]
    if len(most) != len(source) or (most and min(most) < 1):
        raise ValueError(f"limits: {most}; one for each of the {len(source)} rows, at least 1")
    return most


def room(lengths: Sequence[int] | np.ndarray, longest: float, context: int) -> list[int]:
    """Tokens that targets may have for sources of these lengths: `longest` for each of the source, plus 10, and the end within
    the context.
    """
    return np.minimum(longest * np.asarray(lengths) + 10, context - 1).astype(int).tolist()


def _beam(
    model: SequenceToSequence,
    source: Tensor,
    layout: Layout | None,
    begin: int,
    end: int,
    limits: list[int],
    beam: int,
    penalty: float,
) -> list[list[int]]:
    """The `beam` best unfinished hypotheses of each row go on; a row is done when as many have ended, or at its limit."""
    batch, device = len(source), source.device
    copies = torch.arange(batch, device=device).repeat_interleave(beam)
    state = model.begin(source[copies], None if layout is None else layout.rows(copies), max(limits))
    tokens = torch.full((batch * beam, 1), begin, device=device)
    scores = torch.full((batch, beam), -torch.inf, dtype=torch.float64, device=device)
    scores[:, 0] = 0  # all copies are the same before the first token
    ended: list[list[tuple[float, list[int]]]] = [[] for _ in range(batch)]
    for length in range(1, max(limits) + 1):
        logits = model.embedding.logits(model.step(tokens[:, -1:], state)[:, -1])
        likely = logits.double().log_softmax(dim=-1)[:, : model.vocab_size]  # a table may have rows for no token
        each = scores.unsqueeze(-1) + likely.unflatten(0, (batch, beam))
        vocab = each.shape[-1]
        # Of twice as many at most half can end, so that enough are left to go on.
        best, place = each.flatten(1).topk(2 * beam, dim=1)
        origin, token = place // vocab, place % vocab
        ends = token == end
        for row, rank in (ends[:, :beam] & best[:, :beam].isfinite()).nonzero().tolist():
            if len(ended[row]) < beam and length <= limits[row]:
                done = tokens[row * beam + origin[row, rank], 1:].tolist()
                ended[row].append((_score(best[row, rank].item(), length, penalty), done))
        order = ends.to(torch.int8).argsort(dim=1, stable=True)[:, :beam]  # those that go on, the best first
        scores = best.gather(1, order).masked_fill(ends.gather(1, order), -torch.inf)
        rows = (origin.gather(1, order) + beam * torch.arange(batch, device=device).unsqueeze(1)).flatten()
        tokens = torch.cat([tokens[rows], token.gather(1, order).reshape(-1, 1)], dim=1)
        for row, limit in enumerate(limits):
            if length == limit and len(ended[row]) < beam:  # what has not ended here is taken as it is
                ended[row] += [
                    (_score(score, length, penalty), tokens[row * beam + i, 1:].tolist())
                    for i, score in enumerate(scores[row].tolist())
                    if score > -torch.inf
                ]
        if all(len(found) >= beam or length >= limit for found, limit in zip(ended, limits, strict=True)):
            break
        state.reorder(rows)
    return [max(found, key=lambda hypothesis: hypothesis[0])[1] for found in ended]


def _score(log_probability: float, length: int, penalty: float) -> float:
    """Of a hypothesis of so many tokens, its end included (Wu et al. 2016, equation 14, without coverage)."""
    return log_probability / ((5 + length) / 6) ** penalty
