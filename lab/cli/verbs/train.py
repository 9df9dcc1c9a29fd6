"""`lab train`: train one run, or with `-m` several."""

from __future__ import annotations

from lab.cli.imports import at_once
from lab.cli.multirun import hydra_application
from lab.cli.parser import document, exit_code, print_json, print_runs
from lab.errors import RequestError
from lab.words import overrides

HELP = {
    "train [GROUP=OPTION ...] [KEY=VALUE ...]": "train one run; `lab train --help` lists groups and options",
    "train -m attention=mha,gqa seed=0,1": "one run for each combination",
    "train resume=FOLDER": "continue a run that was stopped",
}


def main(arguments: list[str]) -> int:
    """Run the verb; returns the exit code."""
    as_json = "--json" in arguments
    arguments = overrides([text for text in arguments if text not in ("--json", "--run", "-r")])
    folders = [text.removeprefix("resume=") for text in arguments if text.startswith("resume=")]
    if folders and len(arguments) > 1:
        raise RequestError("resume: a run continues with its own configuration; nothing else can be given with it")
    if any(text.startswith("-") for text in arguments):
        return hydra_application(arguments, as_json)

    with at_once():
        from lab.config import compose
        from lab.effect import say_without_effect
        from lab.runs.bar import Bar
        from lab.runs.ranks import first_rank
        from lab.runs.train import continue_run
        from lab.runs.train import train as run

    with Bar() as bar:
        if folders:
            done = continue_run(folders[0], [bar])
        else:
            config = compose(*arguments)
            if first_rank():
                say_without_effect([config])
            done = run(config, observers=[bar])
    if as_json and first_rank():
        print_json(document(done))
    elif first_rank():
        print_runs([done])
    return exit_code([done.status])
