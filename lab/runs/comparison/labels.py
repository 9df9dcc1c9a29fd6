"""What a configuration is called: the words that tell it from the others of a report."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lab.errors import RequestError
from lab.runs.comparison.collect import RunRecord

# Keys that change where and how a run is written down or scheduled, or repeat it: never what it asks.
SILENT = {"seed", "folder", "name", "resume", "overrides", "choices", "trainer.threads"}
SILENT_GROUPS = {"logger", "hydra"}


def told(overrides: Iterable[str]) -> dict[str, str]:
    """The overrides that say something about the configuration, as typed, by their key; of two, the later."""
    keyed = {text.lstrip("+~").partition("=")[0].partition("@")[0]: text for text in overrides}
    return {key: text for key, text in keyed.items() if not _silent(key)}


def label_all(runs: Sequence[RunRecord], given: Collection[str] = ()) -> list[str]:
    """A label for each of these runs, one of each configuration; no two alike.

    The overrides that differ among them, but for those `given` to make a comparison fair. Where these leave some alike, the
    chosen options that differ among these are added; else the configured values; else the configuration's hash.
    """
    runs, labels = _without(runs, given), [""] * len(runs)
    for words in (_by_overrides, _by_choices, _by_config, _by_hash):
        for group in _alike(labels):
            for place, more in zip(group, words([runs[place] for place in group]), strict=True):
                labels[place] = f"{labels[place]} {more}".strip()
    return labels


def _alike(labels: Sequence[str]) -> list[list[int]]:
    """Places that share a label, or have none."""
    places: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        places.setdefault(label, []).append(place)
    return [group for label, group in places.items() if len(group) > 1 or not label]


def varied(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """What each of these runs, one of each configuration, set of the keys that differ among them.

    Values are read as YAML reads them; what a run did not type is what its record has there, or missing.
    """
    typed = [told(run.overrides) for run in runs]
    keys = _differing([{key: text.partition("=")[2] for key, text in setting.items()} for setting in typed])
    found = [
        {
            key: _value(setting[key].partition("=")[2]) if key in setting else {**run.config, **run.choices}[key]
            for key in keys
            if key in setting or key in run.config or key in run.choices
        }
        for run, setting in zip(runs, typed, strict=True)
    ]
    different = _differing(found)  # two may be written apart and mean the same
    return [{key: value for key, value in setting.items() if key in different} for setting in found]


def _value(text: str) -> Any:
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):
        try:
            value = float(value)  # 1e-3, which YAML takes for text
        except ValueError:
            return value
    return value if isinstance(value, int | float) and math.isfinite(value) else text


def _without(runs: Sequence[RunRecord], given: Collection[str]) -> Sequence[RunRecord]:
    if not given:
        return runs  # which know their files already
    return [replace(run, overrides=tuple(word for word in run.overrides if word not in given)) for run in runs]


def variants_and_sizes(
    runs: Sequence[RunRecord], scale: Sequence[str], given: Collection[str] = ()
) -> tuple[list[str], list[tuple[float, ...]]]:
    """Of each of these runs, one of each configuration: what it is apart from its size and from what was `given` to make a
    comparison fair, and the size.

    Raises:
        RequestError: a key of `scale` does not vary among them, or is no number.
    """
    settings = varied(_without(runs, given))
    keys = list(dict.fromkeys(key for setting in settings for key in setting))
    for key in scale:
        numbers = [setting.get(key) for setting in settings]
        if not all(isinstance(number, int | float) for number in numbers) or len(set(numbers)) < 2:
            numeric = [
                other for other in keys if all(isinstance(setting.get(other), int | float) for setting in settings)
            ]
            raise RequestError(
                f"--scale {key}: is no number that differs among these configurations; "
                f"those are: {listing(numeric) or 'none'}"
            )
    variants = [" ".join(f"{key}={setting.get(key)}" for key in keys if key not in scale) for setting in settings]
    return [variant or "all" for variant in variants], [tuple(setting[key] for key in scale) for setting in settings]


def find(
    name: str,
    labels: Sequence[str],
    runs: Sequence[RunRecord],
    option: str,
    variants: Sequence[str] | None = None,
    preferred: Collection[int] = (),
) -> int:
    """The place of the configuration that `name` means: a label, overrides or choices, an option alone.

    Args:
        name: what was typed.
        labels, runs: of the configurations.
        option: what a message calls it.
        variants: what each is apart from its size; a name may then mean one variant at several sizes.
        preferred: places of which one is taken before others of its variant.

    Raises:
        RequestError: `name` means none of them or several.
    """
    wanted = name.split()

    def is_label(place: int) -> bool:
        return labels[place] == name

    def has_words(place: int) -> bool:
        run = runs[place]
        words = {
            *told(run.overrides).values(),
            *(f"{group}={chosen}" for group, chosen in run.choices.items()),
        }
        return bool(wanted) and words.issuperset(wanted)

    def has_option(place: int) -> bool:
        return name in {word.partition("=")[2] for word in labels[place].split()} - {""}

    tests: tuple[Callable[[int], bool], ...] = (is_label, has_words, has_option)
    for test in tests:
        places = [place for place in range(len(labels)) if test(place)]
        if len(places) == 1 or (places and variants and len({variants[place] for place in places}) == 1):
            return next((place for place in places if place in preferred), places[0])
        if places:
            raise RequestError(
                f"{option} {name} means several: {listing([labels[place] for place in places])}; name one"
            )
    raise RequestError(f"{option} {name} is not among the configurations here: {listing(labels)}")


def listing(names: Sequence[str], most: int = 20) -> str:
    """Names for a sentence, the first `most` of them."""
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _silent(key: str) -> bool:
    return key in SILENT or key.partition(".")[0].partition("/")[0] in SILENT_GROUPS


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys whose values are not the same everywhere, in the order in which they turn up."""
    keys = dict.fromkeys(key for setting in settings for key in setting)
    missing = object()
    return [
        key for key in keys if any(setting.get(key, missing) != settings[0].get(key, missing) for setting in settings)
    ]


def _by_overrides(runs: Sequence[RunRecord]) -> list[str]:
    typed = [told(run.overrides) for run in runs]
    if len(runs) == 1:
        return [" ".join(typed[0].values()) or f"preset={runs[0].choices.get('preset', 'default')}"]
    meant = {key for setting in varied(runs) for key in setting}
    keys = [key for key in _differing(typed) if key in meant]
    labels = [" ".join(text for key, text in setting.items() if key in keys) for setting in typed]
    return [label or _defaults(run, keys) for label, run in zip(labels, runs, strict=True)]


def _defaults(run: RunRecord, keys: Sequence[str]) -> str:
    """What a run that overrides none of these keys has there, as far as it is on record."""
    known = {**run.config, **run.choices} if not set(keys) <= set(run.choices) else run.choices
    return " ".join(f"{key}={known[key]}" for key in keys if key in known)


def _by_choices(runs: Sequence[RunRecord]) -> list[str]:
    choices = [{key: value for key, value in run.choices.items() if not _silent(key)} for run in runs]
    keys = _differing(choices)
    return [" ".join(f"{key}={choice[key]}" for key in keys if key in choice) for choice in choices]


def _by_config(runs: Sequence[RunRecord]) -> list[str]:
    configs = [
        {key: value for key, value in run.config.items() if not _silent(key) and key.partition(".")[0] not in SILENT}
        for run in runs
    ]
    keys = _differing(configs)
    return [" ".join(f"{key}={config[key]}" for key in keys if key in config) for config in configs]


def _by_hash(runs: Sequence[RunRecord]) -> list[str]:
    return [f"({run.configuration})" for run in runs]
