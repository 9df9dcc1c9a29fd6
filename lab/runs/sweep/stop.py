"""Ctrl-C in a sweep: once finishes what runs, twice stops it at its next step, and all of it can go on later."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Self

from lab.console import say
from lab.runs.ranks import orphaned
from lab.runs.signals import Stop

FINISHING = "finishing the runs under way; Ctrl-C again stops them after this step"
STOPPING = "stopping after this step; the same command goes on from there"


class SweepStop(Stop):
    """While open, the first SIGINT ends the sweep after the runs under way, a second or a SIGTERM after their next step.

    A third SIGINT interrupts at once.
    """

    def __init__(self, quiet: bool = False) -> None:
        super().__init__(None)
        self.quiet, self.asked = quiet, False
        self.outer: Stop | None = None

    def __enter__(self) -> Self:
        self.outer = Stop._open
        super().__enter__()
        return self

    @property
    def finishing(self) -> bool:
        """Whether to begin no further run."""
        return self.asked or self.requested or (self.outer is not None and self.outer.requested) or orphaned()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and not self.asked:
            self.asked = True
            self._say(FINISHING)
            return
        if not self.requested:
            self._say(STOPPING)
        self.asked = True
        super()._ask(number, frame)

    def _say(self, text: str) -> None:
        if not self.quiet:
            say(text)
