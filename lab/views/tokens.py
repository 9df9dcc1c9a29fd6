"""How tokenizers cut a text: pieces, numbers, what each piece was merged from, and how much text a token holds."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from lab.data.tokenizers import Tokenizer
from lab.errors import RequestError
from lab.views.terminal import plain, visible
from lab.views.web import page, table

COLOURS = ("#b8d8f8", "#ffe0a8", "#c8ecc0", "#f5c8d8", "#dcd0f5")
"""Behind neighbouring pieces."""


@dataclass(frozen=True)
class Token:
    """One token of a text.

    Attributes:
        id: its number.
        token: its name in the vocabulary.
        text: what it stands for; bytes that are no character by themselves in hexadecimal.
        kind: `text`, `special` or `unknown`.
        merged: for byte-pair encodings, the pieces that it was made of, theirs in turn as lists; else its text.
    """

    id: int
    token: str
    text: str
    kind: str
    merged: Any


@dataclass(frozen=True)
class Cut:
    """A text as one tokenizer cuts it."""

    name: str
    vocab_size: int
    text: str
    tokens: list[Token]

    @property
    def counted(self) -> int:
        """Tokens that stand for text; special ones do not."""
        return sum(token.kind != "special" for token in self.tokens)

    def figures(self) -> dict[str, float]:
        """Tokens, and characters and bytes for each."""
        count = max(1, self.counted)
        return {
            "tokens": len(self.tokens),
            "characters_per_token": len(self.text) / count,
            "bytes_per_token": len(self.text.encode()) / count,
            "unknown": sum(token.kind == "unknown" for token in self.tokens),
            "vocab_size": self.vocab_size,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"name": self.name, **self.figures(), "pieces": [asdict(token) for token in self.tokens]}


def cut(tokenizer: Tokenizer, text: str, name: str) -> Cut:
    """Cut a text, with the special tokens that the tokenizer puts around one.

    Raises:
        RequestError: the text is empty.
    """
    if not text:
        raise RequestError("TEXT: is empty; nothing to cut")
    encoding = tokenizer.inner.encode(text)
    numbers = {number: special for special, number in tokenizer.specials.items()}
    unknown, parents = tokenizer.unknown_id, _merges(tokenizer)
    tokens = []
    for number, token, (first, last) in zip(encoding.ids, encoding.tokens, encoding.offsets, strict=True):
        kind = "unknown" if number == unknown else "special" if number in numbers else "text"
        shown = text[first:last] if kind == "unknown" else tokenizer.spelt(number)
        tokens.append(Token(number, token, shown, kind, _tree(token, parents, tokenizer)))
    return Cut(name, tokenizer.vocab_size, text, tokens)


def _model(tokenizer: Tokenizer) -> dict[str, Any]:
    return json.loads(tokenizer.inner.to_str())


def _merges(tokenizer: Tokenizer) -> dict[str, tuple[str, str]]:
    """For each merged piece the two that it was made of, by the first rule that gives it."""
    parents: dict[str, tuple[str, str]] = {}
    for rule in _model(tokenizer)["model"].get("merges", []):
        left, right = rule if isinstance(rule, list) else rule.split(" ")
        parents.setdefault(left + right, (left, right))
    return parents


def _tree(token: str, parents: dict[str, tuple[str, str]], tokenizer: Tokenizer) -> Any:
    if token in parents:
        return [_tree(part, parents, tokenizer) for part in parents[token]]
    number = tokenizer.inner.token_to_id(token)
    return token if number is None else tokenizer.spelt(number)


def show(cuts: Sequence[Cut], merges: bool = False) -> None:
    """The pieces of each tokenizer under each other; on a terminal coloured, elsewhere with strokes between them."""
    console = Console(highlight=False)
    coloured = console.is_terminal and not console.no_color
    for number, one in enumerate(cuts):
        if number:
            console.print()
        figures = one.figures()
        console.print(
            f"{one.name}: {figures['tokens']} tokens of {one.vocab_size:,}, {figures['characters_per_token']:.2f} characters "
            f"and {figures['bytes_per_token']:.2f} bytes a token"
            + (f", {figures['unknown']} unknown" if figures["unknown"] else ""),
            markup=False,
        )
        lines = [Text(overflow="fold")]
        for place, token in enumerate(one.tokens):
            style = "reverse" if token.kind == "special" else "bold white on red" if token.kind == "unknown" else ""
            if not style and coloured:
                style = f"black on {COLOURS[place % len(COLOURS)]}"
            stroke = "" if coloured or place == len(one.tokens) - 1 else "│"
            piece = Text.assemble((_marked(token), style), stroke)
            if lines[-1] and lines[-1].cell_len + piece.cell_len > console.width:  # a piece stands whole in its line
                lines.append(Text(overflow="fold"))
            lines[-1].append_text(piece)
        console.print(*lines, sep="\n")
        console.print(" ".join(str(token.id) for token in one.tokens), style="dim", soft_wrap=False)
        if merges:
            for said in dict.fromkeys(_said(token.merged) for token in one.tokens if isinstance(token.merged, list)):
                console.print(f"  {said}", markup=False)


def _marked(token: Token) -> str:
    """A piece whose every sign shows, with `?` around what the tokenizer does not know."""
    return f"?{plain(token.text)}?" if token.kind == "unknown" else plain(token.text)


def _said(tree: Any) -> str:
    return visible(tree) if isinstance(tree, str) else f"({' + '.join(map(_said, tree))})"


def to_html(cuts: Sequence[Cut]) -> str:
    """A page: each tokenizer's pieces in colours, with a table of their numbers and of what they were merged from."""
    told = "<p class='faint'>Point at a piece for its number and what it was merged from, or open the table.</p>"
    return page("Tokens", "\n".join([told, *_sections(cuts)]), STYLE)


STYLE = """
.pieces { line-height: 2.1; overflow-wrap: anywhere; white-space: pre-wrap; font-family: ui-monospace, monospace }
.pieces span { display: inline-block; max-width: 100%; line-height: 1.5; padding: 0 .06em; border-radius: .25em; color: #111 }
.rows td, .rows th { text-align: left; white-space: pre-wrap } .rows td { font-family: ui-monospace, monospace }
.special { background: #777; color: #fff !important } .unknown { background: #c22; color: #fff !important }
"""


def _sections(cuts: Sequence[Cut]) -> Iterator[str]:
    for one in cuts:
        figures = one.figures()
        yield f"<h2>{html.escape(one.name)}</h2>"
        yield (
            f"<p>{figures['tokens']} tokens of {one.vocab_size:,}; {figures['characters_per_token']:.2f} characters and "
            f"{figures['bytes_per_token']:.2f} bytes a token; {figures['unknown']} unknown</p>"
        )
        spans = []
        for place, token in enumerate(one.tokens):
            look = (
                f'class="{token.kind}"'
                if token.kind != "text"
                else f'style="background:{COLOURS[place % len(COLOURS)]}"'
            )
            title = html.escape(f"{token.id}  {_said(token.merged)}")
            spans.append(f'<span {look} title="{title}">{html.escape(_marked(token))}</span>')
        yield f'<p class="pieces">{"".join(spans)}</p>'
        rows = (
            (str(each.id), visible(each.text), _said(each.merged) * isinstance(each.merged, list))
            for each in one.tokens
        )
        numbers = table(("id", "piece", "merged from"), rows, "rows")
        yield f"<details><summary class='faint'>Table</summary>{numbers}</details>"


def named(name: str, overrides: Sequence[str]) -> Tokenizer:
    """A tokenizer: of a run folder, of a `tokenizer.json`, or an option of the group, made from the text of `data`.

    Args:
        name: a path, or an option such as `bpe`.
        overrides: of the composition that the option is part of.

    Raises:
        RequestError: it is neither.
    """
    from lab.options import groups

    if Path(name).exists():
        return Tokenizer.load(name, begins=False)
    if name not in groups()["tokenizer"]:
        raise RequestError(
            f"--with {name}: no such file or folder, and no option; there are {', '.join(groups()['tokenizer'])}"
        )
    return composed([f"tokenizer={name}", *overrides])


def composed(overrides: Sequence[str]) -> Tokenizer:
    """The tokenizer of a composition, made from the text of its data."""
    from lab.config import compose
    from lab.runs.train import data_module

    return data_module(compose(*overrides)).prepared.tokenizer
