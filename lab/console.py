"""What the lab says to a person: notes and progress on standard error, so that standard output holds results alone."""

from __future__ import annotations

from rich.console import Console

notes = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """One note."""
    notes.print(text, markup=False, soft_wrap=True)
