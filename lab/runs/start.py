"""What a run begins with: weights and tokenizer of an earlier run, the model of a teacher, a head of its own.

A run that starts from another is composed as that one was: the same words for what holds weights and for the tokenizer. So
its record says by itself what it is; where the words differ, those to write are named.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from lab.config import APART, construct, meta_model, resolved, trusted
from lab.console import say
from lab.errors import RequestError
from lab.options import flatten
from lab.runs import folder as files
from lab.runs.folder import Run, load
from lab.runs.likeness import unlike
from lab.runs.unseen import check_unseen

if TYPE_CHECKING:
    from torch import Tensor

    from lab.data.store import Prepared
    from lab.data.tokenizers import Recipe
    from lab.models.model import Model
    from lab.objectives.objective import Objective

TABLES = ("word_vectors",)
"""Families of which only the table of embeddings goes into a model of another family."""

TABLE = "embedding.table.weight"


def origin(key: str, path: str, seed: int, config: DictConfig | None = None) -> Run:
    """The run that a key names: a run folder, or a folder of runs, of which the finished one with this seed is meant.

    Where several have it, as in a sweep of several configurations, it is the one that `config` agrees with in all that
    tells them apart, budgets left aside.

    Raises:
        RequestError: there is none, or there are several.
    """
    folder = Path(path).expanduser()
    if (folder / files.CONFIG).is_file():
        run = load(folder)
        if run.status != "finished":
            raise RequestError(f"{key}={path}: that run is {run.status}; only a finished one can be used")
        return run
    if not folder.is_dir():
        raise RequestError(f"{key}={path}: no such folder (a relative path counts from {Path.cwd()})")
    found = {place.parent: files.read_result(place.parent) or {} for place in folder.glob(f"**/{files.RESULT}")}
    fitting = [at for at, result in found.items() if result.get("status") == "finished" and result.get("seed") == seed]
    if len(fitting) > 1 and config is not None:
        fitting = _agreeing(fitting, config) or fitting
    if len(fitting) != 1:
        which = ", and no single one agrees with this configuration in all that tells them apart"
        raise RequestError(
            f"{key}={path}: needs a run folder, or a folder with one finished run of seed {seed}; "
            f"{len(fitting) or 'none'} of its {len(found)} runs is one{which if fitting and config is not None else ''}"
        )
    return load(fitting[0])


def _agreeing(folders: list[Path], config: DictConfig) -> list[Path]:
    """Those of these runs that a configuration agrees with wherever they differ among themselves."""
    mine = _compared(config)
    others = [_recorded(folder, (folder / files.CONFIG).stat().st_mtime_ns) for folder in folders]
    keys = {key for each in others for key in each}
    differing = [key for key in keys if any(each.get(key) != others[0].get(key) for each in others)]
    return [
        folder
        for folder, each in zip(folders, others, strict=True)
        if all(each.get(key) == mine.get(key) for key in differing)
    ]


def _compared(config: DictConfig) -> dict[str, Any]:
    plain = flatten(resolved(config))
    return {key: value for key, value in plain.items() if key.partition(".")[0] not in (*APART, "budget")}


@lru_cache(maxsize=1024)
def _recorded(folder: Path, changed: int) -> dict[str, Any]:
    """What a run's file says, read once as long as it does not change: a sweep that starts from a sweep asks often."""
    return _compared(files.read_config(folder))


def recipe(config: DictConfig) -> Recipe:
    """How the tokenizer is made: as configured, or that of the run that this one starts from.

    Raises:
        RequestError: there is no such run, or it has another tokenizer than is configured.
    """
    made: Recipe = construct(config, "tokenizer")
    if config.start == "none":
        return made
    from lab.data.pretrained import Pretrained

    run = origin("start", config.start, config.seed, config)
    words = unlike(config, run.config, ("tokenizer", "model.special"))
    if words:
        raise RequestError(f"start={config.start}: brings a tokenizer of its own; add {' '.join(words)}")
    return Pretrained(
        vocab_size=run.tokenizer.vocab_size,
        special=tuple(config.model.special),
        path=str(run.folder / files.TOKENIZER),
    )


def check_start(config: DictConfig) -> None:
    """Refuse a start that does not fit, or a teacher or first stage that is not there, before the run leaves anything; say what
    fits and is another all the same.

    Raises:
        RequestError: there is no such run, its model is another, or it was trained on what would be validated.
    """
    from lab.runs.ranks import first_rank

    teacher = _teacher(config)
    if teacher is not None:
        check_unseen(f"objective.teacher={config.objective.teacher}", teacher, config)
        objective: Any = trusted("objective._target_", config.objective._target_)
        try:
            objective.check_teacher(meta_model(teacher.config, teacher.tokenizer.vocab_size), meta_model(config))
        except ValueError as error:
            raise RequestError(str(error)) from None
    finder = _first_stage(config)
    if finder is not None:
        check_unseen(f"objective.first_stage={config.objective.first_stage}", finder, config)
    if config.start == "none":
        return
    run = origin("start", config.start, config.seed, config)
    check_unseen(f"start={config.start}", run, config)
    start(config, meta_model(config, run.tokenizer.vocab_size))
    words = unlike(config, run.config, ("model", "init")) if _family(run) not in TABLES else []
    if words and first_rank():
        say(f"start={config.start}: was trained with {' '.join(words)}")


def start(config: DictConfig, model: Model) -> str | None:
    """Give a model the weights of the run that it starts from; names its folder.

    Raises:
        RequestError: there is no such run, or its model is another.
    """
    if config.start == "none":
        return None
    run = origin("start", config.start, config.seed, config)
    family = _family(run)
    into, weights = model.state_dict(), run.weights
    compared = ("model", "tokenizer")
    if family in TABLES and family != model.family:
        compared = ("model.dim", "tokenizer")
        into, weights = ({name: held[name] for name in (TABLE,) if name in held} for held in (into, weights))
    elif family != model.family:
        raise RequestError(
            f"start={config.start}: holds model={run.config.choices.model}, and this one is model={config.choices.model}"
        )
    why = _difference(into, weights)
    if why:
        words = unlike(config, run.config, compared)
        mend = f"add {' '.join(words)}" if words else "compose this one as that one was"
        raise RequestError(f"start={config.start}: the model there is another: {why}; {mend}")
    for name, weight in weights.items():
        into[name].data.copy_(weight)
    return str(run.folder)


def _family(run: Run) -> str:
    return trusted("model.build._target_", run.config.model.build._target_).family  # type: ignore[attr-defined]


def _difference(into: dict[str, Tensor], weights: dict[str, Tensor]) -> str | None:
    """The first weight that is not the same on both sides, in words."""
    for name in into:
        if name in weights and into[name].shape != weights[name].shape:
            return f"{name} is {tuple(weights[name].shape)} there and {tuple(into[name].shape)} here"
    strange = sorted(into.keys() ^ weights.keys())
    return f"{strange[0]} is in one of them alone" if strange else None


def _teacher(config: DictConfig) -> Run | None:
    """The run that an objective learns from, of those that ask for one."""
    if "teacher" not in config.objective:
        return None
    if config.objective.teacher is None:
        raise RequestError("objective.teacher: null; needs the folder of the run to learn from")
    return origin("objective.teacher", config.objective.teacher, config.seed)


def _first_stage(config: DictConfig) -> Run | None:
    """The run that finds what an objective orders anew, of those that ask for one."""
    if "first_stage" not in config.objective:
        return None
    return origin("objective.first_stage", config.objective.first_stage, config.seed)


def _check_vocabulary(key: str, run: Run, prepared: Prepared) -> None:
    """Refuse another run that does not read the tokens of this one's data."""
    theirs, mine = (made.inner.get_vocab() for made in (run.tokenizer, prepared.tokenizer))
    if theirs != mine:
        raise RequestError(
            f"{key}: its vocabulary is another, {len(theirs):,} tokens there and {len(mine):,} here; "
            f"add tokenizer=pretrained tokenizer.path={run.folder / files.TOKENIZER}"
        )


def make_objective(config: DictConfig, model: Model, prepared: Prepared, optimizer: Any) -> Objective:
    """The objective of a run, with the teacher's model or the first stage if it names one. Its head has initial values, or
    those of the run that this one starts from, where that learnt the same labels by the same objective.

    Raises:
        RequestError: a value out of range, no such teacher or first stage, or one of another vocabulary.
    """
    known: dict[str, Any] = {
        "model": model,
        "optimizer": optimizer,
        "prepared": prepared,
        "clip": config.trainer.clip,
        "seed": config.seed,
    }
    teacher = _teacher(config)
    if teacher is not None:
        _check_vocabulary(f"objective.teacher={config.objective.teacher}", teacher, prepared)
        known["teacher"] = teacher.model
    finder = _first_stage(config)
    if finder is not None:
        _check_vocabulary(f"objective.first_stage={config.objective.first_stage}", finder, prepared)
        known |= {"first_stage": finder, "first_stage_pool": finder.config.objective.get("pool", "mean")}
    made: Objective = construct(config, "objective", **known)
    if made.head is not None:
        construct(config, "init")(made.head, seed=config.seed, layers=config.model.layers)
        if config.start != "none":
            _take_head(config, made)
    return made


def _take_head(config: DictConfig, objective: Objective) -> None:
    """Give an objective's head the values that it has in the run that this one starts from; say where they do not fit."""
    from lab.runs.ranks import first_rank

    run = origin("start", config.start, config.seed, config)
    learnt = run.head
    if not learnt:
        return
    mine, theirs = config.choices.objective, run.config.choices.objective
    others = list(run.result.get("labels", ()))
    why: str | None
    if mine != theirs:
        why = f"that one is of objective={theirs}"
    elif list(objective.prepared.labels) != others:
        why = f"that one scores {', '.join(map(str, others))}"
    else:
        why = _difference(objective.head.state_dict(), learnt)
    if why is None:
        objective.head.load_state_dict(learnt)
    elif first_rank():
        say(f"start={config.start}: the head of objective={mine} begins anew; {why}")
