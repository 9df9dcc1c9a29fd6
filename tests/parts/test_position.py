"""Positions against their formulas."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import rotate_half
from transformers.models.t5.modeling_t5 import T5Attention

import lab
from lab.layout import Layout
from lab.models.generate import generate
from lab.parts.position import Learned, PerLayer, Position, Sinusoidal
from lab.parts.relative import ALiBi, T5Bias, slopes
from lab.parts.rotary import LinearRoPE, Llama3RoPE, LongRoPE, NTKRoPE, RoPE, YaRN


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
    with pytest.raises(ValueError, match=r"head width.* must be even, got 5"):
        RoPE(dim=10, head_dim=5, context=4)
    with pytest.raises(ValueError, match=r"model.dim must be even, got 5"):
        Sinusoidal(dim=5, head_dim=5, context=4)


@pytest.mark.parametrize("positions", [[0, 1, 2, 3, 4, 5], [0, 1, 2, 0, 1, 2]])
def test_neighbours_are_paired_as_in_the_paper(positions):
    layout = Layout(torch.zeros(1, 6, dtype=torch.int64), torch.tensor([positions]), span=6)
    x = torch.randn(1, 6, 2, 8, dtype=torch.float64)
    turned = RoPE(dim=16, head_dim=8, context=4, interleaved=True).rotate(x, layout)
    for token, position in enumerate(positions):
        for pair in range(4):
            angle = position * 10_000 ** (-2 * pair / 8)
            turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
            expected = x[0, token, :, 2 * pair : 2 * pair + 2] @ turn.T
            assert torch.allclose(turned[0, token, :, 2 * pair : 2 * pair + 2], expected, atol=1e-6)


@pytest.mark.parametrize("interleaved", [True, False])
def test_the_share_that_does_not_turn_stays_as_it_is(interleaved):
    position = RoPE(dim=16, head_dim=16, context=8, share=0.25, interleaved=interleaved)
    x = torch.randn(1, 8, 1, 16, dtype=torch.float64, requires_grad=True)
    turned = position.rotate(x, Layout.full(1, 8))
    assert torch.equal(turned[..., 4:], x[..., 4:])
    front = RoPE(dim=4, head_dim=4, context=8, interleaved=interleaved).rotate(x[..., :4], Layout.full(1, 8))
    assert torch.equal(turned[..., :4], front)
    assert torch.autograd.gradcheck(lambda x: position.rotate(x, Layout.full(1, 8)), (x,), atol=1e-6)


SCALED = {
    "linear": (LinearRoPE, {"factor": 4.0}, {}),
    "yarn": (YaRN, {"factor": 4.0, "trained": 64}, {"original_max_position_embeddings": 64}),
    "llama3": (
        Llama3RoPE,
        {"factor": 8.0, "trained": 128},
        {"original_max_position_embeddings": 128, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    ),
}


@pytest.mark.parametrize("kind", SCALED)
@pytest.mark.parametrize("base", [10_000.0, 500_000.0])
@pytest.mark.parametrize("width", [16, 64])
def test_scalings_are_those_of_hugging_face(kind, base, width):
    made, settings, theirs = SCALED[kind]
    config = LlamaConfig(
        hidden_size=2 * width, num_attention_heads=2, max_position_embeddings=256,
        rope_parameters={"rope_type": kind, "rope_theta": base, "factor": settings["factor"], **theirs},
    )  # fmt: skip
    expected, amplitude = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    position = made(2 * width, width, context=256, base=base, **settings)
    assert torch.allclose(position.speeds(width, torch.device("cpu")), expected, rtol=1e-6)
    assert position.amplitude() == pytest.approx(amplitude)


LONG = {"short": [1.0, 1.1, 1.3, 1.6], "long": [1.0, 2.5, 4.0, 9.5]}


@pytest.mark.parametrize("length", [16, 17])
def test_long_rope_is_that_of_hugging_face(length):
    config = LlamaConfig(
        hidden_size=16, num_attention_heads=2, max_position_embeddings=64,
        rope_parameters={
            "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 16,
            "short_factor": LONG["short"], "long_factor": LONG["long"],
        },
    )  # fmt: skip
    speeds, amplitude = ROPE_INIT_FUNCTIONS["longrope"](config, "cpu", seq_len=length)
    position = LongRoPE(16, 8, context=64, factor=4.0, trained=16, **LONG)
    angles = torch.outer(torch.arange(length).float(), speeds).repeat(1, 2)[None, :, None]
    x = torch.randn(1, length, 2, 8)
    expected = (x * angles.cos() + rotate_half(x) * angles.sin()) * amplitude
    assert torch.allclose(position.rotate(x, Layout.full(1, length)), expected, atol=1e-5)


def test_long_rope_judges_every_document_by_itself():
    position = LongRoPE(16, 8, context=64, factor=4.0, trained=16, **LONG)
    found = position.rows(Layout.packed([[17, 5], [20]], 22), 8)
    for row, start, stop in ((0, 0, 17), (0, 17, 22), (1, 0, 20)):
        alone = position.rows(Layout.full(1, stop - start), 8)[0]
        assert torch.equal(found[row, start:stop], alone)


def test_long_rope_begins_anew_where_the_length_is_passed():
    words = ("preset=tiny", "model.context=64", "position=rope_long", "position.trained=9")
    model = lab.build(lab.compose(*words), vocab_size=50)
    prompts = [[5, 6, 7, 8, 9], [5, 6]]
    answers = [generate(model, prompts, 14, cache=kept) for kept in (True, False)]
    assert answers[0] == answers[1]
    model.renews = lambda length: False
    logits = [model(torch.tensor([prompts[0] * 3]))[0, -1]]
    cache = model.new_cache(1, 15)
    logits += [model(torch.tensor([prompts[0]]), cache=cache)[0, -1] for _ in range(3)][-1:]
    assert not torch.allclose(*logits, atol=1e-4)  # without, what the cache holds is of another rotation


def test_long_rope_begins_anew_in_the_midst_of_what_a_decoder_is_given():
    words = ("preset=tiny", "model=encoder_decoder", "objective=seq2seq", "data=reverse", "model.context=64")
    model = lab.build(lab.compose(*words, "position=rope_long", "position.trained=4"), vocab_size=50).eval()
    source, target = torch.randint(50, (2, 1, 9)).unbind()
    with torch.no_grad():
        state = model.begin(source, None, 9)
        model.step(target[:, :3], state)
        assert torch.allclose(model.step(target[:, 3:], state), model.hidden(source, target)[:, 3:], atol=1e-5)


def test_tables_of_one_base_are_not_those_of_the_next():
    layout, x = Layout.packed([[5, 3]], 8), torch.randn(1, 8, 2, 16)
    for base in (1e2, 1e3, 1e4, 1e5):  # each may be made where the one before was
        alone = RoPE(16, 16, 8, base=base).rotate(x, Layout.packed([[5, 3]], 8))
        assert torch.equal(RoPE(16, 16, 8, base=base).rotate(x, layout), alone)


def test_what_is_made_in_inference_serves_training():
    model = lab.build(lab.compose("preset=tiny", "model.dim=32", "model.layers=1"), vocab_size=50)
    tokens = torch.randint(50, (2, 9))
    with torch.inference_mode():
        model(tokens)
    model.loss(tokens, tokens).backward()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"short": [1.0, 2.0]}, r"position\.short: \[1\.0, 2\.0\]; a number over 0 for each of the 4 pairs that turn"),
        (
            {"long": [1.0, 2.0, 0.0, 3.0]},
            r"position\.long: .*0\.0.*; a list of a number over 0 for each pair that turns",
        ),
        ({"long": [1.0, 2.0, float("inf"), 3.0]}, r"position\.long: .*inf.*; a list of a number over 0"),
        ({"short": 3}, r"position\.short: 3; a list of a number over 0"),
        ({"short": [True, 1.0, 1.0, 1.0]}, r"position\.short: \[True.*; a list of a number over 0"),
        ({"trained": 1}, r"position\.trained: 1; more than 1 token"),
    ],
)
def test_long_rope_takes_factors_that_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        LongRoPE(16, 8, context=64, factor=4.0, **settings).check_width(8)


@pytest.mark.parametrize("turned", [8, 4])
def test_long_rope_has_as_many_factors_as_pairs_turn_in_latent_attention(turned):
    factors = [1.0, 1.3, 2.0, 4.0][: turned // 2]
    words = ("preset=tiny", "attention=mla", f"attention.rope_dim={turned}", "position=rope_long", "position.trained=4")
    own = lab.build(lab.compose(*words, f"position.long={factors}"), vocab_size=50)
    plain = lab.build(lab.compose(*words, f"position.long={[1.0] * len(factors)}"), vocab_size=50)
    tokens = torch.arange(12).unsqueeze(0)
    assert not torch.allclose(own(tokens), plain(tokens))  # beyond 4 tokens the long ones count
    assert torch.equal(own(tokens[:, :4]), plain(tokens[:, :4]))


def test_ntk_slows_the_slowest_pair_by_the_factor_and_leaves_the_fastest():
    plain, scaled = RoPE(64, 32, context=8), NTKRoPE(64, 32, context=8, factor=4.0)
    ratio = plain.speeds(32, torch.device("cpu")) / scaled.speeds(32, torch.device("cpu"))
    assert ratio[0].item() == 1
    assert ratio[-1].item() == pytest.approx(4, rel=1e-5)
    assert (ratio.diff() > 0).all()


def test_slopes_are_those_of_the_paper():
    assert slopes(8) == [2**-i for i in range(1, 9)]
    assert slopes(16)[:3] == pytest.approx([0.5**0.5, 0.5, 0.5**1.5])
    assert len(slopes(12)) == 12
    assert slopes(12)[8:] == pytest.approx([0.5**0.5, 0.5**1.5, 0.5**2.5, 0.5**3.5])


@pytest.mark.parametrize("causal", [True, False])
def test_alibi_falls_with_the_distance_in_the_document(causal):
    layout = Layout.packed([[4, 3]])
    bias = ALiBi(dim=16, head_dim=8, context=8, heads=2, causal=causal).bias(layout, layout)
    for slope, head in zip([1 / 16, 1 / 256], bias[0], strict=True):
        for i, j in [(3, 3), (3, 0), (6, 4)]:
            assert head[i, j].item() == -slope * (i - j)
            assert head[j, i].item() == -slope * (i - j)


@pytest.mark.parametrize("causal", [True, False])
@given(st.sampled_from([4, 8, 32]), st.integers(20, 200))
def test_buckets_are_those_of_t5(causal, buckets, reach):
    distances = torch.arange(-300, 301)
    expected = T5Attention._relative_position_bucket(-distances, not causal, buckets, reach)
    ours = T5Bias(dim=8, head_dim=4, context=8, heads=2, causal=causal, buckets=buckets, reach=reach).bucket(distances)
    assert torch.equal(ours, expected)


def test_the_bias_of_t5_is_looked_up_for_each_head():
    position = T5Bias(dim=8, head_dim=4, context=8, heads=2)
    layout = Layout.packed([[5, 3], [8]])
    bias = position.bias(layout, layout)
    assert bias.shape == (1, 2, 8, 8)  # tokens that meet are as far apart in every row
    assert torch.equal(bias[0, :, 7, 5], position.table.weight[2])
    assert torch.equal(bias[0, :, 7, 0], position.table.weight[7])
    later = layout.part(5, 8)
    assert torch.equal(position.bias(later, layout)[:, :, 2, 5:], bias[:, :, 7, 5:].expand(2, -1, -1))


def test_layers_may_differ():
    options = [partial(RoPE, base=100.0), partial(RoPE, base=10.0), Position, Learned]
    position = PerLayer(dim=8, head_dim=4, context=8, options=options)
    assert [position.at(layer).rotates for layer in range(6)] == [True, True, False, False, True, True]
    assert [position.at(layer).base for layer in (0, 1, 4)] == [100.0, 10.0, 100.0]
    added = position.embed(torch.zeros(1, 8, 8), Layout.full(1, 8))
    assert torch.equal(added[0], position.options[3].table.weight)
    assert not position.distances
    assert PerLayer(8, 4, 8, options=[Position, ALiBi]).distances


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda **k: RoPE(**k, base=0), "position.base: 0; a number over 0"),
        (lambda **k: RoPE(**k, share=1.5), r"position.share: 1.5; the share of a head that turns"),
        (lambda **k: LinearRoPE(**k, factor=0.5), "position.factor: 0.5; how many times as long, at least 1"),
        (lambda **k: NTKRoPE(**k, factor=2.0, trained=0), "position.trained: 0; a number over 0"),
        (lambda **k: YaRN(**k, factor=2.0, fast=1, slow=1), "position.slow: 1; over 0 and under position.fast 1"),
        (lambda **k: Llama3RoPE(**k, factor=2.0, low=9), "position.low: 9; over 0 and under position.high 4.0"),
        (lambda **k: T5Bias(**k, buckets=3), "position.buckets: 3; a multiple of 2"),
        (lambda **k: T5Bias(**k, reach=16), "position.reach: 16; more than 16, half of the buckets"),
        (lambda **k: PerLayer(**k, options=[]), "position.options: a list .* holds at least 1 option"),
    ],
)
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(dim=16, head_dim=8, context=16)
