"""Hugging Face's models with the weights of ours: the same function of the same parameters, so times compare."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

DIM, LAYERS, HEADS, TIME, INNER, VOCABULARY = 256, 4, 8, 256, 1024, 8192
SIZES = [
    *(f"model.dim={DIM}", f"model.layers={LAYERS}", f"model.heads={HEADS}", f"model.context={TIME}"),
    *(f"model.inner={INNER}", f"tokenizer.vocab_size={VOCABULARY}"),
]

GPT2 = ["preset=gpt2_like", "ffn.activation=gelu_tanh", *SIZES]
"""What makes ours the same model as `gpt2`."""

LLAMA = ["preset=llm_2024", *SIZES]
"""What makes ours the same model as `llama`."""


def gpt2(ours: Any, activation: str = "gelu_new") -> Any:
    """GPT-2 with our weights.

    Args:
        ours: a decoder composed from `GPT2`.
        activation: `gelu_new` as published, or `gelu_pytorch_tanh`, which is the same function in one kernel.
    """
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=TIME, n_embd=DIM, n_layer=LAYERS, n_head=HEADS, n_inner=INNER,
        activation_function=activation, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        use_cache=False, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    peer = GPT2LMHeadModel._from_config(config, attn_implementation="sdpa")
    weights: dict[str, Tensor] = {
        "wte.weight": ours.embedding.table.weight,
        "wpe.weight": ours.position.table.weight,
        **_of("ln_f", ours.norm),
    }
    for number, block in enumerate(ours.blocks):
        parts = {
            "ln_1": block.attention_norm,
            "attn.c_attn": block.attention.project,
            "attn.c_proj": block.attention.output,
            "ln_2": block.ffn_norm,
            "mlp.c_fc": block.ffn.up,
            "mlp.c_proj": block.ffn.down,
        }
        for name, part in parts.items():
            weights |= _of(f"h.{number}.{name}", part, transposed=isinstance(part, nn.Linear))
    peer.transformer.load_state_dict(weights)
    return peer


def llama(ours: Any) -> Any:
    """Llama with our weights. `ours` is a decoder composed from `LLAMA`."""
    first = ours.blocks[0]
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=DIM, intermediate_size=first.ffn.inner, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=first.attention.kv_heads, max_position_embeddings=TIME,
        rope_parameters={"rope_type": "default", "rope_theta": ours.position.base},
        rms_norm_eps=first.ffn_norm.eps, tie_word_embeddings=False, use_cache=False,
    )  # fmt: skip
    peer = LlamaForCausalLM._from_config(config, attn_implementation="sdpa")
    weights = {
        "model.embed_tokens.weight": ours.embedding.table.weight,
        "lm_head.weight": ours.embedding.head.weight,
        **_of("model.norm", ours.norm),
    }
    for number, block in enumerate(ours.blocks):
        query, key, value = (rows for _, rows in block.attention.project.pieces())
        gate, up = (rows for _, rows in block.ffn.project.pieces())
        parts = {
            "input_layernorm": block.attention_norm.weight,
            "self_attn.q_proj": query,
            "self_attn.k_proj": key,
            "self_attn.v_proj": value,
            "self_attn.o_proj": block.attention.output.weight,
            "post_attention_layernorm": block.ffn_norm.weight,
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": block.ffn.down.weight,
        }
        weights |= {f"model.layers.{number}.{name}.weight": weight for name, weight in parts.items()}
    peer.load_state_dict(weights)
    return peer


def _of(name: str, part: nn.Module, transposed: bool = False) -> dict[str, Tensor]:
    """Weight and bias of a part under the peer's name; GPT-2 keeps its matrices transposed."""
    found = {f"{name}.{key}": value for key, value in part.state_dict().items()}
    return {key: value.T if transposed and value.ndim == 2 else value for key, value in found.items()}


def loss_of(peer: Any, tokens: Tensor, targets: Tensor) -> Tensor:
    """The peer's own loss, against targets that stand beside the tokens."""
    return peer(input_ids=tokens, labels=targets, shift_labels=targets).loss


def assert_same(ours: Any, peer: Any, tokens: Tensor, targets: Tensor) -> None:
    """Equal parameters, equal loss, equal gradient of the token table."""
    count = sum(p.numel() for p in peer.parameters())
    assert ours.parameters_total == count, f"ours has {ours.parameters_total:,} parameters, the peer {count:,}"
    mine, theirs = ours.loss(tokens, targets), loss_of(peer, tokens, targets)
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    mine.backward()
    theirs.backward()
    table = peer.get_input_embeddings().weight
    torch.testing.assert_close(ours.embedding.table.weight.grad, table.grad, rtol=1e-3, atol=1e-6)
