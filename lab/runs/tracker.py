"""Weights & Biases: a run there for each run here."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from lab.config import identity, resolved
from lab.console import say
from lab.errors import RequestError

if TYPE_CHECKING:
    import wandb


@cache
def server_answers() -> bool:
    """Whether the user is logged in and the server takes that. Asked once a process, and said when not.

    `wandb.init` itself would wait two minutes for a server that is not there, or ask for a key.
    """
    import wandb

    try:
        if wandb.login(prompt=False, verify=True):
            return True
        why = "not logged in"
    except wandb.Error as error:
        why = str(error).strip().rstrip(".")
    say(f"W&B: {why}; runs are written offline, `wandb sync` sends them later")
    return False


def wanted_mode(config: DictConfig) -> str:
    """What the environment asks for, else the configuration: `auto`, `online`, `offline` or `disabled`.

    Raises:
        RequestError: `online` where nobody is logged in; W&B would ask for a key.
    """
    mode = os.environ.get("WANDB_MODE") or str(config.logger.mode)
    if mode == "online":
        import wandb

        if not wandb.login(prompt=False, verify=False):
            raise RequestError("logger.mode: online; takes `wandb login` or WANDB_API_KEY, auto does without")
    return mode if mode in ("auto", "online", "disabled") else "offline"


class Tracker:
    """One run in W&B, written as the run here goes on.

    As columns it gets the chosen options; the resolved configuration stands under a key of its own, since a sweep locks
    parameters by name. Seeds of a configuration share a group.
    """

    def __init__(self, config: DictConfig, folder: Path, facts: Mapping[str, Any]) -> None:
        import wandb

        settings = config.logger
        mode = wanted_mode(config)
        if mode == "auto":
            mode = "online" if server_answers() else "offline"
        choices = dict(config.choices)
        self.run: wandb.Run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or settings.project,
            entity=os.environ.get("WANDB_ENTITY") or settings.entity,
            name=config.name or folder.name,
            group=os.environ.get("WANDB_RUN_GROUP") or settings.group or group_name(config),
            job_type=settings.job_type,
            tags=list(settings.tags),
            dir=folder,
            id=None if "WANDB_RUN_ID" in os.environ else _identifier(folder),
            resume="allow" if mode == "online" else None,
            mode=mode,  # type: ignore[arg-type]
            config={**choices, **facts, "seed": config.seed, "lab": resolved(config)},
            reinit="finish_previous",
            settings=wandb.Settings(silent=True, console="off", x_disable_meta=True, disable_git=True),
            allow_val_change=True,
        )
        self.run.define_metric("*", step_metric="tokens")
        headline = facts.get("headline")
        if headline:
            self.run.define_metric(headline["name"], step_metric="tokens", summary=headline["direction"])

    def __call__(self, measured: Mapping[str, Any]) -> None:
        """Log one measurement."""
        known = {key: value for key, value in measured.items() if value is not None}
        self.run.log(known, step=measured["step"], commit=True)  # else the last one would come after the result

    def show(self, pictures: Mapping[str, Any], step: int, tokens: int) -> None:
        """Log pictures; what is measured at the same step joins them."""
        self.run.log({**pictures, "tokens": tokens}, step=step, commit=False)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result as the run's summary and close it."""
        self.run.summary.update({key: value for key, value in result.items() if isinstance(value, int | float | str)})
        self.run.finish(exit_code=0 if result["status"] in ("finished", "diverged", "pruned") else 1)

    @property
    def place(self) -> str:
        """Where the run can be seen: its page, or its folder."""
        return str(Path(self.run.settings.sync_dir)) if self.run.offline else str(self.run.url)


def _identifier(folder: Path) -> str:
    """The name of this folder's run in W&B, drawn once, so that a run that is continued here is continued there."""
    path = folder / "wandb" / "run-id"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(uuid.uuid4().hex[:8], encoding="utf-8")
    return path.read_text(encoding="utf-8")


def group_name(config: DictConfig) -> str:
    """What the seeds of a configuration share: what was asked for, and the configuration's identity."""
    asked = [text for text in config.overrides if text.partition("=")[0] not in ("seed", "name", "folder")]
    label = " ".join(text for text in asked if not text.startswith(("logger", "hydra")))
    return f"{(label or config.choices.preset)[:100]} {identity(config)[:6]}"
