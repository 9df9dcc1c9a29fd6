"""Products with few rows and the same weights again and again, as they come while a model generates.

Such a product waits for the weight to be read. In the layout that training wants, torch's products read it at a fraction of
what memory gives; so each weight is kept a second time, in the layout that its product reads from one end to the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from lab.parts import onednn

FEW = 64
"""Rows of a product up to which a weight is worth laying out for it."""

LARGE = 1 << 14
"""Numbers in a weight from which on that pays."""

INTEL_LARGE, INTEL_ROWS = 1 << 20, 4
"""The same where MKL is at home, and rows from which on: it reads smaller weights, and larger ones for fewer rows, as fast."""

MOST = 1 << 30
"""Bytes that weights may take to be kept in other layouts as well, which costs as much again for each of the two."""

EXPECTED = 128
"""Rows that oneDNN is told to expect when it chooses a layout; of those tried it serves 2 rows and 64 best."""


class Repeated:
    """A weight, `[outputs, inputs]`, and its other layouts, each made when it is needed the second time."""

    def __init__(self) -> None:
        self.users = 0
        self._version = -1
        self._uses = {False: 0, True: 0}
        self._laid_out: dict[bool, Turned | Blocked] = {}

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        """`x @ weight.T + bias`, of `[..., inputs]`, or none where another way is as good."""
        rows = x.numel() // x.shape[-1]
        single = rows == 1
        if rows > FEW or x.dtype != torch.float32 or (rows < INTEL_ROWS and onednn.intel()):
            return None
        if self._version != weight._version:
            self.forget()
            self._version = weight._version
        laid_out = self._laid_out.get(single)
        if laid_out is None:
            self._uses[single] += 1
            if self._uses[single] < 2:
                return None
            laid_out = self._laid_out[single] = Turned(weight) if single else Blocked(weight)
        out = laid_out.product(x)
        return out if bias is None else out + bias

    def forget(self) -> None:
        """The weight has changed."""
        self._laid_out.clear()


class Blocked:
    """A weight as oneDNN's own loops read it."""

    def __init__(self, weight: Tensor) -> None:
        self.blocks = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), EXPECTED)

    def product(self, x: Tensor) -> Tensor:
        """`x @ weight.T`."""
        return torch.ops.mkldnn._linear_pointwise(x, self.blocks, None, "none", [], "")


class Turned:
    """A weight of which what each input gives to the outputs stands together, in as many parts as there are cores: torch gives
    a product of one row to a single core, and each product of a batch to another.
    """

    def __init__(self, weight: Tensor) -> None:
        cores = torch.get_num_threads()
        self.parts = cores if len(weight) % cores == 0 else 1
        self.given = weight.detach().unflatten(0, (self.parts, -1)).mT.contiguous()

    def product(self, x: Tensor) -> Tensor:
        """`x @ weight.T`."""
        return torch.bmm(x.view(1, -1).expand(self.parts, 1, -1), self.given).view(*x.shape[:-1], -1)


_known: dict[int, Repeated] = {}


def known(weight: Tensor) -> Repeated | None:
    """The other layouts of a weight while its products are repeated."""
    return _known.get(id(weight))


@contextmanager
def repeating(weights: Iterable[Tensor]) -> Iterator[None]:
    """For as long as it lasts, products with these weights use what is kept of them. Without effect on processors where
    nobody measured that it pays, under mixed precision, and where weights take more than `MOST`.
    """
    own = [weight for weight in weights if _worth(weight)] if _here() else []
    if sum(weight.nbytes for weight in own) > MOST:
        own = []
    for weight in own:
        _known.setdefault(id(weight), Repeated()).users += 1
    # A fused optimizer changes weights without a new version.
    stepped = register_optimizer_step_post_hook(lambda *_: _forget())
    try:
        yield
    finally:
        stepped.remove()
        for weight in own:
            _known[id(weight)].users -= 1
            if not _known[id(weight)].users:
                del _known[id(weight)]


def _forget() -> None:
    for kept in _known.values():
        kept.forget()


def _here() -> bool:
    return onednn.offered("avx2") and not torch.is_autocast_enabled("cpu")


def _worth(weight: Tensor) -> bool:
    return (
        weight.ndim == 2
        and weight.numel() >= (INTEL_LARGE if onednn.intel() else LARGE)
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and weight.is_contiguous()
        and not weight.is_inference()
    )
