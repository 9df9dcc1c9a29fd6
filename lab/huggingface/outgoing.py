"""A run folder becomes a folder of Hugging Face's format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from lab.config import meta_model
from lab.data.special import spelt
from lab.errors import RequestError
from lab.huggingface.alike import differences
from lab.huggingface.family import Family, Weight, families
from lab.huggingface.fields import CONFIG, Fields
from lab.huggingface.incoming import add_head, composed, made_whole
from lab.huggingface.weights import TYPES, Piece, Tensors, write_shards
from lab.models.encoder import Encoder
from lab.parts.embedding import BertEmbedding
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
        RequestError: no family can say what the model computes, the run has no weights or such as are no numbers, or the
            folder holds something.
    """
    target = Path(folder).expanduser()
    if not (run.folder / files.WEIGHTS).is_file():
        raise RequestError(f"{run.folder / files.WEIGHTS}: no weights; the run is {run.status}")
    if run.status == "diverged":
        run.check_weights()
    model = meta_model(run.config, run.tokenizer.vocab_size)
    family, fields = _fitting(run, model, model_type)
    with Tensors(run.folder / files.WEIGHTS.parent) as tensors, made_whole(target, "FOLDER") as made:
        if not family.adds_head and any(name.startswith(files.HEAD) for name in tensors.files):
            raise RequestError(
                f"{run.folder}: objective={run.config.choices.objective} added a head, for which model_type="
                f"{family.model_type} has no name"
            )
        pieces = [piece for weight in family.weights(model) for piece in _pieces(weight, tensors)]
        written = write_shards(made, pieces, shard)
        kind = str(TYPES[pieces[0].dtype]).removeprefix("torch.")
        _write(made / CONFIG, _of_the_file(run, family, kind) | fields)
        (made / files.TOKENIZER).write_bytes(_tokenizer(run, model))
        _write(made / "tokenizer_config.json", _tokenizer_fields(run, model))
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
        family = _with_the_head(families()[name], run)
        fields, differing = _try(family, run, model)
        if not differing:
            return family, fields
        obstacles[name] = {_choice(run, path): words for path, words in reversed(differing)}
    nearest = min(obstacles, key=lambda name: (NOT_SAID in obstacles[name], len(obstacles[name])))
    shown = "; ".join(f"{choice} ({words})" for choice, words in reversed(obstacles[nearest].items()))
    whose = f"model_type={nearest}" + ("" if model_type else ", the nearest,")
    raise RequestError(f"{run.folder}: no class of transformers computes this; {whose} has another {shown}")


def _with_the_head(family: Family, run: Run) -> Family:
    """The family with the head that a run was trained for; with its first one if it has no such head."""
    asked = run.config.choices.objective
    return family.of(
        next((name for name, head in family.heads.items() if head.objective == asked), family.architecture)
    )


def _try(family: Family, run: Run, model: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The fields of a family for a model, and where what they compose is another one."""
    if type(model) is not family.built:
        return {}, [(NOT_SAID, f"{type(model).__name__} here, {family.built.__name__} there")]
    labels = run.result.get("labels", ())
    if family.adds_head:
        add_head(model, run.config, labels)
    fields = family.write(model)
    try:
        config = composed(family.words(Fields(fields)))
        twin = meta_model(config, 1)
    except RequestError as error:
        return fields, [(NOT_SAID, str(error))]
    if family.adds_head:
        add_head(twin, config, labels)
    if getattr(twin.embedding, "headless", False) and isinstance(model.embedding, BertEmbedding):
        model.embedding.remove_head()  # which the objective leaves alone
    found = differences(model, twin)
    pools = [of.objective.get("pool") for of in (run.config, config)]
    if family.head and family.head.labels and pools[0] != pools[1]:
        found.append(("objective", f"pool {pools[0]} here, {pools[1] or 'what the family does'} there"))
    return fields, found


def _choice(run: Run, path: str) -> str:
    """The choice that a place in the model comes from."""
    if path == NOT_SAID:
        return NOT_SAID
    if not path or path.startswith(("pooler", "segments")):
        return f"model={run.config.choices.model}"
    if path.startswith("objective"):
        return f"objective={run.config.choices.objective}"
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
            return weight.there(tensors[weight.ours][start:stop])

        yield Piece(name, shape, tensors.dtypes[weight.ours], parts)
        at += rows


def _of_the_file(run: Run, family: Family, kind: str) -> dict[str, Any]:
    """Fields that say nothing of what is computed."""
    return {
        "architectures": [family.architecture],
        **_label_fields(run, family),
        **family.write_tokens(run.tokenizer),
        "model_type": family.model_type,
        "dtype": kind,
    }


def _label_fields(run: Run, family: Family) -> dict[str, Any]:
    if family.head is None or not family.head.labels:
        return {}
    labels = run.result["labels"]
    return {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}


def _tokenizer(run: Run, model: Any) -> bytes:
    """The file of the tokenizer. One that was made here frames texts there as the lab does; a published one stays as it is."""
    content = (run.folder / files.TOKENIZER).read_bytes()
    if run.config.choices.tokenizer == "pretrained":
        return content
    numbers = {role: run.tokenizer.id(role) for role in model.frame if role}
    begin, between, end = ([run.tokenizer.spelt(numbers[role])] if role else [] for role in model.frame)
    inner = tokenizers.Tokenizer.from_buffer(content)
    inner.post_processor = TemplateProcessing(
        single=[*begin, "$A", *end],
        pair=[*begin, "$A", *between, "$B:1", *(f"{token}:1" for token in end)],
        special_tokens=[(run.tokenizer.spelt(number), number) for number in sorted(set(numbers.values()))],
    )
    return inner.to_str(pretty=True).encode()


def _tokenizer_fields(run: Run, model: Any) -> dict[str, Any]:
    """What `AutoTokenizer` reads beside `tokenizer.json`."""
    names = {number: token for token, number in run.tokenizer.specials.items()}
    roles = {"pad": "pad", "unk": "unknown"}
    if isinstance(model, Encoder):
        roles |= {"cls": "cls", "sep": "sep", "mask": "mask"}
    played = {f"{name}_token": spelt(role, run.tokenizer.specials) for name, role in roles.items()}
    segments = ["token_type_ids"] if getattr(model, "segments", None) is not None else []
    return {name: token for name, token in played.items() if token is not None} | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": names[run.tokenizer.document_id],
        "eos_token": names[run.tokenizer.id("end")],
        "model_input_names": ["input_ids", *segments, "attention_mask"],
        "model_max_length": run.config.model.context,
    }


def _write(path: Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(dict(sorted(fields.items())), indent=2) + "\n", encoding="utf-8")
