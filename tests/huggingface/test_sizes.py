"""Published sizes, without memory: a published `config.json` is the preset of its name, and costs what is known."""

from __future__ import annotations

import numpy as np
import pytest

from lab.config import compose
from lab.huggingface.alike import differences
from lab.huggingface.family import families
from lab.huggingface.fields import Fields
from lab.huggingface.incoming import composed, meta_model

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

PUBLISHED = {
    "gpt1": {
        "model_type": "openai-gpt", "afn": "gelu", "architectures": ["OpenAIGPTLMHeadModel"], "attn_pdrop": 0.1,
        "embd_pdrop": 0.1, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "n_ctx": 512, "n_embd": 768, "n_head": 12,
        "n_layer": 12, "n_positions": 512, "n_special": 0, "predict_special_tokens": True, "resid_pdrop": 0.1,
        "vocab_size": 40478, **SUMMARY,
    },
    "gpt2": {
        "model_type": "gpt2", "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
        "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05, "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024,
        "resid_pdrop": 0.1, "vocab_size": 50257, **SUMMARY,
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
    "gpt1": 116_534_784, "gpt2": 124_439_808, "llama2_7b": 6_738_415_616, "llama2_70b": 68_976_648_192,
    "llama3_8b": 8_030_261_248, "llama3_70b": 70_553_706_496, "llama31_8b": 8_030_261_248,
    "llama31_70b": 70_553_706_496, "llama31_405b": 405_853_388_800, "phi3_mini": 3_821_079_552,
    "mixtral_8x7b": 46_702_792_704,
}  # fmt: skip
"""As the checkpoints hold, a tied head counted once."""

KEPT = {
    "llama2_7b": (32, 32, 128), "llama3_8b": (32, 8, 128), "llama3_70b": (80, 8, 128), "llama31_405b": (126, 8, 128),
    "phi3_mini": (32, 32, 96), "mixtral_8x7b": (32, 8, 128),
}  # fmt: skip
"""Layers, heads of keys and values, and their width."""


@pytest.mark.parametrize("preset", PUBLISHED)
def test_a_published_configuration_is_the_preset_of_its_name(preset):
    fields = Fields(PUBLISHED[preset])
    words = families()[PUBLISHED[preset]["model_type"]].words(fields)
    read = meta_model(composed(words), 1)
    config = compose(f"preset={preset}")
    named = meta_model(config, config.tokenizer.vocab_size)
    assert differences(read, named) == []
    assert read.context == named.context
    assert read.parameters_total == PARAMETERS[preset]


@pytest.mark.parametrize("preset", PARAMETERS)
def test_published_sizes_cost_what_is_known(preset):
    config = compose(f"preset={preset}")
    model = meta_model(config, config.tokenizer.vocab_size)
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
