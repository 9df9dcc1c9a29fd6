"""BERT (Devlin et al. 2019) with its head for masked tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lab.huggingface.family import ACTIVATIONS, Family, Weight, written
from lab.huggingface.fields import Fields
from lab.models.encoder import Encoder


class Bert(Family):
    """Post-norm blocks that see both sides, learned positions, segments, and a norm on what enters."""

    model_type = "bert"
    architectures = ("BertForMaskedLM",)
    base = "bert."
    built = Encoder
    names = {
        "embedding.table": "bert.embeddings.word_embeddings",
        "position.table": "bert.embeddings.position_embeddings",
        "segments": "bert.embeddings.token_type_embeddings",
        "embedding.norm": "bert.embeddings.LayerNorm",
        "embedding.transform": "cls.predictions.transform.dense",
        "embedding.head_norm": "cls.predictions.transform.LayerNorm",
        "embedding.head": "cls.predictions.decoder",
        "embedding": "cls.predictions",
        "blocks.{}.attention.project.query": "bert.encoder.layer.{}.attention.self.query",
        "blocks.{}.attention.project.key": "bert.encoder.layer.{}.attention.self.key",
        "blocks.{}.attention.project.value": "bert.encoder.layer.{}.attention.self.value",
        "blocks.{}.attention.output": "bert.encoder.layer.{}.attention.output.dense",
        "blocks.{}.attention_norm": "bert.encoder.layer.{}.attention.output.LayerNorm",
        "blocks.{}.ffn.up": "bert.encoder.layer.{}.intermediate.dense",
        "blocks.{}.ffn.down": "bert.encoder.layer.{}.output.dense",
        "blocks.{}.ffn_norm": "bert.encoder.layer.{}.output.LayerNorm",
    }
    derived = re.compile(r"position_ids$|^bert\.pooler\.|^cls\.seq_relationship\.|^cls\.predictions\.(decoder\.)?bias$")
    spelt = {".gamma": ".weight", ".beta": ".bias"}
    ignored = {"classifier_dropout": "of another head", "directionality": "of another head"}
    small = {
        "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
        "max_position_embeddings": 128,
    }  # fmt: skip
    variants = {
        "as published": {},
        "untied, GELU by tanh": {"tie_word_embeddings": False, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5},
        "three segments, ReLU": {"type_vocab_size": 3, "hidden_act": "relu"},
    }

    vocab_size = 30_522
    places = 0
    """Rows of the table of positions that no token has."""

    def read(self, fields: Fields) -> list[str]:
        fields.only("is_decoder", [False], "this family is read as an encoder")
        fields.only("add_cross_attention", [False], "this family is read as an encoder")
        fields.only("position_embedding_type", ["absolute"], "the lab's are absolute here")
        act = fields.word("hidden_act", "gelu", ACTIVATIONS)
        dropout = fields.take("hidden_dropout_prob", 0.1)
        return [
            *("preset=bert_base", "objective=masked", "model.pooler=false", "embedding=bert"),
            f"model.dim={fields.take('hidden_size', 768)}",
            f"model.layers={fields.take('num_hidden_layers', 12)}",
            f"model.heads={fields.take('num_attention_heads', 12)}",
            f"model.inner={fields.take('intermediate_size', 3072)}",
            f"model.context={fields.take('max_position_embeddings', 512) - self.places}",
            f"model.segments={fields.take('type_vocab_size', 2)}",
            f"model.dropout={dropout}",
            f"attention.dropout={fields.take('attention_probs_dropout_prob', 0.1)}",
            f"embedding.tied={str(fields.take('tie_word_embeddings', True)).lower()}",
            f"embedding.rows={fields.take('vocab_size', self.vocab_size)}",
            f"embedding.activation={self.in_head or act}",
            f"norm.eps={fields.take('layer_norm_eps', 1e-12)}",
            *("ffn=dense", f"ffn.activation={act}"),
        ]

    def weights(self, model: Any) -> Iterator[Weight]:
        """The bias of the vocabulary is the head's own where that is not the table."""
        for weight in super().weights(model):
            apart = weight.ours == "embedding.bias" and model.embedding.head is not None
            yield replace(weight, theirs=(f"{self.names['embedding.head']}.bias",)) if apart else weight

    in_head: str | None = None
    """The head's activation, where it is always the same."""

    def write(self, model: Any) -> dict[str, Any]:
        block = model.blocks[0]
        segments = getattr(model, "segments", None)
        return {
            "vocab_size": model.embedding.table.num_embeddings,
            "hidden_size": model.dim,
            "num_hidden_layers": len(model.blocks),
            "num_attention_heads": block.attention.heads,
            "intermediate_size": getattr(block.ffn, "inner", 1),
            "max_position_embeddings": model.context + self.places,
            "type_vocab_size": segments.num_embeddings if segments is not None else 1,
            "hidden_act": written(block.ffn),
            "hidden_dropout_prob": block.dropout.p,
            "attention_probs_dropout_prob": block.attention.dropout,
            "layer_norm_eps": getattr(block.attention_norm, "eps", 1e-12),
            "tie_word_embeddings": model.embedding.head is None,
        }
