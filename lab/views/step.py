"""One token, step by step: numbers of the prompt, shapes on the way through the model, candidates, the one chosen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from lab.errors import RequestError
from lab.models.sampling import Sampling

if TYPE_CHECKING:
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


@dataclass(frozen=True)
class Step:
    """How one token came about; `ids` and `words` are of what the model read."""

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
        run: of a decoder or a recurrent model.
        prompt: a text.
        sampling: how the token is chosen.
        most: candidates.

    Raises:
        RequestError: a model that reads a source, or what `lab.runs.generate.check` refuses.
    """
    from lab.models.record import record
    from lab.runs.generate import check

    check(run, [prompt])
    model: Any = run.model
    if model.family == "encoder_decoder":
        raise RequestError("--steps: of decoders and recurrent models; this is an encoder-decoder")
    ids = [run.tokenizer.document_id, *run.tokenizer.encode([prompt])[0].tolist()]
    places = [name for name, _ in model.named_modules() if name and name.count(".") < 3]
    with record(model, *places) as seen:
        logits = model(torch.tensor([ids]))
    stages = [*_alike(seen.items()), Stage("logits", list(logits.shape), 1)]
    scores = logits[:, -1].float()
    had = sampling.seen([ids], model.vocab_size)
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


def _alike(outputs: Any) -> list[Stage]:
    """Places in the order they were left, those that differ in a number taken together."""
    found: dict[str, tuple[list[int], int]] = {}
    for name, output in outputs:
        tensor = output[0] if isinstance(output, tuple) else output
        if isinstance(tensor, Tensor):
            place = re.sub(r"\d+", "*", name)
            found[place] = (list(tensor.shape), found.get(place, ([], 0))[1] + 1)
    return [Stage(place, shape, times) for place, (shape, times) in found.items()]


def show(one: Step) -> None:
    """Three tables: what is read, what it becomes, what may follow."""
    console = Console(highlight=False)
    console.print(_table(("id", "token"), [(str(i), repr(word)) for i, word in zip(one.ids, one.words, strict=True)]))
    stages = [
        (stage.place, str(stage.shape), f"{stage.times} times" if stage.times > 1 else "") for stage in one.stages
    ]
    console.print(_table(("place", "shape", ""), stages))
    rows = [
        (str(c.id), repr(c.text), f"{c.logit:.2f}", f"{c.before:.1%}", f"{c.after:.1%}" if c.after else "left out")
        for c in one.candidates
    ]
    console.print(_table(("id", "candidate", "score", "probability", "drawn with"), rows))
    console.print(f"chosen: {one.chosen.id} {one.chosen.text!r}", markup=False)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*headings, box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))
    return table
