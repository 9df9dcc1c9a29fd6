"""Which parameters an optimizer treats alike."""

from __future__ import annotations

from torch import nn


def parameter_groups(model: nn.Module) -> list[dict]:
    """Two groups: matrices, with the optimizer's own weight decay; norms, biases and embeddings, without.

    A head tied to the embedding is an embedding.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for parameter in model.parameters():
        matrix = parameter.ndim >= 2 and id(parameter) not in embeddings
        (decayed if matrix else kept).append(parameter)
    return [{"params": decayed}, {"params": kept, "weight_decay": 0.0}]
