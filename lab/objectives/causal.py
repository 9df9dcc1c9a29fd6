"""Causal language modelling: predict each token from those before it, in its own document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lab.data.arrange import Answers
from lab.data.chat import Turns
from lab.layout import IGNORE
from lab.objectives.objective import Objective

if TYPE_CHECKING:
    from lab.data.packing import Batch


class Causal(Objective):
    """The loss is the cross-entropy of each next token; of pairs and conversations, of the answers alone, and the head is
    computed at their places alone.

    Arguments as `Objective`.
    """

    families = ("decoder", "recurrent")
    takes = {"text": None, "task": None, "pairs": Answers, "text_to_text": Answers, "chat": Turns}
    headline = {"name": "val/bpb", "unit": "bits per byte", "direction": "min"}
    reaches_all = True

    def nats(self, batch: Batch) -> Tensor:
        hidden, targets = self.model.hidden(batch.tokens, batch.layout), batch.targets
        if batch.counted < targets.numel():
            asked = targets != IGNORE
            hidden, targets = hidden[asked], targets[asked]
        return self.model.embedding.loss(hidden, targets)

    def flops(self, batch: Batch) -> float:
        return float(self.model.body_flops(batch.lengths).sum()) + self.model.head_flops * batch.counted
