"""Classify texts with a run that was trained to."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch

from lab.config import construct
from lab.errors import RequestError
from lab.objectives.classify import Classify
from lab.objectives.objective import Objective
from lab.runs.folder import Run
from lab.vectors import read


@torch.no_grad()
def classify(run: Run, texts: Sequence[str | tuple[str, str]], too_long: str = "cut") -> list[dict[str, float]]:
    """For each text, or pair of texts, the probability of each label, the most likely first.

    Args:
        run: trained by `objective=classify`.
        texts: as the run was trained on, one or two each.
        too_long: of a text longer than the model: `cut`, which says how many were, or `refuse`.

    Raises:
        RequestError: a run that was trained to do something else; a text that gives no token, or is too long.
    """
    objective = _objective(run)
    labels = run.result["labels"]
    found: list[dict[str, float]] = [{} for _ in texts]
    sides = [(text,) if isinstance(text, str) else text for text in texts]
    for numbers, tokens, layout, segments in read(run, sides, too_long):
        stands: Any = objective.model.represent(tokens, layout, segments, objective.pool)
        chances = objective.head(stands).float().softmax(-1)
        best = chances.argsort(dim=-1, descending=True, stable=True).tolist()
        for number, order, of_text in zip(numbers, best, chances.tolist(), strict=True):
            found[number] = {labels[label]: of_text[label] for label in order}
    return found


def _objective(run: Run) -> Classify:
    """The objective of the run, with its trained head."""
    if not run.result.get("labels"):
        raise RequestError(f"{run.folder}: was trained by objective={run.config.choices.objective}, to no labels")
    made = trained_objective(run)
    if not isinstance(made, Classify):
        raise RequestError(f"{run.folder}: was trained by objective={run.config.choices.objective}, not to label texts")
    return made


def trained_objective(run: Run) -> Objective:
    """The objective of a run, with its model and its trained head, if it has one."""
    known = SimpleNamespace(labels=run.result.get("labels", ()), tokenizer=run.tokenizer)
    made: Objective = construct(run.config, "objective", model=run.model, optimizer=None, prepared=known)
    if made.head is not None:
        made.head.load_state_dict(run.head)
    return made.eval()
