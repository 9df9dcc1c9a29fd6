"""Distillation: a small model learns to guess hidden tokens as a trained one does (DistilBERT, Sanh et al. 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lab.console import say
from lab.layout import IGNORE
from lab.objectives.masked import Masked, pieces
from lab.values import is_number

if TYPE_CHECKING:
    from lab.data.packing import Batch
    from lab.models.model import Model


class Distil(Masked):
    """The loss is a weighted sum of three means (section 2): over hidden tokens, the Kullback-Leibler divergence of the
    student's scores from the teacher's, both softened by a temperature, times its square (Hinton et al. 2015, section 2), and
    the cross-entropy of what was hidden; over all tokens, one minus the cosine of both models' last vectors, where these are
    equally wide.

    The authors' code compares scores at all tokens unless told otherwise; here the head is computed at hidden ones alone.

    `val/loss` is the cross-entropy of what was hidden, as for other masked models.

    Args:
        teacher: the model to learn from; it is not trained or saved.
        temperature: that scores are divided by.
        soft, hard, cosine: weights of the three.
        settings: as `Masked`.

    Raises:
        ValueError: a teacher of another family or for shorter rows, a weight under 0 or none over it, a temperature not over 0.
    """

    def __init__(
        self,
        teacher: Model,
        temperature: float = 2.0,
        soft: float = 5.0,
        hard: float = 2.0,
        cosine: float = 1.0,
        **settings,
    ) -> None:
        self.check(temperature=temperature, soft=soft, hard=hard, cosine=cosine)
        super().__init__(**settings)
        self.check_teacher(teacher, self.model)
        if cosine and teacher.dim != self.model.dim:
            say(
                f"objective.cosine={cosine}: left out, since the teacher is {teacher.dim} wide and the student {self.model.dim}"
            )
            cosine = 0.0
        self.temperature, self.soft, self.hard, self.cosine = temperature, soft, hard, cosine
        self.kept: list[Any] = [teacher.eval().requires_grad_(False)]  # in a list, so that it is no part of this module

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        super().check_settings(settings)
        weights = soft, hard, cosine = settings.soft, settings.hard, settings.cosine
        if not all(is_number(weight) and weight >= 0 for weight in weights) or not any(weights):
            raise ValueError(f"objective.soft, hard, cosine: {soft}, {hard}, {cosine}; each 0 or more, and one over 0")
        if not (is_number(settings.temperature) and settings.temperature > 0):
            raise ValueError(f"objective.temperature: {settings.temperature}; a number over 0")

    @staticmethod
    def check_teacher(teacher: Model, model: Model) -> None:
        """Raise `ValueError` for a teacher whose model the student cannot learn from; asked before anything is made."""
        if teacher.family != model.family:
            raise ValueError(
                f"objective.teacher: its model is of another family, {teacher.family}; needs {model.family}"
            )
        if teacher.context < model.context:
            raise ValueError(
                f"objective.teacher: reads rows of {teacher.context} tokens at most, fewer than model.context of "
                f"{model.context}"
            )

    @property
    def teacher(self) -> Any:
        """The teacher, where the student is."""
        return self.kept[0].to(self.device)

    @torch.no_grad()
    def taught(self, batch: Batch) -> Tensor:
        """`[rows, time, dim of the teacher]`, what enters the teacher's head."""
        return self.teacher.vectors(batch.tokens, batch.layout, batch.segments)

    def nats(self, batch: Batch) -> Tensor:
        vectors, taught, hidden = self.vectors(batch), self.taught(batch), batch.targets != IGNORE
        loss = vectors.new_zeros(())
        if self.hard:
            loss = loss + self.hard * self.model.embedding.loss(vectors[hidden], batch.targets[hidden])
        if self.soft:
            loss = loss + self.soft * self.divergence(vectors[hidden], taught[hidden])
        if self.cosine:
            real = ~batch.layout.padding
            apart = 1 - F.cosine_similarity(vectors[real].float(), taught[real].float(), dim=-1)
            loss = loss + self.cosine * apart.sum() * (batch.scored / (batch.read or max(1, len(apart))))
        return loss

    def divergence(self, vectors: Tensor, taught: Tensor) -> Tensor:
        """Summed over places, `[places, dim]` of the student and of the teacher; scores are held of some at a time."""
        parts = [
            checkpoint(self._divergence, *piece, use_reentrant=False)
            if torch.is_grad_enabled()
            else self._divergence(*piece)
            for piece in pieces(vectors, taught)
        ]
        return torch.stack(parts).sum()

    def _divergence(self, vectors: Tensor, taught: Tensor) -> Tensor:
        mine, theirs = (
            F.log_softmax(model.embedding.logits(x).float() / self.temperature, dim=-1)
            for model, x in ((self.model, vectors), (self.teacher, taught))
        )
        return F.kl_div(mine, theirs, reduction="sum", log_target=True) * self.temperature**2

    def evaluate(self, batch: Batch) -> tuple[Tensor, list[Any]]:
        """`[sums]` of `Masked`, and of how many hidden tokens the guess is the teacher's."""
        vectors, taught, hidden = self.vectors(batch), self.taught(batch), batch.targets != IGNORE
        agreed = torch.zeros(1, dtype=torch.float64, device=vectors.device)
        for mine, theirs in pieces(vectors[hidden], taught[hidden]):
            guesses = [m.embedding.logits(x).argmax(-1) for m, x in ((self.model, mine), (self.teacher, theirs))]
            agreed += (guesses[0] == guesses[1]).sum()
        return torch.cat([self.guessed(vectors, batch), agreed]), []

    def scores(self, sums: Tensor, text_bytes: int | None) -> dict[str, float | None]:
        """Those of `Masked`, and the share of hidden tokens where the guess is the teacher's."""
        return super().scores(sums, text_bytes) | {"val/teacher_agreement": float(sums[3] / sums[1])}

    def flops(self, batch: Batch) -> float:
        """The student's, and a third of the teacher's, which makes no backward pass."""
        teacher = self.kept[0]
        taught = float(teacher.body_flops(batch.lengths).sum()) + teacher.head_flops * batch.counted
        return super().flops(batch) + taught / 3
