"""A sweep's parameters as Optuna's, so that its samplers can search them and its dashboard can show them.

A grid's and a random search's configurations are known beforehand and only shown. A search by values (method bayes) is
Optuna's tree-structured Parzen estimator (Bergstra et al. 2011). Where Optuna has no such distribution (normal, beta,
quantised logarithms, values with probabilities), it searches the quantile from 0 to 1 that the value is drawn at.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage

from lab.config import SEEDS
from lab.runs.sweep.plan import Plan
from lab.runs.sweep.space import Parameter, as_sent

QUANTILE = "quantile of {}"
ENDS = (0.0, 1 - 2.0**-53)
RANDOM_FIRST = 10
"""Configurations that are drawn at random before a search follows values; fewer in a short one."""


class Sampler:
    """Of one sweep."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def shown(
        self, parameters: Mapping[str, Any], seed: int | None = None
    ) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """A known configuration, and the seed of a single run, as Optuna's parameters and their distributions."""
        counted = self.plan.sweep.method == "grid"
        pairs = {name: _shown(p, parameters[name], counted) for name, p in self.plan.varied.items()}
        if seed is not None:
            pairs["seed"] = seed, IntDistribution(0, SEEDS - 1)
        return {name: value for name, (value, _) in pairs.items()}, {name: kind for name, (_, kind) in pairs.items()}

    def choose(self, name: str, storage: BaseStorage, trial_id: int, number: int) -> dict[str, Any]:
        """The next configuration by the values so far; for a trial that has parameters already, those."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=int(hashlib.sha256(f"{self.plan.digest} {number}".encode()).hexdigest()[:8], 16),
                n_startup_trials=min(RANDOM_FIRST, max(len(self.plan.points) // 4, 2)),
                constant_liar=True,  # others are at work on theirs
            )
        study = optuna.load_study(study_name=name, storage=storage, sampler=sampler)  # anew, since it caches trials
        trial = optuna.trial.Trial(study, trial_id)
        return {name: _suggest(trial, name, p) for name, p in self.plan.space.items()}


def _suggest(trial: optuna.trial.Trial, name: str, parameter: Parameter) -> Any:
    if parameter.is_constant:
        return parameter.settings["value"]
    if parameter.distribution == "categorical":
        labels = _labels(parameter.listed)
        return parameter.listed[labels.index(trial.suggest_categorical(name, list(dict.fromkeys(labels))))]
    if parameter.spread.range is None:
        return parameter.draw(trial.suggest_float(QUANTILE.format(name), *ENDS))
    low, high, log, step = parameter.spread.range(parameter.settings)
    if parameter.distribution == "int_uniform":
        return trial.suggest_int(name, int(low), int(high))
    return as_sent(trial.suggest_float(name, low, high, log=log, step=step))


def _shown(parameter: Parameter, value: Any, counted: bool) -> tuple[Any, BaseDistribution]:
    """A value as Optuna's, and a distribution that holds it."""
    values = list(parameter.points()) if counted else parameter.listed
    if values:
        labels = _labels(values)
        place = [repr(one) for one in values].index(repr(value))
        return labels[place], CategoricalDistribution(list(dict.fromkeys(labels)))
    low, high = (parameter.draw(end) for end in ENDS)
    whole = parameter.distribution == "int_uniform"
    return value, IntDistribution(low, high) if whole else FloatDistribution(low, high)


def _labels(values: list[Any]) -> list[Any]:
    """Values that Optuna tells apart and can store: numbers or words as they are, others as their text."""
    plain = all(type(v) in (int, float) for v in values) or all(isinstance(v, str) for v in values)
    return list(values) if plain else [str(value) for value in values]
