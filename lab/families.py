"""Which model, objective and data go together, and what to write where they do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from lab.errors import RequestError
from lab.options import conf_folder, groups

if TYPE_CHECKING:
    from lab.models.model import Model


def check_families(config: DictConfig, model: Model, kind: str) -> None:
    """Refuse a model, an objective and data that do not go together, with the words that would mend it.

    Args:
        config: the composed configuration.
        model: built from it.
        kind: of its data.

    Raises:
        RequestError: they do not.
    """
    from lab.config import trusted

    objective: Any = trusted("objective._target_", config.objective._target_)
    name, option, data = (config.choices[group] for group in ("objective", "model", "data"))
    family = model.family
    if family in objective.families and kind in objective.takes:
        if not any(True for _ in model.parameters()):
            _check_untrained(config, objective)
        return
    words = _objectives(family, kind)
    if family not in objective.families:
        words = words or _with_data(family)
        why = f"objective={name}: trains {_or(_models(objective.families))}, and model={option} is another family"
    else:
        words = words or _pairs(kind) + _data(objective.takes)
        why = f"objective={name}: trains on {_or(objective.takes)}, and data={data} is {kind}"
    raise RequestError(f"{why}; add {_or(words or _pairs(kind) or _objectives(family))}")


def _check_untrained(config: DictConfig, objective: Any) -> None:
    """Refuse to train a model without parameters where the objective adds none."""
    from lab.objectives.objective import Objective

    name, option = config.choices.objective, config.choices.model
    if objective.make_head is Objective.make_head:
        if config.budget.steps != 0:
            raise RequestError(f"model={option}: holds nothing that objective={name} could train; add budget.steps=0")
        if config.trainer.strategy != "auto":
            raise RequestError(f"trainer.strategy: {config.trainer.strategy}; model={option} takes trainer=single")


def _objectives(family: str, kind: str | None = None) -> list[str]:
    """The words for objectives that train this family, on this kind of data."""
    return [
        f"objective={option}"
        for option, target in _targets("objective", "_target_")
        if family in target.families and (kind is None or kind in target.takes)
    ]


def _with_data(family: str) -> list[str]:
    """The words for objectives that train this family, with the data that they take."""
    return [
        f"objective={option} {_data(target.takes)[0]}"
        for option, target in _targets("objective", "_target_")
        if family in target.families
    ]


def _data(kinds: Iterable[str]) -> list[str]:
    """The words for data of these kinds, for each the first that there is."""
    found: dict[str, str] = {}
    for option, target in _targets("data", "_target_"):
        found.setdefault(getattr(target, "kind", "text"), f"data={option}")
    return [found[kind] for kind in kinds]


def _pairs(kind: str) -> list[str]:
    """The words for models with an objective that takes this kind of data."""
    return [
        f"{model} objective={option}"
        for option, target in _targets("objective", "_target_")
        if kind in target.takes
        for model in _models(target.families)
    ]


def _models(families: tuple[str, ...]) -> list[str]:
    """The words for models of these families."""
    return [f"model={option}" for option, target in _targets("model", "build._target_") if target.family in families]


def _targets(group: str, key: str) -> Iterator[tuple[str, Any]]:
    from lab.config import trusted

    for option in groups()[group]:
        path = OmegaConf.select(OmegaConf.load(conf_folder() / group / f"{option}.yaml"), key)
        if path is not None:
            yield option, trusted(f"{group}.{key}", path)


def _or(words: Any) -> str:
    return " or ".join(words)
