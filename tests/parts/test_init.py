"""Initial values: their sizes, what they depend on, and muP by a coordinate check over widths."""

import copy
import functools
import math

import numpy as np
import pytest
import torch
from torch import nn

import lab
from lab.config import construct
from lab.layout import Layout
from lab.optim.groups import make_optimizer, parameter_groups
from lab.options import groups
from lab.parts.linear import named_matrices

TOKENS = torch.randint(100, (8, 32), generator=torch.Generator().manual_seed(0))


def build(*words, vocab_size=100):
    return lab.build(lab.compose("preset=tiny", *words), vocab_size=vocab_size)


# Sizes


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("normal", lambda name, rows, inputs: 0.02),
        ("depth_scaled", lambda name, rows, inputs: 0.02 / (8**0.5 if name.endswith(("output", "down")) else 1)),
        ("fan_in", lambda name, rows, inputs: inputs**-0.5),
        ("xavier", lambda name, rows, inputs: inputs**-0.5 if "table" in name else (2 / (inputs + rows)) ** 0.5),
        ("mup", lambda name, rows, inputs: 64**-0.5 if name in ("embedding.table", "embedding.head") else inputs**-0.5),
    ],
)
def test_every_matrix_has_the_deviation_of_its_formula(option, expected):
    model = build(f"init={option}", "model.dim=128", "model.layers=4", "embedding=untied")
    for name, matrix, _ in named_matrices(model):
        wanted = expected(name.removesuffix(".weight"), *matrix.shape)
        assert matrix.std().item() == pytest.approx(wanted, rel=0.05), name
        assert abs(matrix.mean().item()) < 4 * wanted / matrix.numel() ** 0.5, name


@pytest.mark.parametrize("option", groups()["init"])
def test_norms_start_at_one_and_biases_and_sinks_at_nothing(option):
    model = build(f"init={option}", "norm=layernorm", "model.bias=true", "+attention.sinks=true")
    vectors = [(name, p) for name, p in model.named_parameters() if p.ndim < 2]
    assert vectors
    for name, parameter in vectors:
        assert (parameter == (1.0 if "norm" in name and name.endswith("weight") else 0.0)).all(), name


@pytest.mark.parametrize("option", groups()["init"])
def test_values_depend_on_the_seed_the_name_and_the_shape_alone(option):
    """So a swap elsewhere leaves a matrix as it was, and setting them again changes nothing."""
    words = (f"init={option}", "model.layers=3")
    model = build(*words)
    before = dict(model.state_dict())
    other = dict(build(*words, "norm=layernorm", "ffn=moe", "position=learned").state_dict())
    shared = {n for n in before.keys() & other.keys() if before[n].shape == other[n].shape and before[n].ndim > 1}
    assert len(shared) == 7  # the table, and queries, keys, values and output of three layers
    assert all(torch.equal(before[name], other[name]) for name in shared)

    again = copy.deepcopy(before)
    config = lab.compose("preset=tiny", *words)
    construct(config, "init")(model, seed=config.seed, layers=3)
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
    construct(config, "init")(model, seed=1, layers=3)
    assert not any(torch.equal(value, again[name]) for name, value in model.state_dict().items() if value.ndim > 1)


def test_a_block_scales_what_its_layers_start_from():
    """Wang et al. 2022, figure 2, for a decoder of 6 layers."""
    words = ("init=xavier", "model.layers=6", "ffn=moe")
    plain, deep = (dict(build(*words, block).state_dict()) for block in ("block=post_norm", "block=deep_norm"))
    beta = (8 * 6) ** -0.25
    for name, value in deep.items():
        if "project" in name and "attention" in name:
            gain = torch.tensor([1.0, 1.0, beta]).repeat_interleave(64).unsqueeze(1)
        else:
            gain = beta if name.endswith(("output.weight", "down.weight")) or "experts" in name else 1.0
        assert torch.allclose(value, plain[name] * gain), name


# muP


def test_mup_keeps_scores_that_are_made_smaller():
    words = ("+embedding.shrunk=true", "model.dim=64")
    assert (
        build("init=mup", *words).embedding.logit_scale
        == build("init=fan_in", *words).embedding.logit_scale
        == 64**-0.5
    )
    assert build("init=mup", "+embedding.shrunk=true", "model.dim=128").embedding.logit_scale == 64**-0.5 / 2


def test_mup_at_the_base_width_starts_as_fan_in_does():
    for words in (["embedding=tied"], ["embedding=untied"], ["embedding=tied_scaled"], ["ffn=moe"]):
        fan_in, mup = build("init=fan_in", *words), build("init=mup", *words)
        for (name, one), other in zip(fan_in.state_dict().items(), mup.state_dict().values(), strict=True):
            assert torch.equal(one, other), name
        with torch.no_grad():
            assert torch.allclose(fan_in(TOKENS), mup(TOKENS), atol=1e-5)


@pytest.mark.parametrize("embedding", ["tied", "untied", "tied_scaled"])
def test_logits_are_multiplied_by_the_base_over_the_width(embedding):
    model = build("init=mup", "model.dim=128", f"embedding={embedding}")
    with torch.no_grad():
        hidden = model.hidden(TOKENS)
        expected = hidden @ model.embedding.scorer.T * (64 / 128)
        assert torch.allclose(model(TOKENS), expected, atol=1e-5)
        loss = nn.functional.cross_entropy(expected.flatten(0, 1), TOKENS.flatten())
        assert model.loss(TOKENS, TOKENS).item() == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("words", "head_dim"), [(["model.heads=2"], 64), (["model.heads=8"], 16), (["model.heads=2", "attention=mla"], 96)]
)
def test_scores_are_scaled_by_one_over_the_head_width(words, head_dim):
    model = build("init=mup", "model.dim=128", *words)
    for block in model.blocks:
        assert block.attention.scoring(None).scale == pytest.approx(16**0.5 / head_dim)
    plain = build("init=mup", "model.dim=128", "init.base_head_dim=64", "model.heads=2", "attention=mha")
    assert plain.blocks[0].attention.scale == 64**-0.5


def test_a_scale_that_is_given_stays():
    model = build("init=mup", "+attention.scale=0.3")
    assert {block.attention.scale for block in model.blocks} == {0.3}


def test_a_scale_of_mup_reaches_the_scores():
    """Against a softmax written out, with two heads of 32."""
    model = build("init=mup", "model.heads=2", "position=none", "model.layers=1")
    attention = model.blocks[0].attention
    x = torch.randn(2, 10, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        query, key, value = (part.unflatten(-1, (2, 32)).transpose(1, 2) for part in attention.project(x).chunk(3, -1))
        scores = query @ key.mT * (4 / 32) + torch.full((10, 10), -math.inf).triu(1)
        expected = attention.output((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
        assert torch.allclose(attention(x, Layout.full(2, 10), model.position), expected, atol=1e-5)


WIDTHS = (32, 64, 128, 256)


@functools.cache
def growth(*words, rates=True):
    """By layer, the slope of `log(what a few steps change of its output)` over `log(width)`: 0 if the width is all the same."""
    found = {width: changes(width, words, rates) for width in WIDTHS}
    x = np.log(WIDTHS)
    return {layer: np.polyfit(x, np.log([found[w][layer] for w in WIDTHS]), 1)[0] for layer in found[WIDTHS[0]]}


def changes(width, words, rates):
    """Root mean square of what four steps on random tokens change of every layer's output."""
    words = [word.format(heads=width // 16) for word in words]
    config = lab.compose("preset=tiny", f"model.dim={width}", f"model.inner={4 * width}", *words)
    model = lab.build(config, vocab_size=100)
    optimizer = make_optimizer(parameter_groups(model), construct(config, "optimizer"))
    if not rates:
        for group in optimizer.param_groups:
            group["lr"] = config.optimizer.lr
    seen = {}
    for name, module in model.named_modules():
        if name.endswith((".attention", ".ffn")) or name == "norm":
            module.register_forward_hook(lambda m, i, output, name=name: seen.update({name: output.detach()}))

    def look():
        with torch.no_grad():
            logits = model(TOKENS)
        return seen | {"logits": logits}

    before = look()
    for _ in range(4):
        optimizer.zero_grad()
        model.loss(TOKENS, TOKENS.roll(-1, 1)).backward()
        optimizer.step()
    return {name: (after - before[name]).square().mean().sqrt().item() for name, after in look().items()}


COORDINATES = {
    "adamw": ("optimizer=adamw",),
    "adamw, untied head": ("optimizer=adamw", "embedding=untied"),
    "adamw, heads of one width": ("optimizer=adamw", "model.heads={heads}"),
    "muon": ("optimizer=muon",),
    "adafactor": ("optimizer=adafactor", "optimizer.lr=0.01"),
    "sgd": ("optimizer=sgd", "optimizer.lr=0.03"),
}


@pytest.mark.parametrize("words", COORDINATES.values(), ids=COORDINATES.keys())
def test_what_training_changes_keeps_its_size_at_any_width_under_mup_alone(words):
    """The coordinate check of Yang and Hu 2022, appendix D.1."""
    mup = growth("init=mup", *words)
    # At first logits are random and fall with the width, and the first layer attends ever more evenly.
    assert -0.5 < mup["logits"] < 0.0
    assert -0.25 < mup["blocks.0.attention"] < 0.0
    assert steepest(mup) < 0.1
    assert steepest(growth("init=fan_in", *words)) > 0.17
    assert steepest(growth("init=mup", *words, rates=False)) > 0.17


def steepest(slopes):
    return max(abs(slopes[layer]) for layer in ("blocks.0.ffn", "blocks.1.attention", "blocks.1.ffn", "norm"))


def test_muon_of_the_spectral_scale_needs_no_rates():
    words = ("init=mup", "optimizer=muon_2024", "optimizer.rest=1")
    assert steepest(growth(*words)) < 0.13
    assert growth(*words) == growth(*words, rates=False)


@pytest.mark.parametrize("init", ["normal", "xavier", "mup"])
def test_what_is_no_matrix_keeps_what_its_class_gave_it_and_a_bias_is_zero(init):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.full((16,), 0.25))
            self.weight = nn.Parameter(torch.full((16,), 0.5))
            self.alpha = nn.Parameter(torch.tensor(3.0))
            self.linear = nn.Linear(16, 8)

    config = lab.compose("preset=tiny", f"init={init}")
    own = Own()
    before = own.linear.weight.clone()
    construct(config, "init")(own, seed=0, layers=2)
    assert [own.gain[0].item(), own.weight[0].item(), own.alpha.item()] == [0.25, 0.5, 3.0]
    assert not own.linear.bias.any()
    assert not torch.equal(own.linear.weight, before)
    assert sum(len(group["params"]) for group in parameter_groups(own)) == 5
