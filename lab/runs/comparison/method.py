"""How the verdicts of a report are reached, in sentences for whoever reads it."""

from __future__ import annotations

from lab.runs.comparison.compare import Results
from lab.runs.comparison.differences import CONFIDENCE
from lab.runs.comparison.power import POWER
from lab.runs.comparison.verdict import ALPHA, FEWEST_PAIRS, TOO_FEW


def said(results: Results) -> str:
    """How the verdicts were reached, so that a reader can check them."""
    return " ".join(text for _, text in parts(results))


def parts(results: Results) -> list[tuple[str, str]]:
    """The same in parts, each with what it is about."""
    margin, most = results.rule.margin, results.rule.most_seeds
    given = "fixed before the first run" if results.rule.beforehand else "given to this report"
    compared = (
        "Two configurations are compared over the seeds that both finished, which see the same data in the same order, by "
        "the mean of the paired differences. ± is the standard deviation over seeds. Runs that are not finished never count."
    )
    if most is None:
        decided = (
            f"A verdict is better or worse when the two-sided p-value of the paired t-test is under {ALPHA:.2f} after Holm's "
            f"correction for the {_questions(results)} of this report that can be decided; the {CONFIDENCE:.0%} t-interval "
            "then excludes zero."
        )
        same = (
            "It is equivalent when two one-sided t-tests show a difference under the margin of ±{:g}, {}; both "
            "questions of each comparison are corrected together (Shaffer)."
        )
    else:
        decided = (
            f"Seeds were added until it was decided, at most {most}. The {ALPHA:.0%} of false verdicts hold at all looks, "
            f"for all of the {_questions(results)}: they are spent over the looks (Lan and DeMets, O'Brien and Fleming's "
            "type) and over the comparisons (Holm), and each interval is as wide as its comparison's share asks. A verdict is "
            "better or worse when the interval excludes zero; it stays, and later seeds do not count."
        )
        same = "It is equivalent when the interval lies within the margin of ±{:g}, {}."
    found = [("Compared", compared), ("Better or worse", decided)]
    if margin is not None:
        found.append(("Equivalent", same.format(margin, given)))
    left = f"Otherwise it is undecided, and with fewer than {FEWEST_PAIRS} pairs there are too few seeds for a verdict."
    if most is None:
        left += (
            f" Seeds that would decide are those that do so with a chance of {POWER:.0%} if the difference and its spread are "
            "what they seem, which few seeds tell badly."
        )
    if any(each.missed for each in results.comparisons):
        left += " So are two that were to cost the same and do not: the difference may be that of the cost."
    found.append(("Undecided", left))
    if any(table.trends for table in results.tables):
        found.append(
            (
                "Along the scale",
                "For each seed the differences have a slope over the logarithm of the cost. A difference changes with scale "
                "when the slopes are not zero; it grows or goes away when its mean over the sizes is not zero either.",
            )
        )
    wrong = (
        f"The chance that a report holds any false verdict is at most {ALPHA:.0%}, whatever differs and whatever does not, as "
        "far as the differences of seeds are normal."
    )
    return [*found, ("How often that errs", wrong)]


def _questions(results: Results) -> str:
    """`5 comparisons`."""

    def counted(number: int, name: str) -> str:
        return f"{number} {name}{'' if number == 1 else 's'}"

    asked = sum(each.plain is not None or each.look is not None for each in results.comparisons)
    along = sum(each.verdict != TOO_FEW for table in results.tables for each in table.trends)
    more = f", {counted(along, 'slope')} and {counted(along, 'mean')} along the scale" if along else ""
    return (counted(asked, "comparison") if asked else "comparisons") + more
