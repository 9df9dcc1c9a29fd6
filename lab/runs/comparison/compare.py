"""What a swap did: the questions of a report, each with its difference, its verdict, and what it would take to decide.

Which configuration is compared with which: all with a baseline; on a ladder each with the one before it; on a scale
each with the baseline of its own size. How a difference is measured is in `differences`, how it is judged in `verdict`,
and in `sequential` where seeds are added until it is decided.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from lab.errors import RequestError
from lab.runs.comparison import cautions, labels, pareto, power
from lab.runs.comparison.collect import Measure, RunRecord
from lab.runs.comparison.configurations import Configuration, Sort, comparable, count, key_of
from lab.runs.comparison.differences import Difference, Noise, noise, paired_difference
from lab.runs.comparison.sequential import Look, look_at_all
from lab.runs.comparison.trends import Grid, Trend, axis_of, trends
from lab.runs.comparison.verdict import ALPHA, TOO_FEW, UNDECIDED, Evidence, Rule, Shown, correct, evidence, judge

PREVIOUS = "previous"
COSTS = {"parameters": "parameters", "flops": "training FLOPs", "tokens_seen": "training tokens"}
EQUAL_COST = 0.01
MANY = 12


@dataclass(frozen=True, eq=False)
class Comparison:
    """One configuration against another.

    Attributes:
        whole_road: the last of a ladder against the first.
        plain, corrected: p-values before and after the correction; None where there are too few pairs for a verdict.
        look: what the sequential rule says, where seeds are added until it is decided.
        level: the level at which another seed would be judged, for plans.
        margin: of the rule.
        missed: why no verdict is given on two that were to cost the same; empty where they do.
    """

    configuration: Configuration
    baseline: Configuration
    difference: Difference
    verdict: str = TOO_FEW
    plain: Evidence | None = None
    corrected: Evidence | None = None
    look: Look | None = None
    level: float = ALPHA
    margin: float | None = None
    whole_road: bool = False
    missed: str = ""

    @property
    def corrected_p(self) -> float | None:
        """Of "no difference"."""
        return None if self.corrected is None else self.corrected.different

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
        """The interval excludes zero, but not after the correction."""
        open_ones = self.verdict == UNDECIDED and self.look is None and not self.missed
        return open_ones and self.difference.excludes_zero

    @property
    def noise(self) -> Noise | None:
        """What seeds alone do to these two configurations."""
        return noise((self.configuration.values.values(), self.baseline.values.values()))

    @property
    def effect(self) -> float | None:
        """The difference in standard deviations of a run over seeds."""
        own = self.noise
        return None if own is None or self.difference.mean is None else own.effect(self.difference.mean)

    @cached_property
    def detectable(self) -> float | None:
        """The smallest true difference that as many seeds with this spread find, 4 times in 5."""
        if self.plain is None or not self.difference.sd:
            return None
        return power.detectable(len(self.difference.seeds), self.difference.sd, self.level)

    @cached_property
    def seeds_needed(self) -> int | None:
        """Seeds that decide it 4 times in 5, should the observed mean and spread be the true ones; None over 10,000.

        Decided is better or worse, or with a margin equivalent, whichever takes fewer. No seed decides what is not matched.
        """
        mean, spread = self.difference.mean, self.difference.sd
        if self.verdict != UNDECIDED or self.missed or self.plain is None or mean is None or not spread:
            return None
        plans = [power.seeds_to_find(mean, spread, self.level)]
        if self.margin is not None:
            plans.append(power.seeds_to_equate(mean, spread, self.margin, self.level))
        return min((seeds for seeds in plans if seeds is not None), default=None)


@dataclass(frozen=True, eq=False)
class Table:
    """Configurations that may be compared: the same data and the same measure.

    Attributes:
        asked: what the measure's question depends on beside the data, such as the tokenizer; alike for all.
        baseline: None on a ladder, where each is compared with the one before it.
        configurations: best first; on a ladder or a scale in its order.
        comparisons: in the order of the configurations; on a ladder the whole road comes last.
        scale: the keys of the sizes within which variants are compared.
        grid: on a scale, its configurations by variant and size.
        trends: what becomes of each variant's difference along the scale.
        searched: the sweep looked for the best by its method.
    """

    measure: Measure
    data_fingerprint: str | None
    asked: str | None
    baseline: Configuration | None
    configurations: Sequence[Configuration]
    comparisons: Sequence[Comparison]
    scale: tuple[str, ...] = ()
    grid: Grid = field(default_factory=dict)
    trends: Sequence[Trend] = ()
    searched: bool = False

    def comparison_of(self, configuration: Configuration) -> Comparison | None:
        """The row's own comparison: with the baseline, or with the one before."""
        own = (each for each in self.comparisons if each.configuration is configuration and not each.whole_road)
        return next(own, None)

    @property
    def is_search(self) -> bool:
        """Whether the best of many was looked for, rather than a few swaps compared."""
        many = self.searched or len(self.comparisons) > MANY
        return self.baseline is not None and not self.scale and many

    @property
    def stands_in(self) -> bool:
        """Whether the measure stands in for the headline, which is null, so that a margin would be in another unit."""
        return any(run.declared != run.measure for run in self.firsts)

    @property
    def firsts(self) -> list[RunRecord]:
        """A run of each configuration, for what they share."""
        return [each.first for each in self.configurations]

    @cached_property
    def noise(self) -> Noise | None:
        """What seeds alone do, pooled over all configurations."""
        return noise(each.values.values() for each in self.configurations)

    @property
    def usual_pairs(self) -> int:
        """How many seeds a comparison has; the fewest where they differ."""
        return min((len(each.difference.seeds) for each in self.comparisons if each.difference.seeds), default=0)

    @property
    def noise_floor(self) -> float | None:
        """How far means of one configuration over other seeds, as many, differ at most, 95 times in 100."""
        return self.noise.floor(self.usual_pairs) if self.noise and self.usual_pairs else None

    def fronts(self, configuration: Configuration) -> list[str]:
        """The costs for which no other configuration is at least as good for less (Pareto)."""
        return [key for key, front in self._fronts.items() if self.configurations.index(configuration) in front]

    @cached_property
    def _fronts(self) -> dict[str, list[int]]:
        sign = 1 if self.measure.direction == "min" else -1
        return {
            key: pareto.front([(each.average(key), sign * each.mean) for each in self.configurations])
            for key in pareto.COSTS
        }


@dataclass(frozen=True, eq=False)
class Results:
    """All that a report says, in numbers.

    Attributes:
        ladder: each configuration is compared with the one before it.
        not_counted: (label, run, why) of each run that is not a result.
        notes: what a reader must know to read the tables right.
        rule: by which verdicts were reached, fixed before.
    """

    tables: Sequence[Table]
    ladder: bool
    not_counted: Sequence[tuple[str, RunRecord, str]]
    notes: Sequence[str] = field(default_factory=tuple)
    rule: Rule = field(default_factory=Rule)

    @property
    def comparisons(self) -> list[Comparison]:
        return [comparison for table in self.tables for comparison in table.comparisons]


def compare(
    runs: Sequence[RunRecord],
    baseline: str | None = None,
    rule: Rule | None = None,
    scale: Sequence[str] = (),
    searched: bool = False,
    given: Collection[str] = (),
) -> Results:
    """Compare configurations over paired seeds.

    Args:
        runs: in the order of the sweep, the first configuration is the baseline unless another is named.
        baseline: a label, an override, a chosen option; `previous` compares each configuration with the one
            before it, and the last with the first. On a scale it may mean a variant at all of its sizes.
        rule: of the verdicts; without one, the t-test with Holm's correction.
        scale: keys that set the size, like `model.dim`: variants are compared within each size.
        searched: the best was looked for, rather than a few swaps compared.
        given: overrides by which variants were matched and tuned, which are no part of their names.

    Raises:
        RequestError: `baseline` means no configuration, several, or one without a finished run; a key of `scale` does
            not vary; more pairs than `rule.most_seeds`.
    """
    rule = rule or Rule()
    ladder = baseline == PREVIOUS
    if ladder and scale:
        raise RequestError("--scale compares variants within a size, --baseline previous along a ladder: choose one")
    groups = _in_order(runs)
    names = dict(zip(groups, labels.label_all(list(groups.values()), given), strict=True))
    counted, not_counted, notes = count(runs, names)
    chosen = None
    if baseline not in (None, "first") and not ladder:
        variants = labels.variants_and_sizes(list(groups.values()), scale, given)[0] if scale else None
        chosen = _named(str(baseline), groups, names, counted, variants)
    sorts = comparable(counted, names)
    if scale:
        tables = [_scaled(sort, configurations, chosen, tuple(scale), given) for sort, configurations in sorts.items()]
    else:
        tables = [_table(sort, configurations, chosen, ladder) for sort, configurations in sorts.items()]
    tables = [replace(table, searched=searched) for table in _judge(tables, rule)]
    notes += cautions.missing(tables, names, chosen, ladder) + cautions.cautions(tables, counted)
    return Results(tables, ladder, not_counted, notes, rule)


def _in_order(runs: Sequence[RunRecord]) -> dict[str, RunRecord]:
    """A run with a result of each configuration, by its key, in the order in which the configurations were asked for: that of
    their first run, though it may be killed, damaged or still running.
    """
    asked: dict[tuple[Path, frozenset[str]], int] = {}
    places: dict[str, int] = {}
    groups: dict[str, RunRecord] = {}
    for place, run in enumerate(runs):
        words = frozenset(word for word in run.overrides if not word.startswith("seed="))
        first = asked.setdefault((run.folder.parent, words), place) if run.overrides else place
        if run.result and key_of(run) not in groups:
            groups[key_of(run)], places[key_of(run)] = run, first
    return dict(sorted(groups.items(), key=lambda item: places[item[0]]))


def _named(
    baseline: str,
    groups: dict[str, RunRecord],
    names: dict[str, str],
    counted: list[RunRecord],
    variants: Sequence[str] | None,
) -> str:
    """The key of the configuration that `--baseline` means; of a variant at several sizes, of one that has a finished run."""
    finished = dict.fromkeys(names[key_of(run)] for run in counted)
    ended = [place for place, name in enumerate(names.values()) if name in finished]
    place = labels.find(baseline, list(names.values()), list(groups.values()), "--baseline", variants, ended)
    chosen = list(names)[place]
    if names[chosen] not in finished:
        raise RequestError(
            f"--baseline {baseline} means {names[chosen]}, which has no finished run; "
            f"with finished runs: {labels.listing(list(finished)) or 'none'}"
        )
    return chosen


def _table(sort: Sort, configurations: list[Configuration], chosen: str | None, ladder: bool) -> Table:
    """A table with the verdicts still open: they need all comparisons of the report."""
    data, measure, asked = sort
    if ladder:
        steps = [(after, before, False) for before, after in pairwise(configurations)]
        if len(configurations) > 2:
            steps.append((configurations[-1], configurations[0], True))
        comparisons = [_open(*step) for step in steps]
        return Table(measure, data, asked, None, configurations, comparisons)
    baseline = next((each for each in configurations if each.key == chosen), configurations[0])
    sign = 1 if measure.direction == "min" else -1
    ordered = sorted(configurations, key=lambda each: sign * each.mean)
    comparisons = [_open(each, baseline) for each in ordered if each is not baseline]
    return Table(measure, data, asked, baseline, ordered, comparisons)


def _scaled(
    sort: Sort, configurations: list[Configuration], chosen: str | None, scale: tuple[str, ...], given: Collection[str]
) -> Table:
    """The same variants at several sizes: each against the baseline's variant at its own size."""
    data, measure, asked = sort
    variants, sizes = labels.variants_and_sizes([each.first for each in configurations], scale, given)
    met: dict[tuple[str, tuple[float, ...]], Configuration] = {}
    for variant, size, each in zip(variants, sizes, configurations, strict=True):
        other = met.setdefault((variant, size), each)
        if other is not each:
            raise RequestError(
                f"--scale: {other.label} ({other.key}) and {each.label} ({each.key}) are one variant at one size, as where a "
                "file in conf/ has changed between them; name the folders of one of them"
            )
    baseline = next((each for each in configurations if each.key == chosen), configurations[0])
    reference = variants[configurations.index(baseline)]
    at_size = {
        size: each for each, variant, size in zip(configurations, variants, sizes, strict=True) if variant == reference
    }
    order = sorted(range(len(configurations)), key=lambda place: (sizes[place], variants[place] != reference))
    comparisons = [
        _open(configurations[place], at_size[sizes[place]])
        for place in order
        if variants[place] != reference and sizes[place] in at_size
    ]
    grid: dict[str, dict[tuple[float, ...], Configuration]] = {}
    for variant, size, configuration in zip(variants, sizes, configurations, strict=True):
        grid.setdefault(variant, {})[size] = configuration
    axis = axis_of(configurations)
    along = [] if axis is None else trends(grid, reference, axis)
    ordered = [configurations[place] for place in order]
    return Table(measure, data, asked, baseline, ordered, comparisons, scale, grid, along)


def _open(configuration: Configuration, baseline: Configuration, whole_road: bool = False) -> Comparison:
    difference = paired_difference(configuration.values, baseline.values)
    return Comparison(configuration, baseline, difference, whole_road=whole_road)


@dataclass(frozen=True)
class Answer:
    """What a question comes to among all of its report: its interval, what that shows, and by what: p-values after correction,
    or the last look.
    """

    difference: Difference
    shown: Shown
    corrected: Evidence | None = None
    look: Look | None = None


def _judge(tables: Sequence[Table], rule: Rule) -> list[Table]:
    """The tables with their verdicts, corrected over all questions of the report that have pairs enough."""
    margins = {table: None if table.stands_in else rule.margin for table in tables}
    questions = [(each.difference, margins[table]) for table in tables for each in table.comparisons]
    questions += [(each, None) for table in tables for trend in table.trends for each in trend.asked]
    asked = {difference: found for difference, margin in questions if (found := evidence(difference, margin))}
    if rule.most_seeds is None:
        corrected = correct(list(asked.values()))
        answers = {each: Answer(each, found.shown, found) for each, found in zip(asked, corrected, strict=True)}
    else:
        answers = _looked(asked, rule, rule.most_seeds)
    open_ones = sum(not each.shown.all for each in answers.values())

    def comparison(each: Comparison, table: Table) -> Comparison:
        answer = answers.get(each.difference)
        if answer is None:
            return replace(each, margin=margins[table])
        return replace(
            each,
            difference=answer.difference,
            verdict=judge(answer.difference, answer.shown, table.measure.direction),
            plain=asked[each.difference] if answer.look is None else None,
            corrected=answer.corrected,
            look=answer.look,
            level=ALPHA / max(open_ones, 1),
            margin=margins[table],
        )

    def trend(each: Trend) -> Trend:
        if not all(difference in answers for difference in each.asked):
            return each
        slope, mean = (answers[difference] for difference in each.asked)
        verdict = each.word(slope.shown.different, mean.shown.different)
        return replace(each, slope=slope.difference, mean=mean.difference, verdict=verdict)

    return [
        replace(
            table,
            comparisons=[comparison(each, table) for each in table.comparisons],
            trends=list(map(trend, table.trends)),
        )
        for table in tables
    ]


def _looked(asked: Mapping[Difference, Evidence], rule: Rule, most: int) -> dict[Difference, Answer]:
    """The answers with the intervals that hold at all looks together, and the verdicts that follow from them."""
    values = [each.values if each.varies else [0.0] * len(each.values) for each in asked]
    margins = [rule.margin if each.equivalent is not None else None for each in asked.values()]
    found = {}
    for each, margin, look in zip(asked, margins, look_at_all(values, most, margins=margins), strict=True):
        known = math.isfinite(look.low)
        difference = replace(each.first(look.pairs), low=look.low if known else None, high=look.high if known else None)
        # The looks have counted their errors already: what an interval shows is as sure as it has to be.
        shown = Shown(look.excludes_zero, None if margin is None else look.within(margin))
        found[each] = Answer(difference, shown, look=look)
    return found
