"""Blocks against the equations of their papers."""

import pytest
import torch
from torch import nn

from lab.layout import Layout
from lab.parts.block import DeepNorm, Parallel, PostNorm, PreNorm, Sandwich
from lab.parts.norm import LayerNorm
from lab.parts.position import Position

LAYERS = 3


class Attend(nn.Linear):
    def forward(self, x, layout, position, cache=None):
        return super().forward(x)


class Feed(nn.Linear):
    def forward(self, x, layout=None, cache=None):
        return super().forward(x)


def norm(module, x):
    return nn.functional.layer_norm(x, x.shape[-1:], module.weight, module.bias)


EQUATIONS = {
    PreNorm: lambda b, x: (y := x + b.attention(norm(b.attention_norm, x), None, None)) + b.ffn(norm(b.ffn_norm, y)),
    PostNorm: lambda b, x: norm(b.ffn_norm, (y := norm(b.attention_norm, x + b.attention(x, None, None))) + b.ffn(y)),
    Sandwich: lambda b, x: (
        (y := x + norm(b.attention_out_norm, b.attention(norm(b.attention_norm, x), None, None)))
        + norm(b.ffn_out_norm, b.ffn(norm(b.ffn_norm, y)))
    ),
    Parallel: lambda b, x: x + b.attention(n := norm(b.attention_norm, x), None, None) + b.ffn(n),
    DeepNorm: lambda b, x: norm(
        b.ffn_norm,
        (2 * LAYERS) ** 0.25 * (y := norm(b.attention_norm, (2 * LAYERS) ** 0.25 * x + b.attention(x, None, None)))
        + b.ffn(y),
    ),
}


@pytest.mark.parametrize("kind", EQUATIONS)
def test_a_block_is_its_equation(kind):
    torch.manual_seed(0)
    block = kind(dim=6, attention=Attend(6, 6), ffn=Feed(6, 6), norm=LayerNorm, layers=LAYERS)
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 5, 6)
    got = block(x, Layout.full(2, 5), Position(6, 6, 5))
    assert torch.allclose(got, EQUATIONS[kind](block, x), atol=1e-5)


def test_dropout_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"model\.dropout: 1; choose from 0 to under 1"):
        PreNorm(dim=6, attention=Attend(6, 6), ffn=Feed(6, 6), norm=LayerNorm, dropout=1)
