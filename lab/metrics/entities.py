"""Named entities: which spans a row of tags holds, and how well they are found.

The rule is that of CoNLL-2000's `conlleval` and of seqeval's default mode: tags that break the scheme still
make entities, so `O I-PER` begins one, and so does `B-PER I-LOC` a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Entity = tuple[str, int, int]
"""A type, the first word and the last."""

OUTSIDE = "O"

ALL = ""
"""Where scores of all types together stand; no type is called so."""


def is_of_entity(tag: str) -> bool:
    """Whether a tag is one of an entity or outside of any: `B-PER`, `I-PER`, also `E-` and `S-`, or `O`."""
    return tag == OUTSIDE or (tag[:1] in tuple("BIES") and tag[1:2] in ("", "-"))


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of a sentence's tags (`B-PER`, `I-PER`, `O`; also `E-` and `S-`), in order."""
    found: list[Entity] = []
    before, kind_before = OUTSIDE, ""
    for place, tag in enumerate(tags):
        prefix, kind = tag[:1], tag[1:].split("-", 1)[-1] or "_"
        if prefix != OUTSIDE:
            begins = prefix in "BS" or before in (OUTSIDE, "E", "S") or kind != kind_before
            first = place if begins else found.pop()[1]
            found.append((kind, first, place))
        before, kind_before = prefix, kind
    return found


@dataclass(frozen=True)
class Scores:
    """Precision, recall and F1 of the entities found, each from 0 to 1, and how many there are in truth."""

    precision: float
    recall: float
    f1: float
    support: int


def entity_scores(predicted: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> dict[str, Scores]:
    """Scores over the tags of `[sentences]`: of all entities under `ALL`, and of each type under its name.

    An entity is found where its type, first and last word are right. Where nothing is predicted or nothing is there, the
    score is 0.

    Raises:
        ValueError: not as many sentences or words in one as in the other.
    """
    lengths = [[len(tags) for tags in side] for side in (predicted, true)]
    if lengths[0] != lengths[1]:
        raise ValueError("predicted and true tags are not as many: each sentence and word needs both")
    guessed, wanted = (
        {(number, *entity) for number, tags in enumerate(side) for entity in entities(tags)}
        for side in (predicted, true)
    )
    kinds = sorted({entity[1] for entity in guessed | wanted})
    scores = {ALL: _scores(guessed, wanted)}
    for kind in kinds:
        of_kind = [{entity for entity in side if entity[1] == kind} for side in (guessed, wanted)]
        scores[kind] = _scores(*of_kind)
    return scores


def _scores(guessed: set, wanted: set) -> Scores:
    right = len(guessed & wanted)
    return Scores(
        precision=right / len(guessed) if guessed else 0.0,
        recall=right / len(wanted) if wanted else 0.0,
        f1=2 * right / (len(guessed) + len(wanted)) if guessed or wanted else 0.0,
        support=len(wanted),
    )


def entity_f1(predicted: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> float:
    """F1 over all entities. Arguments and errors as for `entity_scores`."""
    return entity_scores(predicted, true)[ALL].f1
