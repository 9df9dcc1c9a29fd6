"""Rotary positions in a `config.json`: base, and how the rotation is scaled for longer rows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lab.huggingface.fields import Fields
from lab.parts import rotary
from lab.parts.position import Position

TRAINED = "original_max_position_embeddings"
LISTS = ("short", "long")
"""Settings that have a number for each pair."""

KINDS: dict[str, tuple[str, type[Position], dict[str, tuple[str, Any]]]] = {
    "default": ("rope", rotary.RoPE, {}),
    "linear": ("rope_linear", rotary.LinearRoPE, {"factor": ("factor", None)}),
    "llama3": (
        "rope_llama31",
        rotary.Llama3RoPE,
        {
            "factor": ("factor", None),
            "low_freq_factor": ("low", None),
            "high_freq_factor": ("high", None),
            TRAINED: ("trained", None),
        },
    ),
    "yarn": (
        "rope_yarn",
        rotary.YaRN,
        {
            "factor": ("factor", None),
            TRAINED: ("trained", None),
            "beta_fast": ("fast", 32.0),
            "beta_slow": ("slow", 1.0),
        },
    ),
    "longrope": (
        "rope_long",
        rotary.LongRoPE,
        {
            "factor": ("factor", None),
            TRAINED: ("trained", None),
            "short_factor": ("short", None),
            "long_factor": ("long", None),
        },
    ),
}
"""Kinds by their names there: the option of `position`, its class, and for each field the name here and what holds where it
is missing, null for none."""


OLD = {"su": "longrope"}
"""Names of kinds in old files."""


def read(
    fields: Fields,
    base: float,
    context: int,
    kinds: Collection[str],
    partial: int | None = None,
    trained: int | None = None,
) -> list[str]:
    """The words for a rotary position.

    Args:
        fields: with `rope_theta` and `rope_scaling` as until 2025, or `rope_parameters`. Where both say something, the old
            name holds, and of the trained length what stands outside of them, as in transformers.
        base: where none is given.
        context: tokens in a row.
        kinds: that the family's class has.
        partial: width of a head, where the family knows rotations of a part of it.
        trained: the trained length of kinds that have one, where nothing outside says it.

    Raises:
        RequestError: a kind or a setting that the lab does not have.
    """
    old, new = fields.left.pop("rope_scaling", None), fields.left.pop("rope_parameters", None)
    name, given = ("rope_scaling", old) if old else ("rope_parameters", new)
    if not isinstance(given, dict | None):
        fields.refuse(name, given, "expected an object or null")
    inner = Fields(given or {}, place=f"{fields.place}: {name}")
    inner.ignored = {}
    base = inner.take("rope_theta", fields.take("rope_theta", base))
    kind = inner.left.pop("type", "default")
    kind = inner.left.pop("rope_type", kind)
    kind = OLD.get(kind, kind) if isinstance(kind, str) else kind
    if not isinstance(kind, str) or kind not in kinds:
        inner.refuse("rope_type", kind, f"the lab has {', '.join(kinds)} for this family")
    option, _, settings = KINDS[kind]
    if TRAINED in settings:
        inner.left[TRAINED] = length = fields.size(TRAINED, trained) or inner.size(TRAINED)
        if kind == "longrope" and length:
            inner.left.setdefault("factor", context / length)
    words = [f"position={option}", f"position.base={base}"]
    share = inner.take("partial_rotary_factor", fields.take("partial_rotary_factor", 1.0) if partial else 1.0)
    if share != 1:
        if partial is None:
            inner.refuse("partial_rotary_factor", share, "this family turns whole heads")
        if not 0 < share < 1:
            inner.refuse("partial_rotary_factor", share, "a share over 0, at most 1")
        # An odd number turns there as if there were one more, at other speeds.
        if (turning := int(partial * share)) % 2 or not turning:
            inner.refuse(
                "partial_rotary_factor", share, f"turns {turning} of {partial} coordinates; the lab turns pairs"
            )
        words.append(f"position.share={share}")
    for theirs, (ours, default) in settings.items():
        value = inner.left.pop(theirs, default)
        numbers = value if ours in LISTS and isinstance(value, list) else [value]
        if not numbers or any(type(number) not in (int, float) for number in numbers):
            inner.refuse(theirs, value, f"rope_type={kind} takes {'numbers' if ours in LISTS else 'a number'}")
        written = value if ours == "trained" else [float(n) for n in numbers] if ours in LISTS else float(value)
        words.append(f"position.{ours}={written}".replace(" ", ""))
    inner.finish()
    return words


def write(position: Any, partial: bool = False) -> dict[str, Any]:
    """The field of a position; without a rotation none."""
    more: dict[str, Any] = {}
    for kind, (_, made, settings) in KINDS.items():
        if type(position) is made:
            values = {theirs: getattr(position, ours) for theirs, (ours, _) in settings.items()}
            if TRAINED in values:
                values[TRAINED] = int(values[TRAINED])
            if kind == "longrope":
                more = {TRAINED: values[TRAINED]}
            if partial:
                values["partial_rotary_factor"] = position.share
            return {"rope_parameters": {"rope_type": kind, "rope_theta": position.base, **values}, **more}
    return {}
