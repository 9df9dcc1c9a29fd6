"""What can be chosen: every option of every group with what it is, as conf/ and the classes that it names say."""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.atomic import write_atomically
from lab.config import trusted
from lab.errors import RequestError
from lab.options import conf_folder, groups

BEGIN, END = "<!-- parts -->", "<!-- end of parts -->"
"""Between these a Markdown file holds the table."""


@dataclass(frozen=True)
class Option:
    """One word of one group.

    Attributes:
        group, option: `group=option` chooses it.
        what: one sentence, with its source.
    """

    group: str
    option: str
    what: str


def parts(wanted: list[str]) -> list[Option]:
    """The options of some groups, or of all.

    Raises:
        RequestError: there is no such group.
    """
    known = groups()
    for group in wanted:
        if group not in known:
            raise RequestError(f"{group}: no such group; there are {', '.join(known)}")
    return [Option(group, option, _what(group, option)) for group in wanted or known for option in known[group]]


def _what(group: str, option: str) -> str:
    """The comment that opens the option's file, else how the class that it calls describes itself."""
    text = (conf_folder() / group / f"{option}.yaml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("# @package")]
    opening = []
    for line in lines:
        if not line.startswith("#"):
            break
        opening.append(line.removeprefix("#").strip())
    if opening:
        return " ".join(opening)
    try:
        target = (yaml.safe_load(text) or {}).get("_target_")
        described = inspect.getdoc(trusted(f"{group}._target_", target)) if target else None
    except (yaml.YAMLError, AttributeError, RequestError) as error:  # said where it is chosen, too
        return f"cannot be used: conf/{group}/{option}.yaml: {' '.join(str(error).split())}"
    return " ".join((described or "").split("\n\n")[0].split())


def to_json(options: list[Option]) -> list[dict[str, Any]]:
    """Plain values."""
    return [asdict(option) for option in options]


def to_markdown(options: list[Option]) -> str:
    """A table, a row for each option; a group is named once."""
    rows = ["| group | option | what it is |", "| --- | --- | --- |"]
    for n, o in enumerate(options):
        first = not n or options[n - 1].group != o.group
        rows.append(f"| {f'`{o.group}`' if first else ''} | `{o.option}` | {o.what.replace('|', '&#124;')} |")
    return "\n".join(rows) + "\n"


def show(options: list[Option]) -> None:
    """The table on the terminal."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for n, o in enumerate(options):
        if n and options[n - 1].group != o.group:
            table.add_row()
        table.add_row(f"{o.group}={o.option}", Text(o.what))
    Console(highlight=False).print(table)


def into_file(path: Path, options: list[Option]) -> None:
    """Replace the table between the marks of a Markdown file by the one of today.

    Raises:
        RequestError: no such file, or no marks in it.
    """
    between_marks(path, BEGIN, END, to_markdown(options))


def between_marks(path: Path, begin: str, end: str, table: str) -> None:
    """Replace what stands between two marks of a Markdown file.

    Raises:
        RequestError: no such file, or no marks in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"--into: {path} cannot be read ({error})") from None
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise RequestError(
            f"--into: {path} has no place for the table; put `{begin}` and `{end}` there, each on a line"
        )
    try:
        write_atomically(path, before + begin + "\n" + table + end + after)
    except OSError as error:
        raise RequestError(f"--into: {path} cannot be written ({error.strerror or error})") from None
