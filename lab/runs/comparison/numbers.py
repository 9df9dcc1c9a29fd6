"""Numbers as people read them: units, prefixes, true minus signs."""

from __future__ import annotations

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
