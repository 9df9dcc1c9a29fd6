"""A tokenizer that exists: a `tokenizer.json`, or a published folder of the Hugging Face Hub that holds one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tokenizers

from lab.data.corpora import content_digest, digest
from lab.data.special import SPELLINGS, spelt
from lab.data.tokenizers import FILE, Recipe, Tokenizer
from lab.errors import RequestError


@dataclass(frozen=True)
class Pretrained(Recipe):
    """Trains nothing: the tokenizer of a file, its special tokens and numbers as they are.

    Its token that begins documents is the first found of `<|document|>`, `[CLS]`, `<s>` and the like; see
    `lab.data.special.SPELLINGS`.

    Args:
        vocab_size: more tokens than these are refused; the model gets as many as there are.
        special: roles that the model's family needs: the file must have a token for each.
        path: the file, or the folder with a `tokenizer.json`.

    Raises:
        RequestError: no path; when trained, a missing or damaged file, too many tokens, or a role without one.
    """

    vocab_size: int = 2**16
    special: Sequence[str] = field(default=(), kw_only=True)
    path: str | None = field(default=None, kw_only=True)

    open_ended = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.path:
            raise RequestError("tokenizer.path: needs a tokenizer.json or a folder with one, for example that of a run")

    def train(self, texts: Iterator[str]) -> Tokenizer:
        tokenizer = Tokenizer.load(self._file)
        if tokenizer.vocab_size > self.vocab_size:
            raise RequestError(
                f"tokenizer.vocab_size={self.vocab_size}: {self.path} has {tokenizer.vocab_size} tokens; allow as many"
            )
        if "sentinels" in self.special and not len(tokenizer.sentinels):
            raise RequestError(f"tokenizer.path={self.path}: has no <extra_id_0>, which model.special asks for")
        for role in set(self.special) - {"sentinels", "pad", "end"}:
            if spelt(role, tokenizer.specials) is None:
                raise RequestError(
                    f"tokenizer.path={self.path}: has no {' or '.join(SPELLINGS[role])}, which model.special asks for"
                )
        return tokenizer

    @property
    def _file(self) -> Path:
        place = Path(self.path or "").expanduser()
        file = place / FILE if place.is_dir() else place
        if not file.is_file():
            raise RequestError(
                f"tokenizer.path={self.path}: no {FILE} there; of a folder without one, transformers' "
                "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) writes it"
            )
        return file

    def fingerprint(self) -> str:
        """Changes with the file's content, wherever it lies."""
        return digest("Pretrained", self.special, content_digest(self._file), tokenizers.__version__)
