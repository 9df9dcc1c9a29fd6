"""How a report says things: findings in sentences, what was left out, what to type."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

from lab.runs.comparison.collect import NOT_STARTED, RunRecord
from lab.runs.comparison.compare import Comparison, Configuration, Results, Table
from lab.runs.comparison.configurations import given_up, was_given_up
from lab.runs.comparison.labels import told
from lab.runs.comparison.numbers import number, percent, plain, scaled, signed
from lab.runs.comparison.scaling import Scaling
from lab.runs.comparison.verdict import EQUIVALENT, FEWEST_PAIRS, TOO_FEW, UNDECIDED, VERDICTS

WORTHWHILE = 100
FINGERPRINT = 8
"""Of its digits so many are shown."""
DRAWN = re.compile(r"(?<==)-?\d+\.\d{5,}(e-?\d+)?(?= |$)")
"""A number with more digits than anybody types."""


def places(table: Table) -> int:
    """Decimals that show two digits of the usual interval or spread, and of no interval that excludes zero an end as zero: 3
    to 6.
    """
    differences = [each.difference for each in table.comparisons]
    nearest = [min(abs(each.low or 0), abs(each.high or 0)) for each in differences if each.excludes_zero]
    shown = max((-math.floor(math.log10(end)) for end in nearest if end), default=0)
    widths = [(each.high - each.low) / 2 for each in differences if each.low is not None and each.high is not None]
    widths += [each.spread for each in table.configurations if each.spread is not None]
    usual = median([width for width in widths if width > 0] or [0.001])
    return min(6, max(3, shown, 1 - math.floor(math.log10(usual))))


def short_names(table: Table) -> tuple[str, list[str]]:
    """A heading and a name for each configuration: where all labels set one key, it is the heading; numbers that were
    drawn are rounded where that leaves all names apart.
    """
    whole = [each.label for each in table.configurations]
    labels = [DRAWN.sub(lambda number: f"{float(number[0]):.4g}", label) for label in whole]
    if len(set(labels)) < len(labels):
        labels = whole
    keys = {label.partition("=")[0] for label in labels}
    if len(keys) == 1 and all(label.count("=") == 1 and " " not in label for label in labels):
        return keys.pop(), [label.partition("=")[2] for label in labels]
    return "configuration", labels


def column_names(table: Table) -> tuple[str, list[str]]:
    """The same for a column of text, where room is short: keys that all labels set, in one order, are the heading, by their
    last parts where those tell them apart.
    """
    header, names = short_names(table)
    labels = [name.split(" ") for name in names]
    keys = {tuple(word.partition("=")[0] for word in label) for label in labels}
    keyed = len(keys) == 1 and all("=" in word for label in labels for word in label)
    if not (keyed and all(map(_is_of_words, table.configurations))):
        return header, names
    heads = keys.pop()
    lasts = [key.rpartition(".")[2] for key in heads]
    values = [", ".join(word.partition("=")[2] for word in label) for label in labels]
    return ", ".join(lasts if len(set(lasts)) == len(lasts) else heads), values


def _is_of_words(configuration: Configuration) -> bool:
    """Whether spaces in its label stand between overrides alone, and not in a value."""
    run = configuration.first
    rest = set(configuration.label.split(" ")).difference(told(run.overrides).values())
    # The configuration is a file to be read: only for words that nobody typed.
    return not rest or rest.issubset(f"{key}={value}" for key, value in {**run.config, **run.choices}.items())


def interval(comparison: Comparison, digits: int) -> str:
    """[low, high], empty under 2 pairs."""
    low, high = comparison.difference.low, comparison.difference.high
    return "" if low is None else f"[{signed(low, digits)}, {signed(high, digits)}]"


def level(configuration: Configuration, digits: int) -> str:
    """Mean ± standard deviation over seeds."""
    spread = "" if configuration.spread is None else f" ± {number(configuration.spread, digits)}"
    return number(configuration.mean, digits) + spread


def sentence(comparison: Comparison, table: Table, against: bool) -> str:
    """`block=pre_norm lowers bits per byte by 0.123 [0.101, 0.145] over 4 paired seeds: better.`

    With `against`, the other side is named, for where no common baseline is.
    """
    difference, digits = comparison.difference, places(table)
    label = comparison.configuration.label
    subject = f"The whole road to {label}" if comparison.whole_road else label
    other = f" against {comparison.baseline.label}" if against or comparison.whole_road or table.scale else ""
    if difference.mean is None:
        return f"{subject} shares no finished seed with {comparison.baseline.label}: {TOO_FEW}."
    pairs = f"over {_seeds(comparison)}"
    why = f" ({reason(comparison, table)})" if reason(comparison, table) else ""
    if comparison.verdict in (UNDECIDED, EQUIVALENT):
        change = f"{signed(difference.mean, digits)} {table.measure.title} {interval(comparison, digits)}"
        return f"{subject}: {change} {pairs}{other}: {comparison.verdict}{why}."
    if difference.mean == 0:
        return f"{subject} leaves {table.measure.title} as it is {pairs}{other}: {comparison.verdict}{why}."
    sign, verb = (-1, "lowers") if difference.mean < 0 else (1, "raises")
    ends = ""
    if difference.low is not None and difference.high is not None:
        low, high = sorted((sign * difference.low, sign * difference.high))
        ends = f" [{number(low, digits)}, {number(high, digits)}]"
    change = f"{verb} {table.measure.title} by {number(abs(difference.mean), digits)}{ends}"
    return f"{subject} {change} {pairs}{other}: {comparison.verdict}{why}."


def _seeds(comparison: Comparison) -> str:
    count = len(comparison.difference.seeds)
    return f"{count} paired seed{'' if count == 1 else 's'}"


def gist(comparison: Comparison, table: Table) -> str:
    """What the change means, for beside the number: `Lowers bits per byte by 5.3%, over 5 paired seeds.`"""
    difference = comparison.difference
    seeds = f"over {_seeds(comparison)}"
    why = reason(comparison, table)
    why = f" {why[:1].upper()}{why[1:]}." if why else ""
    if difference.mean is None:
        return f"No finished seed in common.{why}"
    if comparison.verdict == EQUIVALENT:
        return f"Makes no difference in {table.measure.title} beyond the margin, {seeds}.{why}"
    if comparison.missed:
        return f"No verdict, {seeds}.{why}"
    if comparison.verdict == UNDECIDED:
        return f"No difference in {table.measure.title} shown, {seeds}.{why}"
    if difference.mean == 0:
        return f"Leaves {table.measure.title} as it is, {seeds}.{why}"
    theirs = fmean(comparison.baseline.values[seed] for seed in difference.seeds)
    share = f" by {abs(difference.mean / theirs):.1%}" if theirs else ""
    return f"{'Lowers' if difference.mean < 0 else 'Raises'} {table.measure.title}{share}, {seeds}.{why}"


def reason(comparison: Comparison, table: Table) -> str:
    """Why a verdict is not what the interval alone suggests, what it lacks, what would decide it; else empty."""
    if comparison.verdict == TOO_FEW:
        return f"a verdict takes {FEWEST_PAIRS} pairs"
    if comparison.verdict == EQUIVALENT:
        return f"within ±{comparison.margin:g}"
    if comparison.verdict != UNDECIDED:
        return ""
    if comparison.missed:
        return comparison.missed
    if not comparison.difference.varies:
        return "the differences do not vary over seeds, which are no replicates then"
    said = []
    if comparison.only_before_correction:
        p = f"p = {comparison.corrected_p:.2g}"
        said.append(f"the interval alone excludes zero; corrected for all comparisons, {p}")
    if comparison.look is None:
        said.append(to_decide(comparison))
        if comparison.detectable is not None:
            seeds = len(comparison.difference.seeds)
            said.append(f"{seeds} suffice for one of {number(comparison.detectable, places(table))} or more")
    elif comparison.look.go_on:
        said.append("another seed may decide it")
    else:
        said.append("at the most seeds that were planned")
    return "; ".join(said)


def to_decide(comparison: Comparison) -> str:
    """How many seeds would decide it, should the difference be what it seems."""
    needed = comparison.seeds_needed
    if needed is not None and needed <= WORTHWHILE:
        return f"about {needed} seeds would decide it"
    other = "" if comparison.margin else ", --margin may call it equivalent sooner"
    return f"over {WORTHWHILE} seeds would decide a difference this small{other}"


def noise_floor(table: Table) -> str:
    """What seeds alone do, said beside the differences; empty where no configuration has two seeds."""
    floor = table.noise_floor
    if table.noise is None or floor is None:
        return ""
    digits = places(table)
    return (
        f"Noise floor: a run spreads by {number(table.noise.sd, digits)} over seeds, so that one and the same "
        f"configuration, against itself with {table.usual_pairs} other seeds, differs by up to {number(floor, digits)} "
        "in 95 of 100 cases."
    )


def effect(comparison: Comparison) -> str:
    """`2.4 times the spread over seeds`, empty where that is unknown."""
    size = comparison.effect
    if size is None:
        return ""
    return f"{abs(size):{'.0f' if abs(size) >= 10 else '.2g'}} times the spread over seeds"


def scaling(scale: Scaling, table: Table) -> list[str]:
    """What a scale shows: how each difference changes along it, and the curve of each variant."""
    lines = []
    for trend in scale.trends:
        slope = trend.slope
        if slope.mean is None:
            lines.append(f"{trend.variant}: no seed finished every size: {TOO_FEW}.")
            continue
        ends = "" if slope.low is None else f" [{signed(slope.low, 4)}, {signed(slope.high, 4)}]"
        lines.append(
            f"{trend.variant} against {trend.baseline}: the difference, {signed(trend.mean.mean, 4)} over all sizes, changes "
            f"by {signed(slope.mean, 4)}{ends} {table.measure.title} with every tenfold {scale.title}: {trend.verdict}."
        )
    for variant in scale.variants:
        if curve := variant.curve:
            lines.append(
                f"{variant.name}: {curve.floor:.3g} + {curve.factor:.3g} (C / {scaled(curve.reference)})^−"
                f"{curve.exponent:.3g}, C {scale.title}; exponent{_ends(curve.exponent_ends)}, "
                f"offset{_ends(curve.floor_ends)}."
            )
    return lines


def _ends(ends: tuple[float, float] | None) -> str:
    return " without an interval" if ends is None else f" [{ends[0]:.3g}, {ends[1]:.3g}]"


def unmatched(comparison: Comparison) -> str:
    """`not at equal cost: parameters +12%`, empty where the two cost the same."""
    changes = [f"{name} {percent(change)}" for name, change in comparison.unmatched.items()]
    return f"not at equal cost: {', '.join(changes)}" if changes else ""


def tally(comparisons: Sequence[Comparison]) -> str:
    """`3 of 5 swaps are better, 1 is worse, 1 is undecided`."""
    steps = [each for each in comparisons if not each.whole_road]
    if not steps:
        return "There is one configuration, and nothing to compare it with"
    counts = Counter(each.verdict for each in steps)
    said = []
    for verdict in VERDICTS:
        if counts[verdict] and verdict == TOO_FEW:
            said.append(f"{counts[verdict]} {'has' if counts[verdict] == 1 else 'have'} too few seeds")
        elif counts[verdict]:
            said.append(f"{counts[verdict]} {'is' if counts[verdict] == 1 else 'are'} {verdict}")
    return f"Of {len(steps)} swap{'s' if len(steps) > 1 else ''}, " + ", ".join(said)


def found(results: Results) -> str:
    """The whole in a sentence."""
    if not results.tables:
        return "No run is finished yet"
    if len(results.tables) == 1 and results.tables[0].is_search:
        return best(results.tables[0])
    if not results.comparisons and len(results.tables) > 1:
        return f"Of {len(results.tables)} configurations no two can be compared"
    return tally(results.comparisons)


def best(table: Table) -> str:
    """`The best of 40 configurations that finished reaches 2.111 ± 0.016 bits per byte`."""
    reached = f"{level(table.configurations[0], places(table))} {table.measure.title}"
    return f"The best of {len(table.configurations)} configurations that finished reaches {reached}"


LUCK = "The best of many was chosen by the very numbers that praise it: train it again with other seeds before believing them."


def close(table: Table) -> list[Configuration]:
    """The configurations whose mean is no farther from the best than seeds alone take two means."""
    first, *others = table.configurations
    return [each for each in others if table.noise_floor and abs(each.mean - first.mean) <= table.noise_floor]


def bootstrap(comparison: Comparison, digits: int) -> str:
    """The bootstrap's interval, and whether it disagrees; empty where there are too few seeds for one."""
    ends = comparison.difference.bootstrap
    if ends is None:
        return ""
    said = f"bootstrap [{signed(ends[0], digits)}, {signed(ends[1], digits)}]"
    excludes = ends[0] > 0 or ends[1] < 0
    return said if excludes == comparison.difference.excludes_zero else f"{said}, which disagrees about zero"


def command(runs: Sequence[RunRecord]) -> str:
    """What to type to train these runs of one configuration again; empty where the lab did not train them.

    The number of threads is part of it: sums in another order have other last digits.
    """
    seeds = [str(run.seed) for run in runs if run.seed is not None]
    if runs[0].foreign or not seeds:
        return ""
    words = list(told(runs[0].overrides).values())
    threads = {run.number("threads") for run in runs}
    if len(threads) == 1 and (number := threads.pop()):
        words.append(f"trainer.threads={number:.0f}")
    return shlex.join(["lab", "train", *(["-m"] if len(seeds) > 1 else []), *words, f"seed={','.join(seeds)}"])


def order(table: Table) -> str:
    """Which way of the measure is good."""
    return f"{'lower' if table.measure.direction == 'min' else 'higher'} is better"


def heading(table: Table, results: Results) -> str:
    """What is compared with what."""
    known = table.data_fingerprint and table.data_fingerprint[:FINGERPRINT]
    data = "" if len(results.tables) == 1 else f" on data {known or 'that is not on record'}"
    asked = f", {table.asked}" if table.asked else ""
    return plain(f"{table.measure.title} ({order(table)}){data}{asked}, {compared_with(table)}")


def compared_with(table: Table) -> str:
    """What a configuration is compared with."""
    if table.baseline is None:
        return "each configuration against the one before it"
    if table.scale:
        reference = next(name for name, sizes in table.grid.items() if table.baseline in sizes.values())
        return f"each variant against {reference} at its own {', '.join(table.scale)}"
    return f"against {table.baseline.label}"


def not_counted(results: Results) -> list[str]:
    """A line for each run that is no result, and one for all that a sweep has not started."""
    lines = [
        plain(
            f"{label}{'' if run.seed is None else f' seed {run.seed}'}: {run.status}{why and f', {why}'} ({run.folder})"
        )
        for label, run, why in results.not_counted
        if run.status != NOT_STARTED
    ]
    return [*lines, *filter(None, [waiting(results)])]


def apart(results: Results) -> str:
    """`2 pruned, 1 failed`: the runs that are no results, by how they ended; empty for none."""
    count = Counter(run.status for _, run, _ in results.not_counted if run.status != NOT_STARTED)
    return ", ".join(
        filter(None, [*(f"{number} {status}" for status, number in count.most_common()), waiting(results)])
    )


def waiting(results: Results) -> str:
    """How many runs a sweep has not started; empty for none."""
    others = given_up(run for _, run, _ in results.not_counted)
    planned = [run for _, run, _ in results.not_counted if run.status == NOT_STARTED]
    spared = sum(was_given_up(run, others) for run in planned)
    count = len(planned) - spared
    said = [f"{count} planned run{' has' if count == 1 else 's have'} not started"] if count else []
    if spared:
        said.append(f"{spared} not run, since another seed of the configuration was given up")
    return ", ".join(said)


def wandb_runs(results: Results) -> list[str]:
    """Where the W&B runs are, and how to read those that are not on a server."""
    places = wandb_places(results)
    online = [place for place in places if "://" in place]
    offline = [place for place in places if "://" not in place]
    lines = [f"W&B: {len(online)} runs on the server, the first is {online[0]}"] if online else []
    if offline:
        lines.append(
            f"W&B: {len(offline)} offline run{'s' if len(offline) > 1 else ''}; "
            f"read one with `wandb leet {offline[0]}`, send one with `wandb sync {offline[0]}`"
        )
    return [plain(line) for line in lines]


def wandb_places(results: Results) -> list[str]:
    """Folders or addresses of the runs that count, each once."""
    runs = [run for table in results.tables for each in table.configurations for run in each.runs.values()]
    return list(dict.fromkeys(_wandb_place(run) for run in runs if run.result.get("wandb")))


def _wandb_place(run: RunRecord) -> str:
    """Where its folder has it now, which may have been moved since; else where it says."""
    said = str(run.result["wandb"])
    here = run.folder / "wandb" / Path(said).name
    return str(here) if "://" not in said and here.exists() else said
