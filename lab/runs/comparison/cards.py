"""The page's first part: the verdicts as cards, and each difference with its interval around zero."""

from __future__ import annotations

import math
import re
from html import escape

from lab.runs.comparison import words
from lab.runs.comparison.compare import MANY, Comparison, Configuration, Table
from lab.runs.comparison.importance import importance
from lab.runs.comparison.numbers import signed
from lab.runs.comparison.trends import Trend
from lab.runs.comparison.verdict import FEWEST_PAIRS, TOO_FEW, UNDECIDED, VERDICTS

MOST_NAMED, MOST_ROWS = 8, 24
NUMBER = re.compile(r"[-+.\d]+(e[-+]?\d+)?")


def name(configuration: Configuration, table: Table, headed: bool = False) -> str:
    """The short name, its keys held back so that the options stand out; it may break within a word. A number alone says its
    key, unless it is `headed` by it.
    """
    header, names = words.short_names(table)
    short = names[table.configurations.index(configuration)]
    if not headed and NUMBER.fullmatch(short):
        short = f"{header.rpartition('.')[2]}={short}"
    breakable = re.sub(r"([_.])(?=[A-Za-z])", r"\1<wbr>", escape(short))
    parts = (word.partition("=") for word in breakable.split(" "))
    return " ".join(f'<span class="key">{key}=</span>{value}' if equals else key for key, equals, value in parts)


def badge(verdict: str) -> str:
    """The verdict in its colour."""
    return f'<span class="badge {_css_class(verdict)}">{verdict}</span>'


def _css_class(verdict: str) -> str:
    return verdict.replace(" ", "-")


def lead(table: Table) -> str:
    """Which swaps got which verdict, by name; of a search what is best, what is as good, and what mattered."""
    lines = _of_search(table) if table.is_search else _of_verdicts(table)
    items = "".join(f"<li>{badge(word)} <span>{said}</span></li>" for word, said in lines)
    luck = f'<p class="caption">{words.LUCK}</p>' if table.is_search else ""
    return f'<ul class="lead">{items}</ul>{luck}' if items else ""


def _of_verdicts(table: Table) -> list[tuple[str, str]]:
    steps = [each for each in table.comparisons if not each.whole_road]
    named = {
        verdict: [name(each.configuration, table) for each in steps if each.verdict == verdict] for verdict in VERDICTS
    }
    along = [(each.verdict, f"<b>{escape(each.variant)}</b>{_asked(each)}") for each in table.trends]
    return [*along, *((verdict, _listed(names, MOST_NAMED)) for verdict, names in named.items() if names)]


def _asked(trend: Trend) -> str:
    """What an open verdict is about."""
    return ": whether it changes with scale" if trend.verdict in (UNDECIDED, TOO_FEW) else ""


def _of_search(table: Table) -> list[tuple[str, str]]:
    best, *_ = table.configurations
    lines = [("best", f"<b>{name(best, table)}</b>")]
    if near := words.close(table):
        names = _listed([name(each, table) for each in near], 2)
        lines.append(("as good", f"{names}: no farther than seeds alone take two means"))
    if found := importance(table):
        shares = ", ".join(f"<b>{escape(key)}</b> {share:.0%}" for key, share in found.shares.items() if share >= 0.05)
        lines.append(("matters", f"{shares} of what varied"))
    return lines


def _listed(names: list[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"<b>{each}</b>" for each in names[:most]) + more


def cards(table: Table) -> str:
    """A card for each comparison, the whole road of a ladder first."""
    shown = [_card(each, table) for each in sorted(table.comparisons, key=lambda each: not each.whole_road)]
    return _folded(shown, MANY, "cards")


def _folded(parts: list[str], most: int, kind: str, tail: str = "") -> str:
    """The first of many, the rest to be opened; the tail ends both."""
    first = f'<div class="{kind}">{"".join(parts[:most])}{tail}</div>'
    if len(parts) <= most:
        return first
    rest = f'<div class="{kind}">{"".join(parts[most:])}{tail}</div>'
    return f"{first}<details><summary>{len(parts) - most} more</summary>{rest}</details>"


def _card(comparison: Comparison, table: Table) -> str:
    digits = words.places(table)
    title, ends, road = name(comparison.configuration, table), "", ""
    if comparison.whole_road:
        title, ends, road = "The whole road", f"{name(comparison.baseline, table)} → {title}", " road"
    unmatched = words.unmatched(comparison)
    facts = " · ".join(filter(None, (words.effect(comparison), words.bootstrap(comparison, digits), unmatched)))
    return (
        f'<article class="card {_css_class(comparison.verdict)}{road}">'
        f'<div class="card-head"><h3>{title}</h3>{badge(comparison.verdict)}</div>'
        f'<p class="road-ends">{ends}</p>'
        f'<p class="big">{signed(comparison.difference.mean, digits)}'
        f' <span class="interval">{words.interval(comparison, digits)}</span></p>'
        f"<p>{escape(words.gist(comparison, table))}</p>"
        + (f'<p class="facts">{escape(facts[0].upper() + facts[1:])}</p>' if facts else "")
        + "</article>"
    )


def forest(table: Table) -> str:
    """Each difference as a point with its interval, on one scale around zero; the noise floor and the margin behind."""
    low, high = _scale(table)
    rows = [_row(each, table, low, high) for each in table.comparisons]
    digits = _tick_digits(low, high)
    ticks = "".join(
        f'<i style="left:{_at(tick, low, high)}%">{signed(tick, digits) if tick else "0"}</i>'
        for tick in _ticks(low, high)
    )
    left, right = ("better", "worse") if table.measure.direction == "min" else ("worse", "better")
    ways = f'<b class="way left">← {left}</b><b class="way right">{right} →</b>'
    axis = f'<div class="forest-row axis"><span></span><span class="track">{ticks}{ways}</span></div>'
    said = "Bar: interval. Line: mean. Points: one seed each."
    if floor := words.noise_floor(table):
        said += f" Shaded: {floor[0].lower()}{floor[1:]}"
    if any(each.margin for each in table.comparisons):
        said += " Dashed: the margin."
    return f'<div class="panel">{_folded(rows, MOST_ROWS, "forest", axis)}<p class="caption">{said}</p></div>'


def _row(comparison: Comparison, table: Table, low: float, high: float) -> str:
    difference, digits = comparison.difference, words.places(table)
    title = "The whole road" if comparison.whole_road else name(comparison.configuration, table)
    marks = _span("floor", table.noise_floor, low, high) + _span("margin", comparison.margin, low, high)
    marks += f'<i class="zero" style="left:{_at(0, low, high)}%"></i>'
    if difference.low is not None and difference.high is not None:
        cut = "cut" if difference.low < low or difference.high > high else ""
        start, end = _at(difference.low, low, high), _at(difference.high, low, high)
        marks += f'<i class="bar {cut}" style="left:{start}%;width:{end - start:.2f}%"></i>'
    marks += "".join(f'<i class="seed" style="left:{_at(each, low, high)}%"></i>' for each in difference.values)
    if difference.mean is not None:
        marks += f'<i class="dot" style="left:{_at(difference.mean, low, high)}%"></i>'
    ends = f'<span class="interval">{words.interval(comparison, digits)}</span>'
    value = f'<span class="forest-value">{signed(difference.mean, digits)} {ends}</span>'
    found = escape(words.sentence(comparison, table, against=True))
    return (
        f'<div class="forest-row {_css_class(comparison.verdict)}" title="{found}">'
        f'<span class="forest-name">{title}</span><span class="track">{marks}</span>'
        f"{value}{badge(comparison.verdict)}</div>"
    )


def _span(kind: str, reach: float | None, low: float, high: float) -> str:
    """From -reach to +reach, as far as the axis goes."""
    if not reach:
        return ""
    start, end = _at(-reach, low, high), _at(reach, low, high)
    return f'<i class="{kind}" style="left:{start}%;width:{end - start:.2f}%"></i>'


def _at(value: float, low: float, high: float) -> float:
    """Where on the axis, in percent from its left end."""
    return round(100 * (min(max(value, low), high) - low) / (high - low), 2)


def _scale(table: Table) -> tuple[float, float]:
    """Ends of the forest's axis. Intervals of two pairs would flatten all others: they are cut."""
    ends = [0.0]
    decided = [each.difference for each in table.comparisons if len(each.difference.seeds) >= FEWEST_PAIRS]
    for difference in decided or [each.difference for each in table.comparisons]:
        ends += [end for end in (difference.low, difference.high) if end is not None]
    ends += [each.difference.mean for each in table.comparisons if each.difference.mean is not None]
    margin = 0.06 * (max(ends) - min(ends)) or 1.0
    return min(ends) - margin, max(ends) + margin


def _ticks(low: float, high: float) -> list[float]:
    """At most six round numbers in between."""
    step = _tick_step(low, high)
    return [round(place * step, 10) for place in range(-6, 7) if low <= place * step <= high]


def _tick_step(low: float, high: float) -> float:
    power = 10 ** math.floor(math.log10(high - low))
    return next(step for step in (power * unit for unit in (0.2, 0.5, 1, 2)) if (high - low) / step <= 5)


def _tick_digits(low: float, high: float) -> int:
    return len(f"{_tick_step(low, high):.10f}".rstrip("0").partition(".")[2])
