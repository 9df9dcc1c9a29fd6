"""Texts through a trained encoder-decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lab.errors import RequestError
from lab.runs.folder import Run

ROWS = 64
"""Texts that are translated at a time, of like length."""


def translate(
    run: Run, texts: Sequence[str], beam: int | None = None, penalty: float | None = None, most: int | None = None
) -> list[str]:
    """What a run's model makes of each text.

    Args:
        run: of an encoder-decoder, from `lab.load`.
        texts: sources.
        beam: hypotheses that are followed; by default as the run was configured.
        penalty: exponent of the length in their score; the same.
        most: tokens that a target has at most; by default as many as the run was configured to allow for its source.

    Raises:
        RequestError: a model of another family, or a text that is empty or longer than the model's context.
    """
    return [run.tokenizer.decode(target) for target in targets(run, texts, beam, penalty, most)]


def targets(
    run: Run, texts: Sequence[str], beam: int | None = None, penalty: float | None = None, most: int | None = None
) -> list[list[int]]:
    """The tokens of what `translate` gives, with its arguments and errors."""
    from lab.data.arrange import layout, table
    from lab.models.translate import translate as search

    model: Any = run.model
    if model.family != "encoder_decoder":
        raise RequestError(
            f"{run.folder}: holds model={run.config.choices.model}; translating takes an encoder-decoder"
        )
    end, pad = run.tokenizer.id("end"), run.tokenizer.id("pad")
    sources = read(run, texts)
    lengths = np.array([len(source) for source in sources])
    settings = run.config.objective
    device = model.embedding.table.weight.device
    found: dict[int, list[int]] = {}
    order = np.argsort(lengths, kind="stable")
    for rows in np.split(order, range(ROWS, len(order), ROWS)):
        if not len(rows):
            continue
        targets = search(
            model,
            table([sources[row] for row in rows], pad).to(device),
            layout(lengths[rows]).to(device),
            begin=run.tokenizer.document_id,
            end=end,
            limits=limits(run, lengths[rows], most),
            beam=settings.get("beam", 1) if beam is None else beam,
            penalty=settings.get("penalty", 0.6) if penalty is None else penalty,
        )
        found |= dict(zip(rows.tolist(), targets, strict=True))
    return [found[number] for number in range(len(texts))]


def read(run: Run, texts: Sequence[str]) -> list[np.ndarray]:
    """The tokens of each text as a source, the one that ends it included.

    Raises:
        RequestError: a text that is empty or longer than the model's context.
    """
    model: Any = run.model
    end = run.tokenizer.id("end")
    sources = [np.append(tokens, end).astype(np.int64) for tokens in run.tokenizer.encode(texts)]
    for number, source in enumerate(sources):
        if not 1 < len(source) <= model.context:
            raise RequestError(
                f"text {number + 1}: {len(source) - 1:,} tokens; from 1 to {model.context - 1}, as model.context allows"
            )
    return sources


def limits(run: Run, lengths: np.ndarray, most: int | None = None) -> list[int]:
    """Tokens that targets may have for sources of these lengths."""
    from lab.models.translate import room

    model: Any = run.model
    allowed = room(lengths, run.config.objective.get("longest", 2.0), model.context)
    return allowed if most is None else [min(most, model.context - 1)] * len(allowed)
