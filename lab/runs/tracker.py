"""Weights & Biases: a run there for each run here."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from omegaconf import DictConfig

from lab.config import identity, resolved
from lab.console import say

if TYPE_CHECKING:
    import wandb

SECONDS_TO_ANSWER = 3.0


@cache
def server_answers() -> bool:
    """Whether the user is logged in and the server can be reached. Asked once a process, and said when not.

    `wandb.init` itself would wait 100 seconds for a server that is not there, or ask for a key.
    """
    key = os.environ.get("WANDB_API_KEY") or _key_of_netrc()
    if not key:
        say("W&B: not logged in, so runs are written offline; `wandb sync` sends them later")
        return False
    address = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), SECONDS_TO_ANSWER).close()
    except OSError:
        say(f"W&B: {address.hostname} does not answer, so runs are written offline; `wandb sync` sends them later")
        return False
    return True


def _key_of_netrc() -> str | None:
    import netrc

    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    try:
        found = netrc.netrc(path).authenticators(host) if path.is_file() else None
    except (netrc.NetrcParseError, OSError):
        return None
    return found[2] if found else None


class Tracker:
    """One run in W&B, written as the run here goes on.

    As columns it gets the chosen options; the resolved configuration stands under a key of its own, since a sweep locks
    parameters by name. Seeds of a configuration share a group.
    """

    def __init__(self, config: DictConfig, folder: Path, facts: Mapping[str, Any]) -> None:
        import wandb

        settings = config.logger
        mode = os.environ.get("WANDB_MODE") or settings.mode
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
            mode="online" if mode == "online" else "disabled" if mode == "disabled" else "offline",
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
