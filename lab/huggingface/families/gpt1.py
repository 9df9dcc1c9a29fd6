"""GPT-1 (Radford et al. 2018)."""

from __future__ import annotations

from typing import Any

from lab.huggingface.families.gpt2 import GPT2
from lab.huggingface.family import written
from lab.huggingface.fields import Fields


class GPT1(GPT2):
    """As GPT-2, but post-norm: nothing follows the last block."""

    model_type = "openai-gpt"
    architectures = ("OpenAIGPTLMHeadModel", "OpenAIGPTModel")
    names = {
        **{ours: theirs for ours, theirs in GPT2.names.items() if ours != "norm"},
        "embedding.table": "transformer.tokens_embed",
        "position.table": "transformer.positions_embed",
    }
    ignored = {
        **GPT2.ignored,
        "n_special": "tokens that vocab_size counts",
        "predict_special_tokens": "of a head that is gone",
    }
    variants = {
        "as published": {},
        "ReLU": {"afn": "relu"},
        "SiLU, untied": {"afn": "silu", "tie_word_embeddings": False},
    }

    preset = "gpt1"
    # What this family calls gelu is the approximation by tanh.
    activations = ("afn", "gelu", {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"})
    defaults = {**GPT2.defaults, "n_positions": 512, "vocab_size": 40_478}

    def read_inner(self, fields: Fields) -> int | None:
        return None

    def read_scores(self, fields: Fields) -> list[str]:
        return []

    def write_rest(self, block: Any) -> dict[str, Any]:
        return {"afn": written(block.ffn, self.activations[2])}
