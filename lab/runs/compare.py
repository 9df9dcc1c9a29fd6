"""What a swap did: differences over paired seeds, how sure they are, and the verdict.

Runs of one configuration differ by seed alone. A seed fixes the order of the data and the initial values, so
two configurations are compared seed by seed, and the differences are averaged (a paired t-test). One report
asks many such questions; Holm's correction (1979) keeps the chance of any false verdict among them under 5%.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import fmean, stdev

from lab.errors import RequestError
from lab.runs import labels
from lab.runs.collect import FINISHED, LOSS_PER_TOKEN, Measure, RunRecord

CONFIDENCE = 0.95
FEWEST_PAIRS = 3
PREVIOUS = "previous"
COSTS = {"parameters": "parameters", "flops": "training FLOPs", "tokens_seen": "training tokens"}
EQUAL_COST = 0.01

BETTER, WORSE, UNDECIDED, TOO_FEW = "better", "worse", "undecided", "too few seeds"


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences, in the unit of the measure.

    Attributes:
        seeds: those that both sides have.
        mean: None without a pair.
        low, high: ends of the 95% t-interval; None under 2 pairs.
        p: two-sided p-value of the paired t-test; None under 2 pairs.
    """

    seeds: tuple[int, ...]
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def excludes_zero(self) -> bool:
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference:
    """`values` less `baseline`, each by seed, over the seeds that both have."""
    seeds = tuple(sorted(values.keys() & baseline.keys()))
    differences = [values[seed] - baseline[seed] for seed in seeds]
    if not differences:
        return Difference(seeds)
    mean = fmean(differences)
    if len(differences) == 1:
        return Difference(seeds, mean)
    freedom = len(differences) - 1
    error = stdev(differences) / math.sqrt(len(differences))
    if error == 0:
        return Difference(seeds, mean, mean, mean, 1.0 if mean == 0 else 0.0)
    from scipy.special import stdtr, stdtrit

    reach = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    p = 2 * float(stdtr(freedom, -abs(mean) / error))
    return Difference(seeds, mean, mean - reach, mean + reach, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected by Holm's step-down rule: by chance, any is under 5% in at most 5% of reports."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def judge(difference: Difference, corrected_p: float | None, direction: str) -> str:
    """The verdict. A corrected p-value is never under the plain one: no verdict contradicts its interval."""
    if corrected_p is None or difference.mean is None or len(difference.seeds) < FEWEST_PAIRS:
        return TOO_FEW
    if corrected_p >= 1 - CONFIDENCE or not difference.excludes_zero:
        return UNDECIDED
    return BETTER if (difference.mean < 0) == (direction == "min") else WORSE


@dataclass(frozen=True, eq=False)
class Configuration:
    """The runs that count of one configuration, one a seed.

    Attributes:
        key: its hash.
        label: what tells it from the others.
        runs: seed -> run, finished and with a value.
    """

    key: str
    label: str
    runs: Mapping[int, RunRecord]

    @property
    def values(self) -> dict[int, float]:
        """Seed -> what the run reached."""
        return {seed: run.value for seed, run in self.runs.items() if run.value is not None}

    @property
    def mean(self) -> float:
        return fmean(self.values.values())

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None for a single one."""
        return stdev(self.values.values()) if len(self.runs) > 1 else None

    @property
    def first(self) -> RunRecord:
        return next(iter(self.runs.values()))

    def numbers(self, key: str) -> list[float]:
        """What the runs recorded under this key of `result.json`; those without a number are left out."""
        return [number for run in self.runs.values() if (number := run.number(key)) is not None]

    def average(self, key: str) -> float | None:
        numbers = self.numbers(key)
        return fmean(numbers) if numbers else None


@dataclass(frozen=True, eq=False)
class Comparison:
    """One configuration against another.

    Attributes:
        whole_road: the last of a ladder against the first.
        corrected_p: Holm's; None where there are too few pairs for a verdict.
    """

    configuration: Configuration
    baseline: Configuration
    difference: Difference
    verdict: str
    corrected_p: float | None = None
    whole_road: bool = False

    @property
    def unmatched(self) -> dict[str, float]:
        """Costs in which the two differ, by name: how much more than the baseline (0.12 is 12%)."""
        changes = {}
        for key, name in COSTS.items():
            mine, theirs = self.configuration.average(key), self.baseline.average(key)
            if mine is not None and theirs and abs(mine / theirs - 1) > EQUAL_COST:
                changes[name] = mine / theirs - 1
        return changes

    @property
    def only_before_correction(self) -> bool:
        """The interval excludes zero, but not after Holm's correction."""
        return self.verdict == UNDECIDED and self.difference.excludes_zero


@dataclass(frozen=True, eq=False)
class Table:
    """Configurations that may be compared: the same data and the same measure.

    Attributes:
        tokenizer: the one that all share, where the measure can't be compared across tokenizers.
        baseline: None on a ladder, where each is compared with the one before it.
        configurations: best first; on a ladder in its order.
        comparisons: in the order of the configurations; on a ladder the whole road comes last.
    """

    measure: Measure
    data_fingerprint: str | None
    tokenizer: str | None
    baseline: Configuration | None
    configurations: Sequence[Configuration]
    comparisons: Sequence[Comparison]

    def comparison_of(self, configuration: Configuration) -> Comparison | None:
        """The row's own comparison: with the baseline, or with the one before."""
        own = (each for each in self.comparisons if each.configuration is configuration and not each.whole_road)
        return next(own, None)


@dataclass(frozen=True, eq=False)
class Results:
    """All that a report says, in numbers.

    Attributes:
        ladder: each configuration is compared with the one before it.
        not_counted: (label, run, why) of each run that is not a result.
        notes: what a reader must know to read the tables right.
    """

    tables: Sequence[Table]
    ladder: bool
    not_counted: Sequence[tuple[str, RunRecord, str]]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def comparisons(self) -> list[Comparison]:
        return [comparison for table in self.tables for comparison in table.comparisons]


def compare(runs: Sequence[RunRecord], baseline: str | None = None) -> Results:
    """Compare configurations over paired seeds.

    Args:
        runs: in the order of the sweep, the first configuration is the baseline unless another is named.
        baseline: a label, an override, a chosen option; `previous` compares each configuration with the one
            before it, and the last with the first.

    Raises:
        RequestError: `baseline` means no configuration, several, or one without a finished run.
    """
    ladder = baseline == PREVIOUS
    groups: dict[str, RunRecord] = {}
    for run in runs:
        if run.result:
            groups.setdefault(_key(run), run)
    names = dict(zip(groups, labels.label_all(list(groups.values())), strict=True))
    counted, not_counted, notes = _count(runs, names)
    chosen = None if baseline is None or ladder else _named(baseline, groups, names, counted)
    sorts = _comparable(counted, names)
    tables = _correct([_table(sort, configurations, chosen, ladder) for sort, configurations in sorts.items()])
    notes += _missing(tables, names, chosen, ladder) + _cautions(tables, counted)
    return Results(tables, ladder, not_counted, notes)


def _named(baseline: str, groups: Mapping[str, RunRecord], names: Mapping[str, str], counted: list[RunRecord]) -> str:
    """The key of the configuration that `--baseline` means."""
    chosen = list(names)[labels.find(baseline, list(names.values()), list(groups.values()), "--baseline")]
    finished = dict.fromkeys(names[_key(run)] for run in counted)
    if names[chosen] not in finished:
        raise RequestError(
            f"--baseline {baseline} means {names[chosen]}, which has no finished run; "
            f"with finished runs: {labels.listing(list(finished)) or 'none'}"
        )
    return chosen


def _key(run: RunRecord) -> str:
    return run.configuration or " ".join(sorted(labels.told(run.overrides).values()))


def _count(
    runs: Sequence[RunRecord], names: Mapping[str, str]
) -> tuple[list[RunRecord], list[tuple[str, RunRecord, str]], list[str]]:
    """The runs that are results; those that are not, and why; notes on those left out for a newer one."""
    newest: dict[tuple[str, int, str | None], RunRecord] = {}
    not_counted, notes = [], []
    for run in runs:
        label = names[_key(run)] if run.result else " ".join(labels.told(run.overrides).values()) or run.folder.name
        if run.status != FINISHED:
            not_counted.append((label, run, run.error or ""))
        elif run.seed is None or run.value is None:
            missing = "seed" if run.seed is None else run.measure.name
            not_counted.append((label, run, f"result.json holds no {missing}"))
        else:
            place = (_key(run), run.seed, run.data_fingerprint)
            older, newer = sorted((newest.get(place, run), run), key=lambda each: each.started)
            newest[place] = newer
            if older is not newer:
                notes.append(
                    f"{label} seed {run.seed} ran twice: {newer.folder} counts, being newer than {older.folder}."
                )
    return list(newest.values()), not_counted, notes


Sort = tuple[str | None, Measure, str | None]


def _comparable(runs: Iterable[RunRecord], names: Mapping[str, str]) -> dict[Sort, list[Configuration]]:
    """Configurations by what makes them comparable: data, measure, and the tokenizer where it matters."""
    sorts: dict[Sort, dict[str, dict[int, RunRecord]]] = {}
    for run in runs:
        tokenizer = _tokenizer(run) if run.measure.name == LOSS_PER_TOKEN.name else None
        by_key = sorts.setdefault((run.data_fingerprint, run.measure, tokenizer), {})
        by_key.setdefault(_key(run), {})[run.seed or 0] = run
    order = list(names)
    return {
        sort: [Configuration(key, names[key], dict(sorted(by_key[key].items()))) for key in order if key in by_key]
        for sort, by_key in sorts.items()
    }


def _tokenizer(run: RunRecord) -> str:
    size = run.config.get("tokenizer.vocab_size", "")
    return f"{run.choices.get('tokenizer', 'of unknown kind')} {size}".strip()


def _table(sort: Sort, configurations: list[Configuration], chosen: str | None, ladder: bool) -> Table:
    """A table with the verdicts still open: they need all comparisons of the report."""
    data, measure, tokenizer = sort
    if ladder:
        steps = [(after, before, False) for before, after in pairwise(configurations)]
        if len(configurations) > 2:
            steps.append((configurations[-1], configurations[0], True))
        comparisons = [_open(*step) for step in steps]
        return Table(measure, data, tokenizer, None, configurations, comparisons)
    baseline = next((each for each in configurations if each.key == chosen), configurations[0])
    sign = 1 if measure.direction == "min" else -1
    ordered = sorted(configurations, key=lambda each: sign * each.mean)
    comparisons = [_open(each, baseline) for each in ordered if each is not baseline]
    return Table(measure, data, tokenizer, baseline, ordered, comparisons)


def _open(configuration: Configuration, baseline: Configuration, whole_road: bool = False) -> Comparison:
    difference = paired_difference(configuration.values, baseline.values)
    return Comparison(configuration, baseline, difference, TOO_FEW, whole_road=whole_road)


def _correct(tables: Sequence[Table]) -> list[Table]:
    """The tables with their verdicts, corrected over all comparisons that have pairs enough."""
    asked = {
        id(comparison): comparison.difference.p
        for table in tables
        for comparison in table.comparisons
        if comparison.difference.p is not None and len(comparison.difference.seeds) >= FEWEST_PAIRS
    }
    corrected = dict(zip(asked, holm(list(asked.values())), strict=True))

    def close(comparison: Comparison, direction: str) -> Comparison:
        p = corrected.get(id(comparison))
        return replace(comparison, corrected_p=p, verdict=judge(comparison.difference, p, direction))

    return [
        replace(table, comparisons=[close(each, table.measure.direction) for each in table.comparisons])
        for table in tables
    ]


def _missing(tables: Sequence[Table], names: Mapping[str, str], chosen: str | None, ladder: bool) -> list[str]:
    """What is said of configurations that were asked for and have no finished run."""
    present = {each.key for table in tables for each in table.configurations}
    absent = [name for key, name in names.items() if key not in present]
    if not tables or (not absent and chosen is None):
        return []
    notes = []
    if ladder and absent:
        notes.append(
            f"Without a finished run: {labels.listing(absent)}; the next is compared with the last that has one."
        )
    elif chosen is None and names[next(iter(names))] in absent:
        notes.append(f"The first configuration, {absent[0]}, has no finished run; the first that has is the baseline.")
    for table in tables:
        if chosen is not None and table.baseline is not None and table.baseline.key != chosen:
            notes.append(
                f"{names[chosen]} was not run on data {table.data_fingerprint}; "
                f"{table.baseline.label} is the baseline there."
            )
    return notes


def _cautions(tables: Sequence[Table], runs: Sequence[RunRecord]) -> list[str]:
    """Runs that can't be compared, seeds that are no replicates, circumstances that differ."""
    notes = []
    if len({table.data_fingerprint for table in tables}) > 1:
        notes.append("The runs were validated on different data; runs on different data are not compared.")
    if len({table.measure.name for table in tables}) > 1:
        names = ", ".join(dict.fromkeys(table.measure.name for table in tables))
        notes.append(f"The runs have different headline measures ({names}); they are not compared across them.")
    for table in tables:
        lost = [share for each in table.configurations for share in each.numbers("tokenizer/lost_share")]
        if table.measure == LOSS_PER_TOKEN and any(lost):
            notes.append(
                f"Bits per byte are undefined for tokenizer {table.tokenizer}, which loses {max(lost):.1%} "
                "of the text: its runs are compared by val/loss, with each other alone."
            )
        notes += [
            f"All seeds of {each.label} reached the same value: they are no replicates, and its intervals mean nothing."
            for each in table.configurations
            if each.spread == 0
        ]
    for key in ("threads", "devices"):
        counts = sorted({number for run in runs if (number := run.number(key)) is not None})
        if len(counts) > 1:
            notes.append(
                f"The runs used different numbers of {key} ({', '.join(f'{count:g}' for count in counts)}); "
                "times and last digits differ for that reason alone."
            )
    versions = {str(found.get("torch")) for run in runs if isinstance(found := run.result.get("versions"), dict)}
    if len(versions) > 1:
        notes.append(f"The runs were made with different versions of torch ({', '.join(sorted(versions))}).")
    return notes
