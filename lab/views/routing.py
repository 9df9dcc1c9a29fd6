"""The routes of a text through the experts of a model of any family."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lab.errors import RequestError
from lab.parts.experts import MixtureOfExperts
from lab.views.kinds import kinds
from lab.views.routes import Layer, Read, Routes
from lab.views.sides import around, hidden, sides

if TYPE_CHECKING:
    from lab.data.packing import Batch
    from lab.runs.folder import Run

TOKENS = 20_000
"""Of the validation text, unless told."""

ROWS = 16
"""Of a text that are read at a time."""


def routing(
    run: Run, text: str | None = None, tokens: int = TOKENS, code: bool = False, layer: str | None = None
) -> Routes:
    """The routes of a text, or of the text that a run was validated on.

    Args:
        run: of a model with experts.
        text: of any length; of an encoder-decoder a source, whose target is what the model writes. By default the run's
            validation text.
        tokens: of the validation text at most.
        code: keywords, operators and brackets are kinds of their own.
        layer: that will be asked for, to see that it is there before anything is counted.

    Raises:
        RequestError: a model without experts or without that layer, a text that is empty or not to be represented, or
            validation text that is no longer what it was.
    """
    if not run.outline.expert_layers:
        choices = run.config.choices
        blocks = any(name.endswith("ffn") for name, _ in run.outline.named_modules())
        what = f"ffn={choices.ffn}" if blocks else f"model={choices.model}"
        raise RequestError(f"{run.folder}: {what} has no experts; there are no routes to show")
    names = [_name(place) for place, module in run.outline.named_modules() if isinstance(module, MixtureOfExperts)]
    if layer is not None and layer not in names:
        raise RequestError(f"--layer: {layer}; layers {', '.join(names)} have experts")
    if tokens < 1:
        raise RequestError(f"--tokens: {tokens}; at least 1")
    inputs = _validation(run) if text is None else _given(run, text)
    source = "the validation text" if text is None else "the text given"
    return Routes(source, follow(run, inputs, tokens if text is None else None, code))


def follow(run: Run, inputs: Iterable[Batch], tokens: int | None, code: bool = False) -> list[Layer]:
    """The choices of every layer of experts over some batches; of the first `tokens` of each side, if that is not none."""
    from lab.models.record import record

    model: Any = run.model
    ids: dict[str, list[np.ndarray]] = {}
    chosen: dict[str, list[np.ndarray]] = {}
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    for batch in inputs:
        batch = batch.to(device)
        with torch.no_grad(), record(model, "router") as seen:
            hidden(model, batch)
        for name, routing in seen.items():
            chosen.setdefault(name, []).append(routing.chosen.cpu().numpy())
        for side, (read, layout) in _sides(model, batch).items():
            ids.setdefault(side, []).append(read[~layout.padding].cpu().numpy())
        if tokens is not None and sum(map(len, next(iter(ids.values())))) >= tokens:
            break
    model.train(was_training)
    reads = {side: _read(run, side, np.concatenate(parts)[:tokens], code) for side, parts in ids.items()}
    modules = dict(model.named_modules())
    return [
        Layer(
            _name(name),
            reads["source" if name.startswith("encoder.") else "target" if name.startswith("decoder.") else "text"],
            len(modules[name.removesuffix(".router")].experts),
            np.concatenate(parts)[:tokens],
        )
        for name, parts in chosen.items()
    ]


def _name(place: str) -> str:
    """`2` for `blocks.1.ffn.router`, `encoder 2` for `encoder.blocks.1.ffn.router`."""
    found = re.match(r"(?:(\w+)\.)?blocks\.(\d+)\.", place)
    assert found, place
    return " ".join(filter(None, (found[1], str(int(found[2]) + 1))))


def _read(run: Run, side: str, ids: np.ndarray, code: bool) -> Read:
    words = {int(token): run.tokenizer.spelt(int(token)) for token in np.unique(ids)}
    return Read(side, ids, kinds(run.tokenizer, ids, code), words)


def _sides(model: Any, batch: Any) -> dict[str, tuple[Any, Any]]:
    if model.family == "encoder_decoder":
        return {"source": (batch.source, batch.source_layout), "target": (batch.tokens, batch.layout)}
    return {"text": (batch.tokens, batch.layout)}


def _validation(run: Run) -> Iterator[Batch]:
    from lab.runs.train import data_module

    data = data_module(run.config)
    if data.prepared.tokenizer.inner.get_vocab() != run.tokenizer.inner.get_vocab():
        raise RequestError(f"{run.folder}: its data gives another tokenizer now than it was trained with; give a TEXT")
    return (batch for batch in data.val_dataloader() if batch.counted)


def _given(run: Run, text: str) -> Iterator[Any]:
    """A text in rows of the model's context."""
    from lab.data.arrange import PairBatch, layout, table
    from lab.data.packing import Batch
    from lab.runs.subject import encoded

    model: Any = run.model
    if model.family == "encoder_decoder":
        given = sides(run, text)
        source, target = (torch.tensor([given[side]]) for side in ("source", "target"))
        sizes = [np.array([read.shape[1]]) for read in (target, source)]
        laid = [layout(size) for size in sizes]
        yield PairBatch(
            target, target, laid[0], 0, 0, sizes[0], source=source, source_layout=laid[1], source_lengths=sizes[1]
        )
        return
    ids, (before, after) = encoded(run, text, None), around(run)
    room = model.context - len(before) - len(after)
    rows = [np.array([*before, *ids[start : start + room], *after]) for start in range(0, len(ids), room)]
    for start in range(0, len(rows), ROWS):
        some = rows[start : start + ROWS]
        read, lengths = table(some, run.tokenizer.id("pad")), np.array([len(row) for row in some])
        yield Batch(read, read, layout(lengths), 0, 0, lengths)
