"""Causal language modelling: predict each token from those before it, in its own document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lab.data.arrange import Answers
from lab.objectives.objective import Objective

if TYPE_CHECKING:
    from lab.data.packing import Batch


class Causal(Objective):
    """The loss is the cross-entropy of each next token; of pairs, of the answer alone. Arguments as `Objective`."""

    families = ("decoder", "recurrent")
    takes = {"text": None, "task": None, "pairs": Answers}
    headline = {"name": "val/bpb", "unit": "bits per byte", "direction": "min"}

    def nats(self, batch: Batch) -> Tensor:
        return self.model.loss(batch.tokens, batch.targets, batch.layout, reduction="sum")
