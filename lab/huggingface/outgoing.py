"""A run folder becomes a folder of Hugging Face's format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lab.data.special import spelt
from lab.errors import RequestError
from lab.huggingface.alike import differences
from lab.huggingface.family import Family, Weight, families
from lab.huggingface.fields import CONFIG, Fields
from lab.huggingface.incoming import composed, made_whole, meta_model
from lab.huggingface.weights import TYPES, Piece, Tensors, write_shards
from lab.runs import folder as files
from lab.runs.folder import Run

SHARD = 5 * 10**9
"""Bytes of a file of weights, at most, unless asked otherwise."""

NOT_SAID = "model"
"""The place of a difference that is none of one part: a family has no words for the model."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where.
        model_type: the family.
        files: the weights.
    """

    folder: Path
    model_type: str
    files: list[str]


def give_out(run: Run, folder: str | Path, model_type: str | None = None, shard: int = SHARD) -> Exported:
    """Write the model of a run as transformers reads it.

    Args:
        run: finished, or at least with weights.
        folder: where it goes; new or empty.
        model_type: the family to write; by default the one that the run was imported as, or the first that fits.
        shard: bytes of a file, at most.

    Raises:
        RequestError: no family can say what the model computes, the run has no weights, or the folder holds something.
    """
    target = Path(folder).expanduser()
    if not (run.folder / files.WEIGHTS).is_file():
        raise RequestError(f"{run.folder / files.WEIGHTS}: no weights; the run is {run.status}")
    model = meta_model(run.config, run.tokenizer.vocab_size)
    family, fields = _fitting(run, model, model_type)
    with Tensors(run.folder / files.WEIGHTS.parent) as tensors, made_whole(target, "FOLDER") as made:
        pieces = [piece for weight in family.weights(model) for piece in _pieces(weight, tensors)]
        written = write_shards(made, pieces, shard)
        kind = str(TYPES[pieces[0].dtype]).removeprefix("torch.")
        _write(made / CONFIG, _of_the_file(run, family, kind) | fields)
        (made / files.TOKENIZER).write_bytes((run.folder / files.TOKENIZER).read_bytes())
        _write(made / "tokenizer_config.json", _tokenizer_fields(run))
    return Exported(target, family.model_type, written)


def _fitting(run: Run, model: Any, model_type: str | None) -> tuple[Family, dict[str, Any]]:
    """The family that says what a model computes, and its fields.

    Raises:
        RequestError: there is none, with what is in the way of the nearest one.
    """
    if model_type is not None and model_type not in families():
        raise RequestError(f"--family: {model_type}; choose from {', '.join(families())}")
    origin = (run.result.get("imported") or {}).get("model_type")
    names = [model_type] if model_type else sorted(families(), key=lambda name: name != origin)
    obstacles: dict[str, dict[str, str]] = {}
    for name in names:
        fields, differing = _try(families()[name], model)
        if not differing:
            return families()[name], fields
        obstacles[name] = {_choice(run, path): words for path, words in reversed(differing)}
    nearest = min(obstacles, key=lambda name: (NOT_SAID in obstacles[name], len(obstacles[name])))
    shown = "; ".join(f"{choice} ({words})" for choice, words in reversed(obstacles[nearest].items()))
    whose = f"model_type={nearest}" + ("" if model_type else ", the nearest,")
    raise RequestError(f"{run.folder}: no class of transformers computes this; {whose} has another {shown}")


def _try(family: Family, model: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The fields of a family for a model, and where what they compose is another one."""
    if type(model) is not family.built:
        return {}, [(NOT_SAID, f"{type(model).__name__} here, {family.built.__name__} there")]
    fields = family.write(model)
    try:
        twin = meta_model(composed(family.words(Fields(fields))), 1)
    except RequestError as error:
        return fields, [(NOT_SAID, str(error))]
    return fields, differences(model, twin)


def _choice(run: Run, path: str) -> str:
    """The choice that a place in the model comes from."""
    if path == NOT_SAID:
        return NOT_SAID
    if not path:
        return f"model={run.config.choices.model}"
    places = ("visibility", "attention", "cross", "ffn", "position", "embedding")
    last = path.split(".")
    group = next((part for part in reversed(last) if part in places), "block")
    group = "norm" if any(part.endswith("norm") for part in last) else group
    group = {"visibility": "pattern", "cross": "attention"}.get(group, group)
    return f"{group}={run.config.choices[group]}"


def _pieces(weight: Weight, tensors: Tensors) -> Iterator[Piece]:
    """Their tensors from one of ours."""
    at = 0
    for (name, shape), rows in zip(weight.shapes().items(), weight.rows, strict=True):

        def parts(start: int = at, stop: int = at + rows) -> list[Tensor]:
            found = tensors[weight.ours][start:stop]
            return [found.new_zeros(weight.skipped, *found.shape[1:]), found.T if weight.transposed else found]

        yield Piece(name, shape, tensors.dtypes[weight.ours], parts)
        at += rows


def _of_the_file(run: Run, family: Family, kind: str) -> dict[str, Any]:
    """Fields that say nothing of what is computed."""
    return {
        "architectures": [family.architectures[0]],
        **family.write_tokens(run.tokenizer),
        "model_type": family.model_type,
        "dtype": kind,
    }


def _tokenizer_fields(run: Run) -> dict[str, Any]:
    """What `AutoTokenizer` reads beside `tokenizer.json`."""
    names = {number: token for token, number in run.tokenizer.specials.items()}
    pad = spelt("pad", run.tokenizer.specials)
    return ({} if pad is None else {"pad_token": pad}) | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": names[run.tokenizer.document_id],
        "eos_token": names[run.tokenizer.id("end")],
        "model_max_length": run.config.model.context,
    }


def _write(path: Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(dict(sorted(fields.items())), indent=2) + "\n", encoding="utf-8")
