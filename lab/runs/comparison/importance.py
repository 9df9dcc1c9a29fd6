"""Which hyperparameter mattered: the share of the variance over configurations that each explains alone.

fANOVA (Hutter, Hoos and Leyton-Brown 2014) over a random forest, by Optuna. It says what varied the result over the values
that were tried, not what is best; how well the forest explains the results at all is said beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab.runs.comparison.compare import Table
from lab.runs.comparison.labels import varied

if TYPE_CHECKING:
    import optuna

FEWEST_CONFIGURATIONS = 8


def hyperparameters(table: Table) -> dict[str, list[Any]]:
    """The keys that differ among the configurations, each with its values in their order; None where one has none."""
    settings = varied([each.first for each in table.configurations])
    keys = dict.fromkeys(key for setting in settings for key in setting)
    return {key: [setting.get(key) for setting in settings] for key in keys}


def importance(table: Table) -> dict[str, float]:
    """Share of the variance that each hyperparameter explains, the largest first; they add up to 1.

    Empty where there are fewer than two hyperparameters or eight configurations: a forest has nothing to learn there.
    """
    values = {key: column for key, column in hyperparameters(table).items() if None not in column}
    if len(values) < 2 or len(table.configurations) < FEWEST_CONFIGURATIONS:
        return {}
    return fanova(values, [each.mean for each in table.configurations])


def fanova(values: Mapping[str, Sequence[Any]], reached: Sequence[float]) -> dict[str, float]:
    """The same from columns: `values[key][i]` of the i-th configuration, which reached `reached[i]`."""
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    if max(reached) == min(reached):
        return {}
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
