"""What a sweep file stands for: points of its space, each run with every seed.

Seeds are replicates of a configuration. A grid and a random search run all configurations with the first seed, then all
with the second, so that a sweep stopped half way has as many seeds of each.
"""

import hashlib
import itertools
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lab.errors import RequestError
from lab.runs.sweep.command import override_key, train_overrides
from lab.runs.sweep.file import SweepFile
from lab.runs.sweep.space import Parameter


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


@dataclass(frozen=True)
class Point:
    """A configuration of a sweep and the seeds that it runs with; its parameters are None until a search chose them."""

    number: int
    parameters: dict[str, Any] | None
    seeds: tuple[int, ...]


class Plan:
    """What a file and the overrides typed beside it mean to run; the same each time for the same of them.

    Args:
        sweep: the file.
        overrides: for all trials. One that sets a constant of the file replaces it.
        own: further overrides of a configuration, such as what matches its cost, by those that the file gives it without
            the seed (`bare`).
        fewer: how many of the seeds a configuration has that needs no more, by the same.

    Raises:
        RequestError: an override sets a parameter which the file varies, or a value in the file's command.
    """

    def __init__(
        self,
        sweep: SweepFile,
        overrides: Sequence[str] = (),
        own: Mapping[str, Sequence[str]] | None = None,
        fewer: Mapping[str, int] | None = None,
    ) -> None:
        self.sweep, self.overrides = sweep, list(overrides)
        self.own = {key: list(words) for key, words in (own or {}).items()}
        self.fewer = dict(fewer or {})
        typed = _typed(sweep, overrides)
        self.space = {name: p for name, p in sweep.parameters.items() if name != "seed" and name not in typed}
        self.names_seeds = sweep.seeds is not None and "seed" not in typed
        self.seeds = tuple(sweep.seeds or ()) if self.names_seeds else (self.trial(0, {}, 0).seed,)

    @property
    def varied(self) -> dict[str, Parameter]:
        """The parameters that tell configurations apart."""
        return {name: p for name, p in self.space.items() if not p.is_constant}

    @property
    def breadth_first(self) -> bool:
        """Whether all configurations get their first seed before any gets its second; a search wants whole answers."""
        return self.sweep.method != "bayes"

    def trial(self, number: int, parameters: Mapping[str, Any], seed: int) -> Trial:
        """The run of a configuration with a seed."""
        whole = {**parameters, **({"seed": seed} if self.names_seeds else {})}
        argv = [*self.sweep.argv(whole), *self.overrides]
        composed = train_overrides(argv)
        more = self.own.get(bare(composed), [])
        return Trial(number, _seed(composed), whole, [*argv, *more], [*composed, *more])

    @cached_property
    def points(self) -> list[Point]:
        """Every configuration; those of a search by values are not chosen yet."""
        cap = self.sweep.run_cap
        if self.sweep.method == "bayes":
            return [Point(number, None, self.seeds) for number in range(cap or 0)]
        found = _unique(_grid(self.space) if self.sweep.method == "grid" else self.drawn(cap or 0))
        left = cap if self.sweep.method == "grid" and cap else len(found) * len(self.seeds)
        rounds, rest = divmod(left, len(found))
        counts = [rounds + (number < rest) for number in range(len(found))]
        return [
            Point(number, parameters, self.seeds[: min(count, self._enough(parameters))])
            for number, (parameters, count) in enumerate(zip(found, counts, strict=True))
            if count
        ]

    def _enough(self, parameters: Mapping[str, Any]) -> int:
        """How many seeds a configuration has."""
        if not self.fewer:
            return len(self.seeds)
        return self.fewer.get(bare(train_overrides([*self.sweep.argv(parameters), *self.overrides])), len(self.seeds))

    @cached_property
    def trials(self) -> list[Trial]:
        """Every run that is known before the first one, in the order to run them."""
        return [
            self.trial(point.number, point.parameters, seed)
            for seed in self.seeds
            for point in self.points
            if seed in point.seeds and point.parameters is not None
        ]

    @cached_property
    def digest(self) -> str:
        """A name of what is asked, whatever the number of seeds and configurations."""
        space = [(name, p.distribution, dict(p.settings)) for name, p in self.space.items()]
        asked = [
            self.sweep.method,
            self.sweep.metric,
            self.sweep.goal,
            self.sweep.command,
            self.overrides,
            space,
            self.own,
        ]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]

    def drawn(self, count: int) -> Iterator[dict[str, Any]]:
        """So many configurations, drawn at random from the space."""
        return _drawn(self.space, count)


def apart(overrides: Iterable[str], *keys: str) -> tuple[str, ...]:
    """The overrides but for the seed and these keys."""
    return tuple(word for word in overrides if word.lstrip("+").partition("=")[0] not in ("seed", *keys))


def bare(overrides: Iterable[str], *keys: str) -> str:
    """What tells a configuration's overrides from those of others: without the seed and these keys, as one text."""
    return " ".join(apart(overrides, *keys))


def plan(sweep: SweepFile, overrides: Sequence[str] = ()) -> list[Trial]:
    """Every trial of a grid or a random search, in the order to run them. Errors as of `Plan`."""
    return Plan(sweep, overrides).trials


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


def _grid(space: Mapping[str, Parameter]) -> Iterator[dict[str, Any]]:
    """The product over all parameters, the last one varying fastest."""
    for values in itertools.product(*(p.points() for p in space.values())):
        yield dict(zip(space, values, strict=True))


def _drawn(space: Mapping[str, Parameter], count: int) -> Iterator[dict[str, Any]]:
    """Each from a generator of its own, seeded by the search space and its number.

    A sweep started again draws the same list, a higher `run_cap` continues it, more seeds don't change it.
    """
    written = json.dumps([(name, p.distribution, dict(p.settings)) for name, p in space.items()], sort_keys=True)
    for number in range(count):
        generator = random.Random(hashlib.sha256(f"{number} {written}".encode()).digest())
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
