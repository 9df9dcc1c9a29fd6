"""How close translations are to their references: BLEU, chrF, exact match.

BLEU and chrF are sacreBLEU's (Post 2018, arXiv 1804.08771), whose signature says what was computed.
"""

from __future__ import annotations

from collections.abc import Sequence


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU (Papineni et al. 2002), from 0 to 100, as sacreBLEU computes it: 13a tokens, exponential smoothing.

    Args:
        hypotheses: one translation a sentence, plain text.
        references: one a sentence, in the same order.

    Raises:
        ValueError: none, or not as many of one as of the other.
    """
    from sacrebleu import corpus_bleu

    _check(hypotheses, references)
    return corpus_bleu(list(hypotheses), [list(references)]).score


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Corpus chrF2 (Popović 2015), from 0 to 100: F-score of character 6-grams. Arguments and errors as for `bleu`."""
    from sacrebleu import corpus_chrf

    _check(hypotheses, references)
    return corpus_chrf(list(hypotheses), [list(references)]).score


def exact_match(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """The share of hypotheses that are their references, white space at the ends aside. Errors as for `bleu`."""
    _check(hypotheses, references)
    same = sum(one.strip() == other.strip() for one, other in zip(hypotheses, references, strict=True))
    return same / len(hypotheses)


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if not len(hypotheses) or len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} references; each needs its own")
