"""Which hyperparameter mattered: the share of the variance over configurations that each explains alone.

fANOVA (Hutter, Hoos and Leyton-Brown 2014) over a random forest, by Optuna. It says what varied the result over the values
that were tried, not what is best; how well the forest explains the results at all is said beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lab.runs.comparison.collect import RunRecord
from lab.runs.comparison.compare import Table
from lab.runs.comparison.labels import varied

if TYPE_CHECKING:
    import optuna

FEWEST_CONFIGURATIONS = 8


def hyperparameters(runs: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """The keys that differ among these runs, one of each configuration, with the values of each; None where one has none."""
    settings = varied(runs)
    keys = dict.fromkeys(key for setting in settings for key in setting)
    return {key: [setting.get(key) for setting in settings] for key in keys}


@dataclass(frozen=True)
class Importance:
    """What mattered in a search.

    Attributes:
        shares: of the variance, by hyperparameter, the largest first; they add up to 1.
        directions: Spearman's correlation of each that is a number with the measure, -1 to 1.
        explained: share of the variance over configurations that a forest foretells for those it has not seen; under
            0 where it foretells worse than their mean.
    """

    shares: dict[str, float]
    directions: dict[str, float]
    explained: float


@lru_cache(maxsize=4)
def importance(table: Table) -> Importance | None:
    """None where there are fewer than two hyperparameters or eight configurations: a forest has nothing to learn there."""
    values = {key: column for key, column in hyperparameters(table.firsts).items() if None not in column}
    reached = [each.mean for each in table.configurations]
    if len(values) < 2 or len(reached) < FEWEST_CONFIGURATIONS or max(reached) == min(reached):
        return None
    from scipy.stats import spearmanr

    directions = {
        key: float(spearmanr(column, reached).statistic) for key, column in values.items() if is_numeric(column)
    }
    return Importance(fanova(values, reached), directions, explained(values, reached))


def explained(values: Mapping[str, Sequence[Any]], reached: Sequence[float]) -> float:
    """R^2 of a random forest for configurations left out of its trees, from columns as of `fanova`."""
    import numpy as np
    from sklearn.ensemble import RandomForestRegressor

    columns = [
        column if is_numeric(column) else np.unique(list(map(str, column)), return_inverse=True)[1]
        for column in values.values()
    ]
    forest = RandomForestRegressor(100, min_samples_leaf=2, oob_score=True, random_state=0)
    forest.fit(np.array(columns, dtype=float).T, reached)
    return float(forest.oob_score_)


def fanova(values: Mapping[str, Sequence[Any]], reached: Sequence[float]) -> dict[str, float]:
    """The same from columns: `values[key][i]` of the i-th configuration, which reached `reached[i]`."""
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    distributions: dict[str, BaseDistribution] = {}
    columns: dict[str, list[Any]] = {}
    for key, column in values.items():
        if is_numeric(column):
            distributions[key] = FloatDistribution(min(column), max(column), log=is_log(column))
            columns[key] = list(map(float, column))
        else:
            columns[key] = list(map(str, column))
            distributions[key] = CategoricalDistribution(sorted(set(columns[key])))
    study = _study()
    for place, value in enumerate(reached):
        parameters = {key: column[place] for key, column in columns.items()}
        study.add_trial(optuna.create_trial(params=parameters, distributions=distributions, value=value))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return {
        key: float(share) for key, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items()
    }


def _study() -> optuna.Study:
    """An empty one, made without a word on the terminal."""
    import optuna

    said = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(study_name="importance")
    finally:
        optuna.logging.set_verbosity(said)


def is_numeric(column: Sequence[Any]) -> bool:
    """Whether a hyperparameter has an order: numbers, of which more than one."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in column)


def is_log(column: Sequence[float]) -> bool:
    """Whether its values span decades, so that their logarithms are what differs evenly."""
    return min(column) > 0 and math.log10(max(column) / min(column)) >= 1
