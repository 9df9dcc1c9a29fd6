"""A family of published models: its configuration in words of the lab and back, and the names of its tensors."""

from __future__ import annotations

import copy
import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

from torch import Tensor, nn

from lab.data.tokenizers import Tokenizer
from lab.errors import RequestError
from lab.huggingface import families as package
from lab.huggingface.fields import Fields
from lab.huggingface.weights import Tensors
from lab.models.decoder import Decoder
from lab.models.encoder_decoder import EncoderDecoder
from lab.models.model import Model
from lab.parts.activation import ACTIVATIONS as IN_USE
from lab.parts.linear import Merged

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu_squared",
    "silu": "silu",
    "swish": "silu",
}
"""Activations by their names there, and here."""


@dataclass(frozen=True)
class Weight:
    """A tensor of ours, and those of theirs that it is made of.

    Attributes:
        ours: its name in the model.
        shape: its shape.
        theirs: their names, one after the other along the first dimension.
        rows: how much of it each of them is.
        transposed: theirs are turned around.
        skipped: rows of theirs before ours.
        flipped: theirs have their rows in the opposite order.
    """

    ours: str
    shape: tuple[int, ...]
    theirs: tuple[str, ...]
    rows: tuple[int, ...]
    transposed: bool = False
    skipped: int = 0
    flipped: bool = False

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each of theirs."""
        each = [(rows + self.skipped, *self.shape[1:]) for rows in self.rows]
        return {n: s[::-1] if self.transposed else s for n, s in zip(self.theirs, each, strict=True)}

    @property
    def alike(self) -> bool:
        """Theirs hold the very bytes of ours."""
        return not (self.transposed or self.skipped or self.flipped)

    def here(self, theirs: Tensor) -> Tensor:
        """One of theirs, or its gradient, as ours holds it."""
        kept = theirs.T if self.transposed else theirs[self.skipped :]
        return kept.flip(0) if self.flipped else kept

    def there(self, ours: Tensor) -> list[Tensor]:
        """The rows of ours that one of theirs holds as it does, in parts."""
        kept = ours.flip(0) if self.flipped else ours
        return [ours.new_zeros(self.skipped, *ours.shape[1:]), kept.T if self.transposed else kept]


@dataclass(frozen=True)
class Head:
    """A published class: what it puts on the body that its family shares, and the run that it becomes.

    Attributes:
        objective: of the run.
        words: what it takes beside.
        names: as those of a family.
        labels: it scores the classes of `id2label`.
        dropout: the field of the dropout before it; none, or a field that is null, for the model's.
        flipped: modules whose rows stand there in the opposite order.
        bare: the class is the body itself, whose names do not begin with the family's `base`.
    """

    objective: str
    words: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    labels: bool = False
    dropout: str | None = None
    flipped: tuple[str, ...] = ()
    bare: bool = False


class Family:
    """A family of published models.

    Attributes:
        model_type: what `config.json` calls it.
        architectures: classes of transformers whose weights are read; the first is the one that is written, unless a run
            asks for the head of another.
        heads: of a family whose classes differ in their heads, what is known of each class.
        base: what names of tensors begin with, which checkpoints without a head leave off.
        sizes: fields of `config.json` that are one word of ours each, and the word.
        defaults: of those fields, where they are missing; null for what a family finds out itself.
        names: modules of the lab's model and what they are called there, layers numbered `{}`. A merged map has a line for
            each of its pieces, or one for all.
        built: the lab's class for its models.
        transposed: names there of matrices that are kept turned around.
        derived: names there of tensors that hold nothing trained.
        skipped: rows that a module's tensor has there before those that it has here.
        spelt: endings of names in old files, and what they are now.
        ignored: fields of `config.json` that do not change what is computed, each with a reason.
        steady: generating there with a cache computes what generating without one does.
        small: fields of a model for tests, beyond which `variants` go, by what they are called.
    """

    model_type: ClassVar[str]
    architectures: ClassVar[tuple[str, ...]]
    heads: ClassVar[Mapping[str, Head]] = {}
    base: ClassVar[str]
    sizes: ClassVar[Mapping[str, str]]
    defaults: ClassVar[Mapping[str, Any]]
    names: ClassVar[Mapping[str, str]]
    built: ClassVar[type[Model]] = Decoder
    transposed: ClassVar[re.Pattern[str] | None] = None
    derived: ClassVar[re.Pattern[str] | None] = None
    skipped: ClassVar[Mapping[str, int]] = {}
    spelt: ClassVar[Mapping[str, str]] = {}
    ignored: ClassVar[Mapping[str, str]] = {}
    steady: ClassVar[bool] = True
    small: ClassVar[Mapping[str, Any]]
    variants: ClassVar[Mapping[str, Mapping[str, Any]]]

    def __init__(self) -> None:
        self.architecture = self.architectures[0]

    @property
    def head(self) -> Head | None:
        """Of the class that is read or written."""
        return self.heads.get(self.architecture)

    @property
    def adds_head(self) -> bool:
        """The class has what an objective adds to a model."""
        return self.head is not None and "objective.head" in self.head.names

    def of(self, architecture: str) -> Family:
        """The same family with the head of another class."""
        made = copy.copy(self)
        made.architecture = architecture
        return made

    def read(self, fields: Fields) -> list[str]:
        """The words that compose the model of a `config.json`.

        Raises:
            RequestError: a field says what the lab does not have.
        """
        raise NotImplementedError

    def write(self, model: Any) -> dict[str, Any]:
        """The fields of a model, if it is of this family; whether it is shows when they are read again."""
        raise NotImplementedError

    def read_sizes(self, fields: Fields) -> dict[str, Any]:
        """What `sizes` say, by our words.

        Raises:
            RequestError: a value of another kind than the default's.
        """
        return {ours: fields.take(theirs, self.defaults[theirs]) for theirs, ours in self.sizes.items()}

    def write_sizes(self, model: Any) -> dict[str, Any]:
        """The fields of `sizes`."""
        known = sizes_of(model)
        return {theirs: known[ours] for theirs, ours in self.sizes.items()}

    def settle(self, fields: Fields, tensors: Tensors, tokenizer: Tokenizer) -> None:
        """Put right what only the weights or the tokenizer can tell, before the fields are read.

        Raises:
            RequestError: the fields and the tokenizer disagree.
        """

    def write_tokens(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """The fields of special tokens."""
        return {
            "bos_token_id": tokenizer.document_id,
            "eos_token_id": tokenizer.id("end"),
            "pad_token_id": None,
        }

    @property
    def causal(self) -> bool:
        """Whether its models are decoders alone."""
        return self.built is Decoder

    def labels(self, fields: Fields) -> tuple[str, ...]:
        """The classes that the head scores; none where it scores none.

        Raises:
            RequestError: they are not numbered, or one of them alone, which is a regression.
        """
        if self.head is None or not self.head.labels:
            return ()
        number = fields.size("num_labels", 2)
        names = fields.left.pop("id2label", None) or {str(i): f"LABEL_{i}" for i in range(number or 2)}
        found = [names.get(str(i)) for i in range(len(names))] if isinstance(names, dict) else []
        if not all(isinstance(name, str) for name in found) or len(set(found)) < max(2, len(found)):
            fields.refuse("id2label", names, "expected names of at least two classes, numbered from 0, all different")
        fields.only("problem_type", [None, "single_label_classification"], "the lab's texts have one label each")
        return tuple(map(str, found))

    def fields(self, variant: str) -> dict[str, Any]:
        """Of a model for tests."""
        return {**self.small, **self.variants[variant]}

    def words(self, fields: Fields) -> list[str]:
        """As `read`, with nothing left over.

        Raises:
            RequestError: a field that the lab does not have or does not know.
        """
        fields.ignored |= self.ignored
        for name in fields.left.get("architectures") or []:
            if name not in self.architectures:
                fields.refuse("architectures", [name], f"of this family the lab has {', '.join(self.architectures)}")
        fields.only("is_encoder_decoder", [self.built is EncoderDecoder], "this family is otherwise")
        fields.only("pruned_heads", [{}, None], "the lab's layers have all of their heads")
        words = self.read(fields)
        fields.finish()
        return words

    def weights(self, model: nn.Module) -> Iterator[Weight]:
        """Every tensor of a model with what it is called there.

        Raises:
            RequestError: a tensor that this family has no name for.
        """
        for path, module in model.named_modules():
            tensors = [*module.named_parameters(recurse=False), *_persistent(module)]
            for kind, tensor in tensors:
                yield self._weight(path, module, kind, tensor)

    def _weight(self, path: str, module: nn.Module, kind: str, tensor: Tensor) -> Weight:
        pieces = {"": tensor.shape[0] if tensor.ndim else 1}
        name = self._named(path)
        if name is None and isinstance(module, Merged):
            pieces = dict(module.outputs)
        theirs = [self._named(f"{path}.{piece}") if piece else name for piece in pieces]
        if None in theirs:
            raise RequestError(f"{path}.{kind}: {self.model_type} has no such tensor")
        full = tuple(f"{base}.{kind}" for base in theirs)
        turned = bool(self.transposed and tensor.ndim == 2 and self.transposed.search(full[0]))
        return Weight(
            f"{path}.{kind}",
            tuple(tensor.shape),
            full,
            tuple(pieces.values()),
            turned,
            self.skipped.get(path, 0),
            self.head is not None and path in self.head.flipped,
        )

    def _named(self, path: str) -> str | None:
        numbers = re.findall(r"(?<=\.)\d+(?=\.|$)", path)
        names = {**self.names, **(self.head.names if self.head else {})}
        found = names.get(re.sub(r"(?<=\.)\d+(?=\.|$)", "{}", path))
        if found is not None and self.head is not None and self.head.bare:
            found = found.removeprefix(self.base)
        return None if found is None else found.format(*numbers)


def _persistent(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Buffers that a state has."""
    for name, buffer in module.named_buffers(recurse=False):
        if name not in module._non_persistent_buffers_set:
            yield name, buffer


def sizes_of(model: Any) -> dict[str, Any]:
    """The sizes of a model of blocks, by the words that set them; of what it lacks, what a published model would have."""
    stack = getattr(model, "encoder", model)
    block, embedding = stack.blocks[0], model.embedding
    attention, feed_forward = block.attention, getattr(block.ffn, "experts", [block.ffn])[0]
    return {
        "model.dim": model.dim,
        "model.layers": len(stack.blocks),
        "model.heads": attention.heads,
        "model.head_dim": stack.position.head_dim,
        "model.inner": getattr(feed_forward, "inner", 1),
        "model.context": model.context,
        "model.dropout": block.dropout.p,
        "attention.dropout": attention.dropout,
        "embedding.rows": embedding.table.num_embeddings,
        "embedding.dropout": embedding.dropout.p,
        "embedding.tied": embedding.head is None,
        "norm.eps": getattr(block.attention_norm, "eps", 1e-5),
    }


def said(words: Mapping[str, Any]) -> list[str]:
    """Words and their values as they are typed."""
    return [f"{word}={str(value).lower() if isinstance(value, bool) else value}" for word, value in words.items()]


@cache
def families() -> dict[str, Family]:
    """Every family, by its `model_type`."""
    found: dict[str, Family] = {}
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for item in vars(importlib.import_module(info.name)).values():
            if isinstance(item, type) and issubclass(item, Family) and item.__module__ == info.name:
                found[item.model_type] = item()
    return dict(sorted(found.items()))


def family_of(fields: Fields) -> Family:
    """The family that a `config.json` names.

    Raises:
        RequestError: it is not supported.
    """
    name = fields.left.get("model_type")
    if not isinstance(name, str) or name not in families():
        fields.refuse("model_type", name, f"the lab reads {', '.join(families())}")
    family = families()[name]
    named = fields.left.get("architectures") or []
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        fields.refuse("architectures", named, "a list of names is expected")
    return family.of(named[0]) if named and named[0] in family.heads else family


def written(layer: Any, names: Mapping[str, str] = ACTIVATIONS) -> str:
    """The name there of a feed-forward layer's activation; that of another layer shows as another."""
    used = getattr(layer, "activation", None)
    return next((theirs for theirs, name in names.items() if IN_USE[name] == used), next(iter(names)))
