"""The words after `lab train` in every form that W&B's agent gives them, as overrides: `key=value`.

--key=value     --key value     --key, which is true
{"key": value}                  one JSON object
path.json                       a file that holds one
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.errors import RequestError

FLAGS = frozenset([
    "--json", "--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--package", "-p", "--run", "-r",
    "--multirun", "-m", "--shell-completion", "-sc", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd",
    "--experimental-rerun", "--info", "-i",
])  # fmt: skip
"""What is no key: our own flag and Hydra's."""

_KEY = r"\+{0,2}[A-Za-z_][\w./@:-]*"
_OVERRIDE = re.compile(f"~?{_KEY}=")
_PLAIN = re.compile(r"[\w./:@+*%-]+", re.ASCII)
_NO_TEXT = ("true", "false", "null")


def overrides(words: Sequence[str]) -> list[str]:
    """The overrides that the words say. Flags, and what is none of these forms, stay as they are.

    What follows `--key` is its value, unless it is a flag, a key of its own or an override.

    Raises:
        RequestError: wrong JSON, or a file that is not there.
    """
    found: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        key, equals, _ = word.partition("=")
        if word.startswith("--") and key not in FLAGS:
            takes_next = not equals and left and not _ends_value(left[0])
            value = equals or (f"={left.pop(0)}" if takes_next else "=true")
            found.append(word[2:] if equals else key[2:] + value)
        elif word.startswith("{"):
            found += _from_json(f"{word:.60}", word)
        elif word.endswith(".json") and not _OVERRIDE.match(word):
            found += _from_json(word, _read(Path(word)))
        else:
            found.append(word)
    return found


def _ends_value(word: str) -> bool:
    return word.startswith("--") or word in FLAGS or _OVERRIDE.match(word) is not None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RequestError(f"{path}: no such file; a word that ends in .json is a file of overrides") from None
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: is not UTF-8 at byte {error.start + 1:,}") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror or error})") from None


def _from_json(place: str, text: str) -> list[str]:
    """The overrides of one JSON object, whose nested keys are dotted ones."""
    wanted = 'accepted: one JSON object, as {"attention": "gqa", "optimizer.lr": 0.001}'
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{place}: is not JSON ({error}); {wanted}") from None
    if not isinstance(found, dict):
        raise RequestError(f"{place}: holds no keys; {wanted}")
    for key in found:
        if not re.fullmatch(_KEY, key):
            raise RequestError(f"{place}: {key!r} can't be a key; {wanted}")
    return [f"{key}={_written(f'{place}: {key}', value)}" for key, value in _flat(found)]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key} is given twice")
        found[key] = value
    return found


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _written(place: str, value: Any) -> str:
    """A value of JSON's in Hydra's grammar, quoted where it would be read as something else."""
    if isinstance(value, list):
        return f"[{','.join(_written(place, each) for each in value)}]"
    if isinstance(value, Mapping) and value:
        raise RequestError(
            f"{place}: holds a mapping in a list; accepted: lists of numbers, text, true, false and null"
        )
    if isinstance(value, str):
        return value if _is_plain(value) else quoted(value)
    return json.dumps(value)


def _is_plain(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return _PLAIN.fullmatch(text) is not None and text.lower() not in _NO_TEXT
    return False


def quoted(text: str) -> str:
    """A text as Hydra's grammar takes any."""
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text, Quote.single).with_quotes()
