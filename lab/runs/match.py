"""Comparisons at equal cost: a size of each variant, or its budget, chosen so that it costs what the baseline costs.

Variants that differ in cost are not compared by their idea alone (Narang et al. 2021, "Do Transformer Modifications
Transfer Across Implementations and Applications?", section 3.1). What is matched is counted by the lab before anything is
trained: parameters and FLOPs on a model without memory, tokens from the rows of a step; time is measured in a few steps.
"""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lab.config import build, compose, construct, meta_model
from lab.errors import RequestError
from lab.options import flatten
from lab.parts.linear import count
from lab.runs import machine
from lab.runs.budget import Budget
from lab.runs.start import make_objective
from lab.runs.train import data_module

BUDGET = "budget"
SIZES = {
    "parameters": "model.inner",
    "parameters_active": "model.inner",
    "flops": BUDGET,
    "tokens": BUDGET,
    "time": BUDGET,
}
"""What can be matched, and by which size unless told."""

BY_SIZE = ("parameters", "parameters_active", "flops")
"""What a size of the model changes and can be counted beforehand."""

NO_SIZES = (
    "seed",
    "batch",
    "budget",
    "data",
    "split",
    "tokenizer",
    "trainer",
    "logger",
    "optimizer",
    "schedule",
    "objective",
)
"""Keys of other things than the model; `model.context` is the data's too."""

MOST, FLAT = 2**24, 256
"""No size is over the first; one that changes nothing up to the second, or twice its own, is taken to change nothing."""

LOOKED_AT = 100
"""Steps that an average is taken over, or all there are if those are fewer."""
TIMED, TIMES = 8, 2
"""Steps that are timed, spread over those that are looked at, since rows may differ in length from step to step; and how often
each is, of which the shorter time counts.
"""


@dataclass(frozen=True)
class Fit:
    """A variant that costs what the baseline costs, as near as its size allows.

    Attributes:
        words: the overrides that make it so; none for the baseline, and where nothing had to change.
        cost, wanted: what it costs, and what the baseline costs.
    """

    words: tuple[str, ...]
    cost: float
    wanted: float

    @property
    def ratio(self) -> float:
        """Cost over that of the baseline."""
        return self.cost / self.wanted


def match(variants: Sequence[Sequence[str]], baseline: int, what: str, size: str | None = None) -> list[Fit]:
    """For each variant what makes it cost what the baseline costs.

    Args:
        variants: the overrides of each.
        baseline: the place of the one that stays as it is.
        what: `parameters`, `parameters_active`, `flops`, `tokens` or `time`, of a whole training but for parameters.
        size: a key of the model that is a whole number, or `budget`; by default as in `SIZES`.

    Raises:
        RequestError: `what` is none of these, `size` is no size or can't change it, or no value of it comes to that cost.
    """
    check_what(what)
    size = size or SIZES[what]
    if size == BUDGET:
        if what.startswith("parameters"):
            raise RequestError(f"match={what}: a budget does not change it; name a size, such as {SIZES[what]}")
        return _by_budget(variants, baseline, what)
    if what not in BY_SIZE:
        raise RequestError(f"match={what}: goes by the budget, not by {size}; by a size go {', '.join(BY_SIZE)}")
    for words in variants:
        _check_size(compose(*words), size)
    wanted = Costs(compose(*variants[baseline])).of(what)
    return [
        Fit((), wanted, wanted) if place == baseline else _by_size(words, wanted, what, size)
        for place, words in enumerate(variants)
    ]


def check_what(what: str) -> None:
    """Raises `RequestError` for what can't be matched."""
    if what not in SIZES:
        raise RequestError(f"match: {what!r} can't be matched; choose from {', '.join(SIZES)}")


def _check_size(config: DictConfig, size: str) -> None:
    """Refuse a key that is no whole number of the model."""
    sizes = [
        key
        for key, value in flatten(OmegaConf.to_container(config)).items()
        if type(value) is int and key.partition(".")[0] not in NO_SIZES and key != "model.context"
    ]
    if size not in sizes:
        near = difflib.get_close_matches(size, sizes, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(sizes)}"
        raise RequestError(f"match by {size}: is no size of this model, a whole number; {hint}")


def _by_size(words: Sequence[str], wanted: float, what: str, size: str) -> Fit:
    config = compose(*words)
    costs, own = Costs(config), int(OmegaConf.select(config, size))

    @cache
    def cost(value: int) -> float | None:
        try:
            return costs.of(what, compose(*words, f"{size}={value}"))
        except RequestError:
            return None

    try:
        best = nearest(cost, wanted, own)
    except ValueError as error:
        typed = " ".join(words)
        raise RequestError(f"match={what} by {size}: {error}, for {typed}; choose another size to match by") from None
    return Fit((f"{size}={best}",) if best != own else (), cost(best) or 0.0, wanted)


def nearest(cost: Callable[[int], float | None], wanted: float, own: int) -> int:
    """The size whose cost is nearest to what is wanted; its own where none is nearer.

    Args:
        cost: of a size, growing with it; None for a size that can't be built.
        wanted: the cost to come to.
        own: a size that can be built; others that can be are whole steps away.

    Raises:
        ValueError: the least size costs more than is wanted, or no size as much; it says what can be had. Less than
            half a step beyond the least is near enough.
    """
    step = granularity(cost, own)

    def at(place: int) -> float:
        found = cost(own + place * step)
        if found is None:
            raise ValueError(f"size {own + place * step} can't be built")
        return found

    def can(place: int) -> bool:
        return own + place * step > 0 and cost(own + place * step) is not None

    if at(0) < wanted:
        low, high = 0, 1
        while at(high) < wanted:
            low, high = high, 2 * high
            size = own + high * step
            if size > MOST or (size > max(2 * own, FLAT) and at(high) == at(0)):
                raise ValueError(f"no size costs the {wanted:,.0f} wanted: {own + low * step} costs {at(low):,.0f}")
    else:
        low, high = -1, 0
        while can(low) and at(low) >= wanted:
            low, high = 2 * low, low
        if not can(low):
            low = _first(can, low, high)
        if at(low) >= wanted:
            if at(low) - wanted > (at(low + 1) - at(low)) / 2:
                raise ValueError(f"the least, {own + low * step}, costs {at(low):,.0f}, over the {wanted:,.0f} wanted")
            return own + step * min((0, low), key=lambda place: abs(at(place) - wanted))
    straight = True  # costs are nearly linear; every second step halves, should they not be
    while high - low > 1:
        share = (wanted - at(low)) / (at(high) - at(low)) if straight else 0.5
        middle = min(max(low + round(share * (high - low)), low + 1), high - 1)
        low, high, straight = (middle, high, not straight) if at(middle) < wanted else (low, middle, not straight)
    return own + step * min((0, low, high), key=lambda place: abs(at(place) - wanted))


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The first place from `low` on that holds, where all after it do, `high` among them."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def granularity(cost: Callable[[int], float | None], own: int) -> int:
    """The least step between sizes that can be built: 1, or what the heads ask of a width.

    Raises:
        ValueError: no other size can be built.
    """
    for step in range(1, 2 * own + 1):
        if cost(own + step) is not None and cost(own + 2 * step) is not None:
            return step
    raise ValueError(f"no size but {own} can be built")


class Costs:
    """What a configuration costs, by the lab's own counts.

    Args:
        config: whose data and tokenizer are used; those of its other sizes are the same.
    """

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self.data = data_module(config)

    def of(self, what: str, config: DictConfig | None = None) -> float:
        """Parameters, or FLOPs of a training of the configuration's budget; by default of its own size."""
        config = config or self.config
        if what == "flops":
            return (self.step_flops if config is self.config else 3 * self._forward(config)) * self.steps
        model = meta_model(config, self.data.prepared.tokenizer.vocab_size)
        objective = make_objective(config, model, self.data.prepared, None)
        head = 0 if objective.head is None else count(objective.head)
        return head + (model.parameters_total if what == "parameters" else model.parameters_active)

    @cached_property
    def steps(self) -> int:
        """Optimizer steps of the budget.

        Raises:
            RequestError: a budget in minutes, whose steps nobody knows.
        """
        budget = Budget.of(self.config)
        if budget.unit == "minutes":
            raise RequestError(
                f"budget.minutes={budget.amount:g}: what it comes to is not known; set tokens, steps or flops"
            )
        of_step = {"steps": 1.0, "tokens": self.step_tokens, "flops": self.step_flops}[budget.unit]
        return _steps(budget.unit, budget.amount, of_step)

    @cached_property
    def looked_at(self) -> int:
        """Steps that stand for all."""
        budget = Budget.of(self.config)
        return max(1, min(LOOKED_AT, math.ceil(budget.amount))) if budget.unit == "steps" else LOOKED_AT

    @cached_property
    def batches(self) -> list[Any]:
        """The first of the training."""
        return [self.data.training_batch(number) for number in range(self.looked_at * self.data.accumulate)]

    @cached_property
    def step_tokens(self) -> float:
        """Tokens of an optimizer step, on average; each of its micro-batches says those of the whole step."""
        return sum(batch.read for batch in self.batches) / len(self.batches)

    @cached_property
    def step_flops(self) -> float:
        """FLOPs of an optimizer step, on average."""
        return 3 * self._forward(self.config)

    def _forward(self, config: DictConfig) -> float:
        """FLOPs of an optimizer step's forward passes, on average."""
        model = meta_model(config, self.data.prepared.tokenizer.vocab_size)
        objective = make_objective(config, model, self.data.prepared, None)
        return sum(map(objective.flops, self.batches)) / self.looked_at

    def trial(self) -> Callable[[int], tuple[float, float]]:
        """Training steps to be timed, by their numbers: seconds and tokens of one."""
        config = self.config
        machine.keep_buffers()
        machine.use_threads(config.trainer.threads, config.trainer.devices)
        model = build(config, vocab_size=self.data.prepared.tokenizer.vocab_size)
        objective = make_objective(config, model, self.data.prepared, construct(config, "optimizer"))
        optimizer: Any = objective.configure_optimizers()

        def step(number: int) -> tuple[float, float]:
            first = number % self.looked_at * self.data.accumulate
            batches = self.batches[first : first + self.data.accumulate]
            began = time.perf_counter()
            for batch in batches:
                objective.nats(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            return time.perf_counter() - began, batches[0].read

        return step


def _by_budget(variants: Sequence[Sequence[str]], baseline: int, what: str) -> list[Fit]:
    configs = [compose(*words) for words in variants]
    own = Budget.of(configs[baseline])
    if own.unit == "minutes":
        if what != "time":
            raise RequestError(f"match={what}: the baseline's budget is in minutes; set it in tokens, steps or flops")
        return [_budgeted(config, "minutes", own.amount, own.amount) for config in configs]
    costs = [Costs(config) for config in configs]
    steps = costs[baseline].steps
    tokens = steps * costs[baseline].step_tokens
    if what == "tokens":
        fits = [_budgeted(c.config, "tokens", tokens, c.step_tokens) for c in costs]
    elif what == "flops":
        flops = costs[baseline].of("flops")
        fits = [_budgeted(c.config, "flops", flops, c.step_flops) for c in costs]
    else:
        fits = _by_time(costs, baseline, tokens)
    fits[baseline] = Fit((), fits[baseline].wanted, fits[baseline].wanted)
    return fits


def _budgeted(config: DictConfig, unit: str, amount: float, step: float) -> Fit:
    """The budget in this unit, of which a run takes whole steps."""
    own = Budget.of(config)
    same = own.unit == unit and abs(own.amount - amount) < step
    reached = step * _steps(unit, own.amount if same else amount, step)
    return Fit(() if same else (f"budget.{unit}={amount:.12g}",), reached, amount)


def _steps(unit: str, amount: float, of_step: float) -> int:
    """Whole steps that a budget comes to, as `Budget.over` ends them, where each takes this much of it."""
    steps = round(amount / of_step, 6)
    return max(1, math.floor(steps + 0.5) if unit == "flops" else math.ceil(steps))


def _by_time(costs: Sequence[Costs], baseline: int, tokens: float) -> list[Fit]:
    """Tokens that take each as long as the baseline's take, by a few steps in turn, the same of each."""
    trials = [each.trial() for each in costs]
    spread = [place * LOOKED_AT // TIMED for place in range(TIMED)]
    for trial in trials:
        trial(spread[0])  # the first is slower
    spent, read = [0.0] * len(trials), [0.0] * len(trials)
    for number in spread:
        rounds = [[trial(number) for trial in trials] for _ in range(TIMES)]
        for place, of_one in enumerate(zip(*rounds, strict=True)):
            spent[place] += min(taken for taken, _ in of_one)
            read[place] += of_one[0][1]
    seconds = [taken / tokens_read for taken, tokens_read in zip(spent, read, strict=True)]
    wanted = tokens * seconds[baseline]
    fits = []
    for each, one in zip(costs, seconds, strict=True):
        steps = max(1, round(wanted / one / each.step_tokens))
        fits.append(Fit((f"budget.tokens={steps * each.step_tokens:.0f}",), steps * each.step_tokens * one, wanted))
    return fits
