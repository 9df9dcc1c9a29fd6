"""One token, step by step: numbers of the prompt, shapes on the way through the model, candidates, the one chosen."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor

from lab.models.sampling import Sampling
from lab.views.terminal import table

if TYPE_CHECKING:
    from lab.models.record import Seen
    from lab.runs.folder import Run


@dataclass(frozen=True)
class Stage:
    """A place in the model: its name with `*` for a number, the shape of what leaves it, how many places are alike."""

    place: str
    shape: list[int]
    times: int


@dataclass(frozen=True)
class Candidate:
    """A token that may follow.

    Attributes:
        id, text: the token.
        logit: its score.
        before: its probability as the model says.
        after: after penalty, temperature and filters; 0 if it cannot be drawn.
    """

    id: int
    text: str
    logit: float
    before: float
    after: float

    def said(self) -> tuple[str, str, str]:
        """The score and the two probabilities in words."""
        return (
            f"{self.logit:.2f}".replace("-", "−"),
            _percent(self.before),
            _percent(self.after) if self.after else "left out",
        )


def _percent(share: float) -> str:
    """To three digits, zeros at the end among them, so that a column of them can be compared."""
    return f"{100 * share:#.3g}".removesuffix(".") + "%"


@dataclass(frozen=True)
class Step:
    """How one token came about; `ids` and `words` are of the prompt, or of the source."""

    ids: list[int]
    words: list[str]
    stages: list[Stage]
    candidates: list[Candidate]
    chosen: Candidate

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@torch.no_grad()
def step(run: Run, prompt: str, sampling: Sampling, most: int = 10) -> Step:
    """The first token that `lab generate` would write after a prompt.

    Args:
        run: of a model that generates.
        prompt: a text; of an encoder-decoder its source.
        sampling: how the token is chosen.
        most: candidates.

    Raises:
        RequestError: what `lab.runs.generate.check` refuses.
    """
    from lab.models.record import record
    from lab.models.stack import Stack
    from lab.runs.generate import check

    check(run, [prompt])
    model: Any = run.model
    ids = run.tokenizer.encode([prompt])[0].tolist()
    if model.family == "encoder_decoder":
        ids, written = [*ids, run.tokenizer.id("end")], [run.tokenizer.document_id]
        read = [ids, written]
    else:
        ids = written = [*run.begin, *ids]
        read = [ids]
    depth = 4 if isinstance(getattr(model, "decoder", None), Stack) else 3  # to what a block is made of
    places = [name for name, _ in model.named_modules() if name and name.count(".") < depth]
    with record(model, *places) as seen:
        logits = model(*(torch.tensor([tokens]) for tokens in read))
    stages = [*_alike(seen), Stage("logits", list(logits.shape), 1)]
    scores = logits[:, -1, : model.vocab_size].float()
    had = sampling.seen([written], model.vocab_size)
    before, filtered = scores.softmax(-1)[0], sampling.filtered(scores, had)
    after = filtered.softmax(-1)[0]
    chosen = int(sampling.choose(scores, sampling.drawing(), had))
    if sampling.temperature == 0:
        after = torch.zeros_like(after).index_fill(0, torch.tensor([chosen]), 1.0)

    def candidate(token: int) -> Candidate:
        values = (float(x[token]) for x in (scores[0], before, after))
        return Candidate(token, run.tokenizer.spelt(token), *values)

    best = before.topk(min(most, len(before))).indices.tolist()
    words = [run.tokenizer.spelt(token) for token in ids]
    return Step(ids, words, stages, [candidate(token) for token in best], candidate(chosen))


def _alike(seen: Seen) -> list[Stage]:
    """Places in the order they were left, those that differ in a number alone taken together."""
    found: Counter[tuple[str, tuple[int, ...]]] = Counter()
    for name, outputs in seen.passes.items():
        for output in outputs:
            tensor = output[0] if isinstance(output, tuple) else output
            if isinstance(tensor, Tensor):
                found[re.sub(r"\d+", "*", name), tuple(tensor.shape)] += 1
    return [Stage(place, list(shape), times) for (place, shape), times in found.items()]


def show(one: Step) -> None:
    """Three tables: what is read, what it becomes, what may follow."""
    console = Console(highlight=False)
    read = table("id", "token", words=("token",))
    for i, word in zip(one.ids, one.words, strict=True):
        read.add_row(str(i), Text(repr(word)))
    stages = table("place", "shape", "", words=("place", "shape", ""))
    for stage in one.stages:
        stages.add_row(stage.place, Text(str(stage.shape)), f"{stage.times} times" if stage.times > 1 else "")
    candidates = table("id", "candidate", "score", "probability", "drawn with", words=("candidate",))
    for each in one.candidates:
        candidates.add_row(str(each.id), Text(repr(each.text)), *each.said())
    console.print(read, stages, candidates)
    chosen = one.chosen
    _, before, after = chosen.said()
    console.print(f"chosen: {chosen.id} {chosen.text!r}, probability {before}, drawn with {after}", markup=False)
