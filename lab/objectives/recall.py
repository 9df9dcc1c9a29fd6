"""Answers of synthetic tasks: the loss is on what is asked, and the headline is how much of it is right, by distance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.layout import IGNORE
from lab.metrics.classification import band, name
from lab.objectives.causal import Causal

if TYPE_CHECKING:
    from lab.data.packing import Batch

BANDS = 32


class Recall(Causal):
    """Trains as `Causal` does, on the answers alone. Arguments as there."""

    headline = {"name": "val/accuracy", "unit": "share of answers", "direction": "max"}
    takes = {"task": None}

    def evaluate(self, batch: Batch) -> tuple[Tensor, list[Any]]:
        """`[sums]`: nats, answers, right ones, and then answers and right ones in each band of distance."""
        assert batch.distances is not None
        asked = batch.targets != IGNORE
        targets, distances = batch.targets[asked], batch.distances[asked]
        logits = self.model.embedding.logits(self.model.hidden(batch.tokens, batch.layout)[asked])
        right = (logits.argmax(-1) == targets).double()
        nats = F.cross_entropy(logits.float(), targets, reduction="sum").double()
        bands = torch.from_numpy(band(distances.cpu().numpy())).to(right.device)
        total = right.new_zeros(2, BANDS)
        total[0].index_add_(0, bands, torch.ones_like(right))
        total[1].index_add_(0, bands, right)
        return torch.cat([torch.stack([nats, right.new_tensor(len(targets)), right.sum()]), total.flatten()]), []

    def scores(self, sums: Tensor, text_bytes: int | None) -> dict[str, float | None]:
        """Loss and accuracy over all answers, and accuracy in bands of distance that double: `val/accuracy/distance_4-7`."""
        nats, answers, right = sums[:3].tolist()
        asked, known = sums[3:].reshape(2, BANDS).tolist()
        return {"val/loss": nats / answers, "val/accuracy": right / answers} | {
            f"val/accuracy/distance_{name(number)}": known[number] / count
            for number, count in enumerate(asked)
            if count
        }
