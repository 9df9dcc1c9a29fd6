"""Pictures of a model while it trains, for W&B: where it looks, which experts tokens go to, what it writes.

They are of the first rows of the validation text, and are made by what `lab attention`, `lab routing` and `lab generate` use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from lab.layout import IGNORE
from lab.runs.subject import Held
from lab.views.attention import attends

WIDE = 64
"""Tokens of the text that attention is drawn of."""

ROUTED = 2_048
"""Tokens whose routes are drawn."""

SAMPLES = 3
"""Texts that are continued, or sources that are translated."""

BEFORE, AFTER = 24, 48
"""Tokens of such a text that are given, and that are written at most."""


class Pictures(pl.Callback):
    """Draws after every so many optimizer steps, and at the end. Goes before `Pace`, whose clock it stops meanwhile.

    Args:
        run: the model that trains, its tokenizer and configuration.
        data: its batches.
        pace: of the run.
        every: steps.
        told: called with the pictures by name, the step and the tokens read so far; none on ranks that only wait for the
            first one to draw.
    """

    def __init__(
        self, run: Held, data: Any, pace: Any, every: int, told: Callable[[dict, int, int], None] | None
    ) -> None:
        self.run, self.data, self.pace, self.every, self.told = run, data, pace, every, told
        self.drawn = -1

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """After the last part of a step, which `Pace` has not counted yet."""
        step = self.pace.spent.steps + 1
        if (self.pace.micro + 1) % trainer.accumulate_grad_batches == 0 and step % self.every == 0:
            self._draw(trainer, step, step, self.pace.spent.tokens + batch.read)

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Of a run that is over; in W&B one step later, as what `Pace` measured last has closed its own."""
        spent = self.pace.spent
        if self.pace.status == "finished" and self.drawn != spent.steps:
            self._draw(trainer, spent.steps, spent.steps + 1, spent.tokens)

    def _draw(self, trainer: pl.Trainer, step: int, place: int, tokens: int) -> None:
        began = time.perf_counter()
        drawn = {} if self.told is None else dict(pictures(self.run, self.data))
        if drawn and self.told is not None:
            self.told(drawn | {"pictures/seconds": time.perf_counter() - began}, place, tokens)
        trainer.strategy.barrier()
        self.drawn = step
        lost = time.perf_counter() - began
        self.pace.clock += lost
        self.pace.logged_at += lost


def pictures(run: Held, data: Any) -> Iterator[tuple[str, Any]]:
    """What can be shown of a model, as W&B takes it: pages, and tables of the figures in them."""
    model: Any = run.model
    looks = attends(model)
    if looks or model.generates:
        rows = data.validation_rows
        first = rows.batch(np.arange(min(SAMPLES, len(rows)))).to(next(model.parameters()).device)
    if looks:
        yield from _attention(run, first)
    if model.expert_layers:
        yield from _routing(run, data)
    if model.generates:
        yield "samples/text", _samples(run, first)


def _attention(run: Held, batch: Any) -> Iterator[tuple[str, Any]]:
    import wandb

    from lab.views.attention import over
    from lab.views.attention_page import to_html

    model: Any = run.model
    text = _row(batch.tokens, batch.layout, 0)[:WIDE]
    sides = {"text": text}
    if model.family == "encoder_decoder":
        source = _row(batch.source, batch.source_layout, 0)[:WIDE]
        sides = {"source": source, "target": text, "written": _targets(batch, 0)[:WIDE]}
    maps = over(run, sides)
    yield "attention/maps", wandb.Html(to_html(maps, "Attention"), inject=False)
    names = ("layer", "head", "entropy", "first", "distance", "previous", "induction")
    figures = [[one.kind, *(getattr(head, name) for name in names)] for one in maps for head in one.heads]
    yield "attention/heads", wandb.Table(columns=["kind", *names], data=figures)


def _routing(run: Held, data: Any) -> Iterator[tuple[str, Any]]:
    import wandb

    from lab.views.routes import Routes
    from lab.views.routing import follow
    from lab.views.routing_page import to_html

    batches = (batch for batch in data.val_dataloader() if batch.counted)
    routes = Routes("the validation text", follow(run, batches, ROUTED))
    yield "routing/page", wandb.Html(to_html(routes, "Routes"), inject=False)
    load = [[one.name, expert + 1, float(share)] for one in routes.layers for expert, share in enumerate(one.load)]
    yield "routing/load", wandb.Table(columns=["layer", "expert", "load"], data=load)
    for layer in routes.layers:
        yield f"routing/layer {layer.name}/kind_bits", layer.kind_told.bits
        yield f"routing/layer {layer.name}/kind_bits_by_chance", layer.kind_told.bound


def _samples(run: Held, batch: Any) -> Any:
    """A table of what was given, what the model writes, and what stands there."""
    import wandb

    from lab.models.generate import generate
    from lab.models.translate import translate

    model: Any = run.model
    say, end = run.tokenizer.decode, run.tokenizer.id("end")
    rows = range(len(batch.tokens))
    if model.family == "encoder_decoder":
        given = [_row(batch.source, batch.source_layout, row) for row in rows]
        truth = [_targets(batch, row) for row in rows]
        settings = {"begin": run.tokenizer.document_id, "end": end, "limits": min(AFTER, model.context - 1)}
        written = translate(model, batch.source, batch.source_layout, **settings)
    else:
        whole = [_row(batch.tokens, batch.layout, row) for row in rows]
        given = [row[: min(BEFORE, max(1, len(row) // 2))] for row in whole]
        truth = [row[len(head) :][:AFTER] for row, head in zip(whole, given, strict=True)]
        room = AFTER if model.limit is None else min(AFTER, model.limit - max(map(len, given)))
        written = generate(model, given, room, stop={run.tokenizer.document_id, end})
    lines = [[say(part) for part in parts] for parts in zip(given, written, truth, strict=True)]
    return wandb.Table(columns=["given", "written", "stands there"], data=lines)


def _row(tokens: torch.Tensor, layout: Any, row: int) -> list[int]:
    """The first document of a row."""
    return tokens[row][layout.documents[row] == 0].tolist()


def _targets(batch: Any, row: int) -> list[int]:
    return [token for token in batch.targets[row].tolist() if token != IGNORE]
