"""Phi-3-mini and Phi-3-medium (Abdin et al. 2024): Llama's block with a window, its maps merged in the file too."""

from __future__ import annotations

from typing import Any

from lab.huggingface.families.llama import Llama, read_window
from lab.huggingface.families.mistral import Mistral
from lab.huggingface.fields import Fields


class Phi3(Mistral):
    """Queries, keys and values are one tensor, gate and up another."""

    model_type = "phi3"
    architectures = ("Phi3ForCausalLM", "Phi3Model")
    names = {
        **{ours: theirs for ours, theirs in Llama.names.items() if ".project." not in ours},
        "blocks.{}.attention.project": "model.layers.{}.self_attn.qkv_proj",
        "blocks.{}.ffn.project": "model.layers.{}.mlp.gate_up_proj",
    }
    ignored = {
        "embd_pdrop": "its class in transformers leaves it aside",
        "original_max_position_embeddings": "of rope_type=longrope alone, which takes it",
    }
    small = {**Llama.small, "num_key_value_heads": 4, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    variants = {
        "window of 9": {"sliding_window": 9},
        "grouped heads, no window": {"num_key_value_heads": 2},
        "LongRoPE": {
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "short_factor": [1.0, 1.1, 1.3, 1.6],
                "long_factor": [1.0, 2.5, 4.0, 9.5],
                "original_max_position_embeddings": 12,
            },
            "original_max_position_embeddings": 12,
        },
        "half of each head turns": {
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
        },
    }
    preset = "phi3_mini"
    defaults = {
        **Llama.defaults, "hidden_size": 3072, "vocab_size": 32_064, "intermediate_size": 8192, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5, "original_max_position_embeddings": 4096,
    }  # fmt: skip
    scalings = ("default", "longrope")
    partial = True

    def read_biases(self, fields: Fields) -> list[str]:
        fields.only("attention_bias", [False], "this family's attention has no biases")
        return ["model.bias=false", f"model.dropout={fields.take('resid_pdrop', 0.0)}", "embedding.dropout=0.0"]

    def read_pattern(self, fields: Fields) -> list[str]:
        return read_window(fields, None)

    def write_rest(self, block: Any) -> dict[str, Any]:
        return {**super().write_rest(block), "resid_pdrop": block.dropout.p}
