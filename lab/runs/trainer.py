"""Lightning's Trainer from plain values. The lab paces, measures and saves by itself, so the Trainer's own parts are off."""

from __future__ import annotations

import atexit
import logging
import warnings
from functools import cache
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from omegaconf import DictConfig
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy, Strategy

from lab.config import trusted
from lab.errors import RequestError


def accelerator(config: DictConfig) -> str:
    """What a run computes on, `cpu` or `cuda`.

    Raises:
        RequestError: devices that this machine does not have.
    """
    settings = config.trainer
    accelerator: str = settings.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if settings.strategy == "fsdp" and settings.accelerator == "cpu":
        raise RequestError("trainer.accelerator: cpu; trainer=fsdp needs cuda, trainer=ddp runs on both")
    if accelerator == "cuda" and torch.cuda.device_count() < settings.devices:
        raise RequestError(
            f"trainer.devices: {settings.devices}; this machine has {torch.cuda.device_count()} CUDA devices"
            + (
                " and trainer=fsdp takes them"
                if settings.strategy == "fsdp"
                else "; trainer.accelerator=cpu runs without"
            )
        )
    return accelerator


def make_trainer(config: DictConfig) -> pl.Trainer:
    """A Trainer that runs until `Pace` ends it.

    Raises:
        RequestError: devices that this machine does not have.
    """
    settings = config.trainer
    if settings.strategy != "auto":
        leave_group_at_exit()
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    trainer = pl.Trainer(
        accelerator=accelerator(config),
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy=_strategy(config),
        precision="32-true" if str(settings.precision) == "32" else settings.precision,
        accumulate_grad_batches=config.batch.accumulate,
        max_epochs=1,
        max_steps=-1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    # On SIGTERM Lightning would leave with exit code 0 before the step is done; `Stop` takes it instead.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer


@cache
def leave_group_at_exit() -> None:
    """Close the process group before the interpreter ends: its threads would outlive what they use and abort it.

    Not sooner: under torchrun a second group of the same processes finds the first one's addresses.
    """
    atexit.register(lambda: dist.destroy_process_group() if dist.is_available() and dist.is_initialized() else None)


def _strategy(config: DictConfig) -> str | Strategy:
    if config.trainer.strategy == "ddp":
        objective: Any = trusted("objective._target_", config.objective._target_)
        return DDPStrategy(
            process_group_backend="gloo" if accelerator(config) == "cpu" else "nccl",
            find_unused_parameters=not objective.reaches_all,
        )
    if config.trainer.strategy == "fsdp":
        # One unit: parameters are gathered once a pass or batch of validation, within which ranks decode as long as each needs.
        return FSDPStrategy(state_dict_type="full")
    return "auto"
