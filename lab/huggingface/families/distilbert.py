"""DistilBERT (Sanh et al. 2019) with its head for masked tokens."""

from __future__ import annotations

import re
from typing import Any

from lab.huggingface.families.bert import Bert
from lab.huggingface.family import ACTIVATIONS, written
from lab.huggingface.fields import Fields


class DistilBert(Bert):
    """BERT's layers without segments."""

    model_type = "distilbert"
    architectures = ("DistilBertForMaskedLM",)
    base = "distilbert."
    names = {
        "embedding.table": "distilbert.embeddings.word_embeddings",
        "position.table": "distilbert.embeddings.position_embeddings",
        "embedding.norm": "distilbert.embeddings.LayerNorm",
        "embedding.transform": "vocab_transform",
        "embedding.head_norm": "vocab_layer_norm",
        "embedding.head": "vocab_projector",
        "embedding": "vocab_projector",
        "blocks.{}.attention.project.query": "distilbert.transformer.layer.{}.attention.q_lin",
        "blocks.{}.attention.project.key": "distilbert.transformer.layer.{}.attention.k_lin",
        "blocks.{}.attention.project.value": "distilbert.transformer.layer.{}.attention.v_lin",
        "blocks.{}.attention.output": "distilbert.transformer.layer.{}.attention.out_lin",
        "blocks.{}.attention_norm": "distilbert.transformer.layer.{}.sa_layer_norm",
        "blocks.{}.ffn.up": "distilbert.transformer.layer.{}.ffn.lin1",
        "blocks.{}.ffn.down": "distilbert.transformer.layer.{}.ffn.lin2",
        "blocks.{}.ffn_norm": "distilbert.transformer.layer.{}.output_layer_norm",
    }
    derived = re.compile(r"position_ids$")
    ignored = {
        "qa_dropout": "of another head",
        "seq_classif_dropout": "of another head",
        "sinusoidal_pos_embds": "how new tables of positions begin; the weights are read",
        "tie_weights_": "tie_word_embeddings says it",
    }
    small = {
        "vocab_size": 96, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 128,
    }  # fmt: skip
    variants = {"as published": {}, "untied, ReLU": {"tie_word_embeddings": False, "activation": "relu"}}

    def read(self, fields: Fields) -> list[str]:
        act = fields.word("activation", "gelu", ACTIVATIONS)
        return [
            *("preset=bert_base", "objective=masked", "model.pooler=false", "embedding=bert"),
            f"model.dim={fields.take('dim', 768)}",
            f"model.layers={fields.take('n_layers', 6)}",
            f"model.heads={fields.take('n_heads', 12)}",
            f"model.inner={fields.take('hidden_dim', 3072)}",
            f"model.context={fields.take('max_position_embeddings', 512)}",
            f"model.dropout={fields.take('dropout', 0.1)}",
            f"attention.dropout={fields.take('attention_dropout', 0.1)}",
            f"embedding.tied={str(fields.take('tie_word_embeddings', True)).lower()}",
            f"embedding.rows={fields.take('vocab_size', self.vocab_size)}",
            f"embedding.activation={act}",
            *("model.segments=0", "ffn=dense", f"ffn.activation={act}", "norm.eps=1e-12"),
        ]

    def write(self, model: Any) -> dict[str, Any]:
        block = model.blocks[0]
        return {
            "vocab_size": model.embedding.table.num_embeddings,
            "dim": model.dim,
            "n_layers": len(model.blocks),
            "n_heads": block.attention.heads,
            "hidden_dim": getattr(block.ffn, "inner", 1),
            "max_position_embeddings": model.context,
            "activation": written(block.ffn),
            "dropout": block.dropout.p,
            "attention_dropout": block.attention.dropout,
            "tie_word_embeddings": model.embedding.head is None,
        }
