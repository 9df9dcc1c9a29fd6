"""Rotary positions in a `config.json`: base, and how the rotation is scaled for longer rows."""

from __future__ import annotations

from typing import Any

from lab.huggingface.fields import Fields
from lab.parts import rotary
from lab.parts.position import Position

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
            "original_max_position_embeddings": ("trained", None),
        },
    ),
    "yarn": (
        "rope_yarn",
        rotary.YaRN,
        {
            "factor": ("factor", None),
            "original_max_position_embeddings": ("trained", None),
            "beta_fast": ("fast", 32.0),
            "beta_slow": ("slow", 1.0),
        },
    ),
}
"""Kinds by their names there: the option of `position`, its class, and for each field the name here and what holds where it
is missing, null for none."""


def read(fields: Fields, base: float, partial: bool = False) -> list[str]:
    """The words for a rotary position.

    Args:
        fields: with `rope_theta` and `rope_scaling` as until 2025, or `rope_parameters`.
        base: where none is given.
        partial: the family knows rotations of a part of each head.

    Raises:
        RequestError: a kind or a setting that the lab does not have.
    """
    old, new = fields.left.pop("rope_scaling", None), fields.left.pop("rope_parameters", None)
    name, given = ("rope_parameters", new) if new is not None else ("rope_scaling", old)
    if not isinstance(given, dict | None):
        fields.refuse(name, given, "expected an object or null")
    inner = Fields(given or {}, place=f"{fields.place}: {name}")
    inner.ignored = {}
    base = inner.take("rope_theta", fields.take("rope_theta", base))
    kind = inner.left.pop("type", "default")
    kind = inner.left.pop("rope_type", kind)
    if kind not in KINDS:
        inner.refuse("rope_type", kind, f"the lab has {', '.join(KINDS)}")
    option, _, settings = KINDS[kind]
    words = [f"position={option}", f"position.base={base}"]
    share = inner.take("partial_rotary_factor", fields.take("partial_rotary_factor", 1.0) if partial else 1.0)
    if share != 1 and not partial:
        inner.refuse("partial_rotary_factor", share, "this family turns whole heads")
    if share != 1:
        words.append(f"position.share={share}")
    for theirs, (ours, default) in settings.items():
        value = inner.left.pop(theirs, default)
        if type(value) not in (int, float):
            inner.refuse(theirs, value, f"rope_type={kind} takes a number")
        words.append(f"position.{ours}={value if ours == 'trained' else float(value)}")
    inner.finish()
    return words


def write(position: Any, partial: bool = False) -> dict[str, Any]:
    """The field of a position; without a rotation none."""
    for kind, (_, made, settings) in KINDS.items():
        if type(position) is made:
            values = {theirs: getattr(position, ours) for theirs, (ours, _) in settings.items()}
            if "original_max_position_embeddings" in values:
                values["original_max_position_embeddings"] = int(values["original_max_position_embeddings"])
            if partial:
                values["partial_rotary_factor"] = position.share
            return {"rope_parameters": {"rope_type": kind, "rope_theta": position.base, **values}}
    return {}
