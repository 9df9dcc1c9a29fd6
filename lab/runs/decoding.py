"""How fast trained models write, and what they keep meanwhile: measured run after run, beside what the runs reached.

One thread is timed by the processor's time, in which other programs of the machine do not count; several, by the clock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from lab.atomic import write_atomically
from lab.errors import RequestError
from lab.runs import folder as files
from lab.runs import machine
from lab.runs.comparison.collect import MEASURED


@dataclass(frozen=True)
class Decoding:
    """What is written.

    Attributes:
        rows: texts at once.
        tokens: of each, from the document token on.
        times: it is measured; the median counts.

    Raises:
        RequestError: a number under 1; of tokens under 2.
    """

    rows: int = 1
    tokens: int = 128
    times: int = 3

    def __post_init__(self) -> None:
        for name, least in (("rows", 1), ("tokens", 2), ("times", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise RequestError(f"decode.{name}: {value!r}; a whole number, at least {least}")


def measure(folders: Sequence[Path], decoding: Decoding) -> None:
    """Measure each of these finished runs that has not been on these terms, in turn, and leave `measured.json` in its folder.

    Raises:
        RequestError: a run whose model does not continue texts, or takes no text as long.
    """
    for folder in [folder for folder in folders if not _is_measured(folder, decoding)]:
        found = _measure(folder, decoding)
        write_atomically(folder / MEASURED, json.dumps(found, indent=1) + "\n")


def _is_measured(folder: Path, decoding: Decoding) -> bool:
    """Whether a run was measured so; not where the file is damaged, or says that it was otherwise."""
    try:
        held = json.loads((folder / MEASURED).read_text(encoding="utf-8"))
        return all(held[f"decode/{key}"] == value for key, value in asdict(decoding).items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _measure(folder: Path, decoding: Decoding) -> dict[str, Any]:
    from lab.models.model import LanguageModel

    run = files.load(folder)
    model = run.model
    if not isinstance(model, LanguageModel) or not model.generates:
        raise RequestError(f"decode: {folder} holds model={run.config.choices.model}, which does not continue texts")
    if model.limit is not None and decoding.tokens > model.limit:
        raise RequestError(f"decode.tokens: {decoding.tokens}; model.context of {folder} is {model.limit}")
    machine.keep_buffers()
    threads = machine.use_threads(run.config.trainer.threads, run.config.trainer.devices)
    clock = time.process_time if threads == 1 else time.perf_counter
    prompts = [[run.tokenizer.document_id]] * decoding.rows
    rates = [_rate(model, prompts, decoding.tokens, clock) for _ in range(decoding.times + 1)][1:]  # the first warms up
    return {
        "decode/tokens_per_second": median(rates),
        "decode/cache_bytes": model.cache_bytes(decoding.tokens) * decoding.rows,
        "decode/rows": decoding.rows,
        "decode/tokens": decoding.tokens,
        "decode/times": decoding.times,
    }


def _rate(model: Any, prompts: list[list[int]], tokens: int, clock: Callable[[], float]) -> float:
    """Tokens a second of all rows together after the first, which reads the prompt."""
    from lab.models.generate import stream
    from lab.models.sampling import Sampling

    steps = stream(model, prompts, tokens, Sampling())
    next(steps)
    began = clock()
    made = sum(1 for _ in steps)
    return made * len(prompts) / (clock() - began)
