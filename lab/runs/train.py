"""Train one run, and leave its record."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from lab.atomic import write_atomically
from lab.config import build, check, construct, identity, trusted
from lab.console import say
from lab.errors import RequestError
from lab.runs import folder as files
from lab.runs.comparison.cautions import SEEN
from lab.runs.folder import Run
from lab.runs.pace import Observer
from lab.runs.signals import Stop

if TYPE_CHECKING:
    from lab.data.module import Batches
    from lab.objectives.objective import Objective


def train(
    config: DictConfig,
    folder: str | Path | None = None,
    resume: bool = False,
    observers: Sequence[Observer] = (),
) -> Run:
    """Train the run that a configuration describes. It ends with a record, whatever happens: see the run's `status`.

    Args:
        config: from `lab.compose`.
        folder: where the record goes; by default `config.folder`, or a new one under `runs/`. Ranks that torchrun or
            srun started should name one: only the first makes it.
        resume: continue the run of the folder from its checkpoint.
        observers: called with each measurement.

    Raises:
        RequestError: a configuration or data that cannot be run, a folder that holds a run already or cannot be written.
    """
    from lab.runs.ranks import first_rank, run_ranks, started_elsewhere

    check(config)
    if config.trainer.nodes > 1 and not started_elsewhere():
        raise RequestError(
            f"trainer.nodes: {config.trainer.nodes}; several are started from outside, by srun or torchrun"
        )
    _check_surroundings(config)
    folder = Path(folder or config.folder or files.new_folder(config))
    if resume:
        saved = files.read_checkpoint(folder)
        if first_rank():
            files.take_up(folder, saved["callbacks"]["Pace"]["spent"]["steps"])
    elif first_rank():
        files.open_folder(folder, config)
    with Stop() as stop:
        if config.trainer.devices == 1 or started_elsewhere():
            result = fit(config, folder, resume, observers)
        else:
            try:
                run_ranks(folder, config.trainer.devices, resume, stop, observers)
            except RuntimeError as error:
                _write(folder, new_record(config) | {"status": "failed", "error": str(error)})
            found = files.read_result(folder)
            if found is None:  # the first rank ended before it wrote one
                status = "stopped" if stop() else "failed"
                found = new_record(config) | {"status": status, "error": "the ranks ended without a result"}
                _write(folder, found)
            result = found
    return Run(folder, config, result)


def continue_run(folder: str | Path, observers: Sequence[Observer] = ()) -> Run:
    """Continue a run that was stopped or killed, to the numbers that it would have had without.

    Raises:
        RequestError: there is no run, it has ended, or left no checkpoint.
    """
    folder = Path(folder)
    config = files.read_config(folder)
    result = files.read_result(folder)
    if result is not None and result["status"] not in files.UNENDED:
        raise RequestError(f"resume: {folder} has ended ({result['status']}); nothing is left to do")
    try:
        check(config)
    except RequestError as error:
        raise RequestError(f"{folder / files.CONFIG}: {error}") from None
    return train(config, folder, resume=True, observers=observers)


def _check_surroundings(config: DictConfig) -> None:
    """Refuse devices, a login and data that are not there, before a run leaves anything."""
    from lab.runs.start import check_start
    from lab.runs.tracker import wanted_mode
    from lab.runs.trainer import accelerator

    accelerator(config)
    if config.logger.kind == "wandb":
        wanted_mode(config)
    check_start(config)
    data_module(config)


def data_module(config: DictConfig) -> Batches:
    """The batches of a run. Its tokens are made if they are not there yet.

    Raises:
        RequestError: the data cannot be read, split, or fill one batch.
    """
    from lab.data.module import kind, make_batches
    from lab.runs.start import recipe

    data = construct(config, "data")
    objective: Any = trusted("objective._target_", config.objective._target_)
    model: Any = trusted("model.build._target_", config.model.build._target_)
    return make_batches(
        data,
        recipe(config),
        config.split,
        construct(config, "packing"),
        context=config.model.context,
        rows=config.batch.rows,
        accumulate=config.batch.accumulate,
        seed=config.seed,
        arrange=objective.arranges(kind(data), model, construct(config, "objective").keywords),
    )


def fit(config: DictConfig, folder: Path, resume: bool = False, observers: Sequence[Observer] = ()) -> dict[str, Any]:
    """Train in this process, as the only one or as one of several ranks; the first rank leaves the record.

    Returns:
        The result. A run that fails has status `failed` and its error there.

    Raises:
        RequestError: the request was wrong, for example its data.
    """
    from lab.runs.ranks import error_file, first_rank, own_rank

    record = new_record(config)
    with Stop() as stop, ExitStack() as closing:
        try:
            result = _fit(config, folder, resume, observers, stop, record, closing)
        except RequestError as error:
            if folder.is_dir():  # the first rank may not have made it yet
                _write(folder, record | {"status": "failed", "error": str(error)})
            raise
        except (KeyboardInterrupt, SystemExit):  # Lightning makes the one of the other
            result = record | {"status": "stopped", "error": "interrupted at once"}
        except Exception as error:
            with suppress(OSError):  # a full disk may be why the run failed
                (folder / error_file(own_rank())).write_text(traceback.format_exc(), encoding="utf-8")
            words = " ".join(str(error).split()) or type(error).__name__
            result = record | {"status": "failed", "error": f"{type(error).__name__}: {words}"[:1000]}
        result = files.finite(result)
        record.update(result)
        if first_rank():
            _drop_partial(folder)
            _write(folder, result)
        return result


def _drop_partial(folder: Path) -> None:
    """Remove what a run was writing when it ended."""
    for partial in (folder / files.CHECKPOINT.parent).glob("*.partial"):
        partial.unlink()


def new_record(config: DictConfig) -> dict[str, Any]:
    """What is known of a run before it trains, and the keys that every result has."""
    from lab.runs.code import code
    from lab.runs.machine import versions

    return {
        "status": "failed",
        "error": None,
        "headline": None,
        "val/loss": None,
        "val/bpb": None,
        "train/loss": None,
        "seed": config.seed,
        "choices": dict(config.choices),
        "overrides": list(config.overrides),
        "configuration": identity(config),
        "code": code(config),
        "devices": config.trainer.devices * config.trainer.nodes,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "wandb": None,
    }


def _fit(
    config: DictConfig,
    folder: Path,
    resume: bool,
    observers: Sequence[Observer],
    stop: Stop,
    record: dict[str, Any],
    closing: ExitStack,
) -> dict[str, Any]:
    from lab.parts.linear import count
    from lab.runs import machine
    from lab.runs.budget import Budget
    from lab.runs.pace import Pace
    from lab.runs.ranks import orphaned, random_seed
    from lab.runs.start import make_objective, start
    from lab.runs.subject import Held
    from lab.runs.tracker import Tracker
    from lab.runs.trainer import make_trainer

    machine.keep_buffers()
    threads = machine.use_threads(config.trainer.threads, config.trainer.devices)
    data = data_module(config)
    prepared = data.prepared
    peak_known = machine.reset_peak_memory()
    began = time.perf_counter()

    trainer = make_trainer(config)
    data.setup("fit")
    model = build(config, vocab_size=prepared.tokenizer.vocab_size)
    model.count(prepared)
    origin = start(config, model)
    optimizer = construct(config, "optimizer")
    objective = make_objective(config, model, prepared, optimizer)
    head = count(objective.head) if objective.head is not None else 0
    facts = {
        "headline": dict(objective.headline),
        "asks": _questions(config, objective, data.facts),
        "configuration": record["configuration"],
        "parameters": model.parameters_total + head,
        "parameters_active": model.parameters_active + head,
        "vocab_size": prepared.tokenizer.vocab_size,
        "data_fingerprint": prepared.data_fingerprint,
        "start": origin,
        "tokenizer/lost_share": prepared.lost_share,
        **({"labels": list(prepared.labels)} if prepared.labels else {}),
        **data.facts,
        "threads": threads,
    }
    record.update(facts)

    watching: list[Observer] = list(observers)
    tracker = None
    if trainer.is_global_zero:
        _say_cut(data.facts, config.model.context)
        prepared.tokenizer.save(folder / files.TOKENIZER)
        metrics = files.MetricsFile(folder / files.METRICS)
        watching.append(metrics.append)
        if config.logger.kind == "wandb":
            tracker = Tracker(config, folder, facts)
            record["wandb"] = tracker.place
            watching.append(tracker)
            closing.callback(lambda: tracker.finish(record))

    pace = Pace(
        Budget.of(config),
        construct(config, "schedule"),
        data,
        prepared.validation_bytes,
        prepared.lost_share == 0 and prepared.validation_bytes > 0 and not data.facts.get("val/cut_examples"),
        folder / files.CHECKPOINT,
        config.trainer.validations,
        config.trainer.log_every,
        config.trainer.checkpoint_minutes,
        watching,
        lambda: stop() or orphaned(),
        began,
    )
    if config.logger.get("pictures_every") is not None:
        held, show = Held(folder, config, model, prepared.tokenizer), tracker.show if tracker else None
        drawing = construct(config, "logger.pictures", run=held, data=data, pace=pace, told=show)
        trainer.callbacks.append(drawing)  # type: ignore[attr-defined]
    import torch

    torch.manual_seed(random_seed(config.seed, trainer.global_rank))  # dropout
    trainer.callbacks.append(pace)  # type: ignore[attr-defined]
    checkpoint = folder / files.CHECKPOINT
    trainer.fit(objective, datamodule=data, ckpt_path=checkpoint if resume else None, weights_only=True)
    _save_weights(trainer, folder, pace.status)
    spent = pace.spent
    return record | {
        "status": pace.status,
        "error": None if pace.status != "diverged" else f"the loss is {pace.lost:.3g} at step {spent.steps}",
        **{key: value for key, value in pace.latest.items() if key.startswith(("val/", "train/"))},
        "train/loss": pace.latest.get("train/loss"),
        "flops": spent.flops,
        "tokens_seen": spent.tokens,
        "steps": spent.steps,
        "tokens_per_second": spent.tokens / (spent.minutes * 60) if spent.steps else None,
        "peak_memory_bytes": machine.peak_memory() if peak_known else None,
        "seconds": pace.seconds,
        "train/seconds": spent.minutes * 60,
    }


def _questions(config: DictConfig, objective: Objective, facts: Mapping[str, float]) -> dict[str, str]:
    """What the question behind each measure depends on, in words, where it depends on anything but the data."""
    cut = int(facts.get("val/cut_examples", 0))
    known = {
        "tokenizer": f"tokenizer {config.choices.get('tokenizer', '')} {config.tokenizer.vocab_size}",
        "cut": f"{cut:,} examples cut at {config.model.context} tokens" if cut else "",
    }
    said = {
        measure: [known.get(key, f"{key}={OmegaConf.select(config, key)}") for key in keys]
        for measure, keys in objective.asks.items()
    }
    return {measure: ", ".join(filter(None, parts)) for measure, parts in said.items() if any(parts)}


def _say_cut(facts: Mapping[str, float], context: int) -> None:
    """Say how many examples do not fit into the model's context, if any, and how much of a small task can be known by heart."""
    trained, judged = (int(facts.get(f"{part}/cut_examples", 0)) for part in ("train", "val"))
    if trained or judged:
        say(
            f"data.too_long=cut: {trained:,} training and {judged:,} validated examples are longer than model.context={context}"
        )
    if facts.get("val/seen_share", 0) > SEEN:
        say(
            f"{facts['val/seen_share']:.0%} of the validated answers are of rows that are trained on too; more of data.length "
            "or data.symbols, or fewer rows in data.train, leave more to find out"
        )


def _save_weights(trainer: Any, folder: Path, status: str) -> None:
    """Weights of a run that ended; what a stopped run continues from stays instead."""
    from safetensors.torch import save_file

    state = trainer.strategy.lightning_module_state_dict()
    if trainer.is_global_zero and status != "stopped":
        path = folder / files.WEIGHTS
        partial = path.with_suffix(".partial")
        weights = {files.saved_name(name): value.cpu().contiguous() for name, value in state.items()}
        save_file(weights, partial, {"format": "pt"})  # what an import writes too, so that bytes can be compared
        partial.chmod(0o644)  # as the rest of the record
        partial.replace(path)
        (folder / files.CHECKPOINT).unlink(missing_ok=True)


def _write(folder: Path, result: dict[str, Any]) -> None:
    import json

    try:
        write_atomically(folder / files.RESULT, json.dumps(result, indent=2) + "\n")
    except OSError as error:
        raise RequestError(f"{folder / files.RESULT}: cannot be written ({error.strerror or error})") from None
