"""Words by their vectors: what is near a direction, and what is to c as b is to a (Mikolov et al. 2013a).

The vectors are the rows of a model's table of embeddings, so any family that has one will do; distances are by cosine.
"""

from __future__ import annotations

import difflib
from functools import cached_property
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.errors import RequestError
from lab.runs.folder import Run

Near = list[tuple[str, float]]
"""Words with their cosines, the nearest first."""


class Words:
    """The tokens of a run's vocabulary and their directions.

    Args:
        run: of any family with a table of embeddings.

    Attributes:
        table: `[vocab, dim]`, the vectors.
        unit: the same with length 1.

    Raises:
        RequestError: its model has none.
    """

    def __init__(self, run: Run) -> None:
        if not hasattr(run.outline, "embedding"):
            raise RequestError(
                f"{run.folder}: model={run.config.choices.model} has no table of embeddings, so only texts have vectors"
            )
        table: Any = cast(Any, run.model).embedding.table
        self.tokenizer = run.tokenizer
        self.table = table.weight.detach().float()[: run.tokenizer.vocab_size]
        self.unit = F.normalize(self.table, dim=-1)

    @cached_property
    def spelt(self) -> list[str]:
        """Each token as a text has it, without the space that some tokenizers put before words; nothing for special tokens,
        for the one of what is unknown, and for bytes that are no character.
        """
        special = {*self.tokenizer.specials.values(), self.tokenizer.unknown_id}
        texts = ["" if token in special else self.tokenizer.decode([token]).strip() for token in range(len(self.unit))]
        return ["" if "\N{REPLACEMENT CHARACTER}" in text else text for text in texts]

    def token(self, word: str) -> int:
        """The number of the one token that is a word, by itself or after a space.

        Raises:
            RequestError: there is none; names the nearest spellings.
        """
        special = {*self.tokenizer.specials.values(), self.tokenizer.unknown_id}
        for text in (f" {word}", word) if word.strip() else ():
            ids = self.tokenizer.encode([text])[0]
            if len(ids) == 1 and ids[0] not in special:
                return int(ids[0])
        # A capital is the likeliest mistake.
        known = dict.fromkeys(filter(None, self.spelt))
        alike = [other for other in known if other.lower() == word.lower()]
        close = alike + [w for w in difflib.get_close_matches(word, known, n=3, cutoff=0.6) if w not in alike]
        hint = f"; near in spelling: {', '.join(close[:3])}" if close else ""
        raise RequestError(f"{word!r}: not a word of this vocabulary of {len(self.unit):,}{hint}")

    def nearest(self, direction: Tensor, count: int, without: set[int]) -> Near:
        """The words whose vectors point most in a direction, `[dim]`.

        Raises:
            RequestError: a count under 1.
        """
        if count < 1:
            raise RequestError(f"-k: {count}; how many neighbours, 1 or more")
        cosines = self.unit @ F.normalize(direction, dim=0)
        found: Near = []
        for token in torch.argsort(cosines, descending=True, stable=True).tolist():
            if self.spelt[token] and token not in without:
                found.append((self.spelt[token], float(cosines[token])))
            if len(found) == count:
                break
        return found


def analogy(run: Run, a: str, b: str, c: str, k: int = 10) -> Near:
    """What is to c as b is to a: the k words nearest to b - a + c, of unit vectors, the three left out.

    Raises:
        RequestError: a word that is not in the vocabulary, a count under 1, or a model without a table.
    """
    words = Words(run)
    tokens = [words.token(word) for word in (a, b, c)]
    first, second, third = words.unit[tokens]
    return words.nearest(second - first + third, k, set(tokens))
