"""Attention as a page: the map of every head of every layer, one of them large with its tokens, in one file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lab.script import script_json
from lab.views.attention import Maps
from lab.views.web import page

SCRIPT, STYLE = (Path(__file__).with_name(f"attention.{kind}") for kind in ("js", "css"))

TITLES = {
    "self": "Within the text",
    "encoder": "Encoder: within the source",
    "decoder": "Decoder: within the target",
    "cross": "From the target to the source",
    "alignment": "From the target to the source",
}

TERMS = {
    "entropy": "how widely a token looks, 0 bits at one token alone",
    "distance": "tokens between it and what it looks at",
    "first": "the share that goes to the first token",
    "previous": "to the one before",
    "induction": "to the one that followed the same token earlier",
}
"""What the figures of a head are, as means over tokens."""

SCALE = (0, 0.05, 0.25, 0.5, 1)
"""Weights that the scale of shades names."""


def to_html(every: Sequence[Maps], title: str) -> str:
    """A page of heat maps, one for each layer and head; a click makes one large, with its tokens."""
    sections = "".join(_section(number, maps) for number, maps in enumerate(every))
    told = "Each row of a map is a token, each column what it looks at"
    if not all(maps.within for maps in every):
        told += "; from target to source a row is the token that is written there"
    told += "."
    if any(len(maps.heads) > 1 for maps in every):
        told += " 2.3 is head 3 of layer 2. Point at a map for its figures; choose it to see it large."
    terms = "; ".join(f"{name}: {term}" for name, term in TERMS.items() if name in _figures(every))
    body = f"<p class='faint'>{told}</p><p class='faint'>{terms[:1].upper()}{terms[1:]}.</p>{_scale()}{sections}"
    values = script_json([_values(maps) for maps in every])
    script = f"const DATA = {values};\n{SCRIPT.read_text(encoding='utf-8')}"
    return page(title, body, STYLE.read_text(encoding="utf-8"), script)


def _section(number: int, maps: Maps) -> str:
    layers, heads, queries, keys = maps.weights.shape
    tokens = _counted(queries, "token") + ("" if maps.within else f" written, {keys} looked at")
    options = "".join(f"<option value='{name}'>by {name}</option>" for name in _figures([maps]))
    order = (
        f"<label>Order <select id='order{number}'><option value=''>as in the model</option>{options}</select></label>"
    )
    return (
        f"<section><h2>{TITLES[maps.kind]}: {_counted(layers, 'layer')} of {_counted(heads, 'head')}, {tokens}</h2>"
        f"{order if len(maps.heads) > 1 else ''}<div class='large' id='large{number}'></div>"
        f"<div class='maps' id='maps{number}'></div></section>"
    )


def _figures(every: Sequence[Maps]) -> list[str]:
    heads = [head for maps in every for head in maps.heads]
    return [name for name in TERMS if any(getattr(head, name) is not None for head in heads)]


def _scale() -> str:
    marks = "".join(f"<span style='left:{100 * share**0.5:.1f}%'>{share:.0%}</span>" for share in SCALE)
    return f"<div class='scale' role='img' aria-label='the shade of a weight'>{marks}</div>"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _values(maps: Maps) -> dict[str, Any]:
    """What the script draws. A weight is a byte of its root, so that small ones keep their digits."""
    roots = np.sqrt(np.clip(maps.weights, 0, 1))
    return {
        "queries": maps.queries,
        "keys": maps.keys,
        "shape": list(maps.weights.shape),
        "weights": base64.b64encode(np.rint(255 * roots).astype(np.uint8).tobytes()).decode(),
        "figures": [{name: getattr(head, name) for name in TERMS} | {"said": head.said()} for head in maps.heads],
    }
