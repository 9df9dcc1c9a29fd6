"""BERT (Devlin et al. 2019) with its heads: masked tokens, next sentences, labels of texts and of tokens; or none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lab.data.tokenizers import Tokenizer
from lab.huggingface.family import ACTIVATIONS, Family, Head, Weight, said, written
from lab.huggingface.fields import Fields
from lab.huggingface.weights import Tensors
from lab.models.encoder import Encoder

POOLED, UNPOOLED = "model.pooler=true", "model.pooler=false"
HEADLESS = "embedding.headless=true"
MASKED = Head("masked", (UNPOOLED,))
TEXTS = (HEADLESS, POOLED, "data=labelled", "data.path=examples.jsonl")
TOKENS = (HEADLESS, UNPOOLED, "data=conll", "data.path=examples.conll")
NONE = (HEADLESS, POOLED, "data=pairs", "data.path=examples.jsonl")
"""Words of models that label texts, or tokens, or do neither; their data is what someone who trains them on has."""

POOLS = "add_pooling_layer"

LABELS = {"0": "other", "1": "person", "2": "place"}
"""Of models for tests."""


class Bert(Family):
    """Post-norm blocks that see both sides, learned positions, segments, and a norm on what enters."""

    model_type = "bert"
    heads = {
        "BertForMaskedLM": MASKED,
        "BertForPreTraining": Head(
            "masked_nsp",
            (POOLED,),
            {"pooler": "bert.pooler.dense", "objective.head": "cls.seq_relationship"},
            flipped=("objective.head",),
        ),
        "BertForSequenceClassification": Head(
            "classify",
            TEXTS,
            {"pooler": "bert.pooler.dense", "objective.head": "classifier"},
            True,
            "classifier_dropout",
        ),
        "BertForTokenClassification": Head("tag", TOKENS, {"objective.head": "classifier"}, True, "classifier_dropout"),
        "BertModel": Head("contrastive", NONE, {"pooler": "bert.pooler.dense"}, bare=True),
    }
    architectures = tuple(heads)
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
    ignored = {
        "classifier_dropout": "of another head",
        **dict.fromkeys(
            (
                *("directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers"),
                *("pooler_size_per_head", "pooler_type"),
            ),
            "of a pooler that transformers never had",
        ),
    }
    sizes = {
        "hidden_size": "model.dim", "num_hidden_layers": "model.layers", "num_attention_heads": "model.heads",
        "intermediate_size": "model.inner", "max_position_embeddings": "model.context", "vocab_size": "embedding.rows",
        "hidden_dropout_prob": "model.dropout", "attention_probs_dropout_prob": "attention.dropout",
        "layer_norm_eps": "norm.eps", "tie_word_embeddings": "embedding.tied",
    }  # fmt: skip
    defaults = {
        "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
        "max_position_embeddings": 512, "vocab_size": 30_522, "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "layer_norm_eps": 1e-12, "tie_word_embeddings": True,
        "classifier_dropout": None,
    }  # fmt: skip
    small = {
        "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
        "max_position_embeddings": 128,
    }  # fmt: skip
    variants = {
        "as published": {},
        "untied, GELU by tanh": {"tie_word_embeddings": False, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5},
        "three segments, ReLU": {"type_vocab_size": 3, "hidden_act": "relu"},
        "next sentences": {"architectures": ["BertForPreTraining"]},
        "labels of texts": {"architectures": ["BertForSequenceClassification"], "id2label": LABELS},
        "labels of tokens": {"architectures": ["BertForTokenClassification"], "id2label": LABELS},
        "no head": {"architectures": ["BertModel"]},
    }

    places = 0
    """Rows of the table of positions that no token has."""

    def read(self, fields: Fields) -> list[str]:
        fields.only("is_decoder", [False], "this family is read as an encoder")
        fields.only("add_cross_attention", [False], "this family is read as an encoder")
        fields.only("position_embedding_type", ["absolute"], "the lab's are absolute here")
        act = fields.word("hidden_act", "gelu", ACTIVATIONS)
        sizes = self.read_sizes(fields)
        sizes["model.context"] -= self.places
        return [
            *("preset=bert_base", "embedding=bert", *said(sizes), *self.read_head(fields, sizes["model.dropout"])),
            f"model.segments={fields.take('type_vocab_size', 2)}",
            f"embedding.activation={self.in_head or act}",
            *("ffn=dense", f"ffn.activation={act}"),
        ]

    def read_head(self, fields: Fields, dropout: float) -> list[str]:
        """The objective, and what stands for a row; with the model's dropout."""
        assert self.head is not None
        words = [f"objective={self.head.objective}", *self.head.words]
        if self.may_lack_pooler and not fields.take(POOLS, True):
            words.append("model.pooler=false")
        if self.head.labels:
            own = self.head.dropout and fields.take(self.head.dropout, self.defaults[self.head.dropout])
            words.append(f"objective.dropout={dropout if own is None else own}")
        return words

    @property
    def may_lack_pooler(self) -> bool:
        """A model without a head, whose constructor is told whether it has a pooler."""
        return self.head is not None and self.head.bare and "pooler" in self.head.names

    def settle(self, fields: Fields, tensors: Tensors, tokenizer: Tokenizer) -> None:
        """Whether a model without a head has a pooler, which only its constructor is told."""
        if self.may_lack_pooler:
            fields.left[POOLS] = any(name.endswith("pooler.dense.weight") for name in tensors.files)

    def weights(self, model: Any) -> Iterator[Weight]:
        """The bias of the vocabulary is the head's own where that is not the table."""
        for weight in super().weights(model):
            apart = weight.ours == "embedding.bias" and model.embedding.head is not None
            yield replace(weight, theirs=(f"{self.names['embedding.head']}.bias",)) if apart else weight

    in_head: str | None = None
    """The head's activation, where it is always the same."""

    def write(self, model: Any) -> dict[str, Any]:
        segments = getattr(model, "segments", None)
        return {
            **self.write_sizes(model),
            "max_position_embeddings": model.context + self.places,
            "type_vocab_size": segments.num_embeddings if segments is not None else 1,
            "hidden_act": written(model.blocks[0].ffn),
            **self.write_head(model),
        }

    def write_head(self, model: Any) -> dict[str, Any]:
        """The fields of `read_head`."""
        assert self.head is not None
        found: dict[str, Any] = {self.head.dropout: model.objective["head"].dropout} if self.head.dropout else {}
        return found | ({POOLS: False} if self.may_lack_pooler and model.pooler is None else {})
