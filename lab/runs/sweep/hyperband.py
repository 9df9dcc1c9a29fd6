"""W&B's early termination: at a few bands of iterations only the best 1/eta of the runs goes on.

It is the successive halving inside Hyperband (Li et al. 2018) with the brackets that W&B makes of `min_iter` or of
`max_iter` and `s`. An iteration is one validation, which is when the metric is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.errors import RequestError

KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")
BANDS = 100
"""That `min_iter` makes; W&B has as many."""


@dataclass(frozen=True)
class Hyperband:
    """The rule.

    Attributes:
        bands: iterations after which runs are compared, rising.
        eta: the best 1/eta goes on.
        strict: a run must be as good as that at the band itself; else its best so far counts.
    """

    bands: tuple[int, ...]
    eta: float = 3
    strict: bool = True

    def ends(self, history: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        """Whether a run ends early, as W&B's controller decides it.

        Args:
            history: what the run measured, one value an iteration, lower is better.
            others: the same of the runs that it is compared with.
        """
        band = max((band for band in self.bands if band <= len(history)), default=None)
        if band is None:
            return False
        there = sorted(one[band - 1] for one in (*others, history) if len(one) >= band)
        threshold = there[int(len(there) / self.eta)]
        return (history[band - 1] if self.strict else min(history)) > threshold


def read_early_terminate(settings: Any) -> Hyperband | None:
    """What a file says under `early_terminate`.

    Raises:
        RequestError: a key or a value does not fit W&B's schema.
    """
    if settings is None:
        return None
    if not isinstance(settings, dict):
        raise RequestError(f"early_terminate: {settings!r} is no mapping; accepted: {', '.join(KEYS)}")
    for key in settings:
        if key not in KEYS:
            raise RequestError(
                f"early_terminate.{key}: {settings[key]!r} is not supported; accepted: {', '.join(KEYS)}"
            )
    if settings.get("type") != "hyperband":
        raise RequestError(f"early_terminate.type: {settings.get('type')!r} is not supported; accepted: hyperband")
    by_min, by_max = "min_iter" in settings, {"max_iter", "s"} <= settings.keys()
    if by_min == by_max or (by_min and {"max_iter", "s"} & settings.keys()):
        raise RequestError(
            f"early_terminate: {dict(settings)!r} leaves the bands open; accepted: min_iter, or max_iter and s"
        )
    for key in ("min_iter", "max_iter", "s"):
        if key in settings and (type(settings[key]) is not int or settings[key] < 1):
            raise RequestError(
                f"early_terminate.{key}: {settings[key]!r} does not fit; accepted: a whole number from 1"
            )
    eta, strict = settings.get("eta", 3), settings.get("strict", True)
    if type(eta) not in (int, float) or not eta > 1:
        raise RequestError(f"early_terminate.eta: {eta!r} does not fit; accepted: a number over 1")
    if not isinstance(strict, bool):
        raise RequestError(f"early_terminate.strict: {strict!r} does not fit; accepted: true or false")
    bands = _bands(settings, eta)
    if not bands:
        raise RequestError(
            f"early_terminate.max_iter: {settings['max_iter']} is under eta {eta}, so no band is left; accepted: more"
        )
    return Hyperband(bands, eta, strict)


def _bands(settings: Mapping[str, Any], eta: float) -> tuple[int, ...]:
    """Upwards from `min_iter`, or downwards from `max_iter`, which is not one of them."""
    if "min_iter" in settings:
        return tuple(int(settings["min_iter"] * eta**n) for n in range(BANDS))
    counted = (settings["max_iter"] / eta**n for n in range(1, settings["s"] + 1))
    return tuple(sorted(int(band) for band in counted if band >= 1))
