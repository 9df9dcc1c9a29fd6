"""What a model of any family reads: the tokens of a text, or of a source and its target; and a pass over a batch of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from lab.errors import RequestError

if TYPE_CHECKING:
    from lab.runs.folder import Run

Sides = dict[str, list[int]]
"""Tokens of the `text`; or for an encoder-decoder of `source`, `target`, and what is `written` after each of the target."""


def sides(run: Run, text: str, target: str | None = None) -> Sides:
    """A text with the tokens that stand around one.

    Args:
        run: of any family.
        text: what the model reads; of an encoder-decoder the source.
        target: of an encoder-decoder; by default what it writes by itself.

    Raises:
        RequestError: a text that is empty, too long for the model or not to be represented, a target for a model that has none.
    """
    from lab.runs.subject import encoded
    from lab.runs.translate import targets

    check_target(run, target)
    model: Any = run.model
    if model.family != "encoder_decoder":
        before, after = around(run)
        return {"text": [*before, *encoded(run, text, model.context - len(before) - len(after)), *after]}
    begin, end = run.tokenizer.document_id, run.tokenizer.id("end")
    source = encoded(run, text, model.context - 1)
    if target is None:
        (written,) = targets(run, [text])
    else:
        written = encoded(run, target, model.context - 1, "--target")
    return {"source": [*source, end], "target": [begin, *written], "written": [*written, end]}


def around(run: Run) -> tuple[list[int], list[int]]:
    """The special tokens before a text that a model reads, and after it: as the frame of its family, but that what a decoder
    continues follows `Run.begin`.
    """
    begin, _, end = ([] if role is None else [run.tokenizer.id(role)] for role in run.outline.frame)
    return run.begin if run.outline.frame[0] == "document" else begin, end


def check_target(run: Run, target: str | None) -> None:
    """Raises `RequestError` for a target that is given to a model which has none."""
    if target is not None and run.outline.family != "encoder_decoder":
        raise RequestError(f"--target: of encoder-decoders; {run.folder} holds model={run.config.choices.model}")


def hidden(model: Any, batch: Any) -> Tensor:
    """`[rows, time, dim]`, what would enter the head over a `Batch`, or over a `PairBatch` at the tokens of its targets."""
    if model.family == "encoder_decoder":
        return model.hidden(batch.source, batch.tokens, batch.source_layout, batch.layout)
    return model.vectors(batch.tokens, batch.layout, batch.segments)
