"""A folder of Hugging Face's format becomes a run folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from lab.atomic import write_atomically
from lab.config import compose, construct, meta_model, trusted
from lab.data.tokenizers import Tokenizer
from lab.errors import RequestError
from lab.huggingface.family import Family, Weight, family_of
from lab.huggingface.fields import Fields
from lab.huggingface.weights import TYPES, Piece, Span, Tensors, unlike, write
from lab.models.shapes import without_memory
from lab.runs import folder as files
from lab.runs.folder import Run
from lab.runs.signals import interrupting


def take_in(source: str | Path, into: str | Path | None = None) -> Run:
    """Make a run folder of a folder that transformers wrote: `config.json`, safetensors, `tokenizer.json`.

    Args:
        source: the folder.
        into: where the run goes; by default a new folder under `runs/`.

    Raises:
        RequestError: a file is missing or damaged, the family or a field is not supported, a tensor is missing, extra or
            of another shape, or `into` holds something.
    """
    source = Path(source).expanduser()
    if not source.is_dir():
        raise RequestError(f"{source}: no such folder")
    fields = Fields.load(source)
    family = family_of(fields)
    with Tensors(source) as tensors:
        path, tokenizer = _tokenizer(source)
        family.settle(fields, tensors, tokenizer)
        labels = family.labels(fields)
        words = family.words(fields)
        rows, tokens = table_rows(words), max(tokenizer.inner.get_vocab(with_added_tokens=True).values()) + 1
        if tokens > rows:
            raise RequestError(f"{path}: has {tokens} tokens, and config.json says vocab_size={rows}")
        try:
            target = Path(into).expanduser() if into else files.new_folder(composed(words))
            config = composed(words, str((target / files.TOKENIZER).absolute()))
            model = meta_model(config, tokens)
        except RequestError as error:
            raise RequestError(f"{fields.place}: {error}") from None
        if family.adds_head:
            add_head(model, config, labels)
        with made_whole(target, "--into") as made:
            (made / files.WEIGHTS.parent).mkdir()
            write(made / files.WEIGHTS, _pieces(family, model, tensors))
            shutil.copyfile(path, made / files.TOKENIZER)
            files.write_config(made, config)
            origin = {"folder": str(source.absolute()), "model_type": family.model_type}
            _write_result(made, config, model, tokens, {"imported": origin, **({"labels": labels} if labels else {})})
    return files.load(target)


def add_head(model: Any, config: DictConfig, labels: Sequence[str]) -> None:
    """Put the head that an objective adds, if any, into a model without memory, where a record has it."""
    known = SimpleNamespace(labels=labels, tokenizer=None)
    with without_memory():
        head = construct(config, "objective", model=model, optimizer=None, prepared=known).head
    if head is not None:
        construct(config, "init").multiply(head)
    attach(model, head)


def attach(model: Any, head: nn.Module | None) -> None:
    """Put a head into a model as `objective.head`, its name in a record."""
    if head is not None:
        model.objective = nn.ModuleDict({"head": head})


def composed(words: Sequence[str], tokenizer: str = "there") -> DictConfig:
    """The configuration of the words of a family, with a tokenizer that exists."""
    path = tokenizer.replace("\\", "\\\\").replace("'", "\\'")
    return compose(
        *words, "tokenizer=pretrained", f"tokenizer.path='{path}'", f"tokenizer.vocab_size={table_rows(words)}"
    )


def table_rows(words: Sequence[str]) -> int:
    """How many tokens the words of a family make room for."""
    return next(int(word.partition("=")[2]) for word in words if word.startswith("embedding.rows="))


def _tokenizer(source: Path) -> tuple[Path, Tokenizer]:
    """The file, and what it holds."""
    path = source / files.TOKENIZER
    if not path.is_file():
        raise RequestError(
            f"{source}: has no {files.TOKENIZER}; transformers' "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) writes it"
        )
    return path, Tokenizer.load(path)


@contextmanager
def made_whole(target: Path, key: str) -> Iterator[Path]:
    """A folder that appears at its place when all is in it."""
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise RequestError(f"{key}: {target} is there already; choose another")
    files.create(target.parent, key)
    try:
        made = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise RequestError(f"{key}: {target} cannot be written ({error.strerror or error})") from None
    try:
        with interrupting():
            yield made
        made.chmod(0o755)
        made.replace(target)
    except OSError as error:
        raise RequestError(f"{key}: {target} cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _pieces(family: Family, model: Any, tensors: Tensors) -> list[Piece]:
    """The tensors of our file.

    Raises:
        RequestError: a tensor is missing, extra, of another shape or kind.
    """
    weights = list(family.weights(model))
    expected = {name: shape for weight in weights for name, shape in weight.shapes().items()}
    called = _called(family, tensors, expected)
    problems = list(unlike({name: tensors.shapes[there] for name, there in called.items()}, expected))
    if problems:
        more = f" (and {len(problems) - 1} more)" if problems[1:] else ""
        raise RequestError(f"{tensors.folder}: {problems[0]}{more}")
    for there in called.values():
        if tensors.dtypes[there] not in TYPES:
            raise RequestError(
                f"{tensors.folder}: {there} is {tensors.dtypes[there]}; the lab reads {', '.join(TYPES)}"
            )
    return [_piece(weight, called, tensors) for weight in weights]


def _called(family: Family, tensors: Tensors, expected: dict[str, Any]) -> dict[str, str]:
    """What each tensor of the folder is called where the class is the one that is read, and its name there: classes with a
    head begin names with the family's base, and the body alone does not.
    """
    bare = not any(name.startswith(family.base) for name in tensors.files)
    called = {}
    for name in tensors.files:
        full = name
        for old, new in family.spelt.items():
            full = full.removesuffix(old) + new if full.endswith(old) else full
        full = f"{family.base}{full}" if bare and f"{family.base}{full}" in expected else full
        full = full.removeprefix(family.base) if full.removeprefix(family.base) in expected else full
        derived = full not in expected and family.derived is not None and family.derived.search(full)
        if not derived and not _repeats_the_table(full, name, expected, tensors):
            called[full] = name
    return called


def _repeats_the_table(full: str, name: str, expected: dict[str, Any], tensors: Tensors) -> bool:
    """Whether this is a head that is tied, or the table of a stack, and was written all the same."""
    if full in expected or not name.endswith(
        ("lm_head.weight", "decoder.weight", "projector.weight", "embed_tokens.weight")
    ):
        return False
    tables = [other for other in tensors.files if tensors.shapes[other] == tensors.shapes[name] and other != name]
    return any(torch.equal(tensors[other], tensors[name]) for other in tables)


def _piece(weight: Weight, called: dict[str, str], tensors: Tensors) -> Piece:
    there = [called[name] for name in weight.theirs]
    kinds = sorted({tensors.dtypes[name] for name in there})
    if len(kinds) > 1:
        raise RequestError(f"{tensors.folder}: {', '.join(there)} are merged here, and are {' and '.join(kinds)} there")

    def parts() -> Iterator[Tensor | Span]:
        for name in there:
            yield tensors.span(name) if weight.alike else weight.here(tensors[name])

    return Piece(weight.ours, weight.shape, kinds[0], parts)


def _write_result(made: Path, config: DictConfig, model: Any, tokens: int, facts: dict[str, Any]) -> None:
    """What is known of a run that was trained elsewhere; the rest is null."""
    from lab.runs.train import new_record

    objective: Any = trusted("objective._target_", config.objective._target_)
    result = new_record(config) | {
        "status": "finished",
        "headline": dict(objective.headline),
        "parameters": model.parameters_total,
        "parameters_active": model.parameters_active,
        "vocab_size": tokens,
        **facts,
        **dict.fromkeys(("data_fingerprint", "start", "flops", "tokens_seen", "steps", "tokens_per_second")),
        **dict.fromkeys(("peak_memory_bytes", "seconds", "threads")),
    }
    write_atomically(made / files.RESULT, json.dumps(files.finite(result), indent=2) + "\n")
