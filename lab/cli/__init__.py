"""The `lab` command: a verb is a file in lab/cli/verbs. Heavy imports wait until a verb needs them.

Exit codes: 0 the runs ended as results (finished, diverged, pruned); 1 a run failed; 2 the request was wrong;
130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import atexit
import gc
import os
import pkgutil
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from lab.cli import verbs
from lab.errors import RequestError

FIRST = ("train", "sweep", "report", "experiment", "show")  # in the help; the others follow by name
VERBS = sorted(
    (module.name.rstrip("_") for module in pkgutil.iter_modules(verbs.__path__)),
    key=lambda verb: (FIRST.index(verb) if verb in FIRST else len(FIRST), verb),
)
FOOT = """
  --json with any verb: one JSON document on standard output
  eval "$(lab --shell-completion install=bash)"  completion of verbs, groups and options (also zsh, fish)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    if arguments is None:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(130))  # until a run takes it as a wish to stop
        atexit.register(gc.freeze)  # or Python looks for garbage once more in all that torch is, for most of a second
        arguments = sys.argv[1:]
    given = list(arguments)
    if {"-sc", "--shell-completion"} & set(given[:2]):  # Hydra's own script asks `lab train -sc ...`
        from lab.cli.completion import complete

        return complete([text for text in given if text != "train"], VERBS)
    if not given or given[0] in ("-h", "--help", "help"):
        print(summary(), end="")
        return 0 if given else 2
    if given[0] in ("-V", "--version"):
        import lab

        print(lab.__version__)
        return 0
    try:
        for word in given:
            if word.encode(errors="ignore").decode() != word:  # bytes that are no text
                raise RequestError(f"{word!r}: is not UTF-8")
        if given[0] not in VERBS:
            raise RequestError(f"{given[0]}: no such verb; there are {', '.join(VERBS)} (lab --help)")
        return _verb(given[0]).main(given[1:])
    except RequestError as error:
        from lab.console import say

        say(f"lab {given[0]}: {error}")
        return 2
    except SystemExit as end:  # after --help; rich leaves so where the reader has gone
        return 0 if isinstance(end.__context__, BrokenPipeError) else int(end.code or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone (`lab report ... | head`); Python must not complain about it again while it closes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def summary() -> str:
    """What `lab --help` prints."""
    lines = [f"  {usage:<47}{what}" for verb in VERBS for usage, what in _help(verb)]
    return "\n".join(["lab: what does this architecture choice do?", "", *lines]) + "\n" + FOOT


def _help(verb: str) -> list[tuple[str, str]]:
    return [(f"lab {usage}", what) for usage, what in _verb(verb).HELP.items()]


def _verb(name: str) -> ModuleType:
    module = name + "_" if name == "import" else name
    return import_module(f"{verbs.__name__}.{module}")
