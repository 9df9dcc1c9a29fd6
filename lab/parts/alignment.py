"""How a recurrent decoder looks at its source: not at all, at one vector, or at all states of the encoder by attention.

The decoder always begins with the states that the encoder ended with, layer by layer (Sutskever et al. 2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from lab.layout import Layout
from lab.parts.cell import State
from lab.parts.linear import Linear, matmul_flops
from lab.parts.recurrence import Recurrence, Steps


@dataclass(eq=False)
class Progress:
    """A source that was read, and how far its target has come.

    Attributes:
        states: of the decoder's layers.
        source: what an alignment keeps of the source, each `[batch, ...]`.
        fed: `[batch, dim]`, what the last step hands to the next beside the states.
    """

    states: Sequence[State]
    source: dict[str, Tensor] = field(default_factory=dict)
    fed: Tensor | None = None

    def reorder(self, rows: Tensor) -> None:
        """Each row becomes a copy of the one with that number, `[batch]` int64."""
        self.states = [tuple(part[rows] for part in state) for state in self.states]
        self.source = {name: kept[rows] for name, kept in self.source.items()}
        self.fed = None if self.fed is None else self.fed[rows]


class Alignment(nn.Module):
    """None: what the decoder knows of the source is the state that it begins with (Sutskever et al. 2014).

    Args:
        dim: width of the encoder's and the decoder's states.

    Attributes:
        inputs: numbers that the decoder's first layer reads at each step.
        weights: in those that look at states, a named place where `lab.record` sees `[batch, time, source time]`.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = self.inputs = dim

    def begin(self, encoded: Tensor, layout: Layout, states: Sequence[State]) -> Progress:
        """What a target begins with.

        Args:
            encoded: `[batch, source time, dim]`, the encoder's states.
            layout: of the source.
            states: its last ones, of each layer.
        """
        return Progress(states)

    def forward(
        self, decoder: Recurrence, x: Tensor, progress: Progress, layout: Layout | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """What is known after each token of a target, and how much each state of the source counted for it.

        Args:
            decoder: reads `inputs` numbers at each step.
            x: `[batch, time, dim]`, embeddings of the target's next tokens.
            progress: from `begin`; takes in the tokens, if they come without a layout.
            layout: of whole targets, for training.

        Returns:
            `[batch, time, dim]`; and `[batch, time, source time]`, None if the states are not looked at.
        """
        return self._run(decoder, x, progress, layout), None

    def say(self, states: Tensor, x: Tensor, seen: Tensor | None) -> Tensor:
        """What is known by the states of the decoder's last layer, beside the embeddings of the tokens that were taken in and
        what was looked at, `[batch, time, dim]` each; none where the source is not looked at.
        """
        return states

    def _run(self, decoder: Recurrence, x: Tensor, progress: Progress, layout: Layout | None) -> Tensor:
        """The fused decoder over all tokens."""
        y, states = decoder(x, layout, progress.states, keep=layout is None)
        if layout is None:
            progress.states = states
        return y

    def kept(self, source: int) -> int:
        """Numbers that are kept of a source of so many tokens, and handed from step to step beside the states."""
        return 0

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs on targets of these lengths, what is done for the source apart."""
        return matmul_flops(self) * np.asarray(lengths)

    def cross_flops(self, lengths: np.ndarray, sources: np.ndarray) -> np.ndarray:
        """Forward FLOPs on targets of these lengths and sources of those: of the maps, and of the pairs."""
        return self.flops(lengths)


class Repeated(Alignment):
    """The encoder's last output beside every token (Cho et al. 2014, section 2.2). Arguments as `Alignment`."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.inputs = 2 * dim

    def begin(self, encoded: Tensor, layout: Layout, states: Sequence[State]) -> Progress:
        return Progress(states, {"vector": states[-1][0]})

    def forward(
        self, decoder: Recurrence, x: Tensor, progress: Progress, layout: Layout | None = None
    ) -> tuple[Tensor, Tensor | None]:
        vector = progress.source["vector"].unsqueeze(1).expand(-1, x.shape[1], -1)
        return self._run(decoder, torch.cat([x, vector], dim=-1), progress, layout), None

    def kept(self, source: int) -> int:
        return self.dim


class Luong(Alignment):
    """Global attention after the step (Luong et al. 2015, section 3.1): `tanh(W [context; state])` is what is known.

    The products of states are not scaled (equation 8, dot).

    Args:
        dim: as `Alignment`.
        general: a matrix between the states whose product is the score (equation 8, general).
        feeding: what is known after a token goes into the next step (section 3.3), so that the decoder must step. Without,
            it runs fused over the whole target, and attention is one matrix product.
    """

    def __init__(self, dim: int, general: bool = False, feeding: bool = False) -> None:
        super().__init__(dim)
        self.feeding = feeding
        self.inputs = 2 * dim if feeding else dim
        self.query = Linear(dim, dim, bias=False) if general else nn.Identity()
        self.combine = Linear(2 * dim, dim, bias=False)
        self.weights = nn.Identity()

    def begin(self, encoded: Tensor, layout: Layout, states: Sequence[State]) -> Progress:
        fed = torch.zeros_like(encoded[:, 0]) if self.feeding else None
        return Progress(states, {"states": encoded} | hidden_places(layout, encoded), fed)

    def forward(
        self, decoder: Recurrence, x: Tensor, progress: Progress, layout: Layout | None = None
    ) -> tuple[Tensor, Tensor | None]:
        if not self.feeding:
            y = self._run(decoder, x, progress, layout)
            seen, weight = self._look(y, progress.source)
            return self.say(y, x, seen), self.weights(weight)
        steps, known, weights = Steps(decoder, x), [], []
        for number in range(x.shape[1]):
            assert progress.fed is not None
            progress.states = steps(number, progress.fed, progress.states)
            y = progress.states[-1][0].unsqueeze(1)
            seen, weight = self._look(y, progress.source)
            known.append(self.say(y, x, seen))
            progress.fed = known[-1][:, 0]
            weights.append(weight)
        steps.show()
        return torch.cat(known, dim=1), self.weights(torch.cat(weights, dim=1))

    def say(self, states: Tensor, x: Tensor, seen: Tensor | None) -> Tensor:
        assert seen is not None
        return self.combine(torch.cat([seen, states], dim=-1)).tanh()

    def _look(self, y: Tensor, source: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What the states `[batch, time, dim]` look at, as many, and the weights."""
        scores = torch.bmm(self.query(y), source["states"].transpose(1, 2))
        if "hidden" in source:
            scores = scores + source["hidden"].unsqueeze(1)
        weights = scores.softmax(dim=-1)
        return torch.bmm(weights, source["states"]), weights

    def kept(self, source: int) -> int:
        return self.dim * (source + self.feeding)

    def cross_flops(self, lengths: np.ndarray, sources: np.ndarray) -> np.ndarray:
        return self.flops(lengths) + 4 * self.dim * np.asarray(lengths) * np.asarray(sources)


class Bahdanau(Alignment):
    """Additive attention before the step (Bahdanau et al. 2015): `v tanh(W s + U h)` scores each state h for the decoder's last
    state s; their mean goes into the next step, which therefore can't be fused with the others.

    What is known after a step is a layer of maxout of the state, the token and the context (equation 4, appendix A.2.2).

    Args:
        dim: as `Alignment`, and of the layer that scores.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.inputs = 2 * dim
        self.query = Linear(dim, dim, bias=False)
        self.key = Linear(dim, dim, bias=False)
        self.score = Linear(dim, 1, bias=False)
        self.combine = Linear(3 * dim, 2 * dim)
        self.weights = nn.Identity()

    def begin(self, encoded: Tensor, layout: Layout, states: Sequence[State]) -> Progress:
        return Progress(states, {"states": encoded, "keys": self.key(encoded)} | hidden_places(layout, encoded))

    def forward(
        self, decoder: Recurrence, x: Tensor, progress: Progress, layout: Layout | None = None
    ) -> tuple[Tensor, Tensor | None]:
        keys, source, mask = progress.source["keys"], progress.source["states"], progress.source.get("hidden")
        steps, score = Steps(decoder, x), self.score.weight[0]
        contexts: list[Tensor] = []
        weights: list[Tensor] = []
        for number in range(x.shape[1]):
            query = self.query(progress.states[-1][0]).unsqueeze(1)
            scores = torch.add(keys, query).tanh_() @ score
            weight = (scores if mask is None else scores + mask).softmax(dim=-1)
            context = torch.bmm(weight.unsqueeze(1), source).squeeze(1)
            progress.states = steps(number, context, progress.states)
            contexts.append(context)
            weights.append(weight)
        steps.show()
        y = self.say(steps.outputs(), x, torch.stack(contexts, dim=1))
        return y, self.weights(torch.stack(weights, dim=1))

    def say(self, states: Tensor, x: Tensor, seen: Tensor | None) -> Tensor:
        assert seen is not None
        return self.combine(torch.cat([states, x, seen], dim=-1)).unflatten(-1, (self.dim, 2)).amax(dim=-1)

    def kept(self, source: int) -> int:
        return 2 * self.dim * source

    def flops(self, lengths: np.ndarray) -> np.ndarray:
        return 2 * (self.query.weight.numel() + self.combine.weight.numel()) * np.asarray(lengths)

    def cross_flops(self, lengths: np.ndarray, sources: np.ndarray) -> np.ndarray:
        lengths, sources = np.asarray(lengths), np.asarray(sources)
        return self.flops(lengths) + 2 * self.key.weight.numel() * sources + 4 * self.dim * lengths * sources


def hidden_places(layout: Layout, like: Tensor) -> dict[str, Tensor]:
    """`hidden`: `[batch, source time]`, minus infinity where the source has padding, else 0; nothing without padding."""
    if not layout.padded:
        return {}
    return {"hidden": torch.zeros_like(layout.documents, dtype=like.dtype).masked_fill_(layout.padding, -torch.inf)}
