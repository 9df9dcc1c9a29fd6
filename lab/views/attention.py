"""Where attention looks: the weights of every layer and head over a text, and figures that sum each head up."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from lab.errors import RequestError
from lab.views.web import page

if TYPE_CHECKING:
    from lab.runs.folder import Run

SHADES = " ░▒▓█"
SCRIPT, STYLE = (Path(__file__).with_name(f"attention.{kind}") for kind in ("js", "css"))


@dataclass(frozen=True)
class Head:
    """What one head does on a text, as means over its queries.

    Attributes:
        layer, head: counted from 1.
        entropy: of the weights, in bits; 0 where a query looks at one token alone.
        distance: tokens between a query and what it looks at.
        first: the share that goes to the first token.
        previous: the share that goes to the token before.
        induction: the share that goes to the token that followed the last occurrence of the query's token, over queries
            whose token occurred before (Olsson et al. 2022); none where no token repeats.
    """

    layer: int
    head: int
    entropy: float
    distance: float
    first: float
    previous: float
    induction: float | None


@dataclass(frozen=True, eq=False)
class Maps:
    """The attention of a model over a text.

    Attributes:
        kind: `self` or `cross`.
        queries, keys: the tokens as text.
        weights: `[layers, heads, queries, keys]` float32, rows that sum to one, or to less where a sink takes the rest.
        ids: `[keys]`, the tokens' numbers.
    """

    kind: str
    queries: list[str]
    keys: list[str]
    weights: np.ndarray
    ids: np.ndarray

    @cached_property
    def heads(self) -> list[Head]:
        """The figures of each head of each layer."""
        layers, heads = self.weights.shape[:2]
        return [self._figures(layer, head) for layer in range(layers) for head in range(heads)]

    def _figures(self, layer: int, head: int) -> Head:
        weights = self.weights[layer, head].astype(np.float64)
        queries, keys = weights.shape
        logs = np.log2(weights, out=np.zeros_like(weights), where=weights > 0)
        distance = np.abs(np.arange(queries)[:, None] - np.arange(keys))
        own = self.kind == "self"
        before = np.arange(1, queries)
        follows = [
            (i, seen[-1] + 1) for i in range(queries) if len(seen := np.flatnonzero(self.ids[:i] == self.ids[i]))
        ]
        return Head(
            layer + 1,
            head + 1,
            entropy=float(-(weights * logs).sum(1).mean()),
            distance=float((weights * distance).sum(1).mean()),
            first=float(weights[:, 0].mean()),
            previous=float(weights[before, before - 1].mean()) if own and len(before) else 0.0,
            induction=float(np.mean([weights[i, j] for i, j in follows])) if own and follows else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "kind": self.kind,
            "queries": self.queries,
            "keys": self.keys,
            "heads": [asdict(head) for head in self.heads],
            "weights": np.round(self.weights.astype(float), 5).tolist(),
        }

    def looks(self, layer: int, head: int, token: int, most: int = 8) -> list[tuple[int, str, float]]:
        """What a query looks at most: the key's place from 1, its text, its share.

        Raises:
            RequestError: a layer, head or token that is not there.
        """
        self.check(layer, head)
        if not 1 <= token <= len(self.queries):
            raise RequestError(f"--token: {token}; the text has tokens 1 to {len(self.queries)}")
        row = self.weights[layer - 1, head - 1, token - 1]
        order = np.argsort(-row, kind="stable")[:most]
        return [(int(key) + 1, self.keys[key], float(row[key])) for key in order if row[key] > 0]

    def check(self, layer: int, head: int) -> None:
        """Raises `RequestError` for a layer or a head that is not there."""
        layers, heads = self.weights.shape[:2]
        for key, value, most in (("layer", layer, layers), ("head", head, heads)):
            if not 1 <= value <= most:
                raise RequestError(f"--{key}: {value}; the model has {key}s 1 to {most}")


def attention(run: Run, text: str) -> list[Maps]:
    """The attention maps of a run's model over a text, with the tokens that stand around one.

    Raises:
        RequestError: an empty text, one longer than the model's context, or a model without attention over texts.
    """
    from lab.data.arrange import framed
    from lab.models.record import record
    from lab.models.stack import Stack

    model: Any = run.model
    tokenizer = run.tokenizer
    if not text:
        raise RequestError("TEXT: is empty; nothing to look at")
    if not isinstance(run.model, Stack):
        raise RequestError(f"{run.folder}: model={run.config.choices.model} has no attention within one text to show")
    ids = framed(tokenizer, model.frame, [tokenizer.encode([text])[0]])[0].tolist()
    if len(ids) > model.context:
        raise RequestError(f"TEXT: {len(ids):,} tokens; the model was trained on rows of {model.context}")
    with torch.no_grad(), record(model, "attention.weights") as seen:
        model.vectors(torch.tensor([ids]))
    weights = np.stack([found[0].float().numpy() for found in seen.values()])
    words = [tokenizer.spelt(token) for token in ids]
    return [Maps("self", words, words, weights, np.array(ids))]


def show(maps: Maps, layer: int | None = None, head: int | None = None, token: int | None = None) -> None:
    """The figures of the heads; of one head the map in shades; of one token where it looks."""
    console = Console(highlight=False)
    if layer is None or head is None:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
        for heading in ("layer", "head", "entropy (bits)", "distance", "on first", "on previous", "induction"):
            table.add_column(heading, justify="right")
        for each in maps.heads:
            if layer in (None, each.layer) and head in (None, each.head):
                induction = "" if each.induction is None else f"{each.induction:.2f}"
                shares = (f"{each.first:.2f}", f"{each.previous:.2f}", induction)
                table.add_row(str(each.layer), str(each.head), f"{each.entropy:.2f}", f"{each.distance:.1f}", *shares)
        console.print(table)
        return
    if token is not None:
        looks = maps.looks(layer, head, token)
        console.print(f"token {token}, {maps.queries[token - 1]!r}, looks at", markup=False)
        for place, word, share in looks:
            console.print(f"{share:6.1%}  {place:4}  {word!r:16} {'█' * round(40 * share)}", markup=False)
        return
    maps.check(layer, head)
    wide = max(map(len, map(repr, maps.queries)))
    for place, row in enumerate(maps.weights[layer - 1, head - 1]):
        shades = "".join(SHADES[min(4, int(np.ceil(4 * share - 0.05)))] * 2 for share in row)
        console.print(f"{maps.queries[place]!r:>{wide}} {shades}", markup=False, no_wrap=True, overflow="crop")


def to_html(every: Sequence[Maps], title: str) -> str:
    """A page of heat maps, one for each layer and head; a click makes one large, with its tokens."""
    sections = []
    data = []
    for number, maps in enumerate(every):
        layers, heads = maps.weights.shape[:2]
        peak = np.clip(maps.weights, 0, 1)
        data.append(
            {
                "queries": maps.queries,
                "keys": maps.keys,
                "shape": list(maps.weights.shape),
                "weights": base64.b64encode(np.rint(255 * peak).astype(np.uint8).tobytes()).decode(),
                "figures": [_short(head) for head in maps.heads],
            }
        )
        sections.append(
            f"<h2>{'Within the text' if maps.kind == 'self' else 'Across'}: {layers} layers of {heads} heads, "
            f"{len(maps.queries)} tokens</h2><div class='large' id='large{number}'></div>"
            f"<div class='maps' id='maps{number}'></div>"
        )
    body = (
        "<p class='faint'>Each row of a map is a token, each column what it looks at. Point at a map for its figures; "
        "click it to enlarge.</p>" + "".join(sections)
    )
    values = json.dumps(data).replace("</", "<\\/")  # a token that ends the script
    script = f"const DATA = {values};\n{SCRIPT.read_text(encoding='utf-8')}"
    return page(title, body, STYLE.read_text(encoding="utf-8"), script)


def _short(head: Head) -> str:
    said = f"entropy {head.entropy:.2f} bits, distance {head.distance:.1f}, "
    said += f"first {head.first:.0%}, previous {head.previous:.0%}"
    return html.escape(said if head.induction is None else f"{said}, induction {head.induction:.0%}")
