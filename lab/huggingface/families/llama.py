"""Llama 1 to 3.3 (Touvron et al. 2023; Dubey et al. 2024)."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from lab.huggingface import rotary
from lab.huggingface.family import ACTIVATIONS, Family, said, written
from lab.huggingface.fields import Fields
from lab.parts.visibility import Sliding

TRAINED = {"original_max_position_embeddings": 32}
LLAMA31 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, **TRAINED}


class Llama(Family):
    """Pre-norm blocks with RMSNorm, rotary positions and gated feed-forward layers."""

    model_type = "llama"
    architectures = ("LlamaForCausalLM", "LlamaModel")
    base = "model."
    names = {
        "embedding.table": "model.embed_tokens",
        "embedding.head": "lm_head",
        "norm": "model.norm",
        "blocks.{}.attention_norm": "model.layers.{}.input_layernorm",
        "blocks.{}.attention.project.query": "model.layers.{}.self_attn.q_proj",
        "blocks.{}.attention.project.key": "model.layers.{}.self_attn.k_proj",
        "blocks.{}.attention.project.value": "model.layers.{}.self_attn.v_proj",
        "blocks.{}.attention.output": "model.layers.{}.self_attn.o_proj",
        "blocks.{}.ffn_norm": "model.layers.{}.post_attention_layernorm",
        "blocks.{}.ffn.project.gate": "model.layers.{}.mlp.gate_proj",
        "blocks.{}.ffn.project.up": "model.layers.{}.mlp.up_proj",
        "blocks.{}.ffn.down": "model.layers.{}.mlp.down_proj",
    }
    derived = re.compile(r"rotary_emb\.inv_freq$")
    ignored = {"pretraining_tp": "in how many pieces products are computed"}
    sizes = {
        "hidden_size": "model.dim", "num_hidden_layers": "model.layers", "num_attention_heads": "model.heads",
        "max_position_embeddings": "model.context", "vocab_size": "embedding.rows", "rms_norm_eps": "norm.eps",
        "attention_dropout": "attention.dropout", "intermediate_size": "model.inner",
    }  # fmt: skip
    defaults = {
        "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
        "vocab_size": 32_000, "rms_norm_eps": 1e-6, "attention_dropout": 0.0, "intermediate_size": 11_008,
        "num_key_value_heads": None, "rope_theta": 10_000.0,
    }  # fmt: skip
    small = {
        "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
        "max_position_embeddings": 128, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
    }  # fmt: skip
    variants = {
        "grouped heads": {},
        "every head its own": {"num_key_value_heads": 4, "rms_norm_eps": 1e-6},
        "one head for all": {"num_key_value_heads": 1},
        "heads wider than their part": {"head_dim": 14},
        "tied": {"tie_word_embeddings": True},
        "biases": {"attention_bias": True, "mlp_bias": True},
        "base 500,000": {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
        "Llama 3.1's scaling": {
            "rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, **LLAMA31}
        },
        "linear scaling": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
        "YaRN": {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, **TRAINED}},
    }

    preset = "llama3_8b"
    scalings: ClassVar[tuple[str, ...]] = ("default", "linear", "llama3", "yarn")
    """Kinds of rotation."""

    partial = False
    """Whether a part of each head may turn."""

    def read(self, fields: Fields) -> list[str]:
        sizes = self.read_sizes(fields)
        dim, heads = sizes["model.dim"], sizes["model.heads"]
        kv_heads = fields.size("num_key_value_heads", self.defaults["num_key_value_heads"]) or heads
        width = fields.size("head_dim")
        if width is None and dim % heads:
            fields.refuse("num_attention_heads", heads, f"does not divide hidden_size {dim}, and there is no head_dim")
        return [
            *(f"preset={self.preset}", *said(sizes)),
            f"model.head_dim={'null' if width in (None, dim / heads) else width}",
            *(
                {heads: ["attention=mha"], 1: ["attention=mqa"]}.get(
                    kv_heads, ["attention=gqa", f"model.kv_heads={kv_heads}"]
                )
            ),
            f"embedding={'tied' if fields.take('tie_word_embeddings', False) else 'untied'}",
            *rotary.read(
                *(fields, self.defaults["rope_theta"], sizes["model.context"], self.scalings),
                (width or dim // heads) if self.partial else None,
                self.defaults.get(rotary.TRAINED),
            ),
            *self.read_biases(fields),
            *self.read_pattern(fields),
            *self.read_feed_forward(fields),
        ]

    def read_biases(self, fields: Fields) -> list[str]:
        """Of attention and of the feed-forward layers."""
        return [
            f"attention.bias={str(fields.take('attention_bias', False)).lower()}",
            f"ffn.bias={str(fields.take('mlp_bias', False)).lower()}",
        ]

    def read_pattern(self, fields: Fields) -> list[str]:
        """Who sees whom."""
        return ["pattern=full"]

    def read_feed_forward(self, fields: Fields) -> list[str]:
        """The feed-forward layers."""
        return ["ffn=gated_wide", f"ffn.activation={fields.word('hidden_act', 'silu', ACTIVATIONS)}"]

    def write(self, model: Any) -> dict[str, Any]:
        block = model.blocks[0]
        return {
            **self.write_sizes(model),
            "head_dim": model.position.head_dim,
            "num_key_value_heads": getattr(block.attention, "kv_heads", block.attention.heads),
            "tie_word_embeddings": model.embedding.head is None,
            **rotary.write(model.position, self.partial),
            **self.write_rest(block),
        }

    def write_rest(self, block: Any) -> dict[str, Any]:
        """What differs between this family and its kin."""
        attention, ffn = block.attention, block.ffn
        return {
            "hidden_act": written(ffn),
            "attention_bias": attention.output.bias is not None,
            "mlp_bias": hasattr(ffn, "down") and ffn.down.bias is not None,
        }


def read_window(fields: Fields, default: int | None) -> list[str]:
    """The pattern of `sliding_window`, null for full attention."""
    window = fields.size("sliding_window", default)
    return ["pattern=full"] if window is None else ["pattern=sliding", f"model.window={window}"]


def write_window(attention: Any) -> dict[str, Any]:
    """The field of a pattern."""
    return {"sliding_window": attention.visibility.window if isinstance(attention.visibility, Sliding) else None}
