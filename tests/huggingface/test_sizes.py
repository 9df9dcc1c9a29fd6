"""Published sizes, without memory: a published `config.json` is the preset of its name, and costs what is known."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from lab.config import compose, meta_model
from lab.huggingface.alike import differences
from lab.huggingface.family import family_of
from lab.huggingface.fields import Fields
from lab.huggingface.incoming import composed

SUMMARY = {
    "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True, "summary_type": "cls_index",
    "summary_use_proj": True, "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "hidden_act": "silu", "initializer_range": 0.02, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-5,
    "rope_scaling": None, "rope_theta": 500000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "transformers_version": "4.40.0", "use_cache": True, "vocab_size": 128256, "bos_token_id": 128000,
    "eos_token_id": 128001, "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 8192,
    "num_attention_heads": 32, "num_hidden_layers": 32,
}  # fmt: skip
LLAMA31 = LLAMA | {
    "max_position_embeddings": 131072, "mlp_bias": False, "eos_token_id": [128001, 128008, 128009],
    "rope_scaling": {
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
}  # fmt: skip
OF_70B = {"hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64, "num_hidden_layers": 80}
OF_405B = {"hidden_size": 16384, "intermediate_size": 53248, "num_attention_heads": 128, "num_hidden_layers": 126}

GPT2 = {
    "model_type": "gpt2", "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
    "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05, "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024,
    "resid_pdrop": 0.1, "vocab_size": 50257, **SUMMARY,
}  # fmt: skip
BERT = {
    "model_type": "bert", "architectures": ["BertForPreTraining"], "attention_probs_dropout_prob": 0.1,
    "gradient_checkpointing": False, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
    "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512,
    "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0, "position_embedding_type": "absolute",
    "type_vocab_size": 2, "use_cache": True, "vocab_size": 30522,
}  # fmt: skip
T5 = {
    "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_kv": 64, "decoder_start_token_id": 0,
    "dropout_rate": 0.1, "eos_token_id": 1, "initializer_factor": 1.0, "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-06, "n_positions": 512, "output_past": True, "pad_token_id": 0,
    "relative_attention_num_buckets": 32, "vocab_size": 32128,
}  # fmt: skip
T5_SMALL = T5 | {
    "d_ff": 2048, "d_model": 512, "num_heads": 8, "num_layers": 6,
    "task_specific_params": {"summarization": {"early_stopping": True, "num_beams": 4, "prefix": "summarize: "}},
}  # fmt: skip
T5_BASE = T5_SMALL | {"d_ff": 3072, "d_model": 768, "num_heads": 12, "num_layers": 12}
T5_1_1_BASE = T5 | {
    "d_ff": 2048, "d_model": 768, "feed_forward_proj": "gated-gelu", "num_decoder_layers": 12, "num_heads": 12,
    "num_layers": 12, "relative_attention_max_distance": 128, "tie_word_embeddings": False,
}  # fmt: skip

PUBLISHED = {
    "gpt1": {
        "model_type": "openai-gpt", "afn": "gelu", "architectures": ["OpenAIGPTLMHeadModel"], "attn_pdrop": 0.1,
        "embd_pdrop": 0.1, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "n_ctx": 512, "n_embd": 768, "n_head": 12,
        "n_layer": 12, "n_positions": 512, "n_special": 0, "predict_special_tokens": True, "resid_pdrop": 0.1,
        "vocab_size": 40478, **SUMMARY,
    },
    "gpt2": GPT2,
    "gpt2_xl": GPT2 | {"n_embd": 1600, "n_head": 25, "n_layer": 48, "output_past": True},
    "bert_base": BERT,
    "roberta_base": BERT | {
        "model_type": "roberta", "architectures": ["RobertaForMaskedLM"], "bos_token_id": 0, "eos_token_id": 2,
        "layer_norm_eps": 1e-05, "max_position_embeddings": 514, "pad_token_id": 1, "type_vocab_size": 1,
        "vocab_size": 50265,
    },
    "distilbert": {
        "model_type": "distilbert", "activation": "gelu", "architectures": ["DistilBertForMaskedLM"],
        "attention_dropout": 0.1, "dim": 768, "dropout": 0.1, "hidden_dim": 3072, "initializer_range": 0.02,
        "max_position_embeddings": 512, "n_heads": 12, "n_layers": 6, "pad_token_id": 0, "qa_dropout": 0.1,
        "seq_classif_dropout": 0.2, "sinusoidal_pos_embds": False, "tie_weights_": True, "vocab_size": 30522,
    },
    "t5_small": T5_SMALL,
    "t5_base": T5_BASE,
    "t5_1_1_base": T5_1_1_BASE,
    "flan_t5_small": T5_1_1_BASE | {
        "d_ff": 1024, "d_model": 512, "num_decoder_layers": 8, "num_heads": 6, "num_layers": 8,
        "torch_dtype": "float32", "transformers_version": "4.23.1", "use_cache": True,
    },
    "switch_base_8": T5_BASE | {
        "model_type": "switch_transformers", "architectures": ["SwitchTransformersForConditionalGeneration"],
        "add_router_probs": False, "decoder_sparse_step": 2, "dense_act_fn": "relu", "encoder_sparse_step": 2,
        "expert_capacity": 64, "feed_forward_proj": "relu", "is_gated_act": False, "num_decoder_layers": 12,
        "num_experts": 8, "num_sparse_decoder_layers": 6, "num_sparse_encoder_layers": 6,
        "relative_attention_max_distance": 128, "router_aux_loss_coef": 0.001, "router_bias": False,
        "router_dtype": "float32", "router_ignore_padding_tokens": False, "router_jitter_noise": 0.01,
        "router_type": "tokens_masked", "router_z_loss_coef": 0.001,
    },
    "llama2_7b": LLAMA | {
        "intermediate_size": 11008, "max_position_embeddings": 4096, "num_key_value_heads": 32, "rope_theta": 10000.0,
        "vocab_size": 32000, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float16",
    },
    "llama3_8b": LLAMA,
    "llama3_70b": LLAMA | OF_70B,
    "llama31_8b": LLAMA31,
    "llama31_70b": LLAMA31 | OF_70B,
    "llama31_405b": LLAMA31 | OF_405B,
    "phi3_mini": {
        "_name_or_path": "Phi-3-mini-4k-instruct", "model_type": "phi3", "architectures": ["Phi3ForCausalLM"],
        "attention_bias": False, "attention_dropout": 0.0, "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
        "bos_token_id": 1, "embd_pdrop": 0.0, "eos_token_id": 32000, "hidden_act": "silu", "hidden_size": 3072,
        "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 4096, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 32, "original_max_position_embeddings": 4096,
        "pad_token_id": 32000, "resid_pdrop": 0.0, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0,
        "sliding_window": 2047, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "transformers_version": "4.40.2", "use_cache": True, "vocab_size": 32064,
    },
    "mixtral_8x7b": {
        "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1,
        "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
        "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32,
        "num_experts_per_tok": 2, "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 8,
        "output_router_logits": False, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02,
        "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "transformers_version": "4.36.0.dev0", "use_cache": True, "vocab_size": 32000,
    },
}  # fmt: skip
"""As the models' authors wrote them, defaults and leftovers of their time included."""

PARAMETERS = {
    "gpt1": 116_534_784, "gpt2": 124_439_808, "gpt2_xl": 1_557_611_200, "bert_base": 110_104_890,
    "roberta_base": 124_697_433 - 2 * 768, "distilbert": 66_985_530, "t5_small": 60_506_624, "t5_base": 222_903_552,
    "t5_1_1_base": 247_577_856, "flan_t5_small": 76_961_152, "switch_base_8": 619_339_008,
    "llama2_7b": 6_738_415_616, "llama2_70b": 68_976_648_192,
    "llama3_8b": 8_030_261_248, "llama3_70b": 70_553_706_496, "llama31_8b": 8_030_261_248,
    "llama31_70b": 70_553_706_496, "llama31_405b": 405_853_388_800, "phi3_mini": 3_821_079_552,
    "mixtral_8x7b": 46_702_792_704,
}  # fmt: skip
"""As the checkpoints hold, a tied head counted once; of BERT without the two classes of next sentences, of
RoBERTa without the two rows of positions that no token has."""

KEPT = {
    "llama2_7b": (32, 32, 128), "llama3_8b": (32, 8, 128), "llama3_70b": (80, 8, 128), "llama31_405b": (126, 8, 128),
    "phi3_mini": (32, 32, 96), "mixtral_8x7b": (32, 8, 128),
}  # fmt: skip
"""Layers, heads of keys and values, and their width."""


COUNTED = {
    "bert_base": 2 * 768 + 2, "roberta_base": 2 * 768, "t5_1_1_base": -32_128 * 768, "flan_t5_small": -32_128 * 512,
}  # fmt: skip
"""Parameters that the classes of transformers have beyond: what is left out above; those of T5 tie every head from 5.0 on."""


@cache
def preset_model(preset: str) -> Any:
    """The model of a preset, without memory."""
    config = compose(f"preset={preset}")
    return meta_model(config, config.tokenizer.vocab_size)


@pytest.mark.parametrize("preset", PUBLISHED)
def test_a_published_configuration_is_the_preset_of_its_name(preset):
    """As it is read, and as it leaves."""
    fields, named = Fields(PUBLISHED[preset]), preset_model(preset)
    family = family_of(fields)
    words = family.words(fields)
    read = meta_model(composed(words), 1)
    assert differences(read, named) == []
    assert read.context == named.context
    assert family.words(Fields(family.write(read))) == words
    if preset in ("t5_1_1_base", "flan_t5_small"):  # trained without, says the release; the file's is for fine-tuning
        assert set(dropouts(named).values()) == {0.0}
    else:
        assert dropouts(named) == dropouts(read)


def dropouts(model):
    """Shares that are dropped, by the path of what drops."""
    found = {path: getattr(module, "p", getattr(module, "dropout", None)) for path, module in model.named_modules()}
    return {path: share for path, share in found.items() if isinstance(share, float)}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_presets_have_the_parameters_of_transformers(preset):
    """Counted by its own class, without memory."""
    config = transformers.AutoConfig.for_model(**PUBLISHED[preset])
    with torch.device("meta"):
        theirs = getattr(transformers, PUBLISHED[preset]["architectures"][0])(config)
    assert sum(p.numel() for p in theirs.parameters()) == PARAMETERS[preset] + COUNTED.get(preset, 0)


@pytest.mark.parametrize("preset", PARAMETERS)
def test_published_sizes_cost_what_is_known(preset):
    model = preset_model(preset)
    assert model.parameters_total == PARAMETERS[preset]
    if preset == "mixtral_8x7b":
        assert model.parameters_active == pytest.approx(12.9e9, rel=0.002)
    if preset in KEPT:
        layers, heads, width = KEPT[preset]
        assert model.cache_bytes(1000) == 4 * 2 * layers * heads * width * 1000
        table = model.embedding.table.weight.numel()
        norms = sum(p.numel() for n, p in model.named_parameters() if "norm" in n)
        # Two for each weight that a token meets, and for each pair of tokens two for the score and two for the sum.
        pairs = 4 * model.dim * layers * 2000 * 2001 // 2
        expected = 2 * (model.parameters_active - table - norms) * 2000 + pairs
        assert int(model.flops(np.array([2000]))[0]) == expected


def test_differences_are_seen():
    one, other = (meta_model(compose("preset=tiny", word), 50) for word in ("norm.eps=1e-5", "norm.eps=1e-6"))
    assert differences(one, other)[0][0] == "blocks.0.attention_norm"
    assert differences(one, one) == []
