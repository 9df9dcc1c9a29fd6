"""What kind of value a setting holds."""

from __future__ import annotations

from typing import Any


def is_number(value: Any) -> bool:
    """Whether a value is a number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, which true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_whole(group: str, least: int = 1, **values: Any) -> None:
    """Refuse what is no whole number, or under `least`.

    Raises:
        ValueError: names the key, `group.NAME`, the value and what is accepted.
    """
    for name, value in values.items():
        if not is_whole(value) or value < least:
            raise ValueError(f"{group}.{name}: {value}; a whole number, at least {least}")
