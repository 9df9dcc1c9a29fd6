"""Attention layers against torch's, Hugging Face's, and their equations."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import DeepseekV2Config
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Attention, DeepseekV2RotaryEmbedding

from lab.layout import Layout
from lab.parts.attention import Attention, GroupedQueryAttention, Memory
from lab.parts.explicit import explicit_attention
from lab.parts.latent import LatentAttention
from lab.parts.norm import RMSNorm
from lab.parts.position import Position
from lab.parts.rotary import RoPE
from lab.parts.visibility import Full


def nowhere(dim=16, head_dim=4):
    return Position(dim, head_dim, context=8)


def drawn(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def test_multi_head_attention_is_that_of_torch():
    torch.manual_seed(0)
    ours = drawn(Attention(dim=16, heads=4, kv_heads=4, visibility=Full(), bias=True))
    theirs = nn.MultiheadAttention(16, 4, batch_first=True)
    weights = ours.state_dict()
    theirs.load_state_dict(
        {
            "in_proj_weight": weights["project.weight"],
            "in_proj_bias": weights["project.bias"],
            "out_proj.weight": weights["output.weight"],
            "out_proj.bias": weights["output.bias"],
        }
    )
    x = torch.randn(2, 6, 16)
    hidden = torch.ones(6, 6, dtype=torch.bool).triu(1)
    expected, _ = theirs(x, x, x, attn_mask=hidden, need_weights=False)
    assert torch.allclose(ours(x, Layout.full(2, 6), nowhere()), expected, atol=1e-5)

    memory = torch.randn(2, 3, 16)
    expected, _ = theirs(x, memory, memory, need_weights=False)
    assert torch.allclose(ours.cross(x, Layout.full(2, 6), Memory(memory, Layout.full(2, 3))), expected, atol=1e-5)


def test_cross_attention_stays_within_its_pair_and_sees_no_padding():
    torch.manual_seed(0)
    attention = drawn(Attention(dim=16, heads=4, kv_heads=2, visibility=Full(), norm=RMSNorm, qk_norm=True))
    x, memory = torch.randn(1, 5, 16), torch.randn(1, 6, 16)
    together = attention.cross(x, Layout.packed([[3, 2]]), Memory(memory, Layout.packed([[2, 3]], time=6)))
    first = attention.cross(x[:, :3], Layout.full(1, 3), Memory(memory[:, :2], Layout.full(1, 2)))
    second = attention.cross(x[:, 3:], Layout.full(1, 2), Memory(memory[:, 2:5], Layout.full(1, 3)))
    assert torch.allclose(together, torch.cat([first, second], dim=1), atol=1e-6)


def test_groups_share_keys_and_values():
    """Grouped queries are multi-head attention whose keys and values are repeated (Ainslie et al. 2023)."""
    torch.manual_seed(0)
    grouped = drawn(GroupedQueryAttention(dim=16, heads=4, kv_heads=2, visibility=Full()))
    full = Attention(dim=16, heads=4, kv_heads=4, visibility=Full())
    query, key, value = (rows for _, rows in grouped.project.pieces())
    repeated = [rows.unflatten(0, (2, 4)).repeat_interleave(2, 0).flatten(0, 1) for rows in (key, value)]
    full.load_state_dict(
        {"project.weight": torch.cat([query, *repeated]), "output.weight": grouped.output.weight.detach()}
    )
    x = torch.randn(2, 6, 16)
    layout = Layout.full(2, 6)
    assert torch.allclose(grouped(x, layout, nowhere()), full(x, layout, nowhere()), atol=1e-6)


def test_queries_and_keys_are_normalised_before_they_turn():
    torch.manual_seed(0)
    attention = drawn(Attention(16, 4, 4, Full(), norm=RMSNorm, qk_norm=True))
    position, layout, x = RoPE(16, 4, context=6), Layout.full(1, 6), torch.randn(1, 6, 16)
    query, key, value = (F.linear(x, rows).unflatten(-1, (4, 4)) for _, rows in attention.project.pieces())
    query = position.rotate(F.rms_norm(query, (4,), attention.query_norm.weight, 1e-5), layout)
    key = position.rotate(F.rms_norm(key, (4,), attention.key_norm.weight, 1e-5), layout)
    expected = attention.output(explicit_attention(query, key, value, layout, Full()).flatten(2))
    assert torch.allclose(attention(x, layout, position), expected, atol=1e-5)


@pytest.mark.parametrize("q_rank", [None, 6])
def test_latent_attention_is_that_of_deepseek(q_rank):
    torch.manual_seed(0)
    config = DeepseekV2Config(
        hidden_size=16, num_attention_heads=4, num_key_value_heads=4, q_lora_rank=q_rank, kv_lora_rank=8,
        qk_nope_head_dim=4, qk_rope_head_dim=2, v_head_dim=3, rms_norm_eps=1e-6, attention_bias=False,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0}, attn_implementation="eager",
    )  # fmt: skip
    theirs = drawn(DeepseekV2Attention(config, 0))
    ours = LatentAttention(16, 4, Full(), partial(RMSNorm, eps=1e-6), kv_rank=8, q_rank=q_rank, rope_dim=2, value_dim=3)
    theirs_of = dict(theirs.named_parameters())
    key, value = theirs_of["kv_b_proj.weight"].unflatten(0, (4, 7)).split([4, 3], dim=1)
    weights = {
        "down.weight": theirs_of["kv_a_proj_with_mqa.weight"],
        "latent_norm.weight": theirs_of["kv_a_layernorm.weight"],
        "up.weight": torch.cat([key.flatten(0, 1), value.flatten(0, 1)]),
        "output.weight": theirs_of["o_proj.weight"],
    }
    if q_rank:
        weights["query_down.weight"] = theirs_of["q_a_proj.weight"]
        weights["query_norm.weight"] = theirs_of["q_a_layernorm.weight"]
    weights["query_up.weight"] = theirs_of["q_b_proj.weight" if q_rank else "q_proj.weight"]
    ours.load_state_dict(weights)
    x = torch.randn(2, 5, 16)
    angles = DeepseekV2RotaryEmbedding(config)(x, torch.arange(5).unsqueeze(0))
    hidden = torch.full((5, 5), -torch.inf).triu(1).expand(2, 1, 5, 5)
    expected = theirs(x, attention_mask=hidden, position_embeddings=angles)[0]
    position = RoPE(16, 4, context=5, base=100.0, interleaved=True)
    assert torch.allclose(ours(x, Layout.full(2, 5), position), expected, atol=1e-5)


def test_what_is_cached_of_latent_attention_is_one_latent_and_what_turns():
    with_rope = LatentAttention(16, 4, Full(), RMSNorm, kv_rank=8, rope_dim=2)
    without = LatentAttention(16, 4, Full(), RMSNorm, kv_rank=8, rope_dim=2, rotates=False)
    assert with_rope.cached == [(8,), (2,)]
    assert without.cached == [(8,), (0,)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Attention(16, 4, 3, Full()), r"attention\.kv_heads: 3 does not divide model\.heads 4"),
        (lambda: Attention(16, 3, 3, Full()), r"model\.heads: 3 does not divide model\.dim 16"),
        (lambda: Attention(16, 4, 4, Full(), qk_norm=True), r"attention\.qk_norm: true; takes a norm"),
        (lambda: Attention(16, 4, 4, Full(), softcap=0), r"attention\.softcap: 0; a number over 0, or null"),
        (lambda: Attention(16, 4, 4, Full(), scale=-1), r"attention\.scale: -1; a number over 0, or null"),
        (lambda: Attention(16, 4, 4, Full(), dropout=1), r"attention\.dropout: 1; choose from 0 to under 1"),
        (lambda: GroupedQueryAttention(16, 4, 4, Full()), r"model\.kv_heads: 4; attention=gqa shares"),
        (lambda: LatentAttention(16, 4, Full(), RMSNorm, rope_dim=3), r"attention\.rope_dim: 3; an even number"),
        (lambda: LatentAttention(16, 4, Full(), RMSNorm, kv_rank=0), r"attention\.kv_rank: 0; a whole number"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
