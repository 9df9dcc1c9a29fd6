"""Positions against their formulas."""

import math

import pytest
import torch

from lab.layout import Layout
from lab.parts.position import Learned, Position, Sinusoidal
from lab.parts.rotary import RoPE


def test_sinusoidal_is_the_formula_of_2017():
    position = Sinusoidal(dim=6, head_dim=3, context=10)
    waves = position.embed(torch.zeros(1, 10, 6), Layout.full(1, 10))[0]
    for pos in range(10):
        for i in range(3):
            angle = pos / 10_000 ** (2 * i / 6)
            assert waves[pos, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert waves[pos, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_rope_turns_pairs_as_complex_numbers():
    x = torch.randn(2, 5, 3, 8, dtype=torch.float64)
    turned = RoPE(dim=24, head_dim=8, context=4, base=100.0).rotate(x, Layout.full(2, 5))
    pairs = torch.complex(x[..., :4], x[..., 4:])
    angles = torch.arange(5.0).outer(100.0 ** (-torch.arange(0, 8, 2) / 8)).double()
    expected = pairs * torch.polar(torch.ones_like(angles), angles)[None, :, None]
    assert torch.allclose(turned, torch.cat([expected.real, expected.imag], -1), atol=1e-6)


def test_scores_under_rope_depend_on_distance_alone():
    position = RoPE(dim=16, head_dim=16, context=64)
    query, key = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64)
    turned = [position.rotate(x.expand(1, 64, 1, 16), Layout.full(1, 64))[0, :, 0] for x in (query, key)]
    scores = turned[0] @ turned[1].T
    for distance in (0, 1, 17):
        along = scores.diagonal(-distance)
        assert torch.allclose(along, along[:1].expand_as(along), atol=1e-5)


def test_the_gradient_of_a_rotation_is_right():
    x = torch.randn(1, 4, 2, 6, dtype=torch.float64, requires_grad=True)
    position = RoPE(dim=12, head_dim=6, context=4)
    assert torch.autograd.gradcheck(lambda x: position.rotate(x, Layout.full(1, 4)), (x,), atol=1e-6)


@pytest.mark.parametrize("kind", [Learned, Sinusoidal, RoPE])
def test_positions_restart_with_the_document(kind):
    position = kind(dim=8, head_dim=8, context=16)
    layout = Layout.packed([[5, 3]])
    x = torch.randn(1, 1, 8).expand(1, 8, 8)
    placed = position.rotate(position.embed(x, layout).unsqueeze(2), layout)
    assert torch.equal(placed[0, :3], placed[0, 5:])
    assert not torch.allclose(placed[0, 0], placed[0, 1])


def test_no_position_changes_nothing():
    x = torch.randn(1, 3, 2, 4)
    nothing = Position(dim=8, head_dim=4, context=3)
    assert nothing.rotate(x, Layout.full(1, 3)) is x
    assert nothing.bias(Layout.full(1, 3), Layout.full(1, 3)) is None


def test_fixed_tables_grow_beyond_the_context_and_learned_ones_refuse():
    layout = Layout.full(1, 20)
    x = torch.zeros(1, 20, 8)
    assert torch.allclose(Sinusoidal(8, 8, context=4).embed(x, layout), Sinusoidal(8, 8, context=20).embed(x, layout))
    with pytest.raises(ValueError, match="knows 4 positions, got a row of 20"):
        Learned(8, 8, context=4).embed(x, layout)


def test_odd_widths_are_refused():
    with pytest.raises(ValueError, match=r"head width .* must be even, got 5"):
        RoPE(dim=10, head_dim=5, context=4)
    with pytest.raises(ValueError, match=r"model.dim must be even, got 5"):
        Sinusoidal(dim=5, head_dim=5, context=4)
