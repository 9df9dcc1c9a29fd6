"""DistilBERT (Sanh et al. 2019) with its heads: masked tokens, labels of texts and of tokens; or none."""

from __future__ import annotations

import re
from typing import Any

from lab.huggingface.families.bert import LABELS, MASKED, NONE, TEXTS, TOKENS, UNPOOLED, Bert
from lab.huggingface.family import ACTIVATIONS, Head, said, written
from lab.huggingface.fields import Fields


class DistilBert(Bert):
    """BERT's layers without segments."""

    model_type = "distilbert"
    heads = {
        "DistilBertForMaskedLM": MASKED,
        "DistilBertForSequenceClassification": Head(
            "classify",
            (*TEXTS, "model.pooler_activation=relu"),
            {"pooler": "pre_classifier", "objective.head": "classifier"},
            True,
            "seq_classif_dropout",
        ),
        "DistilBertForTokenClassification": Head("tag", TOKENS, {"objective.head": "classifier"}, True),
        "DistilBertModel": Head("contrastive", (*NONE, UNPOOLED), bare=True),
    }
    architectures = tuple(heads)
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
    sizes = {
        "dim": "model.dim", "n_layers": "model.layers", "n_heads": "model.heads", "hidden_dim": "model.inner",
        "max_position_embeddings": "model.context", "vocab_size": "embedding.rows", "dropout": "model.dropout",
        "attention_dropout": "attention.dropout", "tie_word_embeddings": "embedding.tied",
    }  # fmt: skip
    defaults = {
        "dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072, "max_position_embeddings": 512,
        "vocab_size": 30_522, "dropout": 0.1, "attention_dropout": 0.1, "tie_word_embeddings": True,
        "seq_classif_dropout": 0.2,
    }  # fmt: skip
    small = {
        "vocab_size": 96, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 128,
    }  # fmt: skip
    variants = {
        "as published": {},
        "untied, ReLU": {"tie_word_embeddings": False, "activation": "relu"},
        "labels of texts": {"architectures": ["DistilBertForSequenceClassification"], "id2label": LABELS},
        "labels of tokens": {"architectures": ["DistilBertForTokenClassification"], "id2label": LABELS},
        "no head": {"architectures": ["DistilBertModel"]},
    }

    def read(self, fields: Fields) -> list[str]:
        act = fields.word("activation", "gelu", ACTIVATIONS)
        sizes = self.read_sizes(fields)
        return [
            *("preset=bert_base", "embedding=bert", *said(sizes), *self.read_head(fields, sizes["model.dropout"])),
            f"embedding.activation={act}",
            *("model.segments=0", "ffn=dense", f"ffn.activation={act}", "norm.eps=1e-12"),
        ]

    def write(self, model: Any) -> dict[str, Any]:
        return {**self.write_sizes(model), "activation": written(model.blocks[0].ffn), **self.write_head(model)}
