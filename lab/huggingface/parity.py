"""How near the lab comes to transformers: each family at a small size with random weights, taken in as a folder, compared.

    python -m lab.huggingface.parity --into README.md

puts the table between the marks of a Markdown file. It needs transformers, which nothing else of the lab does.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lab.huggingface.comparison import Parity, compare
from lab.huggingface.family import Family, families
from lab.huggingface.fields import CONFIG
from lab.huggingface.incoming import take_in
from lab.models.encoder_decoder import EncoderDecoder

BEGIN, END = "<!-- parity -->", "<!-- end of parity -->"
SPECIAL = ("<unk>", "<s>", "</s>")
TARGETS = ("<pad>", "</s>", "<unk>")
"""Special tokens of an encoder-decoder's tokenizer."""

SPREADS = {".q.": 0.1, ".k.": 0.1, "EncDec": 0.04, "relative": 2.0, "shared": 0.3, "lm_head": 0.3, "": 0.5}
"""Spreads of random weights of an encoder-decoder by parts of names, the first that fits. Scores are not scaled there, and
large ones magnify rounding. What the target adds outweighs the source, or one token follows another for ever."""


def published(fields: Mapping[str, Any], model_type: str, folder: Path, attention: str | None = "eager") -> Any:
    """A model of transformers with random weights, written with a tokenizer into a folder."""
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(model_type, **fields)
    family = families()[model_type]
    built, [name] = family.built, fields.get("architectures", family.architectures[:1])
    theirs = getattr(transformers, name)._from_config(config, attn_implementation=attention).eval()
    if built is EncoderDecoder and fields.get("tie_word_embeddings") is False:  # which their constructor takes back
        config.tie_word_embeddings = theirs.config.tie_word_embeddings = False
        theirs.lm_head.weight = nn.Parameter(theirs.lm_head.weight.clone())
    spreads = SPREADS if built is EncoderDecoder else {"": 0.2}
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            gain = parameter.ndim == 1 and name.endswith("weight")
            spread = next(spread for part, spread in spreads.items() if part in name)
            parameter.normal_(1.0 if gain else 0.0, 0.1 if gain else spread)
            for ours, rows in family.skipped.items():
                if family.names[ours].removeprefix(family.base) in name:
                    parameter[:rows] = 0
    theirs.save_pretrained(folder)
    tokenizer(config.vocab_size, TARGETS if built is EncoderDecoder else SPECIAL).save(str(folder / "tokenizer.json"))
    return theirs


def tokenizer(size: int, special: Sequence[str] = SPECIAL) -> Any:
    """Of single characters, with as many tokens as asked for."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    letters = [chr(number) for number in range(0x21, 0x21 + size - len(special))]
    made = tokenizers.Tokenizer(models.WordLevel({t: i for i, t in enumerate([*special, *letters])}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.decoder = decoders.Fuse()
    made.add_special_tokens(list(special))
    return made


def measure(family: Family, variant: str) -> Parity:
    """One variant of a family, through a folder."""
    with tempfile.TemporaryDirectory() as place:
        source = Path(place, "published")
        theirs = published(family.fields(variant), family.model_type, source)
        assert (source / CONFIG).is_file()
        return compare(family, take_in(source, Path(place, "run")), theirs)


def table() -> str:
    """A row for each family, over its variants."""
    rows = [
        "| family | variants | logits | hidden states | gradients | padded | packed | tokens |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, family in families().items():
        found = [measure(family, variant) for variant in family.variants]
        shares = [max(getattr(p, field.name) for p in found) for field in fields(Parity)[:5]]
        same, tokens = sum(p.same for p in found), sum(p.tokens for p in found)
        numbers = " | ".join(f"{share:.0e}" for share in shares)
        generated = f"{same:,} of {tokens:,}" if tokens else "-"
        rows.append(f"| `{name}` | {'; '.join(family.variants)} | {numbers} | {generated} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Print the table, or put it into a file."""
    from lab.views.parts import between_marks

    parser = argparse.ArgumentParser(description="Compare with transformers.")
    parser.add_argument("--into", type=Path, metavar="FILE", help=f"a Markdown file with the marks {BEGIN} and {END}")
    options = parser.parse_args()
    made = table()
    if options.into:
        between_marks(options.into, BEGIN, END, made)
    else:
        print(made, end="")


if __name__ == "__main__":
    main()
