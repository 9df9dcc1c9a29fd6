"""T5 (Raffel et al. 2020) in both forms: 1.0, and 1.1 (Shazeer 2020; its release notes), which Flan-T5 shares."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from lab.data.tokenizers import Tokenizer
from lab.huggingface.family import ACTIVATIONS, Family, said, written
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


DENSE = {
    "up": "DenseReluDense.wi",
    "project.gate": "DenseReluDense.wi_0",
    "project.up": "DenseReluDense.wi_1",
    "down": "DenseReluDense.wo",
}
"""Maps of a feed-forward layer."""


def stacks(feed_forward: Mapping[str, str]) -> dict[str, str]:
    """Names of both stacks, with those of a feed-forward layer as they follow its place."""
    return {
        "embedding.table": "shared",
        "embedding.head": "lm_head",
        **_stack("encoder", feed_forward, ("attention", "SelfAttention")),
        **_stack("decoder", feed_forward, ("attention", "SelfAttention"), ("cross", "EncDecAttention")),
    }


def _stack(side: str, feed_forward: Mapping[str, str], *attentions: tuple[str, str]) -> dict[str, str]:
    """Names of one of the two stacks: its layers stand in one list, the feed-forward layer last."""
    at = f"{side}.block.{{}}.layer"
    names = {
        f"{side}.position.table": f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias",
        f"{side}.norm": f"{side}.final_layer_norm",
    }
    maps = {"project.query": "q", "project.key": "k", "project.value": "v", "output": "o"}
    layers = [(here, {ours: f"{there}.{name}" for ours, name in maps.items()}) for here, there in attentions]
    for number, (here, inside) in enumerate([*layers, ("ffn", feed_forward)]):
        names |= {f"{side}.blocks.{{}}.{here}.{ours}": f"{at}.{number}.{name}" for ours, name in inside.items()}
        names[f"{side}.blocks.{{}}.{here}_norm"] = f"{at}.{number}.layer_norm"
    return names


class T5(Family):
    """Two stacks of pre-norm blocks with a bias by distance, whose scores are not scaled.

    `dropout_rate` acts on what enters, on what each layer adds, on attention weights, inside of feed-forward layers and on what
    leaves a stack.
    """

    model_type = "t5"
    architectures: ClassVar[tuple[str, ...]] = ("T5ForConditionalGeneration", "T5WithLMHeadModel", "T5Model")
    built = EncoderDecoder
    base = ""
    names = stacks(DENSE)
    # Of the first checkpoints, where nothing reads it.
    derived = re.compile(r"^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$")
    ignored = {
        "classifier_dropout": "of another head",
        "decoder_start_token_id": "checked apart",
        "initializer_factor": "of new weights",
    }
    sizes = {
        "d_model": "model.dim", "num_heads": "model.heads", "num_layers": "model.layers", "d_ff": "model.inner",
        "vocab_size": "embedding.rows", "dropout_rate": "model.dropout", "layer_norm_epsilon": "norm.eps",
    }  # fmt: skip
    defaults = {
        "d_model": 512, "num_heads": 8, "num_layers": 6, "d_ff": 2048, "vocab_size": 32_128, "dropout_rate": 0.1,
        "layer_norm_epsilon": 1e-6, "d_kv": 64, "num_decoder_layers": None,
    }  # fmt: skip
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
        "heads wider than their part": {"d_kv": 12, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
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
        sizes = self.read_sizes(fields)
        width = fields.take("d_kv", self.defaults["d_kv"])
        fields.only("is_decoder", [False], "this family is read with both stacks")
        tied = fields.take("tie_word_embeddings", True)
        layers = sizes["model.layers"]
        decoder_layers = fields.size("num_decoder_layers", self.defaults["num_decoder_layers"]) or layers
        return [
            *("preset=t5_1_0", "model.special=[end,pad]", *said(sizes)),
            f"model.decoder_layers={decoder_layers}",
            f"model.head_dim={'null' if width * sizes['model.heads'] == sizes['model.dim'] else width}",
            f"model.context={fields.take('n_positions', 512)}",
            *(f"model.{place}_dropout={sizes['model.dropout']}" for place in ("attention", "ffn", "output")),
            *EMBEDDINGS[tied, self.read_scaled(fields, tied)],
            f"position.buckets={fields.take('relative_attention_num_buckets', 32)}",
            f"position.reach={fields.take('relative_attention_max_distance', 128)}",
            *self.read_feed_forward(fields, layers, decoder_layers),
        ]

    def read_scaled(self, fields: Fields, tied: bool) -> bool:
        """Whether what is scored is multiplied by `1 / sqrt(d_model)`."""
        return fields.take("scale_decoder_outputs", tied)

    def read_feed_forward(self, fields: Fields, layers: int, decoder_layers: int) -> list[str]:
        """The feed-forward layers of so many blocks."""
        form = str(fields.left.get("feed_forward_proj", "relu"))
        words = fields.word("feed_forward_proj", "relu", FORMS).split()
        gated, _, act = form.rpartition("-")
        why = f"feed_forward_proj={form} says otherwise"
        fields.only("is_gated_act", [bool(gated)], why)
        fields.only("dense_act_fn", ["gelu_new" if form == "gated-gelu" else act], why)
        return words

    def write(self, model: Any) -> dict[str, Any]:
        position, embedding = model.decoder.position, model.embedding
        return {
            **self.write_sizes(model),
            "d_kv": position.head_dim,
            "num_decoder_layers": len(model.decoder.blocks),
            "relative_attention_num_buckets": getattr(position, "buckets", 32),
            "relative_attention_max_distance": getattr(position, "reach", 128),
            "tie_word_embeddings": embedding.head is None,
            "is_encoder_decoder": True,
            **self.write_rest(model),
        }

    def write_rest(self, model: Any) -> dict[str, Any]:
        """What differs between this family and its kin."""
        ffn = model.encoder.blocks[0].ffn
        return {
            "n_positions": model.context,
            "scale_decoder_outputs": model.embedding.logit_scale != 1.0,
            "feed_forward_proj": f"gated-{written(ffn, GATES)}" if hasattr(ffn, "project") else written(ffn),
        }

    def write_tokens(self, tokenizer: Tokenizer) -> dict[str, Any]:
        return {
            "decoder_start_token_id": tokenizer.document_id,
            "eos_token_id": tokenizer.id("end"),
            "pad_token_id": tokenizer.id("pad"),
        }
