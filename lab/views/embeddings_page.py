"""The page of `lab embeddings`: a plane to move about in, neighbours, a word's senses."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from pathlib import Path

from lab.script import script_json
from lab.views.embeddings import METHODS, Plane, Senses
from lab.views.web import page
from lab.views.words import Near

SCRIPT, STYLE = (Path(__file__).with_name(f"embeddings.{kind}") for kind in ("js", "css"))


def to_html(title: str, near: Mapping[str, Near] | None, senses: Senses | None, plane: Plane | None) -> str:
    """A page of what was asked for."""
    body = [*(_plane(plane) if plane else ()), *(_near(near) if near else ()), *(_senses(senses) if senses else ())]
    script = ""
    if plane:
        points = [
            [name, round(float(x), 5), round(float(y), 5)]
            for name, (x, y) in zip(plane.names, plane.points, strict=True)
        ]
        near_by = [[[other, round(cosine, 4)] for other, cosine in some] for some in plane.neighbours]
        data = script_json({"points": points, "neighbours": near_by})
        script = f"const DATA = {data};\n{SCRIPT.read_text(encoding='utf-8')}"
    return page(title, "\n".join(body), STYLE.read_text(encoding="utf-8"), script)


def _plane(found: Plane) -> Iterator[str]:
    kept = "" if found.kept is None else f", which show {found.kept:.0%} of the variance"
    yield f"<h2>{len(found.names)} points by {METHODS[found.method]}{kept}</h2>"
    yield (
        "<p class='faint'>Drag to move, turn the wheel to enlarge, or use the arrows, + and −; a name without room shows when "
        "there is some. Point at a word, or step through them with Tab, for its neighbours by cosine in the full space.</p>"
        "<input id='find' type='search' placeholder='find' aria-label='find a word'><p id='said' aria-live='polite'></p>"
        "<svg id='plane' role='group' tabindex='0' aria-label='the plane'></svg>"
    )


def _near(found: Mapping[str, Near]) -> Iterator[str]:
    for query, neighbours in found.items():
        rows = "".join(
            f"<tr><td>{cosine:.3f}</td><td><span class='bar' style='width:{max(0.0, 6 * cosine):.2f}rem'></span></td>"
            f"<td>{html.escape(name)}</td></tr>"
            for name, cosine in neighbours
        )
        yield f"<h2>Near {html.escape(query)}</h2><table class='near'>{rows}</table>"


def _senses(found: Senses) -> Iterator[str]:
    texts = "".join(f"<li>{html.escape(text)}</li>" for text in found.texts)
    numbers = "".join(f"<th>{number}</th>" for number in range(1, len(found.texts) + 1))
    rows = "".join(
        f"<tr><td>{number}</td>" + "".join(f"<td>{value:.3f}</td>" for value in row) + "</tr>"
        for number, row in enumerate(found.cosines, 1)
    )
    yield f"<h2>{html.escape(found.word)} in {len(found.texts)} texts</h2><ol>{texts}</ol>"
    yield f"<div class='wide'><table><tr><th></th>{numbers}</tr>{rows}</table></div>"
