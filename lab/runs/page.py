"""The report as one HTML page that holds all it needs: verdicts first, then how sure they are, curves, costs.

`page.html` beside this file is the page's look and behaviour; here its content is made. Whatever comes from a
run folder is escaped. The browser draws the charts from a small JSON document, so that axes can be switched.
"""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

from lab.runs import words
from lab.runs.charts import AXES, COST_AXES, CURVES, chart_data
from lab.runs.compare import (
    BETTER,
    FEWEST_PAIRS,
    TOO_FEW,
    UNDECIDED,
    WORSE,
    Comparison,
    Configuration,
    Table,
)

if TYPE_CHECKING:
    from lab.runs.report import Report

COLOURS = 10


def page(report: Report) -> str:
    """The whole page."""
    from plotly.offline import get_plotlyjs

    results = report.results
    content = {
        "title": escape(title(report)),
        "header": _header(report),
        "main": "".join(_section(number, table, report) for number, table in enumerate(results.tables)),
        "after": _not_counted(report) + _method(report),
        "data": _script_json([chart_data(table) for table in results.tables]),
        "plotly": get_plotlyjs() if results.tables else "",
    }
    template = resources.files("lab.runs").joinpath("page.html").read_text("utf-8")
    return re.sub(r"\{\{ (\w+) \}\}", lambda place: content[place[1]], template)


def title(report: Report) -> str:
    """What the browser's tab says."""
    names = ", ".join(dict.fromkeys(folder.resolve().name for folder in report.folders))
    return f"What each swap did – {names}"


def _script_json(value: Any) -> str:
    """JSON that can't end the script element it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _header(report: Report) -> str:
    results = report.results
    runs = sum(len(each.runs) for table in results.tables for each in table.configurations)
    configurations = sum(len(table.configurations) for table in results.tables)
    folders = " ".join(f"<code>{escape(str(folder))}</code>" for folder in report.folders)
    missing = len(results.not_counted)
    apart = f' · <a href="#not-counted">{missing} not counted</a>' if missing else ""
    lead = words.tally(results.comparisons) if results.tables else "No run is finished yet"
    when = datetime.now().astimezone().strftime("%d %B %Y, %H:%M")
    return (
        f'<p class="kicker">{folders}</p><h1>{lead}.</h1>{"".join(map(_lead, results.tables))}'
        f'<p class="sub">{configurations} configurations, {runs} finished runs{apart} · {when}</p>'
        + "".join(f'<p class="note">{escape(note)}</p>' for note in results.notes)
    )


def _lead(table: Table) -> str:
    """Which swaps got which verdict, by name."""
    lines = []
    for verdict in (BETTER, WORSE, UNDECIDED, TOO_FEW):
        steps = [each for each in table.comparisons if each.verdict == verdict and not each.whole_road]
        if steps:
            names = ", ".join(f"<b>{_name(each.configuration, table)}</b>" for each in steps)
            lines.append(f"<li>{_badge(verdict)} <span>{names}</span></li>")
    return f'<ul class="lead">{"".join(lines)}</ul>' if lines else ""


def _section(number: int, table: Table, report: Report) -> str:
    """All that is said of one table."""
    heading = escape(words.heading(table, report.results))
    named = f"<h2 class='table-title'>{heading}</h2>" if len(report.results.tables) > 1 else ""
    against = (
        "each configuration against the one before it"
        if table.baseline is None
        else f"against <strong>{_name(table.baseline, table)}</strong>"
    )
    measure = f"{escape(table.measure.title)}, {words.order(table)}"
    parts = [f'<section class="table" data-table="{number}">{named}']
    if table.comparisons:
        parts += [
            f'<p class="against">Differences in {measure}, {against}; in brackets the 95% interval.</p>',
            f'<div class="cards">{"".join(_card(each, table) for each in _cards_first(table))}</div>',
            f"<h2>How big, and how sure</h2>{_forest(table)}",
        ]
    parts += [
        f"<h2>Learning curves</h2>{_legend(table)}{_curves_chart(number, table)}",
        f"<h2>Quality against cost</h2>{_cost_chart(number, table)}",
        f"<h2>All numbers</h2>{_full_table(table)}",
        f"<h2>Train one again</h2>{_commands(table)}</section>",
    ]
    return "".join(parts)


def _name(configuration: Configuration, table: Table) -> str:
    """The short name, its keys held back so that the options stand out; it may break within a word."""
    name = words.short_names(table)[1][table.configurations.index(configuration)]
    breakable = re.sub(r"([_.])(?=\w)", r"\1<wbr>", escape(name))
    parts = (word.partition("=") for word in breakable.split(" "))
    return " ".join(f'<span class="key">{key}=</span>{value}' if equals else key for key, equals, value in parts)


def _verdict_class(verdict: str) -> str:
    return verdict.replace(" ", "-")


def _badge(verdict: str) -> str:
    return f'<span class="badge {_verdict_class(verdict)}">{verdict}</span>'


def _cards_first(table: Table) -> list[Comparison]:
    """The whole road of a ladder before its steps."""
    return sorted(table.comparisons, key=lambda each: not each.whole_road)


def _card(comparison: Comparison, table: Table) -> str:
    digits = words.places(table)
    name, ends, road = _name(comparison.configuration, table), "", ""
    if comparison.whole_road:
        name, ends, road = "The whole road", f"{_name(comparison.baseline, table)} → {name}", " road"
    unmatched = words.unmatched(comparison)
    return (
        f'<article class="card {_verdict_class(comparison.verdict)}{road}">'
        f'<div class="card-head"><h3>{name}</h3>{_badge(comparison.verdict)}</div>'
        f'<p class="road-ends">{ends}</p>'
        f'<p class="big">{words.signed(comparison.difference.mean, digits)}'
        f' <span class="interval">{words.interval(comparison, digits)}</span></p>'
        f"<p>{escape(words.gist(comparison, table))}</p>"
        + (f'<p class="unmatched">{escape(unmatched[0].upper() + unmatched[1:])}</p>' if unmatched else "")
        + "</article>"
    )


def _forest(table: Table) -> str:
    """Each difference as a point with its interval, on one scale around zero."""
    low, high = _scale(table)
    rows = "".join(_forest_row(each, table, low, high) for each in table.comparisons)
    digits = _tick_digits(low, high)
    ticks = "".join(
        f'<i style="left:{_at(tick, low, high)}%">{words.signed(tick, digits) if tick else "0"}</i>'
        for tick in _ticks(low, high)
    )
    left, right = ("better", "worse") if table.measure.direction == "min" else ("worse", "better")
    ways = f'<b class="way left">← {left}</b><b class="way right">{right} →</b>'
    axis = f'<div class="forest-row axis"><span></span><span class="track">{ticks}{ways}</span></div>'
    return f'<div class="panel forest">{rows}{axis}</div>'


def _forest_row(comparison: Comparison, table: Table, low: float, high: float) -> str:
    difference, digits = comparison.difference, words.places(table)
    name = "The whole road" if comparison.whole_road else _name(comparison.configuration, table)
    marks = f'<i class="zero" style="left:{_at(0, low, high)}%"></i>'
    if difference.low is not None and difference.high is not None:
        cut = "cut" if difference.low < low or difference.high > high else ""
        start, end = _at(difference.low, low, high), _at(difference.high, low, high)
        marks += f'<i class="bar {cut}" style="left:{start}%;width:{end - start:.2f}%"></i>'
    if difference.mean is not None:
        marks += f'<i class="dot" style="left:{_at(difference.mean, low, high)}%"></i>'
    ends = f'<span class="interval">{words.interval(comparison, digits)}</span>'
    value = f'<span class="forest-value">{words.signed(difference.mean, digits)} {ends}</span>'
    found = escape(words.sentence(comparison, table, against=True))
    return (
        f'<div class="forest-row {_verdict_class(comparison.verdict)}" title="{found}">'
        f'<span class="forest-name">{name}</span><span class="track">{marks}</span>'
        f"{value}{_badge(comparison.verdict)}</div>"
    )


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


def _legend(table: Table) -> str:
    chips = "".join(
        f'<button class="chip" data-configuration="{place}" aria-pressed="true">'
        f'<i style="background:var(--c{place % COLOURS})">{place + 1}</i>{_name(each, table)}</button>'
        for place, each in enumerate(table.configurations)
    )
    return f'<div class="legend">{chips}</div>'


def _switch(number: int, kind: str, options: dict[str, str]) -> str:
    """Buttons of which one is on, at first the first."""
    buttons = "".join(
        f'<label><input type="radio" name="{kind}{number}" data-switch="{kind}" value="{escape(key)}"'
        f"{'' if place else ' checked'}><span>{escape(text)}</span></label>"
        for place, (key, text) in enumerate(options.items())
    )
    return f'<div class="switch" role="radiogroup">{buttons}</div>'


def _curves_chart(number: int, table: Table) -> str:
    available = {name for each in table.configurations for run in each.runs.values() for name in run.curve}
    curves = {name: name for name in dict.fromkeys((table.measure.name, *CURVES)) if name in available}
    axes = {name: text for name, text in AXES.items() if name in available}
    if not curves or not axes:
        return '<p class="note">These runs left no metrics.csv.</p>'
    return (
        '<div class="panel"><div class="switches">'
        f"{_switch(number, 'y', curves)}{_switch(number, 'x', axes)}</div>"
        '<div class="chart" data-chart="curves"></div>'
        '<p class="caption">Line: mean over seeds. Band: from the lowest to the highest seed. '
        "Double-click shows the whole range.</p></div>"
    )


def _cost_chart(number: int, table: Table) -> str:
    axes = {
        key: text.partition(",")[0]
        for key, text in COST_AXES.items()
        if any(each.average(key) is not None for each in table.configurations)
    }
    if not axes:
        return '<p class="note">These runs recorded no costs.</p>'
    return (
        f'<div class="panel"><div class="switches">{_switch(number, "cost", axes)}</div>'
        '<div class="chart" data-chart="cost"></div>'
        '<p class="caption">Each number is a configuration of the legend above; its line is the standard '
        f"deviation over seeds. {words.order(table).capitalize()}, and so is further left.</p></div>"
    )


def _full_table(table: Table) -> str:
    columns = [*words.quality_columns(table, "\n"), *words.cost_columns(table)]
    header, _ = words.short_names(table)
    heads = "".join(f"<th>{escape(column.title)}</th>" for column in columns)
    rows = []
    for place, configuration in enumerate(table.configurations):
        cells = "".join(_cell(column, place) for column in columns)
        number = f'<i class="number" style="background:var(--c{place % COLOURS})">{place + 1}</i>'
        name = _name(configuration, table)
        rows.append(f'<tr><th scope="row" data-value="{place}">{number}{name}</th>{cells}</tr>')
    return (
        f'<div class="panel scroll"><table><thead><tr><th>{escape(header)}</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        '<p class="caption">Time and speed are the mean over seeds, memory the highest. '
        "A click on a heading sorts.</p>"
    )


def _cell(column: words.Column, place: int) -> str:
    text, value = column.cells[place], column.values[place]
    shown = _badge(text) if column.title == "verdict" else escape(text)
    return f'<td data-value="{"" if value is None else escape(str(value))}">{shown}</td>'


def _commands(table: Table) -> str:
    rows = "".join(
        f"<dt>{_name(each, table)}</dt>"
        f'<dd><code>{escape(words.command(each))}</code><button class="copy">copy</button></dd>'
        for each in table.configurations
    )
    return f'<dl class="panel commands">{rows}</dl>'


def _not_counted(report: Report) -> str:
    lines = words.not_counted(report.results)
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<section id="not-counted"><h2>Not counted</h2><ul class="panel">{items}</ul></section>'


def _method(report: Report) -> str:
    rule = f"<p>{escape(words.rule(report.results))}</p>" if report.results.comparisons else ""
    runs = "".join(f"<p>{escape(line)}</p>" for line in words.wandb_runs(report.results))
    return (
        f'<section class="method"><h2>How the verdicts are reached</h2>{rule}{runs}</section>' if rule or runs else ""
    )
