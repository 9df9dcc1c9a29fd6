"""Where attention looks: the weights of every layer and head over a text, and figures that sum each head up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lab.errors import RequestError
from lab.views.sides import Sides, check_target, sides
from lab.views.terminal import SHADES, table

if TYPE_CHECKING:
    from lab.models.model import Model
    from lab.runs.folder import Run

KINDS = {
    "attention": ("self", "text", "text"),
    "encoder.attention": ("encoder", "source", "source"),
    "decoder.attention": ("decoder", "target", "target"),
    "decoder.cross": ("cross", "written", "source"),
    "looks": ("alignment", "written", "source"),
}
"""Of the places where weights pass: what they are called here, whose tokens the queries are, and whose the keys."""


BOUNDS = (0.01, 0.05, 0.25, 0.5)
"""Weights over which a map in the terminal takes the next darker shade."""


@dataclass(frozen=True)
class Head:
    """What one head does on a text, as means over its queries.

    Attributes:
        layer, head: counted from 1.
        entropy: of the weights, in bits; 0 where a query looks at one token alone.
        first: the share that goes to the first token.
        distance: tokens between a query and what it looks at; none across texts.
        previous: the share that goes to the token before; none across texts.
        induction: the share that goes to the token that followed the last occurrence of the query's token, over queries
            whose token occurred before (Olsson et al. 2022); none across texts, and where no token repeats.
    """

    layer: int
    head: int
    entropy: float
    first: float
    distance: float | None = None
    previous: float | None = None
    induction: float | None = None

    def said(self) -> str:
        """The figures in one line."""
        shares = {"first": self.first, "previous": self.previous, "induction": self.induction}
        apart = "" if self.distance is None else f", distance {self.distance:.1f}"
        named = "".join(f", {name} {share:.0%}" for name, share in shares.items() if share is not None)
        return f"entropy {self.entropy:.2f} bits{apart}{named}"


@dataclass(frozen=True, eq=False)
class Maps:
    """The attention of a stack of layers over a text, or from one text to another.

    Attributes:
        kind: `self`, of a model of one stack; `encoder` or `decoder`, within the texts of a model of two; `cross`, from a
            target to its source; `alignment`, the same of a recurrent translator, which has one head.
        queries, keys: the tokens as text. From a target to its source a query is the token that is written there.
        weights: `[layers, heads, queries, keys]` float32, rows that sum to one, or to less where a sink takes the rest.
        ids: `[keys]`, the tokens' numbers.
    """

    kind: str
    queries: list[str]
    keys: list[str]
    weights: np.ndarray
    ids: np.ndarray

    @property
    def within(self) -> bool:
        """Queries and keys are the same tokens."""
        return self.kind not in ("cross", "alignment")

    @cached_property
    def heads(self) -> list[Head]:
        """The figures of each head of each layer."""
        layers, heads = self.weights.shape[:2]
        return [self._figures(layer, head) for layer in range(layers) for head in range(heads)]

    def _figures(self, layer: int, head: int) -> Head:
        weights = self.weights[layer, head].astype(np.float64)
        logs = np.log2(weights, out=np.zeros_like(weights), where=weights > 0)
        own = self._within(weights) if self.within else {}
        entropy = float(-(weights * logs).sum(1).mean())
        return Head(layer + 1, head + 1, entropy, float(weights[:, 0].mean()), **own)

    def _within(self, weights: np.ndarray) -> dict[str, float | None]:
        """The figures that only tokens of one text have."""
        places = np.arange(len(weights))
        later, (i, j) = places[1:], self._repeats
        return {
            "distance": float((weights * np.abs(places[:, None] - places)).sum(1).mean()),
            "previous": float(weights[later, later - 1].mean()) if len(later) else 0.0,
            "induction": float(weights[i, j].mean()) if len(i) else None,
        }

    @cached_property
    def _repeats(self) -> tuple[np.ndarray, np.ndarray]:
        """Places whose token occurred before, and the places after its last occurrence."""
        last: dict[int, int] = {}
        found = []
        for place, token in enumerate(self.ids.tolist()):
            if token in last:
                found.append((place, last[token] + 1))
            last[token] = place
        pairs = np.array(found, int).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

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
        self.check(layer, head, token)
        row = self.weights[layer - 1, head - 1, token - 1]
        order = np.argsort(-row, kind="stable")[:most]
        return [(int(key) + 1, self.keys[key], float(row[key])) for key in order if row[key] > 0]

    def check(self, layer: int | None = None, head: int | None = None, token: int | None = None) -> None:
        """Raises `RequestError` for a layer, a head or a token that is not there."""
        layers, heads, queries, _ = self.weights.shape
        where = "" if self.kind == "self" else f" in {self.kind}"
        for key, value, most in (("layer", layer, layers), ("head", head, heads), ("token", token, queries)):
            if value is not None and not 1 <= value <= most:
                whose = "text" if key == "token" else "model"
                raise RequestError(f"--{key}: {value}; the {whose} has {key}s 1 to {most}{where}")


def attention(run: Run, text: str, target: str | None = None) -> list[Maps]:
    """The attention maps of a model over a text, with the tokens that stand around one: one for each kind that it has.

    Args:
        run: of any family, from `lab.load`.
        text: what the model reads; of an encoder-decoder the source.
        target: of an encoder-decoder; by default what it writes by itself.

    Raises:
        RequestError: a text that is empty, too long for the model or not to be represented, a target for a model that has
            none, or a model without attention.
    """
    check_target(run, target)
    if not attends(run.outline):
        raise RequestError(f"{run.folder}: {_without(run)}; there is no attention to show")
    return over(run, sides(run, text, target))


def attends(model: Model) -> bool:
    """A model has attention, of whatever kind."""
    return any(name.endswith(".weights") for name, _ in model.named_modules())


def over(run: Run, given: Sides) -> list[Maps]:
    """The attention maps over tokens.

    Args:
        run: of a model with attention.
        given: the tokens.
    """
    from lab.models.record import record

    model: Any = run.model
    was_training, device = model.training, next(model.parameters()).device
    read = [torch.tensor([given[side]], device=device) for side in ("text", "source", "target") if side in given]
    model.eval()
    with torch.no_grad(), record(model, "weights") as seen:
        model.vectors(*read) if "text" in given else model.hidden(*read)
    model.train(was_training)
    return list(_maps(run, seen, given))


def _without(run: Run) -> str:
    choices = run.config.choices
    if hasattr(run.outline, "looks"):
        return f"alignment={choices.alignment} knows the source by one vector"
    return f"model={choices.model} looks at no tokens"


def _maps(run: Run, seen: Any, given: Sides) -> Iterator[Maps]:
    places: dict[str, list[Tensor]] = {}
    for name, weights in seen.items():
        kind = re.sub(r"blocks\.\d+\.", "", name).removesuffix(".weights")
        one = weights.flatten(0, -3)  # of the one row; an alignment, which has no heads, is one head
        places.setdefault(kind, []).append(one)
    words = {side: [run.tokenizer.spelt(token) for token in ids] for side, ids in given.items()}
    for place, (kind, queries, keys) in KINDS.items():
        if place in places:
            weights = torch.stack(places[place]).float().cpu().numpy()
            yield Maps(kind, words[queries], words[keys], weights, np.array(given[keys]))


def show(maps: Maps, layer: int | None = None, head: int | None = None, token: int | None = None) -> None:
    """The figures of the heads; of one head the map in shades; of one token where it looks."""
    console = Console(highlight=False)
    maps.check(layer, head, token)
    if len(maps.heads) == 1:
        layer = head = 1
        console.print(maps.heads[0].said())
    if layer is None or head is None:
        console.print(_figures(maps, layer, head))
    elif token is not None:
        console.print(f"token {token}, {maps.queries[token - 1]!r}, looks at", markup=False)
        for place, word, share in maps.looks(layer, head, token):
            console.print(f"{share:6.1%}  {place:4}  {word!r:16} {'█' * round(40 * share)}", markup=False)
    else:
        _map(maps, maps.weights[layer - 1, head - 1], console)


def _figures(maps: Maps, layer: int | None, head: int | None) -> Table:
    """A row for each head, of the layer or of that head of every layer."""
    within = ("distance", "on previous", "induction") if maps.within else ()
    rows = table("layer", "head", "entropy (bits)", "on first", *within, names=2)
    for each in maps.heads:
        if layer in (None, each.layer) and head in (None, each.head):
            own = [f"{each.layer}", f"{each.head}", f"{each.entropy:.2f}", f"{each.first:.2f}"]
            if maps.within:
                induction = "" if each.induction is None else f"{each.induction:.2f}"
                own += [f"{each.distance:.1f}", f"{each.previous:.2f}", induction]
            rows.add_row(*own)
    return rows


def _map(maps: Maps, weights: np.ndarray, console: Console) -> None:
    """A row of shades for each query, two characters a key, or one where two do not fit; what does not fit is said."""
    words = [repr(word) for word in maps.queries]
    widest = min(max(map(cell_len, words)), 20)
    room = console.width - widest - 1
    each = 2 if 2 * len(maps.keys) <= room else 1
    shown = min(len(maps.keys), room // each)
    for word, row in zip(words, weights, strict=True):
        shades = "".join(SHADES[step] * each for step in np.searchsorted(BOUNDS, row[:shown]))
        fitted = set_cell_size(word, min(cell_len(word), widest))
        console.print(f"{' ' * (widest - cell_len(fitted))}{fitted} {shades}", markup=False, no_wrap=True)
    if not maps.within:
        console.print(f"columns: {' '.join(map(repr, maps.keys))}", markup=False)
    console.print(", ".join(f"{shade} over {bound:.0%}" for shade, bound in zip(SHADES[1:], BOUNDS, strict=True)))
    if shown < len(maps.keys):
        console.print(f"{shown} of {len(maps.keys)} columns fit; a wider terminal or --html shows all")
