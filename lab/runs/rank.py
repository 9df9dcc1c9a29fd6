"""One rank of a run: `python -m lab.runs.rank FOLDER [--resume]`, started by `lab.runs.ranks`."""

from __future__ import annotations

import sys
from pathlib import Path

from lab.console import say
from lab.errors import RequestError
from lab.runs.folder import read_config
from lab.runs.signals import Stop
from lab.runs.train import fit


def main(arguments: list[str]) -> int:
    """Train; the exit code is the command line's."""
    folder = Path(arguments[0])
    try:
        with Stop(note=None):  # the process that started the ranks has said it
            status = fit(read_config(folder), folder, resume="--resume" in arguments)["status"]
    except RequestError as error:
        say(str(error))
        return 2
    return {"stopped": 130, "failed": 1}.get(status, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
