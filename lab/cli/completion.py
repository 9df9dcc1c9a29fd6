"""Completion in the shell: verbs by us, groups and options by Hydra."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from lab.cli.multirun import hydra_job


def complete(arguments: list[str], verbs: Sequence[str]) -> int:
    """Answer the shell, or print the script that makes it ask; returns the exit code."""
    words = os.environ.get("COMP_LINE", "").split(" ")
    if "query=" in " ".join(arguments):
        if len(words) <= 2:
            print(" ".join(verb for verb in verbs if verb.startswith(words[-1])))
            return 0
        before = {"train": 2, "show": 2, "sweep": 3, "experiment": 3}.get(words[1])  # words before the first override
        if before is None or len(words) <= before:
            return 0
        os.environ["COMP_LINE"] = " ".join([words[0], *words[before:]])
    import hydra

    from lab.options import conf_folder

    sys.argv = ["lab", *arguments]
    hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(hydra_job)()
    return 0
