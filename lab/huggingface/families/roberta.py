"""RoBERTa (Liu et al. 2019) with its heads: masked tokens, labels of texts and of tokens; or none."""

from __future__ import annotations

import re
from typing import Any

from lab.huggingface.families.bert import LABELS, MASKED, NONE, TEXTS, TOKENS, Bert
from lab.huggingface.family import Head
from lab.huggingface.fields import Fields


class Roberta(Bert):
    """BERT's layers; the first two rows of its table of positions are no token's."""

    model_type = "roberta"
    heads = {
        "RobertaForMaskedLM": MASKED,
        "RobertaForSequenceClassification": Head(
            "classify",
            TEXTS,
            {"pooler": "classifier.dense", "objective.head": "classifier.out_proj"},
            True,
            "classifier_dropout",
        ),
        "RobertaForTokenClassification": Head(
            "tag", TOKENS, {"objective.head": "classifier"}, True, "classifier_dropout"
        ),
        "RobertaModel": Head("contrastive", NONE, {"pooler": "roberta.pooler.dense"}, bare=True),
    }
    architectures = tuple(heads)
    base = "roberta."
    names = {
        **{ours: theirs.replace("bert.", "roberta.", 1) for ours, theirs in Bert.names.items()},
        "embedding.transform": "lm_head.dense",
        "embedding.head_norm": "lm_head.layer_norm",
        "embedding.head": "lm_head.decoder",
        "embedding": "lm_head",
    }
    derived = re.compile(r"position_ids$|^roberta\.pooler\.|^lm_head\.(decoder\.)?bias$")
    skipped = {"position.table": 2}
    small = {**Bert.small, "max_position_embeddings": 130, "type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0}
    variants = {
        "as published": {"layer_norm_eps": 1e-5},
        "untied, two segments": {"tie_word_embeddings": False, "type_vocab_size": 2},
        "labels of texts": {"architectures": ["RobertaForSequenceClassification"], "id2label": LABELS},
        "labels of tokens": {"architectures": ["RobertaForTokenClassification"], "id2label": LABELS},
        "no head": {"architectures": ["RobertaModel"]},
    }
    defaults = {**Bert.defaults, "vocab_size": 50_265}
    places = 2
    in_head = "gelu"

    def read(self, fields: Fields) -> list[str]:
        fields.only("pad_token_id", [1], "positions are counted from the number after it, and the lab reads 1")
        return super().read(fields)

    def write(self, model: Any) -> dict[str, Any]:
        return {**super().write(model), "pad_token_id": 1}
