"""The list of trials that a sweep file stands for.

Seeds are replicates of a configuration. All configurations run with the first seed, then all with the second,
so that a sweep stopped half way has as many seeds of each.
"""

import hashlib
import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lab.errors import RequestError
from lab.runs.sweep_command import override_key, train_overrides
from lab.runs.sweep_file import SweepFile


@dataclass(frozen=True)
class Trial:
    """One run of a sweep: which configuration (counted from 0), with which seed.

    `parameters` are the file's, the seed among them if the file names it; `argv` is what `wandb agent` would
    start for them, followed by the overrides typed for the whole sweep; `overrides` is what `lab train` reads
    in it.
    """

    configuration: int
    seed: int
    parameters: dict[str, Any]
    argv: list[str]
    overrides: list[str]


def plan(sweep: SweepFile, overrides: Sequence[str] = ()) -> list[Trial]:
    """Every trial, in the order to run them; the same list each time for the same file and overrides.

    `overrides` hold for all trials. One that sets a constant of the file replaces it. Raises RequestError for
    one that sets a parameter which the file varies or a value in the file's command.
    """
    typed = _typed(sweep, overrides)
    configurations = [
        {name: value for name, value in configuration.items() if name not in typed}
        for configuration in _unique(_grid(sweep) if sweep.method == "grid" else _drawn(sweep))
    ]
    seeds = [] if "seed" in typed or sweep.seeds is None else [{"seed": seed} for seed in sweep.seeds]
    trials = []
    for seed in seeds or [{}]:
        for index, configuration in enumerate(configurations):
            parameters = {**configuration, **seed}
            argv = [*sweep.argv(parameters), *overrides]
            composed = train_overrides(argv)
            trials.append(Trial(index, _seed(composed), parameters, argv, composed))
    return trials[: sweep.run_cap] if sweep.method == "grid" else trials


def without_seed(overrides: Sequence[str]) -> str:
    """What tells a configuration from the others of its sweep, whatever its seed: its overrides as one text."""
    return " ".join(word for word in overrides if not word.startswith("seed="))


def joined(trial: Trial, own: Mapping[str, Sequence[str]]) -> Trial:
    """A trial with the words that its configuration has of its own; `own` holds them by what `without_seed` gives."""
    words = own.get(without_seed(trial.overrides), ())
    return replace(trial, argv=[*trial.argv, *words], overrides=[*trial.overrides, *words])


def _typed(sweep: SweepFile, overrides: Sequence[str]) -> set[str]:
    """The keys that the command line sets, checked against what the file says of them."""
    fixed = {override_key(word, "command"): word for word in sweep.overrides({})}
    keys: dict[str, str] = {}
    for override in overrides:
        key = override_key(override, "override")
        parameter = sweep.parameters.get(key)
        if parameter is not None and not parameter.is_constant:
            raise RequestError(
                f"{override}: {sweep.path} varies {key} (parameters.{key}: {_summary(parameter.settings)}); "
                "accepted: overrides of what the file does not vary"
            )
        if key in fixed:
            raise RequestError(f"{override}: {sweep.path} sets it in its command ({fixed[key]}); change it there")
        if key in keys:
            raise RequestError(f"{override}: {keys[key]} sets the same key; accepted: one of them")
        keys[key] = override
    return set(keys)


def _summary(settings: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def _grid(sweep: SweepFile) -> Iterator[dict[str, Any]]:
    """The product over all parameters but the seed, the last one varying fastest."""
    points = {name: p.points() for name, p in sweep.parameters.items() if name != "seed"}
    for values in itertools.product(*points.values()):
        yield dict(zip(points, values, strict=True))


def _drawn(sweep: SweepFile) -> Iterator[dict[str, Any]]:
    """`run_cap` draws from a generator seeded by the search space alone.

    A sweep started again draws the same list, a higher `run_cap` continues it, more seeds don't change it.
    """
    space = {name: p for name, p in sweep.parameters.items() if name != "seed"}
    written = json.dumps([(name, p.distribution, dict(p.settings)) for name, p in space.items()], sort_keys=True)
    generator = random.Random(hashlib.sha256(written.encode()).digest())
    for _ in range(sweep.run_cap or 0):
        yield {name: p.draw(generator.random()) for name, p in space.items()}


def _unique(configurations: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each configuration once: run again with the same seeds, it would give the same numbers."""
    return list({repr(configuration): configuration for configuration in configurations}.values())


def _seed(overrides: list[str]) -> int:
    """The seed that a trial's overrides set; 0, the configuration's default, where none does."""
    seed = dict(override.lstrip("+").partition("=")[::2] for override in overrides).get("seed", "0")
    if not seed.isdecimal():
        raise RequestError(f"seed: {seed!r} is not a seed; accepted: whole numbers from 0")
    return int(seed)
