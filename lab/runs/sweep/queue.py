"""Who runs what in a sweep: workers claim the trials of one Optuna study, run them, tell what came out and give them back.

A trial of one run is claimed once. One of a configuration waits, is claimed by a worker, runs with one seed, and waits again
until no seed is left. Optuna changes a trial from waiting to running for one process alone, whatever the storage, and that is
the claim. Twins, which two workers added at once, step back but for the first, so every run is made once.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from lab.runs.sweep.plan import Point
from lab.runs.sweep.pruning import Early, Pruning
from lab.runs.sweep.sampler import Sampler
from lab.runs.sweep.shares import NO_PRUNING, Shares
from lab.runs.sweep.storage import patient
from lab.runs.sweep.trials import (
    Results,
    are_alike,
    by_point,
    gathered,
    has_status,
    history_of,
    is_run_elsewhere,
    results_of,
    share_of,
)

MEETING = 0.5
"""Seconds at most until a worker looks again that met another at the same configuration."""


@dataclass(frozen=True)
class Claim:
    """A share that this worker alone runs, and with which seed."""

    trial: FrozenTrial
    trial_id: int
    point: Point
    seed: int | None


class Queue:
    """The shares of one sweep as trials of a study, which any number of workers change at once.

    Args:
        storage: of Optuna.
        name: of the study.
        sampler: of the sweep.
        metric: what configurations are valued by.
        maximize: whether more of it is better.
        known: results of a configuration that its folders hold, by seed.
        pruning: what ends runs and configurations early.
    """

    @patient
    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        sampler: Sampler,
        metric: str,
        maximize: bool,
        known: Callable[[Point], Results],
        pruning: Pruning = NO_PRUNING,
    ) -> None:
        self.storage, self.sampler, self.known = storage, sampler, known
        self.shares = Shares(sampler.plan, metric, maximize, pruning)
        direction = StudyDirection.MAXIMIZE if maximize else StudyDirection.MINIMIZE
        self.study = optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
        self.study_id = storage.get_study_id_from_name(name)
        self.heartbeat: int | None = getattr(storage, "get_heartbeat_interval", lambda: None)()

    @patient
    def threads(self, wanted: int) -> int:
        """How many threads every run of this study has: what the first worker wanted, since numbers depend on it."""
        if "threads" not in self.study.user_attrs:
            self.study.set_user_attr("threads", wanted)
        return self.study.user_attrs["threads"]

    # What there is to do

    @patient
    def fill(self, again: Callable[[Point, int, Mapping[str, Any]], bool] | None = None) -> None:
        """Add what nobody has or had: shares that are new, or whose worker is gone.

        Args:
            again: says of a configuration, a seed and its result whether that is to be made anew; none for never.
        """
        trials = by_point(self._trials())
        for point in self.shares.all:
            mine = self.shares.of(point, trials.get(point.number, []))
            last = self.shares.owner(mine, point.seeds)
            results = {seed: result for seed, result in gathered(mine).items() if seed in point.seeds}
            anew: set[int] = set()
            if again is not None and last is not None and last.state.is_finished():
                known = Point(point.number, self.shares.chosen(point, mine), point.seeds)
                anew = {seed for seed, result in results.items() if again(known, seed, result)}
            if last is None or anew:
                self._add(point, mine, results, anew)

    def _add(self, point: Point, before: list[FrozenTrial], results: Results, anew: set[int]) -> None:
        chosen = self.shares.chosen(point, before)
        if chosen is not None:
            results |= self.known(Point(point.number, chosen, point.seeds))
        attempt = max((t.user_attrs["attempt"] for t in before), default=0) + bool(anew)
        results = {seed: r for seed, r in results.items() if seed not in anew}
        results = {seed: r for seed, r in (self.shares.fatal(before, attempt) | results).items() if seed in point.seeds}
        params: Mapping[str, Any] = {}
        distributions: Mapping[str, Any] = {}
        if point.parameters is not None:
            seed = point.seeds[0] if self.shares.by_run and self.shares.plan.names_seeds else None
            params, distributions = self.sampler.shown(point.parameters, seed)
        elif chosen is not None:
            same = next(t for t in before if "parameters" in t.user_attrs)
            params, distributions = same.params, same.distributions
        state, value = self.shares.judged(results, point.seeds)
        self.study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=value,
                params=dict(params),
                distributions=dict(distributions),
                user_attrs={
                    "point": point.number,
                    "seeds": list(point.seeds),
                    "attempt": attempt,
                    **({} if chosen is None else {"parameters": chosen}),
                    **{key: value for t in before for key, value in t.user_attrs.items() if key.startswith("history/")},
                    **{f"result/{seed}": result for seed, result in results.items()},
                },
                intermediate_values=self.shares.steps(results, point.seeds),
            )
        )

    # Claim, tell, release

    @patient
    def claim(self) -> Claim | None:
        """The next share for this worker; None where nothing waits."""
        self._end_the_dead()
        self.fill()
        trials = self._trials()
        of_point = by_point(trials)
        waiting = [t for t in trials if t.state == TrialState.WAITING and self.shares.holds(t)]
        met = False
        for trial in sorted(waiting, key=self.shares.turn):
            trial_id = self._id(trial)
            number, seeds = share_of(trial)
            if is_run_elsewhere(trial, trials):
                continue
            owner = self.shares.owner(of_point[number], seeds)
            if owner is None or owner.number != trial.number:
                self._set(trial_id, TrialState.FAIL)  # a twin
                continue
            if self.heartbeat:
                self.storage.record_heartbeat(trial_id)  # type: ignore[attr-defined]
            if self._set(trial_id, TrialState.RUNNING):
                self.storage.set_trial_user_attr(trial_id, "worker", f"{socket.gethostname()}:{os.getpid()}")
                if "parameters" not in trial.user_attrs:
                    if any("parameters" in t.user_attrs for t in of_point[number]):
                        self._set(trial_id, TrialState.FAIL)  # chosen since, for other seeds: `fill` adds it anew
                        return self.claim()
                    self._choose(trial, trial_id)
                if not self.shares.by_run:  # a search may have chosen what another worker chose in this moment
                    trials = self._trials()
                    if is_run_elsewhere(self.storage.get_trial(trial_id), trials):
                        self._set(trial_id, TrialState.WAITING)
                        met = True
                        continue
                mine = self.storage.get_trial(trial_id)
                self._take_over(mine, trial_id, trials)
                done = results_of(self.storage.get_trial(trial_id))
                missing = [seed for seed in seeds if seed not in done]
                point = Point(number, mine.user_attrs["parameters"], seeds)
                return Claim(trial, trial_id, point, missing[0] if missing else None)
        if met:  # perhaps both stepped back
            time.sleep(random.uniform(0, MEETING))
            return self.claim()
        return None

    def _choose(self, trial: FrozenTrial, trial_id: int) -> None:
        """A search's next configuration."""
        parameters = self.sampler.choose(self.study.study_name, self.storage, trial_id, trial.user_attrs["point"])
        self.storage.set_trial_user_attr(trial_id, "parameters", parameters)

    def _take_over(self, trial: FrozenTrial, trial_id: int, trials: list[FrozenTrial]) -> None:
        """Results of the same configuration in other trials: one that a search chose before, or with other seeds. Those of an
        attempt before this one were taken, or left, when it began.
        """
        wanted = set(trial.user_attrs["seeds"]) - results_of(trial).keys()
        mine = trial.user_attrs
        for other in trials:
            theirs = other.user_attrs
            before = theirs["point"] == mine["point"] and theirs["attempt"] < mine["attempt"]
            if other.number != trial.number and are_alike(other, trial) and not before:
                for seed, result in results_of(other).items():
                    if seed in wanted and not has_status(result, "failed"):
                        self.storage.set_trial_user_attr(trial_id, f"result/{seed}", result)

    @patient
    def tell(self, claim: Claim, result: Mapping[str, Any]) -> None:
        """Keep what a run came to; nothing, where the trial has been given to another worker."""
        with suppress(UpdateFinishedTrialError):
            self.storage.set_trial_user_attr(claim.trial_id, f"result/{claim.seed}", dict(result))
            for step, value in self.shares.steps({claim.seed or 0: dict(result)}, claim.point.seeds).items():
                self.storage.set_trial_intermediate_value(claim.trial_id, step, value)

    @patient
    def give_back(self, claim: Claim) -> None:
        """End a claim: the trial waits again, or has its value if no seed is left."""
        results = results_of(self.storage.get_trial(claim.trial_id))
        state, value = self.shares.judged(results, claim.point.seeds)
        waits = state == TrialState.WAITING and bool(results)
        if waits and self.shares.pruning.over_seeds and self.shares.is_behind(results, self._trials()):
            state = TrialState.PRUNED
        if state == TrialState.PRUNED and not any(has_status(result, "diverged") for result in results.values()):
            self._withdraw(claim, results)
        self._set(claim.trial_id, state, None if value is None else [value])

    def _withdraw(self, claim: Claim, results: Results) -> None:
        """Of a configuration that is pruned no seed counts."""
        why = f"its configuration was pruned after {len(results)} of {len(claim.point.seeds)} seeds"
        with suppress(UpdateFinishedTrialError):
            for seed, result in results.items():
                if has_status(result, "finished"):
                    pruned = {**result, "status": "pruned", "error": why}
                    self.storage.set_trial_user_attr(claim.trial_id, f"result/{seed}", pruned)

    # Pruning

    def early(self, claim: Claim) -> Early | None:
        """What looks at a run on its way, if anything does."""
        rule, sign = self.shares.pruning.rule, -1 if self.shares.maximize else 1
        if rule is None:
            return None
        key = f"history/{claim.seed}"

        @patient
        def remember(history: Mapping[int, float]) -> None:
            with suppress(UpdateFinishedTrialError):
                self.storage.set_trial_user_attr(claim.trial_id, key, dict(history))

        @patient
        def others() -> list[list[float]]:
            others = {t.user_attrs["point"]: t for t in self._trials() if key in t.user_attrs}  # of each the last
            return [list(history_of(t, key).values()) for number, t in others.items() if number != claim.point.number]

        before = history_of(self.storage.get_trial(claim.trial_id), key)
        return Early(rule, self.shares.metric, sign, before, remember, others)

    @contextmanager
    def kept(self, claim: Claim) -> Iterator[None]:
        """Hold a claim, giving signs of life, and give it back in the end."""
        over = threading.Event()
        beats = threading.Thread(target=self._live, args=(claim.trial_id, over), daemon=True)
        if self.heartbeat:
            beats.start()
        try:
            yield
        finally:
            over.set()
            if self.heartbeat:
                beats.join()
            self.give_back(claim)

    def _live(self, trial_id: int, over: threading.Event) -> None:
        while not over.wait(self.heartbeat):
            with suppress(Exception):  # out of reach for a while: the next one may arrive
                self.storage.record_heartbeat(trial_id)  # type: ignore[attr-defined]

    # The dead

    def _end_the_dead(self) -> None:
        """End trials of a database whose workers have given no sign of life; `fill` adds them anew."""
        if self.heartbeat:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                optuna.storages.fail_stale_trials(self.study)

    @patient
    def end_running(self, worker: str | None = None, how: str | None = None) -> None:
        """End the running trials of a worker that is known to be dead, or of all.

        Args:
            worker: as its claims are marked.
            how: it died; none where its run is not to blame.
        """
        for trial in self._trials():
            if trial.state == TrialState.RUNNING and worker in (None, trial.user_attrs.get("worker")):
                trial_id = self._id(trial)
                key, value = ("death", how) if how else ("blameless", True)
                with suppress(UpdateFinishedTrialError):
                    self.storage.set_trial_user_attr(trial_id, key, value)
                self._set(trial_id, TrialState.FAIL)
        self.fill()

    # What came out

    @patient
    def results(self) -> list[tuple[Point, Results]]:
        """Every configuration that is known by now, with its results as far as there are any."""
        return self.shares.results(self._trials())

    @patient
    def left(self) -> bool:
        """Whether a share has not ended."""
        return any(not trial.state.is_finished() and self.shares.holds(trial) for trial in self._trials())

    @patient
    def others_run(self) -> bool:
        """Whether other workers are at what is left of these shares, so that something may come back."""
        wanted = {point.number: set(point.seeds) for point in self.shares.plan.points}
        running = [t for t in self._trials() if t.state == TrialState.RUNNING]
        return any(wanted.get(number, set()) & set(seeds) for number, seeds in map(share_of, running))

    @patient
    def reached(self) -> bool:
        """Whether a configuration has reached the target that ends the sweep."""
        target = self.shares.plan.sweep.target
        if target is None:
            return False
        values = [self.shares.judged(results, point.seeds)[1] for point, results in self.results()]
        return any(v >= target if self.shares.maximize else v <= target for v in values if v is not None)

    def _trials(self) -> list[FrozenTrial]:
        return [t for t in self.study.get_trials(deepcopy=False) if "point" in t.user_attrs]

    def _id(self, trial: FrozenTrial) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self.study_id, trial.number)

    def _set(self, trial_id: int, state: TrialState, values: list[float] | None = None) -> bool:
        """Change a trial's state; False where another process was first."""
        try:
            return self.storage.set_trial_state_values(trial_id, state, values)
        except UpdateFinishedTrialError:
            return False
