"""x-transformers' decoders of the shapes of `peers.py`, in their fastest setting: another function, so only times compare."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn
from x_transformers import Decoder, TransformerWrapper

from benchmarks.peers import DIM, HEADS, INNER, LAYERS, TIME, VOCABULARY


class XTransformer(nn.Module):
    """x-transformers' decoder, its loss in one piece."""

    def __init__(self, **layers: Any) -> None:
        super().__init__()
        heart = Decoder(
            dim=DIM,
            depth=LAYERS,
            heads=HEADS,
            attn_dim_head=DIM // HEADS,
            attn_flash=True,
            **layers,
        )
        learned = "rotary_pos_emb" not in layers
        self.net = TransformerWrapper(
            num_tokens=VOCABULARY,
            max_seq_len=TIME,
            attn_layers=heart,
            use_abs_pos_emb=learned,
            tie_embedding=learned,
        )

    def forward(self, input_ids: Tensor, labels: Tensor, shift_labels: Tensor) -> SimpleNamespace:
        """As Hugging Face's models are called."""
        logits = self.net(input_ids)
        return SimpleNamespace(loss=nn.functional.cross_entropy(logits.flatten(0, 1), shift_labels.flatten()))


def gpt2(ours: Any) -> XTransformer:
    """The shape of `gpt2`: learned positions, LayerNorm, a dense feed-forward layer."""
    return XTransformer(ff_mult=INNER / DIM)


def llama(ours: Any) -> XTransformer:
    """The shape of `llama`: rotary positions, RMSNorm, grouped queries, a gated feed-forward layer."""
    first = ours.blocks[0]
    return XTransformer(
        rotary_pos_emb=True, use_rmsnorm=True, attn_kv_heads=first.attention.kv_heads,
        ff_glu=True, ff_swish=True, ff_no_bias=True, ff_mult=first.ffn.inner / DIM,
    )  # fmt: skip
