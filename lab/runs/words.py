"""How a report says things: numbers, findings in sentences, the rule of the verdicts, the columns."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from lab.runs.collect import NOT_STARTED
from lab.runs.compare import (
    BETTER,
    CONFIDENCE,
    FEWEST_PAIRS,
    TOO_FEW,
    UNDECIDED,
    WORSE,
    Comparison,
    Configuration,
    Results,
    Table,
)
from lab.runs.labels import told

NOTHING = "–"


def plain(text: str) -> str:
    """On one line, with what would steer a terminal made visible."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in " ".join(text.split()))


def scaled(value: float | None) -> str:
    """Three digits and a prefix: 3,412,224 is 3.41 M."""
    if value is None:
        return NOTHING
    for power, prefix in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 0.9995 * 10**power:
            return f"{_digits(value / 10**power)} {prefix}"
    return _digits(value)


def _digits(value: float) -> str:
    if value == int(value) and abs(value) < 1000:
        return str(int(value))
    return f"{value:#.3g}".rstrip(".")


def memory(size: float | None) -> str:
    """Bytes, in GiB or MiB."""
    if size is None:
        return NOTHING
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def duration(seconds: float | None) -> str:
    """41.3 s, 4 m 05 s, 2 h 07 m."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} m"


def number(value: float | None, places: int) -> str:
    """With a true minus sign."""
    return NOTHING if value is None else f"{value:.{places}f}".replace("-", "−")


def signed(value: float | None, places: int) -> str:
    """With its sign, also when it is a plus."""
    return NOTHING if value is None else f"{value:+.{places}f}".replace("-", "−")


def percent(change: float) -> str:
    """A change relative to a baseline: 0.12 is +12%."""
    return f"{change:+.{0 if abs(change) >= 0.1 else 1}%}".replace("-", "−")


def places(table: Table) -> int:
    """Decimals that show two digits of the usual interval or spread: 3 to 6."""
    differences = [each.difference for each in table.comparisons]
    widths = [(each.high - each.low) / 2 for each in differences if each.low is not None and each.high is not None]
    widths += [each.spread for each in table.configurations if each.spread is not None]
    usual = median([width for width in widths if width > 0] or [0.001])
    return min(6, max(3, 1 - math.floor(math.log10(usual))))


def short_names(table: Table) -> tuple[str, list[str]]:
    """A heading and a name for each configuration: where all labels set one key, it is the heading."""
    labels = [each.label for each in table.configurations]
    keys = {label.partition("=")[0] for label in labels}
    if len(keys) == 1 and all(label.count("=") == 1 and " " not in label for label in labels):
        return keys.pop(), [label.partition("=")[2] for label in labels]
    return "configuration", labels


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
    other = f" against {comparison.baseline.label}" if against or comparison.whole_road else ""
    if difference.mean is None:
        return f"{subject} shares no finished seed with {comparison.baseline.label}: {TOO_FEW}."
    pairs = f"over {len(difference.seeds)} paired seed{'s' if len(difference.seeds) > 1 else ''}"
    why = f" ({reason(comparison)})" if reason(comparison) else ""
    if comparison.verdict == UNDECIDED:
        change = f"{signed(difference.mean, digits)} {table.measure.title} {interval(comparison, digits)}"
        return f"{subject}: {change} {pairs}{other}: {UNDECIDED}{why}."
    sign, verb = (-1, "lowers") if difference.mean < 0 else (1, "raises")
    ends = ""
    if difference.low is not None and difference.high is not None:
        low, high = sorted((sign * difference.low, sign * difference.high))
        ends = f" [{number(low, digits)}, {number(high, digits)}]"
    change = f"{verb} {table.measure.title} by {number(abs(difference.mean), digits)}{ends}"
    return f"{subject} {change} {pairs}{other}: {comparison.verdict}{why}."


def gist(comparison: Comparison, table: Table) -> str:
    """What the change means, for beside the number: `Lowers bits per byte by 5.3%, over 5 paired seeds.`"""
    difference = comparison.difference
    seeds = f"over {len(difference.seeds)} paired seed{'' if len(difference.seeds) == 1 else 's'}"
    why = f" {reason(comparison)[:1].upper()}{reason(comparison)[1:]}." if reason(comparison) else ""
    if difference.mean is None:
        return f"No finished seed in common.{why}"
    if comparison.verdict == UNDECIDED:
        return f"No difference in {table.measure.title} shown, {seeds}.{why}"
    theirs = fmean(comparison.baseline.values[seed] for seed in difference.seeds)
    share = f" by {abs(difference.mean / theirs):.1%}" if theirs else ""
    return f"{'Lowers' if difference.mean < 0 else 'Raises'} {table.measure.title}{share}, {seeds}.{why}"


def reason(comparison: Comparison) -> str:
    """Why a verdict is not what the interval alone suggests, or what it lacks; else empty."""
    if comparison.only_before_correction:
        p = f"p = {comparison.corrected_p:.2g}"
        return f"the interval alone excludes zero; corrected for all comparisons, {p}"
    if comparison.verdict == TOO_FEW:
        return f"a verdict takes {FEWEST_PAIRS} pairs"
    return ""


def unmatched(comparison: Comparison) -> str:
    """`not at equal cost: parameters +12%`, empty where the two cost the same."""
    changes = [f"{name} {percent(change)}" for name, change in comparison.unmatched.items()]
    return f"not at equal cost: {', '.join(changes)}" if changes else ""


def tally(comparisons: Sequence[Comparison]) -> str:
    """`3 of 5 swaps are better, 1 is worse, 1 is undecided`."""
    steps = [each for each in comparisons if not each.whole_road]
    if not steps:
        return "There is one configuration, and nothing to compare it with"
    counts = {
        verdict: sum(each.verdict == verdict for each in steps) for verdict in (BETTER, WORSE, UNDECIDED, TOO_FEW)
    }
    said = []
    for verdict, count in counts.items():
        if count and verdict == TOO_FEW:
            said.append(f"{count} {'has' if count == 1 else 'have'} too few seeds")
        elif count:
            said.append(f"{count} {'is' if count == 1 else 'are'} {verdict}")
    return f"Of {len(steps)} swap{'s' if len(steps) > 1 else ''}, " + ", ".join(said)


def rule(results: Results) -> str:
    """How the verdicts were reached, so that a reader can check them."""
    asked = sum(each.corrected_p is not None for each in results.comparisons)
    counted = f"{asked} comparison{'' if asked == 1 else 's'}"
    return (
        "Two configurations are compared over the seeds that both finished: the mean of the paired "
        f"differences, with its {CONFIDENCE:.0%} t-interval (± is the standard deviation over seeds). "
        "A verdict is better or worse when the two-sided p-value of the paired t-test is under "
        f"{1 - CONFIDENCE:.2f} after Holm's correction for the {counted} of this report that can be decided; "
        "the interval then excludes zero. Otherwise it is undecided, and with "
        f"fewer than {FEWEST_PAIRS} pairs there are too few seeds for a verdict. "
        "Runs that are not finished never count."
    )


def command(configuration: Configuration) -> str:
    """What to type to train this configuration again, with all of its seeds."""
    seeds = ",".join(map(str, configuration.runs))
    many = ["-m"] if len(configuration.runs) > 1 else []
    return shlex.join(["lab", "train", *many, *told(configuration.first.overrides).values(), f"seed={seeds}"])


def order(table: Table) -> str:
    """Which way of the measure is good."""
    return f"{'lower' if table.measure.direction == 'min' else 'higher'} is better"


def heading(table: Table, results: Results) -> str:
    """What is compared with what."""
    data = "" if len(results.tables) == 1 else f" on data {table.data_fingerprint}"
    tokenizer = f", tokenizer {table.tokenizer}" if table.tokenizer else ""
    measure = f"{table.measure.title} ({order(table)}){data}{tokenizer}"
    if table.baseline is None:
        return plain(f"{measure}, each configuration against the one before it")
    return plain(f"{measure}, against {table.baseline.label}")


def not_counted(results: Results) -> list[str]:
    """A line for each run that is no result, and one for all that a sweep has not started."""
    lines = [
        plain(
            f"{label}{'' if run.seed is None else f' seed {run.seed}'}: {run.status}{why and f', {why}'} ({run.folder})"
        )
        for label, run, why in results.not_counted
        if run.status != NOT_STARTED
    ]
    waiting = Counter(run.status for _, run, _ in results.not_counted)[NOT_STARTED]
    if waiting:
        lines.append(f"{waiting} planned run{' has' if waiting == 1 else 's have'} not started")
    return lines


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
    return list(dict.fromkeys(str(run.result["wandb"]) for run in runs if run.result.get("wandb")))


@dataclass(frozen=True)
class Column:
    """A heading, and for each configuration what the table shows and what it is sorted by."""

    title: str
    cells: list[str]
    values: Sequence[float | str | None]


def quality_columns(table: Table, gap: str) -> list[Column]:
    """What was reached; `gap` stands between a difference and its interval."""
    digits = places(table)
    rows = table.configurations
    own = [table.comparison_of(each) for each in rows]
    changes = [
        "" if each is None else f"{signed(each.difference.mean, digits)}{gap}{interval(each, digits)}".strip()
        for each in own
    ]
    alone = "baseline" if table.baseline else "first"
    verdicts = [alone if each is None else each.verdict for each in own]
    return [
        Column("seeds", [str(len(each.runs)) for each in rows], [len(each.runs) for each in rows]),
        Column(table.measure.title, [level(each, digits) for each in rows], [each.mean for each in rows]),
        Column(f"difference{gap}[95%]", changes, [0 if each is None else each.difference.mean for each in own]),
        Column("verdict", verdicts, verdicts),
    ]


def cost_columns(table: Table) -> list[Column]:
    """What training took: of one run, the mean over seeds; of memory the highest."""

    def column(title: str, key: str, shown: Callable[[float | None], str]) -> Column:
        values = [each.average(key) for each in table.configurations]
        return Column(title, [shown(value) for value in values], values)

    peaks = [peak_memory(each) for each in table.configurations]
    counts = [each.average("parameters") for each in table.configurations]
    return [
        Column("parameters", [parameters(each) for each in table.configurations], counts),
        column("FLOPs", "flops", scaled),
        column("tokens", "tokens_seen", scaled),
        column("time", "seconds", duration),
        column("tokens/s", "tokens_per_second", scaled),
        Column("memory", [memory(peak) for peak in peaks], peaks),
    ]


def parameters(configuration: Configuration) -> str:
    """The count, and how many are active per token where that is fewer."""
    total, active = configuration.average("parameters"), configuration.average("parameters_active")
    some = f" ({scaled(active)} active)" if active is not None and active != total else ""
    return scaled(total) + some


def peak_memory(configuration: Configuration) -> float | None:
    """The highest peak over the seeds, bytes."""
    return max(configuration.numbers("peak_memory_bytes"), default=None)
