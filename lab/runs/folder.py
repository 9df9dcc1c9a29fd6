"""The record that a run leaves: its folder, read and written."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from lab.atomic import append_whole, write_atomically
from lab.config import check, resolved
from lab.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lab.data.tokenizers import Tokenizer
    from lab.models.model import Model

CONFIG, OVERRIDES, RESULT, METRICS, TOKENIZER = (
    "config.yaml",
    "overrides.yaml",
    "result.json",
    "metrics.csv",
    "tokenizer.json",
)
WEIGHTS, CHECKPOINT = Path("checkpoints/model.safetensors"), Path("checkpoints/last.ckpt")
UNENDED = ("stopped", "failed")
"""How runs end that may be continued."""
HEAD = "objective."
NEEDED = {
    "choices": DictConfig, "model.build._target_": str, "model.layers": int, "init._target_": str, "objective._target_": str,
    "tokenizer.vocab_size": int, "seed": int, "overrides": ListConfig,
}  # fmt: skip
"""What whoever opens a run asks of its configuration: keys, and the kind of their values."""


def saved_name(name: str) -> str:
    """What weights of an objective are called in a record: the model's by their own names, its head's under `objective.`."""
    return name.removeprefix("model.") if name.startswith("model.") else f"{HEAD}{name}"


def finite(tree: Any) -> Any:
    """The same values with NaN and infinities as null, which JSON can hold."""
    if isinstance(tree, Mapping):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def new_folder(config: DictConfig) -> Path:
    """A path for a run that names none: the day, the time and what was asked, numbered if taken."""
    now = datetime.now()
    label = re.sub(r"[/\\]", "-", config.name or f"{config.choices.preset}-{config.choices.model}")
    base = Path("runs") / f"{now:%Y-%m-%d}" / f"{now:%H%M%S}-{label}-seed{config.seed}"
    path, number = base, 2
    while os.path.exists(path):
        path, number = base.with_name(f"{base.name}-{number}"), number + 1
    return path


def open_folder(folder: Path, config: DictConfig) -> None:
    """Create a run's folder and write what was asked.

    Raises:
        RequestError: the folder holds a run already, or cannot be written.
    """
    if os.path.exists(folder / CONFIG):
        mend = f", or continue it with resume={folder}" if can_continue(folder) else ""
        raise RequestError(f"folder: {folder} holds a run already; choose another{mend}")
    create(folder)
    try:
        (folder / CHECKPOINT.parent).mkdir(exist_ok=True)
        write_config(folder, config)
    except OSError as error:
        (folder / OVERRIDES).unlink(missing_ok=True)
        for made in (folder / CHECKPOINT.parent, folder):
            if made.is_dir() and not any(made.iterdir()):
                made.rmdir()
        raise RequestError(f"folder: {folder} cannot be written ({error.strerror or error})") from None


def can_continue(folder: Path) -> bool:
    """Whether a run was stopped, has failed or was killed, and left what it continues from."""
    try:
        result = read_result(folder)
        check(read_config(folder))
        read_checkpoint(folder)
    except RequestError:
        return False
    return result is None or result["status"] in UNENDED


def take_up(folder: Path, step: int) -> None:
    """Make a run that continues from a step one that has not ended: without its result, and what it measured since.

    Killed before it leaves another result, it counts as killed, and continues from its checkpoint.

    Raises:
        RequestError: the folder cannot be written, or its measurements can't be read; then nothing of it has changed.
    """
    try:
        MetricsFile(folder / METRICS).keep_until(step)
        (folder / RESULT).unlink(missing_ok=True)
    except OSError as error:
        raise RequestError(f"resume: {folder} cannot be written ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError) as error:  # bytes that are no text are a ValueError too
        raise RequestError(
            f"resume: {folder / METRICS} is damaged ({type(error).__name__}: {error}); delete it to go on without what it held"
        ) from None


def write_config(folder: Path, config: DictConfig) -> None:
    """Write what was asked, and all that it means."""
    write_atomically(folder / OVERRIDES, OmegaConf.to_yaml(config.overrides))
    write_atomically(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(resolved(config))))


def create(folder: Path, key: str = "folder") -> None:
    """Create a folder that someone named by a key.

    Raises:
        RequestError: it cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"{key}: {folder} cannot be written ({error.strerror or error})") from None


def read_config(folder: Path) -> DictConfig:
    """The configuration of a run.

    Raises:
        RequestError: there is no run, or its file is damaged.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise RequestError(f"{folder}: no run there; a run's folder has a {CONFIG}")
    try:
        config = OmegaConf.load(path)
        if not isinstance(config, DictConfig):
            raise ValueError("not a mapping")  # noqa: TRY004, one more way to be damaged
        resolved(config)
        for key, kind in NEEDED.items():
            if not isinstance(found := OmegaConf.select(config, key), kind):
                raise ValueError(f"without {key}" if found is None else f"{key}: {found}")  # noqa: TRY004
        if not all(isinstance(word, str) for word in config.overrides):
            raise ValueError(f"overrides: {config.overrides}")
    except Exception as error:  # of the YAML parser, of OmegaConf, of a class that may not be built
        raise RequestError(f"{path}: damaged ({str(error)[:300]})") from None
    OmegaConf.set_struct(config, True)
    return config


def read_result(folder: Path) -> dict[str, Any] | None:
    """The result of a run, null while there is none.

    Raises:
        RequestError: the file is damaged.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(result, dict) or "status" not in result:
            raise ValueError("no status")
    except (ValueError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: damaged ({error}); delete it, and the run counts as not ended") from None
    return result


def headline_value(result: Mapping[str, Any]) -> float | None:
    """What a result is judged by: its headline, or the loss per token where that is null."""
    headline = (result.get("headline") or {}).get("name", "val/bpb")
    value = result.get(headline)
    return result.get("val/loss") if value is None else value


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """What a run continues from. Nothing in the file is executed.

    Raises:
        RequestError: there is none, or it is damaged.
    """
    import torch

    path = folder / CHECKPOINT
    if not path.is_file():
        raise RequestError(f"resume: {folder} left no {CHECKPOINT}; start it anew in another folder")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        state["callbacks"]["Pace"]["spent"]["steps"]
    except Exception as error:  # pickle, zip and torch have each their own
        raise RequestError(
            f"{path}: damaged ({type(error).__name__}: {str(error).split('. ')[0][:100]}); start the run anew in another folder"
        ) from None
    return state


class MetricsFile:
    """`metrics.csv`, one line a measurement. A column that first appears later is added to the header then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                self.columns = next(csv.reader(file), [])

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one measurement."""
        missing = [key for key in row if key not in self.columns]
        if missing:
            rows = self.read()
            self.columns += missing
            self.write(rows)
        line = io.StringIO(newline="")
        csv.DictWriter(line, self.columns).writerow(row)
        append_whole(self.path, line.getvalue().encode())

    def read(self) -> list[dict[str, str]]:
        """All measurements so far, as text."""
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replace all measurements."""
        lines = [",".join(self.columns)]
        for row in rows:
            lines.append(",".join(str(row.get(column) or "") for column in self.columns))
        write_atomically(self.path, "\n".join(lines) + "\n")

    def keep_until(self, step: int) -> None:
        """Forget measurements after a step: a run that continues from there makes them again."""
        if self.columns:
            self.write(row for row in self.read() if int(row["step"]) <= step)


@dataclass(frozen=True)
class Run:
    """A run folder, opened. The model and the tokenizer are read when first asked for."""

    folder: Path
    config: DictConfig
    result: dict[str, Any]

    @property
    def status(self) -> str:
        """How the run ended: finished, diverged, pruned, stopped or failed."""
        return self.result["status"]

    @cached_property
    def outline(self) -> Model:
        """The model without values: what it is, known before its weights and its data are read."""
        from lab.config import meta_model

        return meta_model(self.config)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the run was trained with."""
        from lab.data.tokenizers import Tokenizer

        return Tokenizer.load(self.folder / TOKENIZER)

    @property
    def begin(self) -> list[int]:
        """The tokens that a text follows which a decoder continues: the document token, as in training; where the model was
        published, what its tokenizer puts there, which may be nothing.
        """
        return self.tokenizer.begin if "imported" in self.result else [self.tokenizer.document_id]

    @property
    def weights(self) -> dict[str, Tensor]:
        """What the trained model holds, by name, without the head that its objective added.

        Raises:
            RequestError: no weights, damaged ones, or those of a diverged run that are no numbers.
        """
        return {name: weight for name, weight in self._saved().items() if not name.startswith(HEAD)}

    @property
    def head(self) -> dict[str, Tensor]:
        """What the head holds that the objective added, by name; empty for none. Errors as for `weights`."""
        prefix = f"{HEAD}head."
        return {name.removeprefix(prefix): weight for name, weight in self._saved().items() if name.startswith(prefix)}

    def check_weights(self) -> None:
        """Read them and keep nothing. Errors as for `weights`."""
        self._saved()

    def _saved(self) -> dict[str, Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.folder / WEIGHTS
        if not path.is_file():
            raise RequestError(f"{path}: no weights; the run is {self.status}")
        try:
            found = load_file(path)
        except (SafetensorError, OSError) as error:
            raise RequestError(f"{path}: damaged ({str(error)[:200]})") from None
        if self.status == "diverged" and not all(bool(weight.isfinite().all()) for weight in found.values()):
            raise RequestError(f"{path}: the run has diverged, and its weights are no numbers")
        return found

    @cached_property
    def model(self) -> nn.Module:
        """The trained model, in evaluation mode on the CPU.

        Raises:
            RequestError: no weights, damaged ones, or those of another model.
        """
        from lab.config import build

        weights = self.weights
        model = build(self.config, vocab_size=self.tokenizer.vocab_size)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise RequestError(f"{self.folder / WEIGHTS}: of another model ({str(error)[:200]})") from None
        return model.eval()


def load(folder: str | Path) -> Run:
    """Open a run folder: `.model`, `.tokenizer`, `.config`, `.result`.

    Raises:
        RequestError: there is no run, it has no result yet, or a file is damaged.
    """
    folder = Path(folder)
    config = read_config(folder)
    result = read_result(folder)
    if result is None:
        mend = f" (lab train resume={folder})" if can_continue(folder) else " before it left anything to continue from"
        raise RequestError(f"{folder}: the run has no {RESULT} yet; it runs, or was killed{mend}")
    return Run(folder, config, result)
