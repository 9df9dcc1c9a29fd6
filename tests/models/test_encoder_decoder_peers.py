"""The same weights give the same numbers as Hugging Face's T5 and torch's Transformer."""

from itertools import takewhile

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lab
from lab.config import construct
from lab.layout import Layout
from lab.models.translate import translate

transformers = pytest.importorskip("transformers")

FAMILY = ("model=encoder_decoder", "objective=seq2seq", "data=reverse", "model.dropout=0", "model.context=16",
          "model.dim=32", "model.layers=3", "model.decoder_layers=2", "model.heads=4", "model.inner=48")  # fmt: skip
SOURCES, TARGETS = [[9], [6]], [[5], [8]]


def rows():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(2, 50, (2, 9), generator=generator), torch.randint(2, 50, (2, 8), generator=generator)


def close(mine, theirs):
    return torch.allclose(mine, theirs, atol=1e-5 * theirs.abs().max().item())


def from_t5(theirs):
    """A state of ours from one of T5's."""
    state = theirs.state_dict()
    mapped = {"embedding.table.weight": state["shared.weight"]}
    if not theirs.config.tie_word_embeddings:
        mapped["embedding.head.weight"] = state["lm_head.weight"]
    for side, layers in (("encoder", 3), ("decoder", 2)):
        bias = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        mapped[f"{side}.position.table.weight"] = state[bias]
        mapped[f"{side}.norm.weight"] = state[f"{side}.final_layer_norm.weight"]
        for i in range(layers):
            names = {"attention": "SelfAttention", "cross": "EncDecAttention"}
            parts = ["attention", "ffn"] if side == "encoder" else ["attention", "cross", "ffn"]
            for number, part in enumerate(parts):
                at, here = f"{side}.block.{i}.layer.{number}", f"{side}.blocks.{i}.{part}"
                mapped[f"{here}_norm.weight"] = state[f"{at}.layer_norm.weight"]
                if part == "ffn":
                    down = state[f"{at}.DenseReluDense.wo.weight"]
                    gate = [state.get(f"{at}.DenseReluDense.wi_{n}.weight") for n in (0, 1)]
                    if gate[0] is None:
                        mapped[f"{here}.up.weight"] = state[f"{at}.DenseReluDense.wi.weight"]
                    else:
                        mapped[f"{here}.project.weight"] = torch.cat(gate)
                    mapped[f"{here}.down.weight"] = down
                else:
                    merged = [state[f"{at}.{names[part]}.{n}.weight"] for n in "qkv"]
                    mapped[f"{here}.project.weight"] = torch.cat(merged)
                    mapped[f"{here}.output.weight"] = state[f"{at}.{names[part]}.o.weight"]
    return mapped


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_t5(version):
    torch.manual_seed(0)
    form = {"1.0": ("relu", True), "1.1": ("gated-gelu", False)}[version]
    settings = transformers.T5Config(
        vocab_size=50, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_decoder_layers=2, num_heads=4, dropout_rate=0,
        feed_forward_proj=form[0], tie_word_embeddings=form[1], decoder_start_token_id=0, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    settings.tie_word_embeddings = form[1]  # which their constructor takes back
    theirs = transformers.T5ForConditionalGeneration(settings).double().eval()
    theirs.set_input_embeddings(theirs.shared)  # one table for both stacks, whatever the head is
    with torch.no_grad():  # which begin too small to show
        for name, parameter in theirs.named_parameters():
            parameter.normal_(1.0 if "layer_norm" in name else 0.0, 0.3)
    ours = lab.build(
        lab.compose(
            f"preset=t5_{version.replace('.', '_')}", *FAMILY, "norm.eps=1e-6", "attention.scale=1.0",
        ),
        vocab_size=50,
    ).double().eval()  # fmt: skip
    ours.load_state_dict(from_t5(theirs))
    source, target = rows()
    seen = torch.arange(9) < torch.tensor([[9], [6]])
    known = torch.arange(8) < torch.tensor([[5], [8]])
    with torch.no_grad():
        logits = ours(source, target, Layout.packed(SOURCES), Layout.packed(TARGETS))
        reference = theirs(source, attention_mask=seen, decoder_input_ids=target, decoder_attention_mask=known).logits
    assert close(logits[known], reference[known])
    for beam in (1, 3):
        mine = translate(ours, source, Layout.packed(SOURCES), begin=0, end=1, limits=7, beam=beam, penalty=0.0)
        found = theirs.generate(
            source, attention_mask=seen, max_new_tokens=7, num_beams=beam, do_sample=False, length_penalty=0.0,
            early_stopping=True,
        )  # fmt: skip
        assert mine == [[*takewhile(lambda token: token != 1, row[1:])] for row in found.tolist()], beam


def test_torch_transformer():
    """Post-norm, with sines, as in 2017; torch's own norm after the last block is left out."""
    settings = {"d_model": 32, "nhead": 4, "dim_feedforward": 48, "dropout": 0.0, "batch_first": True}
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**settings), 3, enable_nested_tensor=False)
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**settings), 2)
    theirs = nn.Transformer(32, 4, custom_encoder=encoder, custom_decoder=decoder, batch_first=True)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.2)
    config = lab.compose("preset=transformer_2017_pairs", *FAMILY, "norm.eps=1e-5")
    ours = lab.build(config, vocab_size=50)
    mapped = {}
    for name, value in theirs.state_dict().items():
        side, _, number, *rest = name.split(".")
        word = ".".join(rest)
        renamed = {
            "self_attn.in_proj_": "attention.project.", "self_attn.out_proj": "attention.output",
            "multihead_attn.in_proj_": "cross.project.", "multihead_attn.out_proj": "cross.output",
            "linear1": "ffn.up", "linear2": "ffn.down", "norm1": "attention_norm",
            "norm2": "cross_norm" if side == "decoder" else "ffn_norm", "norm3": "ffn_norm",
        }  # fmt: skip
        for old, new in renamed.items():
            word = word.replace(old, new)
        mapped[f"{side}.blocks.{number}.{word}"] = value
    ours.load_state_dict({"embedding.table.weight": ours.embedding.table.weight} | mapped)
    source, target = rows()
    layouts = Layout.packed(SOURCES), Layout.packed(TARGETS)
    table = ours.embedding.table.weight * 32**0.5
    waves = ours.encoder.position.values(torch.arange(9), 32)
    padding = layouts[0].padding
    reference = theirs(
        table[source] + waves, table[target] + waves[:8], tgt_mask=nn.Transformer.generate_square_subsequent_mask(8),
        src_key_padding_mask=padding, memory_key_padding_mask=padding, tgt_is_causal=True,
    )  # fmt: skip
    real = ~layouts[1].padding
    assert close(ours.hidden(source, target, *layouts)[real], reference[real])
    targets = target.masked_fill(~real, -100)
    logits = reference @ ours.embedding.table.weight.T
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=0.1, reduction="sum")
    assert ours.embedding.loss(reference, targets, 0.1).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("preset", "parameters"), {"t5_small": 60_506_624, "t5_base": 222_903_552, "t5_1_1_base": 247_577_856}.items()
)
def test_published_sizes(preset, parameters):
    """As Hugging Face counts t5-small, t5-base and google/t5-v1_1-base."""
    with torch.device("meta"):
        model = construct(lab.compose(f"preset={preset}"), "model.build", vocab_size=32_128)
    assert model.parameters_total == parameters
