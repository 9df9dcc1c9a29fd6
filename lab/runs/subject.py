"""What a verb looks into: a run by its folder, or a composition by its words, with the values that it would begin with."""

from __future__ import annotations

import shlex
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import RequestError
from lab.runs.folder import Run, load

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor, nn

    from lab.data.store import Prepared
    from lab.data.tokenizers import Tokenizer


class Untrained(Run):
    """A composition before its first step, in the place of a run. What it lacks is made when first asked for.

    Attributes:
        prepared: the text of its data, and the tokenizer that this gives.
    """

    @cached_property
    def prepared(self) -> Prepared:
        """Raises `RequestError` for data that cannot be read or split."""
        from lab.config import construct
        from lab.data.store import prepare
        from lab.data.tasks import Task
        from lab.runs.start import recipe
        from lab.runs.train import data_module

        data: Any = construct(self.config, "data")
        if isinstance(data, Task):  # made, not read
            return data_module(self.config).prepared
        return prepare(data, recipe(self.config), self.config.split)

    @property
    def tokenizer(self) -> Tokenizer:
        return self.prepared.tokenizer

    @cached_property
    def model(self) -> nn.Module:
        """The model as its run would begin, in evaluation mode on the CPU.

        Raises:
            RequestError: a combination that cannot be built, or one that this machine has no memory for.
        """
        from lab.config import build
        from lab.runs.machine import memory
        from lab.runs.start import start

        needed, there = 4 * self.outline.parameters_total, memory()
        if there is not None and needed > there:
            raise RequestError(
                f"{self.folder}: {needed / 2**30:,.0f} GiB of weights, and this machine has {there / 2**30:,.0f} GiB of "
                "memory; `lab show` describes a composition without them"
            )
        model = build(self.config, vocab_size=self.tokenizer.vocab_size)
        model.count(self.prepared)
        start(self.config, model)
        return model.eval()

    @property
    def weights(self) -> dict[str, Tensor]:
        return self.model.state_dict()


class Held(Run):
    """A model that is at hand, as while it trains, in the place of a run.

    Args:
        folder, config: of its run.
        model, tokenizer: of its run.
    """

    def __init__(self, folder: Path, config: DictConfig, model: nn.Module, tokenizer: Tokenizer) -> None:
        super().__init__(folder, config, {"status": "running"})
        vars(self).update(model=model, outline=model, tokenizer=tokenizer)  # where a run keeps what it has read


def subject(words: str | Path) -> Run:
    """The run in a folder; or where the words are overrides, as `lab show` takes them, what they compose.

    Args:
        words: a path, or one or more of `GROUP=OPTION` and `KEY=VALUE` with spaces between them. With `start=RUN` it is that
            run's weights.

    Raises:
        RequestError: neither, as `lab.load` and `lab.compose` say it.
    """
    given = str(words)
    if "=" not in given or Path(given).exists():
        return load(given)
    from lab.config import compose

    try:
        overrides = shlex.split(given)
    except ValueError as error:
        raise RequestError(f"RUN: {given}; {str(error).lower()}") from None
    return Untrained(Path(" ".join(overrides)), compose(*overrides), {"status": "untrained"})


def encoded(run: Run, text: str, most: int | None, name: str = "TEXT") -> list[int]:
    """The tokens of a text that a person gave, without the special ones that stand around it.

    Args:
        run: whose tokenizer reads it.
        text: what was given.
        most: tokens that fit; none for no limit.
        name: of the argument.

    Raises:
        RequestError: a text that is empty or gives no token, is too long, or has parts that no token stands for.
    """
    if not text:
        raise RequestError(f"{name}: is empty; a text to begin from")
    if unknown := run.tokenizer.unknown(text):
        shown = ", ".join(map(repr, unknown[:5])) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise RequestError(f"{name}: the run's tokenizer has no token for {shown}")
    ids = run.tokenizer.encode([text])[0].tolist()
    if not ids:
        raise RequestError(f"{name}: {text!r} gives no token; a text to begin from")
    if most is not None and len(ids) > most:
        context = run.config.model.context
        raise RequestError(
            f"{name}: {len(ids):,} tokens; at most {most:,}, as the model was trained on rows of {context:,}"
        )
    return ids
