"""Special tokens: what stands in rows beside text, by the role that it plays there.

A model's family names the roles that it needs in `model.special`, and every tokenizer makes the tokens for
them. A published tokenizer spells them its own way; it is asked for the same roles.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from lab.errors import RequestError

DOCUMENT = "<|document|>"
UNKNOWN = "[UNK]"

SPELLINGS: dict[str, tuple[str, ...]] = {
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
    "pad": ("[PAD]", "<pad>"),
    "system": ("<|system|>",),
    "user": ("<|user|>",),
    "assistant": ("<|assistant|>",),
    "end": ("</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "[SEP]"),
    "unknown": (UNKNOWN, "<unk>"),
    "document": (DOCUMENT, "[CLS]", "<s>", "<|begin_of_text|>", "<bos>", "<|endoftext|>", "<pad>", "</s>", "<unk>"),
}
"""For each role how it may be spelt. The first is the spelling of tokenizers made here.

What begins documents is `<pad>` in T5's, whose targets follow their padding, and `<unk>` in that of GPT-1, which has no other.
"""

ROLES = ("cls", "sep", "mask", "pad", "end", "system", "user", "assistant", "sentinels")
"""What `model.special` may list: beginning of a sequence ([CLS], which then begins documents too), separator, mask,
padding, end of a text, what begins a turn of a conversation by its speaker, and the sentinels of span corruption
(Raffel et al. 2020, arXiv 1910.10683)."""

SENTINELS = tuple(f"<extra_id_{number}>" for number in range(100))


def made(roles: Iterable[str]) -> list[str]:
    """The tokens that a new tokenizer gets for these roles; the first begins every document.

    Raises:
        RequestError: a role that is not among `ROLES`, or given twice.
    """
    asked = list(roles)
    wrong = [role for role in asked if role not in ROLES or asked.count(role) > 1]
    if wrong:
        raise RequestError(f"model.special={asked}: each once from {', '.join(ROLES)}")
    begin = SPELLINGS["cls"][0] if "cls" in asked else DOCUMENT
    singles = [SPELLINGS[role][0] for role in asked if role not in ("cls", "sentinels")]
    return [begin, *singles, *(SENTINELS if "sentinels" in asked else ())]


def spelt(role: str, there: Container[str]) -> str | None:
    """How a role is spelt among the tokens that are there; None where none plays it."""
    return next((token for token in SPELLINGS[role] if token in there), None)
