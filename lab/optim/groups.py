"""Which parameters an optimizer treats alike, and how a model's optimizer is made from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from lab.parts.classifier import Classifier, output_heads
from lab.parts.embedding import Embedding
from lab.parts.linear import named_matrices
from lab.parts.sparse import SparseClassifier

ROLES = ("hidden", "head", "table", "vector")
DECAYED = ("hidden", "head")


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """The parameters by role and width; norms, biases and embeddings without weight decay.

    Every group says

    - `role`: `hidden` (a matrix between two layers), `head` (scores the vocabulary or labels), `table` (embeddings, and with
      them a head tied to one) or `vector` (norms, biases);
    - `width`: the parameters' last size over the base width that muP gave the model (`lab.parts.init`), 1.0 under other
      initial values and where that size is a number of scores;
    - `matrices`, where they are hidden: of each parameter, the matrices that are merged in it, each as its size, strides and
      offset in the parameter.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    heads = {id(head.weight) for head in output_heads(model)}
    heads |= {id(module.table.weight) for module in model.modules() if isinstance(module, SparseClassifier)}
    scores = {id(parameter) for parameter in _of_scores(model)}
    base: Any = next((module.base_dim for module in model.modules() if hasattr(module, "base_dim")), None)

    def role(parameter: nn.Parameter) -> str:
        if id(parameter) in heads:
            return "head"
        if id(parameter) in tables:
            return "table"
        return "hidden" if parameter.ndim >= 2 else "vector"

    groups: dict[tuple[str, float], list[nn.Parameter]] = defaultdict(list)
    for parameter in model.parameters():
        width = parameter.shape[-1] / base if base and parameter.ndim and id(parameter) not in scores else 1.0
        groups[role(parameter), width].append(parameter)

    matrices = _matrices(model)
    return [
        {"params": parameters, "role": role, "width": width}
        | ({"matrices": [matrices[id(p)] for p in parameters]} if role == "hidden" else {})
        | ({} if role in DECAYED else {"weight_decay": 0.0})
        for (role, width), parameters in sorted(groups.items(), key=lambda item: (ROLES.index(item[0][0]), item[0][1]))
    ]


def _of_scores(model: nn.Module) -> Iterator[Tensor]:
    """Parameters with a number for each token of the vocabulary or each label, of which a wider model has no more."""
    for module in model.modules():
        if isinstance(module, Classifier | Embedding | SparseClassifier) and module.bias is not None:
            yield module.bias
        if isinstance(module, SparseClassifier):
            yield module.table.weight


def _matrices(model: nn.Module) -> dict[int, list[tuple[tuple[int, ...], tuple[int, ...], int]]]:
    """Of each parameter, by its id, where its matrices lie in it."""
    found = defaultdict(list)
    for _, matrix, _ in named_matrices(model):
        whole: Tensor = matrix if matrix._base is None else matrix._base
        offset = int(matrix.storage_offset() - whole.storage_offset())
        found[id(whole)].append((tuple(matrix.shape), matrix.stride(), offset))
    return found


def make_optimizer(groups: Iterable[dict[str, Any]], optimizer: Callable[..., Optimizer]) -> Optimizer:
    """The optimizer of parameter groups, with the rate that each has under muP (Yang and Hu 2022, Table 8).

    The rate at a width is the optimizer's own, its method `width_rate(role, width)`; one without is taken to be of Adam's
    type. What weight decay takes from a matrix in a step does not depend on its width.

    Args:
        groups: from `parameter_groups`.
        optimizer: called with them.
    """
    made = optimizer([dict(group) for group in groups])
    width_rate = getattr(made, "width_rate", adam_rate)
    for group in made.param_groups:
        rate = width_rate(group["role"], group["width"])
        group["lr"] *= rate
        group["weight_decay"] /= rate
        group["rate"] = rate
    # First comes a group at the rate that was asked for: that is the one a run reports.
    made.param_groups.sort(key=lambda group: group["rate"] != 1.0)
    return made


def adam_rate(role: str, width: float) -> float:
    """Where steps have the size of the rate whatever the gradient's: a sum over the inputs of a hidden matrix grows with
    their number, so its rate falls with it. Tables, vectors and the head keep theirs.
    """
    return 1 / width if role == "hidden" else 1.0
