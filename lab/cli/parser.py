"""What the verbs share: a parser whose complaints are ours, and ways to read arguments and to answer."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lab.errors import RequestError

if TYPE_CHECKING:
    from lab.runs.folder import Run


class Parser(argparse.ArgumentParser):
    """A parser of the verb `name`, whose complaint is one line, as of any other wrong request."""

    def __init__(self, name: str, description: str, **settings: Any) -> None:
        """`settings` are argparse's."""
        super().__init__(f"lab {name}", description=description, allow_abbrev=False, **settings)

    def add_run(self) -> None:
        """Add the argument that says what to look into; `lab.runs.subject.subject` opens it."""
        self.add_argument(
            "run",
            metavar="RUN",
            help="folder of a run, or in quotes what to compose, untrained: 'preset=tiny position=alibi'",
        )

    def add_html(self, what: str) -> None:
        """Add the flag of the verbs that write a page; `what` it shows."""
        self.add_argument("--html", type=writable("--html"), metavar="FILE", help=what)

    def add_json(self) -> None:
        """Add the flag that every verb has."""
        self.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments."""
        raise RequestError(f"{message}; `{self.prog} --help` says what there is")


def writable(flag: str) -> Callable[[str], Path]:
    """Makes a path of what a flag is given, if a file can be there, which is known before anything is computed."""

    def path_of(given: str) -> Path:
        path = Path(given)
        if path.is_dir() or not path.parent.is_dir():
            why = errno.EISDIR if path.is_dir() else errno.ENOENT
            raise RequestError(f"{flag}: {path} cannot be written ({os.strerror(why)})")
        return path

    return path_of


def override(text: str) -> str:
    """Beside flags of a verb's own, `--key=value` is `key=value`; a word without a value stays, and is refused later."""
    return text[2:] if text.startswith("--") and "=" in text else text


def given_text(given: str) -> str:
    """The text of an argument, or with `-` what standard input holds.

    Raises:
        RequestError: standard input that is no UTF-8.
    """
    if given != "-":
        return given
    try:
        return sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise RequestError(f"standard input: is not UTF-8 at byte {error.start + 1:,}") from None


def print_json(answer: Any) -> None:
    """One document on standard output."""
    print(json.dumps(answer, indent=2, ensure_ascii=False))


def print_runs(runs: Sequence[Run]) -> None:
    """What each came to, for a person."""
    from lab.runs.bar import summary

    for run in runs:
        print(summary(run))


def document(run: Run) -> dict[str, Any]:
    """What a run came to, for a program."""
    return {"folder": str(run.folder), **run.result}


def exit_code(statuses: Sequence[str]) -> int:
    """Of runs that ended with these statuses."""
    if "stopped" in statuses:
        return 130
    return 1 if "failed" in statuses else 0
