"""GPT-2 (Radford et al. 2019)."""

from __future__ import annotations

import re
from typing import Any

from lab.huggingface.family import ACTIVATIONS, Family, said, written
from lab.huggingface.fields import Fields


class GPT2(Family):
    """Pre-norm blocks with LayerNorm, learned positions and biases; matrices are kept turned around."""

    model_type = "gpt2"
    architectures = ("GPT2LMHeadModel", "GPT2Model")
    base = "transformer."
    names = {
        "embedding.table": "transformer.wte",
        "embedding.head": "lm_head",
        "position.table": "transformer.wpe",
        "norm": "transformer.ln_f",
        "blocks.{}.attention_norm": "transformer.h.{}.ln_1",
        "blocks.{}.attention.project": "transformer.h.{}.attn.c_attn",
        "blocks.{}.attention.output": "transformer.h.{}.attn.c_proj",
        "blocks.{}.ffn_norm": "transformer.h.{}.ln_2",
        "blocks.{}.ffn.up": "transformer.h.{}.mlp.c_fc",
        "blocks.{}.ffn.down": "transformer.h.{}.mlp.c_proj",
    }
    transposed = re.compile(r"\.c_(attn|proj|fc)\.weight$")
    derived = re.compile(r"\.attn\.(masked_)?bias$")
    ignored = {
        **dict.fromkeys(
            (
                "summary_activation",
                "summary_first_dropout",
                "summary_proj_to_labels",
                "summary_type",
                "summary_use_proj",
            ),
            "of a second head, for choices",
        ),
        "n_ctx": "n_positions, by its name until 2021",
        "reorder_and_upcast_attn": "precision of scores below float32",
    }
    sizes = {
        "n_embd": "model.dim", "n_layer": "model.layers", "n_head": "model.heads", "n_positions": "model.context",
        "vocab_size": "embedding.rows", "resid_pdrop": "model.dropout", "attn_pdrop": "attention.dropout",
        "embd_pdrop": "embedding.dropout", "layer_norm_epsilon": "norm.eps",
    }  # fmt: skip
    defaults = {
        "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50_257, "resid_pdrop": 0.1,
        "attn_pdrop": 0.1, "embd_pdrop": 0.1, "layer_norm_epsilon": 1e-5,
    }  # fmt: skip
    small = {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
    variants = {
        "as published": {},
        "untied, inner 48, exact GELU": {"tie_word_embeddings": False, "n_inner": 48, "activation_function": "gelu"},
        "scores not scaled, ReLU": {
            "scale_attn_weights": False,
            "activation_function": "relu",
            "layer_norm_epsilon": 1e-6,
        },
    }

    preset = "gpt2"
    activations = ("activation_function", "gelu_new", ACTIVATIONS)

    def read(self, fields: Fields) -> list[str]:
        sizes = self.read_sizes(fields)
        tied = fields.take("tie_word_embeddings", True)
        return [
            *(f"preset={self.preset}", *said(sizes)),
            f"model.inner={self.read_inner(fields) or 4 * sizes['model.dim']}",
            f"embedding={'tied' if tied else 'untied'}",
            "ffn=dense",
            f"ffn.activation={fields.word(*self.activations)}",
            *self.read_scores(fields),
        ]

    def read_inner(self, fields: Fields) -> int | None:
        """The width of the feed-forward layers, if it is given."""
        return fields.size("n_inner")

    def read_scores(self, fields: Fields) -> list[str]:
        """How scores are scaled."""
        fields.only("scale_attn_by_inverse_layer_idx", [False], "the lab's scores are scaled alike in all layers")
        fields.only("add_cross_attention", [False], "this family is read as a decoder alone")
        return [] if fields.take("scale_attn_weights", True) else ["attention.scale=1.0"]

    def write(self, model: Any) -> dict[str, Any]:
        return {
            **self.write_sizes(model),
            "tie_word_embeddings": model.embedding.head is None,
            **self.write_rest(model.blocks[0]),
        }

    def write_rest(self, block: Any) -> dict[str, Any]:
        """What differs between this family and GPT-1."""
        return {
            "n_inner": getattr(block.ffn, "inner", 1),
            "activation_function": written(block.ffn),
            "scale_attn_weights": block.attention.scale is None,
        }
