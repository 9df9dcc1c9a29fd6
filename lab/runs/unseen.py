"""Whether a run is validated on what those were trained on that it begins with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lab.config import resolved
from lab.errors import RequestError
from lab.runs.folder import Run, load
from lab.runs.likeness import unlike

COLUMNS = ("field", "text", "source", "messages")
"""Keys of data that name the column or key of the text by which rows are parted."""


def check_unseen(key: str, run: Run, config: DictConfig) -> None:
    """Refuse validation on documents that an earlier run was trained on: of the same data, with a split of its own.

    Args:
        key: that names the run.
        run: the weights, the teacher or the first stage that the configuration takes.
        config: of the run to be.

    Raises:
        RequestError: it names the split that is needed.
    """
    mine = resolved(config)
    for earlier in _line(run):
        theirs = resolved(earlier.config)
        if not earlier.result.get("steps") or _source(mine["data"]) != _source(theirs["data"]):
            continue  # what was imported has taken no step here
        if not _within(mine["split"], theirs["split"]):
            words = unlike(config, earlier.config, ("split.validation", "split.by", "split.holdout"))
            raise RequestError(
                f"{key}: {earlier.folder} was trained on documents that would be validated here; add {' '.join(words)}"
            )


def _line(run: Run) -> Iterator[Run]:
    """A run, the one that it started from, the one that that one did, as far as they are still there."""
    met: set[Path] = set()
    while run.folder.resolve() not in met:
        met.add(run.folder.resolve())
        yield run
        before = run.result.get("start")
        if not isinstance(before, str):
            return
        try:
            run = load(before)
        except RequestError:
            return


def _source(data: Mapping[str, Any]) -> tuple[Any, ...]:
    """What decides which rows there are, and the text by which they are parted: alike for plain text, labels and pairs."""
    place, name = data.get("path"), data.get("name")
    if not place and not name:  # what the lab itself has, or makes
        return tuple(sorted((key, str(value)) for key, value in data.items()))
    paths = [Path(each).expanduser() for each in ([place] if isinstance(place, str) else place or ())]
    files = tuple(str(path.resolve() if path.exists() else path) for path in paths)
    hub = (name, data.get("config"), data.get("hub_split", data.get("split")), data.get("revision")) if name else ()
    return (files, hub, next((data[column] for column in COLUMNS if column in data), None))


def _within(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether all that one split holds out, the other does."""
    if mine["by"] != theirs["by"]:
        return False
    if mine["holdout"] is None and theirs["holdout"] is None:
        return mine["validation"] <= theirs["validation"]
    return None not in (mine["holdout"], theirs["holdout"]) and _named(mine["holdout"]) <= _named(theirs["holdout"])


def _named(groups: Any) -> set[str]:
    return set(map(str, groups if isinstance(groups, list) else [groups]))
