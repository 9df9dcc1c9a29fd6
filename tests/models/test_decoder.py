"""A decoder of any composition: causal, sealed between documents, generates as it reads, with costs that are right.

Options are found by walking conf/. Every two options of two groups meet in some composition.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import lab
from lab.errors import RequestError
from lab.layout import Layout
from lab.options import groups
from lab.parts.cache import left_padded
from lab.parts.visibility import Full, Visibility
from tests.compositions import composed, pairwise
from tests.models.flops import counted

SMALL = ("preset=tiny", "model.dim=32", "model.inner=48", "model.window=3", "model.stride=4", "model.context=24")
SETTINGS = {
    "setting": [
        *("seed=0", "attention.sinks=true", "attention.softcap=5.0", "attention.scale=0.3", "attention.bias=true"),
        *("embedding.softcap=3.0", "model.layers=3", "model.heads=2 model.kv_heads=1"),
    ]
}
PARTS = {
    group: groups()[group]
    for group in ("position", "attention", "pattern", "ffn", "expert", "norm", "block", "embedding", "init")
} | SETTINGS
TIME = 14


COMBINATIONS = list(pairwise(PARTS))


def build(choice, *more):
    options = {group: option for group, option in choice.items() if group != "setting"}
    values = [*choice.get("setting", "seed=0").split(), *more]
    # What a rotation for long documents turned in a short one holds no longer in a long one: see its own test.
    values += ["position.trained=2"] if choice.get("position") == "rope_long" else []
    return lab.build(composed(SMALL, options, values), vocab_size=50)


def limited(choice):
    """A limit that the few tokens of a test reach."""
    return ["ffn.chosen.limit=2"] if choice.get("ffn") == "moe_switch_limited" else []


def name(choice):
    return "-".join(choice.values()).replace(" ", ",")


@pytest.mark.parametrize("choice", COMBINATIONS[::40], ids=name)
def test_a_configuration_is_the_one_that_is_composed(choice):
    options = {group: option for group, option in choice.items() if group != "setting"}
    values = choice["setting"].split()
    words = [*SMALL, *(f"{group}={option}" for group, option in options.items()), *values]
    ours, whole = (OmegaConf.to_container(one) for one in (composed(SMALL, options, values), lab.compose(*words)))
    assert ours | {"overrides": words} == whole


@pytest.mark.parametrize("choice", COMBINATIONS, ids=name)
def test_every_composition_holds_together(choice):
    holds_together(choice)


@pytest.mark.long
@settings(max_examples=300)
@given(st.fixed_dictionaries({group: st.sampled_from(options) for group, options in PARTS.items()}))
def test_any_composition_holds_together(choice):
    holds_together(choice)


def same(x, y):
    """Equal but for rounding."""
    return (x - y).abs().max().item() < 1e-6 * max(1.0, y.abs().max().item())


def holds_together(choice):
    # In double precision: without norms some compositions blow rounding up beyond what single precision can tell.
    model = build(choice, *limited(choice)).double().eval()
    tokens = torch.randint(50, (2, TIME), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():  # as generation has it; what it leaves behind must serve training
        logits = model(tokens)
        is_causal(model, tokens, logits)
        packed = is_sealed(model, tokens)
        generates_what_it_computes(model, tokens, logits)
    learns(model, tokens, packed)


def is_causal(model, tokens, logits):
    changed = tokens.clone()
    changed[:, 9] = (changed[:, 9] + 1) % 50
    after = model(changed)
    assert same(logits[:, :9], after[:, :9])
    assert not same(logits[:, 9:], after[:, 9:])


def is_sealed(model, tokens):
    packed = model(tokens, Layout.packed([[6, 8], [TIME]]))
    assert same(packed[0, 6:], model(tokens[:1, 6:])[0])
    assert same(packed[0, :6], model(tokens[:1, :6])[0])
    padded = model(tokens, Layout.packed([[6], [TIME]]))
    assert same(padded[0, :6], packed[0, :6])
    return packed


def generates_what_it_computes(model, tokens, logits):
    """From prompts of 6 and 4 tokens that end together, then token by token: the first row is the same as read at once."""
    cache = model.new_cache(2, TIME)
    held = sum(x.numel() * x.element_size() for layer in cache.layers for x in layer.kept)
    assert held == cache.bytes == 2 * model.cache_bytes(TIME)
    prompt = tokens[:, :6].clone()
    found = [model(prompt, left_padded([6, 4]), cache)]
    found += [model(tokens[:, i : i + 1], cache=cache) for i in range(6, TIME)]
    together = torch.cat(found, dim=1)
    assert same(together[0], logits[0])
    assert same(together[1, 2:], model(tokens[1:, 2:])[0])


def learns(model, tokens, packed):
    loss = model.loss(tokens, tokens, Layout.packed([[6, 8], [TIME]]))
    expected = torch.nn.functional.cross_entropy(packed.flatten(0, 1), tokens.flatten())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6 * packed.abs().max().item())
    model.train()
    loss = model.loss(tokens, tokens, Layout.packed([[6, 8], [TIME]]))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("choice", COMBINATIONS[::4], ids=name)
def test_flops_are_those_that_torch_counts(choice):
    """Torch counts all pairs of the explicit computation, so attention is made explicit and two-sided for it."""
    model = build(choice).train(choice["ffn"] == "moe_noisy")  # which adds its noise while training
    for block in model.blocks:
        block.attention.visibility = Full(causal=False)
    tokens = torch.randint(50, (2, 16))
    assert counted(lambda: model(tokens)) == model.flops(np.array([16, 16])).sum()


@pytest.mark.parametrize("pattern", groups()["pattern"])
def test_flops_of_attention_are_those_of_the_visible_pairs(pattern):
    model = build({"pattern": pattern})
    layout = Layout.full(1, 20)
    for block in model.blocks:
        attention = block.attention
        seen = attention.visibility.sees(layout, layout).sum().item()
        full = attention.flops(np.array([20])) - 4 * attention.heads * attention.head_dim * seen
        attention.visibility = Visibility(causal=False)
        assert full == attention.flops(np.array([20])) - 4 * attention.heads * attention.head_dim * 400


def test_a_window_keeps_no_more_than_it_sees():
    model = build({"pattern": "sliding", "attention": "gqa"})
    assert (
        model.cache_bytes(1000) == model.cache_bytes(3) == 2 * 3 * 2 * 2 * 8 * 4
    )  # layers, window, k and v, heads, width


def test_parameters_are_counted_once_and_active_ones_by_what_a_token_uses():
    model = build({"ffn": "moe", "embedding": "tied"})
    assert model.parameters_total == sum(p.numel() for p in model.parameters())
    unused = sum(p.numel() for layer in model.expert_layers for e in layer.experts[2:] for p in e.parameters())
    assert model.parameters_active == model.parameters_total - unused


@pytest.mark.parametrize("position", ["alibi", "t5_bias"])
def test_distances_across_documents_take_positions_that_go_on(position):
    lab.compose(f"position={position}", "packing=stream")
    lab.compose(f"position={position}", "packing=padded")
    with pytest.raises(RequestError, match=rf"^packing: positions restart .* position={position} would measure wrong"):
        lab.compose(f"position={position}", "packing.mask=false")


@pytest.mark.parametrize("heads", [3, 0])
def test_heads_that_do_not_divide_the_width_are_refused(heads):
    with pytest.raises(RequestError, match=r"model\.heads"):
        lab.compose(*SMALL, f"model.heads={heads}")
