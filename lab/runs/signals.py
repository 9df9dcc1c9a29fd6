"""Ctrl-C and SIGTERM as a wish to stop at the next good moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType, TracebackType
from typing import Any

from lab.console import say


class Stop:
    """While open, the first SIGINT or SIGTERM asks to stop, and a second SIGINT interrupts at once.

    Opened within another, it is the same wish. Outside the main thread Python delivers no signals, and nothing is caught.
    """

    _open: Stop | None = None

    def __init__(self, note: str | None = "stopping after this step; Ctrl-C again interrupts at once") -> None:
        self.note = note
        self.requested = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Stop:
        if Stop._open is not None:
            return Stop._open
        if threading.current_thread() is threading.main_thread():
            Stop._open = self
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if Stop._open is self:
            Stop._open = None
            for number, handler in self._before.items():
                signal.signal(number, handler)  # type: ignore[arg-type]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        if self.note:
            say(self.note)

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.requested


@contextmanager
def handled(number: int, handler: Any) -> Iterator[None]:
    """While open, a signal has this handler; outside the main thread, where Python delivers none, the one it had."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def interrupting() -> AbstractContextManager[None]:
    """While open, SIGTERM interrupts as Ctrl-C does, so that what is half-written can be removed."""
    return handled(signal.SIGTERM, signal.default_int_handler)
