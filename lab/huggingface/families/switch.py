"""Switch (Fedus et al. 2021): T5 with experts, one a token, in some of its blocks."""

from __future__ import annotations

from typing import Any

from lab.huggingface.families.t5 import T5, stacks
from lab.huggingface.family import ACTIVATIONS, written
from lab.huggingface.fields import Fields

MAPS = {"up": "wi", "down": "wo"}
EXPERTS = {f"experts.{{}}.{ours}": f"mlp.experts.expert_{{}}.{theirs}" for ours, theirs in MAPS.items()}


class Switch(T5):
    """An expert takes no more than `expert_capacity` tokens of a row, at all times; a token beyond gets nothing.

    `router_jitter_noise` acts here, while training, on what the router reads, as in the paper; there, in float32, on what the
    experts read too. While generating with a cache, transformers counts an expert's tokens anew at each step, so that nothing
    is dropped; here they count from the beginning of the document, as without a cache. The losses of the routers are here those
    of each layer, there of all layers of a stack together.
    """

    model_type = "switch_transformers"
    architectures = ("SwitchTransformersForConditionalGeneration", "SwitchTransformersModel")
    names = stacks(
        {ours: f"mlp.{theirs}" for ours, theirs in MAPS.items()} | {"router.linear": "mlp.router.classifier", **EXPERTS}
    )
    ignored = {
        **T5.ignored,
        "add_router_probs": "what a call returns beside the result",
        "output_router_logits": "what a call returns beside the result",
        "router_ignore_padding_tokens": "which transformers leaves aside",
    }
    steady = False
    defaults = {**T5.defaults, "d_model": 768, "num_heads": 12, "num_layers": 12, "num_decoder_layers": 12}
    small = {
        **T5.small, "num_layers": 4, "num_decoder_layers": 2, "num_sparse_encoder_layers": 2, "num_sparse_decoder_layers": 1,
        "num_experts": 4, "expert_capacity": 64,
    }  # fmt: skip
    variants = {
        "nothing dropped": {},
        "3 tokens an expert": {"expert_capacity": 3},
        "experts in every block": {"num_sparse_encoder_layers": 4, "num_sparse_decoder_layers": 2, "expert_capacity": 5},
        "every third block, eight experts, GELU": {
            "num_layers": 6, "num_decoder_layers": 3, "num_experts": 8, "dense_act_fn": "gelu", "d_kv": 12,
            "expert_capacity": 4,
        },
    }  # fmt: skip

    def read(self, fields: Fields) -> list[str]:
        fields.only("tie_word_embeddings", [True], "each stack would have a table of its own, and the lab's share one")
        return super().read(fields)

    def read_scaled(self, fields: Fields, tied: bool) -> bool:
        return True

    def read_feed_forward(self, fields: Fields, layers: int, decoder_layers: int) -> list[str]:
        fields.only("feed_forward_proj", [fields.left.get("dense_act_fn", "relu")], "dense_act_fn says otherwise")
        act = fields.word("dense_act_fn", "relu", ACTIVATIONS)
        fields.only("is_gated_act", [False], "this family's layers are not gated")
        fields.only("add_cross_attention", [False], "this family's decoder has it")
        fields.only("router_bias", [False], "the lab's routers have no bias")
        fields.only("router_dtype", ["float32"], "the lab's routers compute in float32")
        fields.only("router_type", ["tokens_masked"], "a token chooses its expert")
        return [
            *("ffn=moe_switch_limited", "expert=dense_relu", f"expert.activation={act}"),
            f"ffn.step={self._step(fields, layers, decoder_layers)}",
            f"ffn.chosen.limit={fields.take('expert_capacity', 64)}",
            f"ffn.chosen.experts={fields.take('num_experts', 8)}",
            f"ffn.chosen.router.jitter={fields.take('router_jitter_noise', 0.01)}",
            f"ffn.chosen.balance.loss={fields.take('router_aux_loss_coef', 0.001)}",
            f"ffn.chosen.balance.z_loss={fields.take('router_z_loss_coef', 0.001)}",
        ]

    def _step(self, fields: Fields, layers: int, decoder_layers: int) -> int:
        """How many blocks there are to each with experts, in both stacks."""
        steps, places = [], []
        for side, number in (("encoder", layers), ("decoder", decoder_layers)):
            sparse = fields.left.pop(f"num_sparse_{side}_layers", 3)
            if type(sparse) is not int or not 0 <= sparse <= number:
                fields.refuse(f"num_sparse_{side}_layers", sparse, f"expected a whole number up to the {number} layers")
            steps.append(number // sparse if sparse else number)
            fields.only(f"{side}_sparse_step", steps[-1:], f"num_sparse_{side}_layers={sparse} says otherwise")
            places.append(_sparse(steps[-1], number))
        for step in range(1, max(layers, decoder_layers) + 1):
            if places == [_sparse(step, layers), _sparse(step, decoder_layers)]:
                break
        else:
            fields.refuse("num_sparse_decoder_layers", sparse, f"every {steps[0]}th block of the encoder has experts")
        return step

    def write_rest(self, model: Any) -> dict[str, Any]:
        stacks = {"encoder": model.encoder.blocks, "decoder": model.decoder.blocks}
        numbers = {f"num_sparse_{side}_layers": _number(blocks) for side, blocks in stacks.items()}
        mixture = next((b.ffn for blocks in stacks.values() for b in blocks if hasattr(b.ffn, "router")), None)
        expert = mixture.experts[0] if mixture else model.encoder.blocks[0].ffn
        routing: dict[str, Any] = {}
        if mixture:
            routing = {
                "num_experts": len(mixture.experts),
                "expert_capacity": mixture.limit or 1,
                "router_jitter_noise": mixture.router.jitter,
                "router_aux_loss_coef": mixture.balance.loss,
                "router_z_loss_coef": mixture.balance.z_loss,
            }
        return {
            "n_positions": model.context,
            "dense_act_fn": written(expert),
            "tie_word_embeddings": True,
            **numbers,
            **routing,
        }


def _sparse(step: int, layers: int) -> list[int]:
    """Which of the layers have experts, as transformers counts."""
    return [layer for layer in range(layers) if layer % step == 1 or step == 1]


def _number(blocks: Any) -> int:
    """How many layers with experts to ask for, to get those that are there."""
    sparse = [layer for layer, block in enumerate(blocks) if hasattr(block.ffn, "router")]
    step = len(blocks) if len(sparse) < 2 else sparse[1] - sparse[0]
    return len(blocks) // step
