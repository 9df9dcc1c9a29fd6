"""A decoder of any composition: causal, sealed between documents, with costs that are right."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import lab
from lab.layout import Layout
from lab.parts import attention as attention_module
from lab.parts.visibility import Visibility

SMALL = ("preset=tiny", "model.dim=32", "model.window=3", "model.context=16")
PARTS = {
    "position": ["none", "learned", "sinusoidal", "rope"],
    "attention": ["mha", "gqa", "mqa"],
    "pattern": ["full", "sliding"],
    "ffn": ["dense", "gated", "moe"],
    "norm": ["layernorm", "rmsnorm"],
    "block": ["pre_norm", "post_norm"],
    "embedding": ["tied", "untied", "tied_scaled"],
}


def pairwise():
    """Few combinations in which every two options of two groups meet."""
    names = list(PARTS)
    todo = {((a, x), (b, y)) for a, b in itertools.combinations(names, 2) for x in PARTS[a] for y in PARTS[b]}
    generator = np.random.default_rng(0)
    while todo:
        (a, x), (b, y) = min(todo)
        drawn = [{n: str(generator.choice(PARTS[n])) for n in names} | {a: x, b: y} for _ in range(30)]
        best = max(drawn, key=lambda d: sum(p in d.items() and q in d.items() for p, q in todo))
        todo = {(p, q) for p, q in todo if not (p in best.items() and q in best.items())}
        yield best


COMBINATIONS = list(pairwise())


def build(choice):
    config = lab.compose(*SMALL, *(f"{group}={option}" for group, option in choice.items()))
    return lab.build(config, vocab_size=50)


@pytest.mark.parametrize("choice", COMBINATIONS, ids=lambda c: "-".join(c.values()))
def test_every_composition_is_causal_sealed_and_learns(choice):
    torch.manual_seed(0)
    model = build(choice)
    tokens = torch.randint(50, (2, 16))
    logits = model(tokens)

    changed = tokens.clone()
    changed[:, 9] = (changed[:, 9] + 1) % 50
    after = model(changed)
    assert torch.allclose(logits[:, :9], after[:, :9], atol=1e-5)
    assert not torch.allclose(logits[:, 9:], after[:, 9:], atol=1e-5)

    layout = Layout.packed([[7, 9], [16]])
    packed = model(tokens, layout)
    assert torch.allclose(packed[0, 7:], model(tokens[:1, 7:])[0], atol=1e-5)
    assert torch.allclose(packed[0, :7], model(tokens[:1, :7])[0], atol=1e-5)

    padded = Layout.packed([[7], [16]])
    assert torch.allclose(model(tokens, padded)[0, :7], packed[0, :7], atol=1e-5)

    loss = model.loss(tokens, tokens, layout)
    expected = torch.nn.functional.cross_entropy(packed.flatten(0, 1), tokens.flatten())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("choice", COMBINATIONS[::3], ids=lambda c: "-".join(c.values()))
def test_flops_are_those_that_torch_counts(choice, monkeypatch):
    """Torch counts the explicit computation over all pairs, so attention is made explicit and two-sided for it."""

    def explicit(query, key, value, *_):
        repeats = query.shape[2] // key.shape[2]
        q, k, v = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        return ((q @ k.transpose(-1, -2)).softmax(-1) @ v).transpose(1, 2)

    model = build(choice)
    monkeypatch.setattr(attention_module, "attend", explicit)
    for block in model.blocks:
        block.attention.visibility = Visibility(causal=False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.randint(50, (2, 16)))
    assert counter.get_total_flops() == model.flops(np.array([16, 16])).sum()


def test_parameters_are_counted_once_and_active_ones_by_what_a_token_uses():
    model = build({"ffn": "moe", "embedding": "tied"})
    assert model.parameters_total == sum(p.numel() for p in model.parameters())
    unused = sum(p.numel() for layer in model.expert_layers for e in layer.experts[2:] for p in e.parameters())
    assert model.parameters_active == model.parameters_total - unused


@pytest.mark.parametrize("heads", [3, 0])
def test_heads_that_do_not_divide_the_width_are_refused(heads):
    with pytest.raises(lab.errors.RequestError, match=r"model\.heads"):
        lab.compose(*SMALL, f"model.heads={heads}")
