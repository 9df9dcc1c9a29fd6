"""What a Hydra application does with its flags: one run for each combination (`-m`), printing, help."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from lab.cli.parser import Parser, document, exit_code, print_json, print_runs
from lab.errors import RequestError

PLUGINS = {
    "joblib": "architecture-lab[cluster]",
    "submitit": "architecture-lab[cluster]",
    "ray": "hydra-ray-launcher",
}
"""What brings a launcher of Hydra's, by the beginning of its name."""


def hydra_application(arguments: list[str], as_json: bool) -> int:
    """What a Hydra application does with its flags: multirun, printing, help."""
    import hydra
    from hydra._internal.utils import get_args_parser

    from lab.config import compose
    from lab.options import conf_folder
    from lab.overrides import parse
    from lab.runs.folder import RESULT, create, load

    parser = Parser("train", "", add_help=False, parents=[get_args_parser()])
    options = parser.parse_intermixed_args(arguments)
    for flag in ("config_path", "config_name", "config_dir", "experimental_rerun"):
        if getattr(options, flag):
            raise RequestError(
                f"--{flag.replace('_', '-')}: the lab's configuration is in conf/; a new option is a file there"
            )
    if options.cfg == "job":
        _print_configuration(options, as_json)
        return 0
    if not (options.multirun or options.cfg or options.info or options.help or options.hydra_help):
        raise RequestError("--resolve, --package: go with --cfg job, which prints the configuration")
    # In Hydra's grammar, which has no place for some signs of a path.
    readable = [text if text.startswith("hydra") else str(parse(text).input_line) for text in options.overrides]
    given = [text for text in arguments if text not in options.overrides] + readable
    folder = None
    if options.multirun:
        folder = _check_multirun(options.overrides)
        create(folder)
        given = [text for text in given if not text.startswith("hydra.sweep.dir=")] + [f"hydra.sweep.dir={folder}"]
    elif tasks := [text for text in options.overrides if not text.startswith("hydra")]:
        compose(*tasks)
    sys.argv = ["lab", *given]
    application = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(hydra_job)
    try:
        application()
    except SystemExit as end:
        if end.code:
            return int(end.code) if isinstance(end.code, int) else 1
    if folder is None:
        return 0
    runs = [load(path.parent) for path in sorted(folder.glob(f"*/{RESULT}"), key=_number)]
    if as_json:
        print_json([document(run) for run in runs])
    else:
        print_runs(runs)
        print(f"compare them: lab report {folder}")
    return exit_code([run.status for run in runs])


def hydra_job(config: Any) -> str:
    """One job of a multirun, here or wherever a launcher of Hydra's starts it."""
    from hydra.core.hydra_config import HydraConfig

    from lab.config import compose
    from lab.console import say
    from lab.runs.bar import Bar
    from lab.runs.train import train as run

    settings = HydraConfig.get()
    say(f"[{settings.job.num}] {settings.job.override_dirname}")
    try:
        with Bar() as bar:
            done = run(compose(*settings.overrides.task), settings.runtime.output_dir, observers=[bar])
    except RequestError as error:
        say(f"lab train: {error}")
        sys.exit(2)
    if done.status == "stopped":
        raise KeyboardInterrupt
    return done.status


def _print_configuration(options: argparse.Namespace, as_json: bool) -> None:
    """What a run would be trained with, or a part of it: not what Hydra composed, but what the lab made of that."""
    from omegaconf import Container, OmegaConf

    from lab.config import compose

    config = compose(*options.overrides)
    absent = object()
    shown = OmegaConf.select(config, options.package, default=absent) if options.package else config
    if shown is absent:
        raise RequestError(f"--package: {options.package}; no key of the configuration, see `lab train --cfg job`")
    if as_json:
        plain = OmegaConf.to_container(shown, resolve=options.resolve) if isinstance(shown, Container) else shown
        print_json(plain)
    else:
        print(OmegaConf.to_yaml(shown, resolve=options.resolve).rstrip() if isinstance(shown, Container) else shown)


def _check_multirun(overrides: list[str]) -> Path:
    """Compose every combination before the first one runs; the folder where they go."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    from lab.config import compose, hydra_settings
    from lab.effect import say_without_effect
    from lab.overrides import parse

    tasks = [text for text in overrides if not text.startswith("hydra")]
    if any(text.startswith("folder=") for text in tasks):
        raise RequestError("folder: several runs cannot share one; hydra.sweep.dir=PATH names the folder above theirs")
    batches = BasicSweeper.split_arguments([parse(text) for text in tasks], None)
    say_without_effect([compose(*combination) for batch in batches for combination in batch])
    try:
        return Path(hydra_settings([text for text in overrides if text.startswith("hydra")]).sweep.dir)
    except RequestError as error:
        for name, package in PLUGINS.items():
            if re.search(rf"Could not \w+ 'hydra/launcher/{name}", str(error)):
                raise RequestError(f"hydra/launcher: needs a plugin of Hydra's; pip install '{package}'") from None
        raise


def _number(path: Path) -> tuple[int, str]:
    name = path.parent.name
    return (int(name) if name.isdigit() else 0, name)
