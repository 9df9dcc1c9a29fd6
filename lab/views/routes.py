"""Routes of tokens through experts: load, what each expert takes, what a token's kind tells, and how routes go on from layer to
layer. Every measure stands beside what it would be by chance.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lab.views.chance import Told, told, told_by_types
from lab.views.kinds import KINDS

SEEN = 10
"""Occurrences of a token at least, for it to have a usual route."""

TYPES = 100
"""The most frequent tokens, which are told by their usual route."""


@dataclass(frozen=True, eq=False)
class Read:
    """The tokens that some layers read.

    Attributes:
        name: `text`; of an encoder-decoder `source` or `target`.
        ids: `[tokens]`, their numbers.
        kinds: `[tokens]`, the place of each in `lab.views.kinds.KINDS`.
        words: how each number is spelt.
    """

    name: str
    ids: np.ndarray
    kinds: np.ndarray
    words: dict[int, str]


@dataclass(frozen=True)
class Taken:
    """A token at an expert: how often it went there, which share of its occurrences that is, and how often more than if the
    expert took its share of every token.
    """

    token: str
    count: int
    share: float
    excess: float


@dataclass(frozen=True, eq=False)
class Layer:
    """The choices of one layer of experts.

    Attributes:
        name: the number of its block from 1, after its stack where there are two.
        read: what it read.
        experts: how many there are.
        chosen: `[tokens, top_k]`, the experts of each token, best first.
    """

    name: str
    read: Read
    experts: int
    chosen: np.ndarray

    @cached_property
    def choices(self) -> np.ndarray:
        """`[tokens, experts]`, 1 where a token goes."""
        made = np.zeros((len(self.chosen), self.experts), np.float32)
        np.put_along_axis(made, self.chosen, 1, axis=1)
        return made

    @cached_property
    def load(self) -> np.ndarray:
        """`[experts]`, the share of the choices that each gets."""
        return self.choices.mean(0) / self.chosen.shape[1]

    @property
    def uneven(self) -> float:
        """The load of the fullest expert over an even one: 1 for perfect balance, the number of experts for none."""
        return float(self.load.max() * self.experts)

    @cached_property
    def by_kind(self) -> np.ndarray:
        """`[kinds, experts]`, how many choices of tokens of each kind go where."""
        return np.stack([self.choices[self.read.kinds == kind].sum(0) for kind in range(len(KINDS))])

    @property
    def kind_shares(self) -> list[tuple[str, np.ndarray]]:
        """Each kind that occurs, and `[experts]`, the shares of its choices."""
        return [(KINDS[i], counts / counts.sum()) for i, counts in enumerate(self.by_kind) if counts.sum()]

    @cached_property
    def kind_told(self) -> Told:
        """What a token's kind says of its expert, and what it would if kinds were shuffled over the tokens."""
        return told(self.read.kinds, self.choices, len(KINDS))

    @cached_property
    def kind_told_of_words(self) -> Told:
        """The same, if each word went where another word of the vocabulary goes (`told_by_types`).

        More than this says that experts go by kinds, and not only that each word has experts of its own.
        """
        _, first = np.unique(self.read.ids, return_index=True)
        return told_by_types(self.read.kinds[first], self.by_token[1], len(KINDS), SEEN * self.chosen.shape[1])

    @cached_property
    def by_token(self) -> tuple[np.ndarray, np.ndarray]:
        """`[types]`, the tokens that occur; `[types, experts]`, how many choices of each go where."""
        types, places = np.unique(self.read.ids, return_inverse=True)
        places = places.reshape(-1)
        return types, np.stack([np.bincount(places, column, len(types)) for column in self.choices.T], axis=1)

    def taken(self, expert: int, most: int = 8) -> list[Taken]:
        """What an expert, from 0, takes beyond its share of everything, most first."""
        types, counts = self.by_token
        all_of = counts.sum(1)
        excess = counts[:, expert] - all_of * self.load[expert]
        order = np.argsort(-excess, kind="stable")[:most]
        return [
            Taken(
                self.read.words[int(types[i])],
                int(counts[i, expert]),
                float(counts[i, expert] / all_of[i] * self.chosen.shape[1]),
                float(excess[i]),
            )
            for i in order
            if excess[i] > 0
        ]

    @cached_property
    def together(self) -> np.ndarray | None:
        """`[experts, experts]`, how often two are chosen for the same token, over how often their loads would make them; none
        where a token has one. Pairs are drawn by load, without the same expert twice.
        """
        if self.chosen.shape[1] < 2:
            return None
        pairs = self.choices.T @ self.choices
        expected = np.outer(self.load, self.load)
        for counts in (pairs, expected):
            np.fill_diagonal(counts, 0)
        expected *= pairs.sum() / max(expected.sum(), 1e-12)
        return np.divide(pairs, expected, out=np.zeros_like(pairs), where=expected > 0)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        present = self.by_kind.sum(1) > 0
        return {
            "layer": self.name,
            "tokens": len(self.chosen),
            "load": np.round(self.load.astype(float), 5).tolist(),
            "uneven": self.uneven,
            "kinds": {KINDS[i]: self.by_kind[i].astype(int).tolist() for i in np.flatnonzero(present)},
            "kind_information": asdict(self.kind_told) | {"above": self.kind_told.above},
            "kind_information_of_words": asdict(self.kind_told_of_words) | {"above": self.kind_told_of_words.above},
            "takes": [[asdict(one) for one in self.taken(expert)] for expert in range(self.experts)],
            "together": None if self.together is None else np.round(self.together.astype(float), 4).tolist(),
        }


@dataclass(frozen=True, eq=False)
class Change:
    """From a layer to the next one that reads the same tokens, by first choices.

    Attributes:
        before, after: the layers.
        counts: `[experts, experts]`, how many tokens go from which to which.
        told: what the expert before says of the one after.
    """

    before: Layer
    after: Layer
    counts: np.ndarray
    told: Told

    @property
    def shares(self) -> np.ndarray:
        """`[experts, experts]`, of the tokens at an expert the share that goes to each one next; 0 where there are none."""
        return self.counts / self.counts.sum(1, keepdims=True).clip(1)

    @property
    def stay(self) -> float:
        """The share of tokens whose expert has the same number in both."""
        return float(np.trace(self.counts) / max(self.counts.sum(), 1))

    @property
    def stay_by_chance(self) -> float:
        """The same, if the two layers chose independently of each other."""
        shares = self.counts / max(self.counts.sum(), 1)
        return float(np.trace(np.outer(shares.sum(1), shares.sum(0))))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "from": self.before.name,
            "to": self.after.name,
            "counts": self.counts.astype(int).tolist(),
            "stay": self.stay,
            "stay_by_chance": self.stay_by_chance,
            "information": asdict(self.told) | {"above": self.told.above},
        }


@dataclass(frozen=True)
class Group:
    """Frequent tokens whose usual route is the same: the first expert, in each layer, of most of a token's occurrences.

    Attributes:
        read: what the layers read, as `Read.name`.
        route: an expert from 1 for each layer.
        tokens: the most frequent first.
        follow: the share of their occurrences that go by that route in all layers.
        chance: the share of all occurrences that do.
    """

    read: str
    route: tuple[int, ...]
    tokens: list[str]
    follow: float
    chance: float


@dataclass(frozen=True, eq=False)
class Routes:
    """The routes of a text through all layers of experts; `source` says which text."""

    source: str
    layers: list[Layer]

    @cached_property
    def changes(self) -> list[Change]:
        """From each layer to the next one of its stack."""
        return [
            _change(before, after)
            for before, after in zip(self.layers, self.layers[1:], strict=False)
            if before.read is after.read and before.experts == after.experts
        ]

    @cached_property
    def groups(self) -> list[Group]:
        """Which frequent tokens go together, the largest group first."""
        found: list[Group] = []
        for read in dict.fromkeys(layer.read for layer in self.layers):
            found += _groups(read, np.stack([one.chosen[:, 0] for one in self.layers if one.read is read], axis=1))
        return sorted(found, key=lambda group: -len(group.tokens))

    def layer(self, name: str) -> Layer:
        """The layer of this name."""
        return next(layer for layer in self.layers if layer.name == name)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "text": self.source,
            "experts": self.layers[0].experts,
            "top_k": self.layers[0].chosen.shape[1],
            "layers": [layer.to_json() for layer in self.layers],
            "changes": [change.to_json() for change in self.changes],
            "groups": [asdict(group) for group in self.groups],
        }


def _change(before: Layer, after: Layer) -> Change:
    first, second = before.chosen[:, 0], after.chosen[:, 0]
    counts = np.zeros((before.experts, after.experts))
    np.add.at(counts, (first, second), 1)
    return Change(before, after, counts, told(first, np.eye(after.experts)[second], before.experts))


def _groups(read: Read, routes: np.ndarray) -> list[Group]:
    """Of the routes of all tokens, `[tokens, layers]`."""
    types, counts = np.unique(read.ids, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    together: dict[tuple[int, ...], list[int]] = {}
    for token in types[order[counts[order] >= SEEN]][:TYPES]:
        own = routes[read.ids == token]
        usual = tuple(int(np.bincount(column).argmax()) for column in own.T)
        together.setdefault(usual, []).append(int(token))
    found = []
    for route, tokens in together.items():
        follows = (routes == route).all(axis=1)
        words = [read.words[token] for token in tokens]
        share = float(follows[np.isin(read.ids, tokens)].mean())
        found.append(Group(read.name, tuple(e + 1 for e in route), words, share, float(follows.mean())))
    return found
