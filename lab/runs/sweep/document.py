"""A YAML file as plain values, which remembers the line of every key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from lab.errors import RequestError

WANTED = "accepted: a W&B sweep file (YAML)"


@dataclass(frozen=True)
class Document:
    """What a file holds.

    Attributes:
        content: its mapping.
        lines: where each key stands, counted from 1, by its dotted path.
        text: all of it.
    """

    content: dict[str, Any]
    lines: dict[str, int]
    text: str

    def changed(self, **values: Any) -> Document:
        """With other values under some keys."""
        content = {**self.content, **values}
        return replace(self, content=content, text=yaml.safe_dump(content, sort_keys=False, allow_unicode=True))

    def located(self, error: RequestError) -> str:
        """What an error says, with the line of the key that it begins with, as far as that key exists."""
        key = re.split(r"[:=]", str(error), maxsplit=1)[0].strip()
        for path in (key, f"parameters.{key}"):
            while path and (path != "parameters" or key == path):
                if path in self.lines:
                    return f"{error} (line {self.lines[path]})"
                path = path.rpartition(".")[0]
        return str(error)


def read_document(path: Path) -> Document:
    """Read a mapping.

    Raises:
        RequestError: the file can't be read, is not YAML, gives a key twice or holds no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RequestError(f"can't be read ({error.strerror}); {WANTED}") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"is not UTF-8 text (byte {error.start}); {WANTED}") from error
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        lines = dict(_lines(node))
        content = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line if error.problem_mark else 0
        in_question = text.splitlines()[line : line + 1]
        hint = ' (inside [ ] write "${...}" with its quotes)' if "${" in "".join(in_question) else ""
        raise RequestError(f"line {line + 1} is not YAML: {error.problem}{hint}") from error
    except RecursionError:
        raise RequestError("holds itself, or is nested too deeply to be read") from None
    except (yaml.YAMLError, ValueError) as error:
        raise RequestError(f"is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise RequestError(f"holds {kind_of(content)}; accepted: a mapping with method and parameters")
    return Document(content, lines, text)


def _lines(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int]]:
    """The path and line of every key. One that is given twice, which YAML lets replace the first, is an error."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
        seen.add(key.value)
        yield f"{prefix}{key.value}", key.start_mark.line + 1
        yield from _lines(value, f"{prefix}{key.value}.")


def kind_of(value: Any) -> str:
    """What a value is, in words."""
    return "nothing" if value is None else f"a {type(value).__name__}"
