"""T5 (Raffel et al. 2020) in both forms: 1.0, and 1.1 (Shazeer 2020; its release notes), which Flan-T5 shares."""

from __future__ import annotations

import re
from typing import Any

import torch

from lab.data.tokenizers import Tokenizer
from lab.huggingface.family import ACTIVATIONS, Family, written
from lab.huggingface.fields import Fields
from lab.huggingface.weights import Tensors
from lab.models.encoder_decoder import EncoderDecoder

GATES = ACTIVATIONS | {"gelu": "gelu_tanh"}
"""Activations of gates: `gated-gelu` is the approximation by tanh."""

FORMS = {
    **{name: f"ffn=dense ffn.activation={here}" for name, here in ACTIVATIONS.items()},
    **{f"gated-{name}": f"ffn=gated_wide ffn.activation={here}" for name, here in GATES.items()},
}
"""Feed-forward layers by `feed_forward_proj`."""

EMBEDDINGS = {
    (True, True): ["embedding=tied_t5"],
    (True, False): ["embedding=tied"],
    (False, False): ["embedding=untied"],
    (False, True): ["embedding=tied_t5", "embedding.tied=false"],
}
"""By whether the head is the table, and whether what it scores is multiplied by `1 / sqrt(d_model)`."""

HEAD, TABLE = "lm_head.weight", "shared.weight"


def _attention(there: str) -> dict[str, str]:
    """Of one attention, by what follows its name here."""
    return {
        "project.query": f"{there}.q",
        "project.key": f"{there}.k",
        "project.value": f"{there}.v",
        "output": f"{there}.o",
    }


def _stack(side: str, *attentions: tuple[str, str]) -> dict[str, str]:
    """Names of one of the two stacks: its layers stand in one list, the feed-forward layer last."""
    at = f"{side}.block.{{}}.layer"
    names = {
        f"{side}.position.table": f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias",
        f"{side}.norm": f"{side}.final_layer_norm",
    }
    for number, (here, there) in enumerate([*attentions, ("ffn", "DenseReluDense")]):
        inside = _attention(f"{at}.{number}.{there}")
        if here == "ffn":
            wanted = {"up": "wi", "project.gate": "wi_0", "project.up": "wi_1", "down": "wo"}
            inside = {ours: f"{at}.{number}.{there}.{name}" for ours, name in wanted.items()}
        names |= {f"{side}.blocks.{{}}.{here}.{ours}": name for ours, name in inside.items()}
        names[f"{side}.blocks.{{}}.{here}_norm"] = f"{at}.{number}.layer_norm"
    return names


class T5(Family):
    """Two stacks of pre-norm blocks with a bias by distance, whose scores are not scaled.

    `dropout_rate` acts here on what enters and what each layer adds, and on attention weights; there also inside of the
    feed-forward layers and on what leaves a stack.
    """

    model_type = "t5"
    architectures = ("T5ForConditionalGeneration", "T5WithLMHeadModel", "T5Model")
    built = EncoderDecoder
    base = ""
    names = {
        "embedding.table": "shared",
        "embedding.head": "lm_head",
        **_stack("encoder", ("attention", "SelfAttention")),
        **_stack("decoder", ("attention", "SelfAttention"), ("cross", "EncDecAttention")),
    }
    # Of the first checkpoints, where nothing reads it.
    derived = re.compile(r"^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$")
    ignored = {
        "classifier_dropout": "of another head",
        "decoder_start_token_id": "checked apart",
        "initializer_factor": "of new weights",
    }
    small = {
        "vocab_size": 96, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4,
        "decoder_start_token_id": 0,
    }  # fmt: skip
    variants = {
        "1.0": {},
        "1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        "8 buckets to 20, gated SiLU": {
            "relative_attention_num_buckets": 8,
            "relative_attention_max_distance": 20,
            "feed_forward_proj": "gated-silu",
            "layer_norm_epsilon": 1e-5,
        },
        "tied, unscaled": {
            "feed_forward_proj": "gelu_new",
            "scale_decoder_outputs": False,
            "num_decoder_layers": None,
        },
    }

    def settle(self, fields: Fields, tensors: Tensors, tokenizer: Tokenizer) -> None:
        """Whether the head is the table, where transformers 5 says that it always is; and what a target follows."""
        start = fields.left.get("decoder_start_token_id")
        if start not in (None, tokenizer.document_id):
            fields.refuse(
                "decoder_start_token_id",
                start,
                f"a target follows the tokenizer's {tokenizer.spelt(tokenizer.document_id)}, {tokenizer.document_id}",
            )
        unscaled = fields.left.get("scale_decoder_outputs") is False
        if unscaled and HEAD in tensors.files and TABLE in tensors.files:
            fields.left["tie_word_embeddings"] = torch.equal(tensors[HEAD], tensors[TABLE])

    def read(self, fields: Fields) -> list[str]:
        dim, heads = fields.take("d_model", 512), fields.take("num_heads", 8)
        width = fields.take("d_kv", 64)
        if width * heads != dim:
            fields.refuse("d_kv", width, f"heads of the lab are d_model / num_heads = {dim / heads:g} wide")
        layers, dropout = fields.take("num_layers", 6), fields.take("dropout_rate", 0.1)
        fields.only("is_decoder", [False], "this family is read with both stacks")
        tied = fields.take("tie_word_embeddings", True)
        return [
            *("preset=t5_1_0", "model.special=[end,pad]"),
            f"model.dim={dim}",
            f"model.layers={layers}",
            f"model.decoder_layers={fields.size('num_decoder_layers') or layers}",
            f"model.heads={heads}",
            f"model.inner={fields.take('d_ff', 2048)}",
            f"model.context={fields.take('n_positions', 512)}",
            f"model.dropout={dropout}",
            *("attention.scale=1.0", f"attention.dropout={dropout}"),
            *EMBEDDINGS[tied, fields.take("scale_decoder_outputs", tied)],
            f"embedding.rows={fields.take('vocab_size', 32_128)}",
            f"position.buckets={fields.take('relative_attention_num_buckets', 32)}",
            f"position.reach={fields.take('relative_attention_max_distance', 128)}",
            f"norm.eps={fields.take('layer_norm_epsilon', 1e-6)}",
            *self._feed_forward(fields),
        ]

    def _feed_forward(self, fields: Fields) -> list[str]:
        form = str(fields.left.get("feed_forward_proj", "relu"))
        words = fields.word("feed_forward_proj", "relu", FORMS).split()
        gated, _, act = form.rpartition("-")
        why = f"feed_forward_proj={form} says otherwise"
        fields.only("is_gated_act", [bool(gated)], why)
        fields.only("dense_act_fn", ["gelu_new" if form == "gated-gelu" else act], why)
        return words

    def write(self, model: Any) -> dict[str, Any]:
        block, position, embedding = model.encoder.blocks[0], model.decoder.position, model.embedding
        gated = hasattr(block.ffn, "project")
        return {
            "vocab_size": embedding.table.num_embeddings,
            "d_model": model.dim,
            "d_kv": model.dim // block.attention.heads,
            "d_ff": getattr(block.ffn, "inner", 1),
            "num_layers": len(model.encoder.blocks),
            "num_decoder_layers": len(model.decoder.blocks),
            "num_heads": block.attention.heads,
            "n_positions": model.context,
            "relative_attention_num_buckets": getattr(position, "buckets", 32),
            "relative_attention_max_distance": getattr(position, "reach", 128),
            "feed_forward_proj": f"gated-{written(block.ffn, GATES)}" if gated else written(block.ffn),
            "layer_norm_epsilon": getattr(block.attention_norm, "eps", 1e-6),
            "dropout_rate": block.dropout.p,
            "tie_word_embeddings": embedding.head is None,
            "scale_decoder_outputs": embedding.logit_scale != 1.0,
            "is_encoder_decoder": True,
        }

    def write_tokens(self, tokenizer: Tokenizer) -> dict[str, Any]:
        return {
            "decoder_start_token_id": tokenizer.document_id,
            "eos_token_id": tokenizer.id("end"),
            "pad_token_id": tokenizer.id("pad"),
        }
