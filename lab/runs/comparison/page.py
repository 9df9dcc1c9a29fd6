"""The report as one HTML page that holds all it needs: verdicts first, then how sure they are, curves, costs.

`page.html`, `page.css` and `page.js` beside this file are the page's frame, look and behaviour; here its content is made.
Whatever comes from a run folder is escaped. The browser draws the charts from a small JSON document as SVG.
"""

from __future__ import annotations

import re
from datetime import datetime
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

from lab.runs.comparison import method, words
from lab.runs.comparison.cards import badge, cards, forest, lead, name
from lab.runs.comparison.charts import AXES, CURVES, chart_data
from lab.runs.comparison.collect import DIVERGED, FAILED, NOT_STARTED, PRUNED, RunRecord
from lab.runs.comparison.columns import Column, cost_columns, quality_columns
from lab.runs.comparison.compare import MANY, Results, Table
from lab.runs.comparison.importance import hyperparameters, importance
from lab.runs.comparison.numbers import signed
from lab.runs.comparison.pareto import COSTS
from lab.runs.comparison.scaling import Scaling
from lab.runs.comparison.verdict import VERDICTS
from lab.script import script_json

if TYPE_CHECKING:
    from lab.runs.report import Preface, Report

COLOURS = 10
WEAK = 0.2
"""A rank correlation under which nothing is said of a direction."""


def page(report: Report) -> str:
    """The whole page."""
    results = report.results
    both = list(zip(results.tables, report.scalings, strict=True))
    content = {
        "title": escape(title(report)),
        "style": _file("page.css"),
        "script": _file("page.js"),
        "header": _header(report),
        "main": "".join(_section(number, table, scale, report) for number, (table, scale) in enumerate(both)),
        "after": _not_counted(report) + _method(report),
        "data": script_json([chart_data(table, scale, _apart(table, results)) for table, scale in both]),
    }
    return re.sub(r"\{\{ (\w+) \}\}", lambda place: content[place[1]], _file("page.html"))


def _apart(table: Table, results: Results) -> list[RunRecord]:
    """One run of each configuration of a search that has no result, however many of its seeds were tried."""
    if not table.is_search or len(results.tables) > 1:
        return []
    shown = {each.label for each in table.configurations}
    tried = {label: run for label, run, _ in results.not_counted if run.status in (DIVERGED, PRUNED, FAILED)}
    return [run for label, run in tried.items() if label not in shown]


def _file(named: str) -> str:
    return resources.files("lab.runs.comparison").joinpath(named).read_text("utf-8")


def title(report: Report) -> str:
    """What the browser's tab says."""
    names = ", ".join(dict.fromkeys(folder.resolve().name for folder in report.folders))
    return f"What each swap did – {names}"


def _header(report: Report) -> str:
    results = report.results
    runs = sum(len(each.runs) for table in results.tables for each in table.configurations)
    configurations = sum(len(table.configurations) for table in results.tables)
    folders = " ".join(f"<code>{escape(str(folder))}</code>" for folder in report.folders)
    missing = words.apart(results)
    apart = f' · <a href="#not-counted">{escape(missing)}</a>' if missing else ""
    found = f"{words.found(results)}."
    when = datetime.now().astimezone().strftime("%d %B %Y, %H:%M")
    return (
        f'<p class="kicker">{folders}</p>{_headline(found, report.preface)}{"".join(map(lead, results.tables))}'
        f'<p class="sub">{configurations} configurations, {runs} finished runs{apart} · {when}</p>'
        + "".join(f'<p class="note">{escape(note)}</p>' for note in results.notes)
    )


def _headline(found: str, preface: Preface | None) -> str:
    """What was found; of an experiment the claim and its verdict first."""
    if preface is None:
        return f"<h1>{escape(found)}</h1>"
    lines = "".join(
        f"<li>{badge(outcome)} <span>{escape(sentence)}</span></li>" for outcome, sentence in preface.statements
    )
    return (
        f'<p class="verdict">{badge(preface.verdict)}</p><h1>{escape(preface.claim)}</h1><ul class="lead">{lines}</ul>'
        f'<p class="tally">The comparisons of the sweep. {escape(found)}</p>'
    )


def _section(number: int, table: Table, scale: Scaling | None, report: Report) -> str:
    """All that is said of one table."""
    several = len(report.results.tables) > 1
    heading = f"<h2 class='table-title'>{escape(words.heading(table, report.results))}</h2>" if several else ""
    curves = f'<h2 id="curves{number}">Learning curves</h2>{_legend(table)}{_curves_chart(number, table)}'
    cost = f'<h2 id="cost{number}">Quality against cost</h2>{_cost_chart(number, table)}'
    numbers = f'<h2 id="numbers{number}">All numbers</h2>{_full_table(table)}'
    searched, compared, again = _hyperparameters(number, table), _comparisons(number, table), _commands(number, table)
    parts = [compared, _scaling(number, table, scale), curves, cost, searched, numbers, again]
    if table.is_search:  # nobody asked what each is beside the first
        parts = [searched, curves, cost, numbers, again, compared]
    return f'<section class="table" data-table="{number}">{heading}{"".join(parts)}</section>'


def _comparisons(number: int, table: Table) -> str:
    """Every verdict, then every interval."""
    if not table.comparisons:
        return ""
    measure = escape(f"{table.measure.title}, {words.order(table)}, {words.compared_with(table)}")
    against = f'<p class="against">Differences in {measure}; in brackets the interval.</p>'
    intervals = f'<h2 id="intervals{number}">How big, and how sure</h2>'
    if table.is_search:
        return f"{intervals}{against}{forest(table)}<details><summary>In words</summary>{cards(table)}</details>"
    return f"{against}{cards(table)}{intervals}{forest(table)}"


def _scaling(number: int, table: Table, scale: Scaling | None) -> str:
    if scale is None:
        return ""
    said = "".join(f"<li>{escape(line)}</li>" for line in words.scaling(scale, table))
    names = "".join(
        f'<span class="mark"><i style="background:var(--c{place % COLOURS})"></i>{escape(each.name)}</span>'
        for place, each in enumerate(scale.variants)
    )
    return (
        f'<h2 id="scale{number}">Along the scale</h2><div class="panel"><div class="marks">{names}</div>'
        f'<div class="chart" data-chart="scaling"></div><ul class="findings">{said}</ul>'
        '<p class="caption">Points: means over seeds with their standard deviation. Lines: the fitted curves, dotted '
        "beyond the largest size seen; their intervals take it for granted that the law holds.</p></div>"
    )


def _legend(table: Table) -> str:
    chips = "".join(
        f'<button class="chip" data-configuration="{place}" aria-pressed="true">'
        f'<i style="background:var(--c{place % COLOURS})">{place + 1}</i>{name(each, table)}</button>'
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
    first = table.firsts[0].curve
    available = {key for each in table.configurations for run in each.runs.values() for key in run.curve}
    names = [key for key in dict.fromkeys((table.measure.name, *CURVES)) if key in available]
    # What was measured once is a point: the others come first.
    curves = {key: key for key in sorted(names, key=lambda key: key not in first or _measured(first[key]) < 2)}
    axes = {key: text for key, text in AXES.items() if key in available}
    if not curves or not axes:
        return '<p class="note">These runs left no metrics.csv.</p>'
    return (
        '<div class="panel"><div class="switches">'
        f"{_switch(number, 'y', curves)}{_switch(number, 'x', axes)}</div>"
        '<div class="chart" data-chart="curves"></div>'
        '<p class="caption">Line: mean over seeds. Band: from the lowest to the highest seed. '
        f"Drag to zoom in; a double click shows all.{_tokens_differ(table)}</p></div>"
    )


def _tokens_differ(table: Table) -> str:
    """A warning where a loss of one run and of another are means over other things."""
    tokenizers = {(run.choices.get("tokenizer"), run.number("vocab_size")) for run in table.firsts}
    return " These models have different tokens, so that their losses, which are per token, do not compare." * (
        len(tokenizers) > 1
    )


def _measured(column: Any) -> int:
    import numpy as np

    return int(np.isfinite(column).sum())


def _cost_chart(number: int, table: Table) -> str:
    axes = {
        key: text for key, text in COSTS.items() if any(each.average(key) is not None for each in table.configurations)
    }
    if not axes:
        return '<p class="note">These runs recorded no costs.</p>'
    return (
        f'<div class="panel"><div class="switches">{_switch(number, "cost", axes)}</div>'
        '<div class="chart" data-chart="cost"></div>'
        '<p class="caption">Each number is a configuration of the legend above; its line is the standard deviation over '
        "seeds. The dashed line is the Pareto front of the means: nothing is as good for less. "
        f"{words.order(table).capitalize()}, and so is further left.</p></div>"
    )


def _hyperparameters(number: int, table: Table) -> str:
    few = len(table.configurations) < 4 and not table.is_search
    if few or table.scale or len(hyperparameters(table.firsts)) < 2:
        return ""
    return (
        f'<h2 id="search{number}">Hyperparameters</h2>{_importance(table)}<div class="panel"><div class="chart parallel" '
        'data-chart="parallel"></div><p class="caption">Each line is a configuration, the better the bluer. '
        f"{'Dashed: pruned, diverged or failed. ' if table.is_search else ''}Drag along an axis to keep the lines that pass "
        "there; a click on the axis lets all pass again.</p></div>"
    )


def _importance(table: Table) -> str:
    found = importance(table)
    if found is None:
        return ""
    bars = "".join(
        f'<div class="share"><span>{escape(key)}</span><i style="--share:{share:.4f}"></i><b>{share:.0%}</b>'
        f"<em>{_direction(found.directions.get(key), table)}</em></div>"
        for key, share in found.shares.items()
    )
    trust = (
        f"For configurations it has not seen, a forest foretells {found.explained:.0%} of the variance"
        if found.explained > 0
        else "A forest foretells nothing of configurations it has not seen: do not trust these shares"
    )
    return (
        f'<div class="panel shares">{bars}<p class="caption">Share of the variance over these {len(table.configurations)} '
        "configurations that each hyperparameter explains alone (fANOVA over a random forest), and its rank correlation with "
        f"the measure. It says what mattered within the values that were tried, not what is best. {trust}.</p></div>"
    )


def _direction(correlation: float | None, table: Table) -> str:
    """`higher is better, −0.83`; empty for words, and where it is next to nothing."""
    if correlation is None or abs(correlation) < WEAK:
        return ""
    better = (correlation < 0) == (table.measure.direction == "min")
    return f"{'higher' if better else 'lower'} is better, {signed(correlation, 2)}"


def _full_table(table: Table) -> str:
    columns = [*quality_columns(table, "\n"), *cost_columns(table)]
    header, _ = words.short_names(table)
    heads = "".join(f'<th tabindex="0">{escape(column.title)}</th>' for column in columns)
    rows = []
    for place, configuration in enumerate(table.configurations):
        cells = "".join(_cell(column, place) for column in columns)
        number = f'<i class="number" style="background:var(--c{place % COLOURS})">{place + 1}</i>'
        copy = f"<td>{_copy(words.command(configuration.all))}</td>"
        own = name(configuration, table, headed=True)
        rows.append(f'<tr><th scope="row" data-value="{place}">{number}{own}</th>{cells}{copy}</tr>')
    verdicts = [verdict for verdict in VERDICTS if verdict in {each.verdict for each in table.comparisons}]
    narrow = "".join(f'<button class="narrow" data-word="{each}">{badge(each)}</button>' for each in verdicts)
    return (
        '<div class="panel"><div class="filter"><input type="search" placeholder="Filter: mha, better, …" '
        f'aria-label="Filter the rows">{narrow}<span class="matches"></span></div><div class="scroll"><table><thead><tr>'
        f'<th tabindex="0">{escape(header)}</th>{heads}<th class="plain">command</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        '<p class="caption">Time and speed are the mean over seeds, memory the highest. '
        "A click on a heading sorts.</p></div>"
    )


def _cell(column: Column, place: int) -> str:
    text, value = column.cells[place], column.values[place]
    shown = badge(text) if column.title == "verdict" else escape(text)
    return f'<td data-value="{"" if value is None else escape(str(value))}">{shown}</td>'


def _copy(command: str) -> str:
    """A button that copies a command, nothing for none."""
    return f'<button class="copy" data-command="{escape(command)}">copy</button>' if command else ""


def _commands(number: int, table: Table) -> str:
    """How to train each configuration again, those that the lab trained."""
    rows = [
        f"<dt>{name(each, table)}</dt><dd><code>{escape(command)}</code>{_copy(command)}</dd>"
        for each in table.configurations
        if (command := words.command(each.all))
    ]
    if not rows:
        return ""
    first, rest = ("".join(part) for part in (rows[:MANY], rows[MANY:]))
    more = (
        f"<details><summary>{len(rows) - MANY} more</summary><dl class='commands'>{rest}</dl></details>" if rest else ""
    )
    listed = f'<div class="panel"><dl class="commands">{first}</dl>{more}</div>'
    return f'<h2 id="again{number}">Train one again</h2>{listed}'


def _not_counted(report: Report) -> str:
    items = []
    worst_first = sorted(report.results.not_counted, key=lambda each: each[1].status == PRUNED)
    for label, run, why in worst_first:
        if run.status != NOT_STARTED:
            seed = "" if run.seed is None else f", seed {run.seed}"
            items.append(
                f"<li>{badge(escape(run.status))} <b>{escape(label)}</b>{seed} {_copy(words.command([run]))}"
                f"<p>{escape(why)} <code>{escape(str(run.folder))}</code></p></li>"
            )
    if waiting := words.waiting(report.results):
        items.insert(0, f"<li>{badge(NOT_STARTED)} {waiting}</li>")
    if not items:
        return ""
    first, rest = ("".join(part) for part in (items[:MANY], items[MANY:]))
    more = f"<details><summary>{len(items) - MANY} more</summary><ul>{rest}</ul></details>" if rest else ""
    return (
        f'<section id="not-counted"><h2>Not counted</h2><div class="panel apart"><ul>{first}</ul>{more}</div></section>'
    )


def _method(report: Report) -> str:
    parts = method.parts(report.results) if report.results.comparisons else []
    if report.preface is not None:
        parts.insert(0, ("The claim", report.preface.rule))
    rule = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in parts)
    runs = "".join(f"<p>{escape(line)}</p>" for line in words.wandb_runs(report.results))
    if not rule and not runs:
        return ""
    return f'<section class="method" id="method"><h2>How the verdicts are reached</h2><dl>{rule}</dl>{runs}</section>'
