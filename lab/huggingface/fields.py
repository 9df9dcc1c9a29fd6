"""The fields of a `config.json`, read completely: what nobody has taken at the end is refused, never ignored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lab.errors import RequestError
from lab.values import is_number

CONFIG = "config.json"

OF_GENERATION = (
    "bos_token_id",
    "do_sample",
    "early_stopping",
    "eos_token_id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beams",
    "prefix",
    "repetition_penalty",
    "task_specific_params",
    "temperature",
    "top_k",
    "top_p",
)

OF_EVERY_MODEL = {
    **dict.fromkeys(OF_GENERATION, "of generation, which a call or a run settles; special tokens are the tokenizer's"),
    **dict.fromkeys(("_num_labels", "id2label", "label2id", "num_labels"), "names of a classifier's classes"),
    "_name_or_path": "where the model came from",
    "architectures": "checked apart",
    "auto_map": "code that came beside the weights; this family is computed here",
    "chunk_size_feed_forward": "memory",
    "dtype": "the file of the weights says it",
    "finetuning_task": "where the model came from",
    "gradient_checkpointing": "memory while training",
    "initializer_range": "of new weights",
    "model_type": "checked apart",
    "output_attentions": "what a call returns beside the result",
    "output_hidden_states": "what a call returns beside the result",
    "output_past": "what a call returns beside the result",
    "pad_token_id": "whose row is zero in new weights; the weights are read",
    "problem_type": "of a classifier's loss",
    "return_dict": "how a call returns its result",
    "tokenizer_class": "tokenizer.json says it",
    "torch_dtype": "the file of the weights says it",
    "torchscript": "how a call is traced",
    "transformers_version": "which version wrote the file",
    "use_cache": "memory while generating",
}
"""Fields that any model may have and that do not change what it computes, each with what it is."""


class Fields:
    """The fields of one model, taken one by one.

    Args:
        content: names and values.
        ignored: names that do not change what the model computes, each with a reason.
        place: how messages call the file.
    """

    def __init__(self, content: Mapping[str, Any], ignored: Mapping[str, str] = {}, place: str = CONFIG) -> None:
        self.left = dict(content)
        self.ignored, self.place = {**OF_EVERY_MODEL, **ignored}, place

    @classmethod
    def load(cls, folder: Path) -> Fields:
        """Of the `config.json` in a folder.

        Raises:
            RequestError: there is none, or it is no JSON object.
        """
        path = folder / CONFIG
        if not path.is_file():
            raise RequestError(f"{folder}: has no {CONFIG}; a folder that transformers' save_pretrained wrote has one")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RequestError(f"{path}: can't be read ({error})") from None
        if not isinstance(content, dict):
            raise RequestError(f"{path}: not an object with fields")
        return cls(content, place=str(path))

    def take(self, name: str, default: Any) -> Any:
        """The value of a field, the default where it is missing. It is of the default's kind, if that is not null.

        Raises:
            RequestError: it is of another kind.
        """
        value = self.left.pop(name, default)
        kinds: dict[type, tuple[str, Callable[[Any], bool]]] = {
            bool: ("true or false", lambda x: isinstance(x, bool)),
            int: ("a whole number, at least 1", lambda x: type(x) is int and x > 0),
            float: ("a number", is_number),
            str: ("a word", lambda x: isinstance(x, str)),
        }
        if type(default) in kinds:
            expected, holds = kinds[type(default)]
            if not holds(value):
                self.refuse(name, value, f"expected {expected}")
        return float(value) if type(default) is float else value

    def size(self, name: str, default: int | None = None) -> int | None:
        """A whole number of at least 1, or null.

        Raises:
            RequestError: something else.
        """
        value = self.left.pop(name, default)
        if value is not None and not (type(value) is int and value > 0):
            self.refuse(name, value, "expected a whole number, at least 1, or null")
        return value

    def word(self, name: str, default: str, known: Mapping[str, str]) -> str:
        """What a word means here.

        Raises:
            RequestError: it is not among those known.
        """
        value = self.take(name, default)
        if value not in known:
            self.refuse(name, value, f"the lab has {', '.join(known)}")
        return known[value]

    def only(self, name: str, accepted: Sequence[Any], why: str) -> None:
        """A field that must be missing or have one of these values.

        Raises:
            RequestError: it has another.
        """
        value = self.left.pop(name, accepted[0])
        if value not in accepted:
            self.refuse(name, value, why)

    def refuse(self, name: str, value: Any, why: str) -> NoReturn:
        """Refuse the value of a field."""
        raise RequestError(f"{self.place}: {name}={json.dumps(value)}; {why}")

    def finish(self) -> None:
        """Refuse what is left.

        Raises:
            RequestError: a field that nobody took and that may change what is computed.
        """
        unknown = sorted(set(self.left) - set(self.ignored))
        if unknown:
            self.refuse(
                unknown[0],
                self.left[unknown[0]],
                "not known for this family, and may change what the model computes"
                + (f" (nor are {', '.join(unknown[1:])})" if unknown[1:] else ""),
            )
