"""Mistral 7B (Jiang et al. 2023): Llama's block with a sliding window."""

from __future__ import annotations

from typing import Any

from lab.huggingface.families.llama import Llama, read_window, write_window
from lab.huggingface.family import written
from lab.huggingface.fields import Fields


class Mistral(Llama):
    """Without biases; a token sees the last ones of a window, or all where that is null."""

    model_type = "mistral"
    architectures = ("MistralForCausalLM", "MistralModel")
    variants = {
        "window of 7": {"sliding_window": 7},
        "no window, tied": {"sliding_window": None, "tie_word_embeddings": True},
    }
    defaults = {
        **Llama.defaults, "intermediate_size": 14_336, "num_key_value_heads": 8, "max_position_embeddings": 131_072
    }  # fmt: skip

    def read_biases(self, fields: Fields) -> list[str]:
        return ["model.bias=false"]

    def read_pattern(self, fields: Fields) -> list[str]:
        return read_window(fields, 4096)

    def write_rest(self, block: Any) -> dict[str, Any]:
        return {
            "hidden_act": written(block.ffn),
            **write_window(block.attention),
        }
