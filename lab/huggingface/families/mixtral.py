"""Mixtral (Jiang et al. 2024): Llama's block with a mixture of experts."""

from __future__ import annotations

from typing import Any

from lab.huggingface.families.llama import Llama, read_window, write_window
from lab.huggingface.family import ACTIVATIONS, written
from lab.huggingface.fields import Fields


class Mixtral(Llama):
    """The weights of the experts chosen sum to one, that of a single one too."""

    model_type = "mixtral"
    architectures = ("MixtralForCausalLM", "MixtralModel")
    names = {
        **{ours: theirs for ours, theirs in Llama.names.items() if ".ffn." not in ours},
        "blocks.{}.ffn.router.linear": "model.layers.{}.block_sparse_moe.gate",
        "blocks.{}.ffn.experts.{}.project.gate": "model.layers.{}.block_sparse_moe.experts.{}.w1",
        "blocks.{}.ffn.experts.{}.project.up": "model.layers.{}.block_sparse_moe.experts.{}.w3",
        "blocks.{}.ffn.experts.{}.down": "model.layers.{}.block_sparse_moe.experts.{}.w2",
    }
    ignored = {
        "output_router_logits": "what a call returns beside the result",
        "router_aux_loss_coef": "of a loss that is added while training; the lab's is ffn.balance.loss",
    }
    small = {**Llama.small, "num_local_experts": 4, "num_experts_per_tok": 2}
    variants = {
        "two experts of four": {},
        "three of eight, window of 11": {"num_local_experts": 8, "num_experts_per_tok": 3, "sliding_window": 11},
        "one expert, noise": {"num_experts_per_tok": 1, "router_jitter_noise": 0.1},
        "tied, every head its own": {"tie_word_embeddings": True, "num_key_value_heads": 4},
    }
    preset = "mixtral_8x7b"
    defaults = {
        **Llama.defaults, "intermediate_size": 14_336, "num_key_value_heads": 8, "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5, "rope_theta": 1e6,
    }  # fmt: skip

    def read_biases(self, fields: Fields) -> list[str]:
        return ["model.bias=false"]

    def read_pattern(self, fields: Fields) -> list[str]:
        return read_window(fields, None)

    def read_feed_forward(self, fields: Fields) -> list[str]:
        chosen = fields.take("num_experts_per_tok", 2)
        return [
            "ffn=moe_wide",
            f"ffn.experts={fields.take('num_local_experts', 8)}",
            f"ffn.top_k={chosen}",
            f"ffn.jitter={fields.take('router_jitter_noise', 0.0)}",
            f"ffn.router.alone={str(chosen == 1).lower()}",
            "expert=gated_wide",
            f"expert.activation={fields.word('hidden_act', 'silu', ACTIVATIONS)}",
        ]

    def write_rest(self, block: Any) -> dict[str, Any]:
        experts = getattr(block.ffn, "experts", [block.ffn] * 2)
        return {
            "hidden_act": written(experts[0]),
            "num_local_experts": len(experts),
            "num_experts_per_tok": getattr(block.ffn, "top_k", 2),
            "router_jitter_noise": getattr(block.ffn, "jitter", 0.0),
            **write_window(block.attention),
        }
