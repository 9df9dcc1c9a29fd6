"""How near the lab comes to transformers: each family at a small size with random weights, taken in as a folder, compared.

    python -m lab.huggingface.parity --into README.md

puts the table between the marks of a Markdown file. It needs transformers, which nothing else of the lab does.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lab.huggingface.family import Family, families
from lab.huggingface.fields import CONFIG
from lab.huggingface.incoming import take_in
from lab.layout import Layout
from lab.models.decoder import Decoder
from lab.models.encoder import Encoder
from lab.models.encoder_decoder import EncoderDecoder
from lab.models.generate import generate
from lab.models.translate import translate
from lab.parts.cache import left_padded
from lab.runs.folder import Run

BEGIN, END = "<!-- parity -->", "<!-- end of parity -->"
TIME, NEW, NEW_TARGET = 24, 100, 30
SPECIAL = ("<unk>", "<s>", "</s>")
TARGETS = ("<pad>", "</s>", "<unk>")
"""Special tokens of an encoder-decoder's tokenizer."""


@dataclass(frozen=True)
class Parity:
    """Largest differences of one model, each as a share of the largest absolute value of the tensor that differs.

    Attributes:
        logits, hidden: of two rows; hidden states of every layer.
        gradients: of the loss, of every parameter.
        padded: logits, of rows of unequal lengths with padding behind and before.
        packed: logits, of two documents in one row, each against itself alone.
        same, tokens: greedily generated tokens that are the same, and all.
    """

    logits: float
    hidden: float
    gradients: float
    padded: float
    packed: float
    same: int
    tokens: int


def published(fields: Mapping[str, Any], model_type: str, folder: Path, attention: str | None = "eager") -> Any:
    """A model of transformers with random weights, written with a tokenizer into a folder."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **fields)
    kinds = {Decoder: AutoModelForCausalLM, Encoder: AutoModelForMaskedLM, EncoderDecoder: AutoModelForSeq2SeqLM}
    built = families()[model_type].built
    theirs = kinds[built].from_config(config, attn_implementation=attention).eval()
    if built is EncoderDecoder and fields.get("tie_word_embeddings") is False:  # which their constructor takes back
        config.tie_word_embeddings = theirs.config.tie_word_embeddings = False
        theirs.lm_head.weight = nn.Parameter(theirs.lm_head.weight.clone())
    spread = 0.1 if built is EncoderDecoder else 0.2  # where scores are not scaled, large ones magnify rounding
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            gain = parameter.ndim == 1 and name.endswith("weight")
            parameter.normal_(1.0 if gain else 0.0, spread)
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


def compare(family: Family, run: Run, theirs: Any) -> Parity:
    """Both on the same tokens."""
    if family.built is EncoderDecoder:
        return _compare_pairs(family, run.model, theirs)
    ours: Any = run.model
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(len(SPECIAL), theirs.config.vocab_size, (2, TIME), generator=generator)
    logits, hidden = _forward(ours, theirs, tokens)
    mine = generate(ours, [tokens[0, :9].tolist()], NEW)[0] if family.causal else []
    others = _continued(theirs, tokens[0, :9].tolist()) if family.causal else []
    return Parity(
        logits,
        hidden,
        _gradients(family, ours, theirs, tokens),
        _padded(family, ours, theirs, tokens),
        _packed(ours, theirs, tokens),
        sum(a == b for a, b in zip(mine, others, strict=True)),
        len(others),
    )


def _share(mine: Tensor, theirs: Tensor) -> float:
    largest = theirs.abs().max().item()
    return (mine - theirs).abs().max().item() / (largest or 1.0)


@torch.no_grad()
def _forward(ours: Any, theirs: Any, tokens: Tensor) -> tuple[float, float]:
    with _watched(ours) as states:
        mine = ours(tokens)
    out = theirs(input_ids=tokens, output_hidden_states=True)
    return _share(mine, out.logits), _farthest(ours, states, out.hidden_states)


@contextmanager
def _watched(stack: Any) -> Iterator[list[Tensor]]:
    """What leaves each block of a stack."""
    states: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, __, out: states.append(out)) for block in stack.blocks]
    yield states
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def _farthest(stack: Any, states: Sequence[Tensor], layers: Sequence[Tensor]) -> float:
    """Of the layers of theirs, which begin with what enters, and count the last norm to the last."""
    mine = [*states[:-1], stack.norm(states[-1])]
    return max(_share(a, b) for a, b in zip(mine, layers[1:], strict=True))


def _gradients(family: Family, ours: Any, theirs: Any, tokens: Tensor) -> float:
    targets = torch.full_like(tokens, -100)
    if family.causal:
        targets[:, :-1] = tokens[:, 1:]
    else:
        targets[:, ::3] = tokens[:, ::3]
    ours.zero_grad()
    theirs.zero_grad()
    ours.loss(tokens, targets).backward()
    theirs(input_ids=tokens, labels=tokens if family.causal else targets).loss.backward()
    return _of_parameters(family, ours, theirs)


def _of_parameters(family: Family, ours: Any, theirs: Any) -> float:
    given = dict(_as_written(theirs))
    parameters = dict(ours.named_parameters())

    def expected(weight: Any) -> Tensor:
        found = [given[name] for name in weight.theirs]
        return torch.cat([g.T if weight.transposed else g[weight.skipped :] for g in found])

    return max(_share(parameters[w.ours].grad, expected(w)) for w in family.weights(ours))


def _as_written(theirs: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Gradients by the names that the file has: experts there are one by one."""
    for name, parameter in theirs.named_parameters():
        gradient = parameter.grad
        if gradient is None:  # a bias that an untied head leaves aside
            continue
        if ".mlp.experts." in name:
            at = name.replace(".mlp.experts.", ".block_sparse_moe.experts.{}.").rpartition(".")[0]
            for number, expert in enumerate(gradient):
                if name.endswith("gate_up_proj"):
                    gate, up = expert.chunk(2)
                    yield f"{at}.w1.weight".format(number), gate
                    yield f"{at}.w3.weight".format(number), up
                else:
                    yield f"{at}.w2.weight".format(number), expert
        else:
            yield name.replace(".mlp.gate.", ".block_sparse_moe.gate."), gradient


@torch.no_grad()
def _padded(family: Family, ours: Any, theirs: Any, tokens: Tensor) -> float:
    """Rows of 24 and 15 tokens, padded behind, and before where rows are continued."""
    lengths = [TIME, 15]
    behind = torch.arange(TIME) < torch.tensor(lengths).unsqueeze(1)
    found = []
    for real in (behind, behind.flip(1)) if family.causal else (behind,):
        layout = Layout.packed([[n] for n in lengths], TIME) if real is behind else left_padded(lengths)
        places = {"position_ids": (real.cumsum(1) - 1).clamp_min(0)} if family.causal else {}
        given = tokens.masked_fill(~real, theirs.config.pad_token_id or 0)
        reference = theirs(input_ids=given, attention_mask=real.long(), **places).logits
        found.append(_share(ours(given, layout)[real], reference[real]))
    return max(found)


@torch.no_grad()
def _packed(ours: Any, theirs: Any, tokens: Tensor) -> float:
    """A row of documents of 14 and 10 tokens against each alone."""
    mine = ours(tokens[:1], Layout.packed([[14, TIME - 14]]))[0]
    alone = [theirs(input_ids=piece).logits[0] for piece in (tokens[:1, :14], tokens[:1, 14:])]
    return _share(mine, torch.cat(alone))


def _continued(theirs: Any, prompt: list[int]) -> list[int]:
    """Greedy, and never stopping."""
    given = torch.tensor([prompt])
    settings: Mapping[str, Any] = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0, "bos_token_id": None}
    return theirs.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=NEW, **settings)[
        0, len(prompt) :
    ].tolist()


def _compare_pairs(family: Family, ours: Any, theirs: Any) -> Parity:
    """An encoder-decoder: sources of 24 tokens, targets of 20 that follow the padding."""
    generator = torch.Generator().manual_seed(1)
    source, target = torch.randint(len(TARGETS), theirs.config.vocab_size, (2, 2, TIME), generator=generator)
    target = torch.cat([torch.zeros_like(target[:, :1]), target[:, :19]], dim=1)
    with _watched(ours.encoder) as encoded, _watched(ours.decoder) as decoded:
        mine = ours.embedding.logits(ours.hidden(source, target))
    out = theirs(input_ids=source, decoder_input_ids=target, output_hidden_states=True)
    ours.zero_grad()
    theirs.zero_grad()
    given, wanted = target[:, :-1], target[:, 1:].contiguous()
    (ours.embedding.loss(ours.hidden(source, given), wanted) / wanted.numel()).backward()
    theirs(input_ids=source, labels=wanted).loss.backward()
    sizes = [TIME, 15]
    found = translate(ours, source, Layout.packed([[n] for n in sizes], TIME), begin=0, end=-1, limits=NEW_TARGET)
    others = _translated(theirs, source, torch.arange(TIME) < torch.tensor(sizes).unsqueeze(1))
    return Parity(
        _share(mine, out.logits),
        max(
            _farthest(ours.encoder, encoded, out.encoder_hidden_states),
            _farthest(ours.decoder, decoded, out.decoder_hidden_states),
        ),
        _of_parameters(family, ours, theirs),
        _padded_pairs(ours, theirs, source, target),
        _packed_pairs(ours, theirs, source, target),
        sum(a == b for one, other in zip(found, others, strict=True) for a, b in zip(one, other, strict=True)),
        sum(len(other) for other in others),
    )


@torch.no_grad()
def _padded_pairs(ours: Any, theirs: Any, source: Tensor, target: Tensor) -> float:
    """Sources of 24 and 15 tokens, targets of 11 and 20, padded behind."""
    sizes = [TIME, 15], [11, target.shape[1]]
    seen, known = (
        torch.arange(x.shape[1]) < torch.tensor(n).unsqueeze(1) for x, n in zip((source, target), sizes, strict=True)
    )
    layouts = [Layout.packed([[n] for n in of], x.shape[1]) for of, x in zip(sizes, (source, target), strict=True)]
    source, target = source.masked_fill(~seen, 0), target.masked_fill(~known, 0)
    mine = ours.embedding.logits(ours.hidden(source, target, *layouts))
    masks = {"attention_mask": seen.long(), "decoder_attention_mask": known.long()}
    reference = theirs(input_ids=source, decoder_input_ids=target, **masks).logits
    return _share(mine[known], reference[known])


@torch.no_grad()
def _packed_pairs(ours: Any, theirs: Any, source: Tensor, target: Tensor) -> float:
    """Two pairs in one row against each alone."""
    sides = [(source[:1], [14, TIME - 14]), (target[:1], [8, target.shape[1] - 8])]
    layouts = [Layout.packed([sizes]) for _, sizes in sides]
    mine = ours.embedding.logits(ours.hidden(source[:1], target[:1], *layouts))[0]
    pieces = zip(*(row.split(sizes, dim=1) for row, sizes in sides), strict=True)
    alone = [theirs(input_ids=one, decoder_input_ids=other).logits[0] for one, other in pieces]
    return _share(mine, torch.cat(alone))


def _translated(theirs: Any, source: Tensor, seen: Tensor) -> list[list[int]]:
    """Greedy, and never stopping."""
    settings: Mapping[str, Any] = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    made = theirs.generate(source, attention_mask=seen.long(), max_new_tokens=NEW_TARGET, **settings)
    return made[:, 1:].tolist()


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
        rows.append(f"| `{name}` | {'; '.join(family.variants)} | {numbers} | {same:,} of {tokens:,} |")
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
