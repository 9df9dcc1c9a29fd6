"""What a run begins with: weights and tokenizer of an earlier run, the model of a teacher, a head of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from lab.config import construct
from lab.errors import RequestError
from lab.runs import folder as files
from lab.runs.folder import Run, load

if TYPE_CHECKING:
    from lab.data.store import Prepared
    from lab.data.tokenizers import Recipe
    from lab.models.model import Model
    from lab.objectives.objective import Objective

TABLES = ("word_vectors",)
"""Families of which only the table of embeddings goes into a model of another family."""


def origin(key: str, path: str, seed: int) -> Run:
    """The run that a key names: a run folder, or a folder of runs, of which the finished one with this seed is meant.

    Raises:
        RequestError: there is none, or there are several.
    """
    folder = Path(path).expanduser()
    if (folder / files.CONFIG).is_file():
        run = load(folder)
        if run.status != "finished":
            raise RequestError(f"{key}={path}: that run is {run.status}; only a finished one can be used")
        return run
    found = [load(result.parent) for result in sorted(folder.glob(f"**/{files.RESULT}"))]
    fitting = [run for run in found if run.status == "finished" and run.result["seed"] == seed]
    if len(fitting) != 1:
        raise RequestError(
            f"{key}={path}: needs a run folder, or a folder with one finished run of seed {seed}; "
            f"{len(fitting) or 'none'} of its {len(found)} runs is one"
        )
    return fitting[0]


def recipe(config: DictConfig) -> Recipe:
    """How the tokenizer is made: as configured, or that of the run that this one starts from.

    Raises:
        RequestError: there is no such run.
    """
    if config.start is None:
        return construct(config, "tokenizer")
    from lab.data.pretrained import Pretrained

    run = origin("start", config.start, config.seed)
    return Pretrained(
        vocab_size=run.tokenizer.vocab_size,
        special=tuple(config.model.special),
        path=str(run.folder / files.TOKENIZER),
    )


def start(config: DictConfig, model: Model) -> str | None:
    """Give a model the weights of the run that it starts from; names its folder.

    Raises:
        RequestError: there is no such run, or its model is another.
    """
    if config.start is None:
        return None
    run = origin("start", config.start, config.seed)
    theirs: Any = run.model
    if theirs.family in TABLES and theirs.family != model.family:
        _copy(config, {"table": model.embedding.table.weight}, {"table": theirs.embedding.table.weight})  # type: ignore
    elif theirs.family != model.family:
        raise RequestError(
            f"start={config.start}: holds model={run.config.choices.model}, and this one is model={config.choices.model}"
        )
    else:
        _copy(config, model.state_dict(), theirs.state_dict())
    return str(run.folder)


def _copy(config: DictConfig, into: dict[str, Any], weights: dict[str, Any]) -> None:
    strange = sorted(into.keys() ^ weights.keys())
    other = [name for name in into if name in weights and into[name].shape != weights[name].shape]
    if strange or other:
        what = (
            f"{other[0]} is {tuple(weights[other[0]].shape)} there and {tuple(into[other[0]].shape)} here"
            if other
            else f"{strange[0]} is in one of them alone"
        )
        raise RequestError(
            f"start={config.start}: the model there is another: {what}; compose this one as that one was"
        )
    for name, weight in weights.items():
        into[name].data.copy_(weight)


def make_objective(config: DictConfig, model: Model, prepared: Prepared, optimizer: Any) -> Objective:
    """The objective of a run, with the initial values of its head, and the teacher's model if it names one.

    Raises:
        RequestError: a value out of range, no such teacher, or one of another vocabulary.
    """
    known: dict[str, Any] = {"model": model, "optimizer": optimizer, "prepared": prepared, "clip": config.trainer.clip}
    if "teacher" in config.objective:
        if config.objective.teacher is None:
            raise RequestError("objective.teacher: null; needs the folder of the run to learn from")
        run = origin("objective.teacher", config.objective.teacher, config.seed)
        theirs, mine = (made.inner.get_vocab() for made in (run.tokenizer, prepared.tokenizer))
        if theirs != mine:
            raise RequestError(
                f"objective.teacher={config.objective.teacher}: its vocabulary is another, {len(theirs):,} tokens there and "
                f"{len(mine):,} here; add tokenizer=pretrained tokenizer.path={run.folder / files.TOKENIZER}"
            )
        known["teacher"] = run.model
    made: Objective = construct(config, "objective", **known)
    if made.head is not None:
        construct(config, "init")(made.head, seed=config.seed, layers=config.model.layers)
    return made
