"""Tokenizers of characters and of pieces of words; how they compare with bytes and words is a sweep away.

What each keeps of a text: `Char` and `Unigram` all but characters that training never showed (and of U+2581, which
`Unigram` writes for a space, a space); `BPEWord` and `WordPiece` drop white space too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from lab.data.special import UNKNOWN
from lab.data.tokenizers import Recipe, Tokenizer
from lab.errors import RequestError

WORDS = r"\w+|[^\w\s]"


@dataclass(frozen=True)
class Char(Recipe):
    """The characters of the training text, the most frequent if they are too many; others become [UNK]."""

    open_ended = True

    def train(self, texts: Iterator[str]) -> Tokenizer:
        begin, *others = self.tokens
        inner = tokenizers.Tokenizer(models.WordLevel({}, unk_token=UNKNOWN))
        inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        inner.decoder = decoders.Fuse()
        trainer = trainers.WordLevelTrainer(
            vocab_size=self.vocab_size, special_tokens=[begin, UNKNOWN, *others], show_progress=False
        )
        inner.train_from_iterator(texts, trainer)
        return Tokenizer(inner)


@dataclass(frozen=True)
class BPEWord(Recipe):
    """Byte-pair encoding as it came (Sennrich et al. 2016, arXiv 1508.07909): over characters, within words.

    The last piece of a word carries `</w>`. A character that training never showed, or never at that place of a word,
    becomes [UNK].
    """

    def train(self, texts: Iterator[str]) -> Tokenizer:
        begin, *others = self.tokens
        inner = tokenizers.Tokenizer(models.BPE(unk_token=UNKNOWN, end_of_word_suffix="</w>"))
        inner.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "removed", invert=True)
        inner.decoder = decoders.BPEDecoder(suffix="</w>")
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            min_frequency=2,
            special_tokens=[begin, UNKNOWN, *others],
            end_of_word_suffix="</w>",
            show_progress=False,
        )
        inner.train_from_iterator(texts, trainer)
        return _of_size(inner, self.vocab_size)


@dataclass(frozen=True)
class WordPiece(Recipe):
    """WordPiece as in BERT (Devlin et al. 2019, arXiv 1810.04805), cased: the longest piece first, `##` inside a word.

    A word that no pieces spell becomes [UNK] as a whole.
    """

    def train(self, texts: Iterator[str]) -> Tokenizer:
        begin, *others = self.tokens
        inner = tokenizers.Tokenizer(models.WordPiece({UNKNOWN: 0}, unk_token=UNKNOWN))
        inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        inner.decoder = decoders.WordPiece(prefix="##", cleanup=False)
        trainer = trainers.WordPieceTrainer(
            vocab_size=self.vocab_size, special_tokens=[begin, UNKNOWN, *others], show_progress=False
        )
        inner.train_from_iterator(texts, trainer)
        return _of_size(inner, self.vocab_size)


@dataclass(frozen=True)
class Unigram(Recipe):
    """A unigram language model over pieces (Kudo 2018, arXiv 1804.10959), spaces written as SentencePiece does.

    A space belongs to the word that follows it; nothing is put before the first word, so nothing is lost there.
    Of a text the likeliest pieces are taken.
    """

    def train(self, texts: Iterator[str]) -> Tokenizer:
        inner = tokenizers.Tokenizer(models.Unigram())
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
        inner.decoder = decoders.Metaspace(prepend_scheme="never")
        trainer = trainers.UnigramTrainer(
            vocab_size=self.vocab_size - len(self.tokens),
            special_tokens=[UNKNOWN],
            unk_token=UNKNOWN,
            show_progress=False,
        )
        try:
            inner.train_from_iterator(texts, trainer)
        except Exception as error:  # the library raises nothing more special
            raise RequestError(
                f"tokenizer.vocab_size={self.vocab_size}: no pieces can be chosen ({error}); accepted: more than the training"
                " text has characters, all of which are kept"
            ) from error
        # Added afterwards: among the pieces their score of 0 would beat every other way to spell them.
        inner.add_special_tokens(self.tokens)
        return Tokenizer(inner)


def _of_size(inner: tokenizers.Tokenizer, most: int) -> Tokenizer:
    """What was trained. The library keeps every letter, in the middle of a word and at its end, even beyond what was asked."""
    size = inner.get_vocab_size()
    if size > most:
        raise RequestError(
            f"tokenizer.vocab_size={most}: the letters of the training text alone are {size:,} tokens;"
            " accepted: as many or more"
        )
    return Tokenizer(inner)
