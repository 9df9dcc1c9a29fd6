"""Linear maps, alone and several of one input as one matrix product."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from lab.parts.kernels import linear


class Linear(nn.Linear):
    """A linear map by the machine's fastest product.

    Shapes: `[..., inputs] -> [..., outputs]`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`x @ weight.T + bias`."""
        return linear(x, self.weight, self.bias)


class Merged(Linear):
    """Linear maps of the same input, merged row-wise into one weight because one large product beats several small.

    Each keeps its name, so that initialisation and matrix-wise optimizers still treat it as a matrix of its own.

    Shapes: `[..., inputs] -> [..., sum(outputs)]`.
    """

    def __init__(self, inputs: int, outputs: dict[str, int], bias: bool = False) -> None:
        super().__init__(inputs, sum(outputs.values()), bias=bias)
        self.outputs = dict(outputs)

    def pieces(self, parameter: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
        """Name and rows of each merged map, as views of the weight, or of the parameter named."""
        whole = self.weight if parameter is None else parameter
        return zip(self.outputs, whole.split(list(self.outputs.values())), strict=True)


def named_matrices(model: nn.Module) -> Iterator[tuple[str, Tensor, nn.Module]]:
    """Every weight of two or more dimensions: its name, the tensor (a view where maps are merged), its module."""
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{path}.{name}" if path else name
            if parameter.ndim < 2:
                continue
            if hasattr(module, "pieces"):  # several merged
                for piece, rows in module.pieces(parameter):
                    yield f"{path}.{piece}.{name}", rows, module
            else:
                yield full, parameter, module


def costed(key: str, part: nn.Module) -> nn.Module:
    """A part of a model that says what it costs, as each is asked before anything is trained.

    Raises:
        TypeError: it has no `flops`.
    """
    if not callable(getattr(part, "flops", None)):
        raise TypeError(
            f"{key}: {type(part).__name__} has no flops(lengths), which gives its forward FLOPs on documents of these lengths"
        )
    return part


def matmul_flops(module: nn.Module) -> int:
    """FLOPs per token of the linear maps inside: 2 for each weight (one multiplication, one addition)."""
    return sum(2 * m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))


def count(module: nn.Module) -> int:
    """Parameters inside, each counted once."""
    return sum(p.numel() for p in module.parameters())
