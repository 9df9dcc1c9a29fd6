"""Mixtures of experts against slow references, Hugging Face's blocks, the published formulas and torch's counts."""

import math
from functools import partial
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

import lab
from lab.layout import Layout
from lab.options import groups
from lab.parts import onednn
from lab.parts.balance import Balance
from lab.parts.dispatch import Dispatch
from lab.parts.experts import MixtureOfExperts, within_capacity
from lab.parts.feedforward import Dense, Gated
from lab.parts.linear import count, named_matrices
from lab.parts.router import NoisyRouter, Router, SigmoidRouter

DENSE, GATED = partial(Dense, inner=16), partial(Gated, inner=16)
OPTIONS = [option for option in groups()["ffn"] if option.startswith("moe")]


def mixture(expert=DENSE, experts=4, top_k=2, dim=8, **settings):
    torch.manual_seed(0)
    return MixtureOfExperts(dim, expert, experts=experts, top_k=top_k, **settings)


def slow_mixture(layer, x):
    """Each token by itself; nothing dropped."""
    out = torch.zeros_like(x)
    for place in np.ndindex(*x.shape[:2]):
        logits = layer.router.linear.weight @ x[place]
        scores = logits.sigmoid() if isinstance(layer.router, SigmoidRouter) else logits.softmax(-1)
        ranked = scores if layer.balance.bias is None else scores + layer.balance.bias
        best = ranked.argsort(descending=True)[: layer.top_k]
        total = scores[best].sum() if layer.router.normalise else 1
        for expert in best:
            out[place] += layer.router.scale * scores[expert] / total * layer.experts[expert](x[place][None])[0]
    return out if layer.shared is None else out + layer.shared(x)


@pytest.mark.parametrize(
    "settings",
    [
        {"top_k": 1},
        {"top_k": 2},
        {"top_k": 4, "router": partial(Router, normalise=False)},
        {"top_k": 2, "router": SigmoidRouter, "balance": partial(Balance, bias_rate=0.1), "shared": 2},
        {"top_k": 3, "router": partial(SigmoidRouter, scale=2.5), "equal_active": False, "shared": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("expert", [GATED, DENSE, partial(Gated, inner=16, bias=True, activation="relu_squared")])
def test_a_mixture_is_the_weighted_sum_of_the_chosen_experts_and_so_are_its_gradients(expert, settings):
    layer = mixture(expert, **settings).double()
    if layer.balance.bias is not None:
        layer.balance.bias += torch.randn(4)
    bias = None if layer.balance.bias is None else layer.balance.bias.clone()
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    out = layer(x)
    if bias is not None:
        layer.balance.bias.copy_(bias)
    slow = slow_mixture(layer, x)
    assert torch.allclose(out, slow)
    wanted, upstream = [x, *layer.parameters()], torch.randn_like(out)
    ours = torch.autograd.grad(out, wanted, upstream, allow_unused=True)
    theirs = torch.autograd.grad(slow, wanted, upstream, allow_unused=True)
    for mine, other, parameter in zip(ours, theirs, wanted, strict=True):
        assert mine is not None  # an expert that no token met has a gradient of zeros: ranks wait for it
        assert torch.allclose(mine, torch.zeros_like(parameter) if other is None else other)


@pytest.mark.parametrize("expert", [GATED, partial(Dense, inner=16, bias=True)])
@pytest.mark.parametrize("capacity", [None, 0.5])
def test_gradients_are_those_of_finite_differences(expert, capacity):
    layer = mixture(expert, dim=4, capacity=capacity, balance=partial(Balance, loss=0.0)).double()
    weights = dict(layer.named_parameters())
    x = torch.randn(1, 9, 4, dtype=torch.float64, requires_grad=True)

    def outputs(x, *values):
        return torch.func.functional_call(layer, dict(zip(weights, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(outputs, (x, *weights.values()), atol=1e-6)


@pytest.mark.parametrize("expert", [GATED, partial(Dense, inner=16, bias=True)])
def test_rows_added_for_a_faster_product_change_nothing(expert):
    layer, x = mixture(expert), torch.randn(3, 41, 8, requires_grad=True)
    upstream, wanted = torch.randn(3, 41, 8), [x, *layer.parameters()]
    with patch.object(onednn, "preferred", torch.backends.mkldnn.is_available):
        out = layer(x)
        ours = torch.autograd.grad(out, wanted, upstream)
    slow = slow_mixture(layer, x)
    assert torch.allclose(out, slow, atol=1e-5)
    for mine, other in zip(ours, torch.autograd.grad(slow, wanted, upstream), strict=True):
        assert torch.allclose(mine, other, atol=1e-4)


def test_it_is_mixtrals_block():
    from transformers.models.mixtral.modeling_mixtral import (
        MixtralConfig,
        MixtralSparseMoeBlock,
        load_balancing_loss_func,
    )

    theirs = MixtralSparseMoeBlock(
        MixtralConfig(hidden_size=8, intermediate_size=16, num_local_experts=4, num_experts_per_tok=2)
    )
    ours = mixture(GATED, equal_active=False, balance=partial(Balance, loss=1.0))
    with torch.no_grad():
        theirs.gate.weight.copy_(ours.router.linear.weight)
        for i, expert in enumerate(ours.experts):
            theirs.experts.gate_up_proj[i] = expert.project.weight
            theirs.experts.down_proj[i] = expert.down.weight
    x = torch.randn(3, 7, 8)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    logits = ours.router(x.flatten(0, 1)).logits
    summed = load_balancing_loss_func((logits,), num_experts=4, top_k=2)  # of counts by token, not by choice
    assert ours.auxiliary.item() == pytest.approx(summed.item() / 2, rel=1e-5)


@pytest.mark.parametrize("capacity", [0.5, 1.0, 1.25])
def test_it_is_switchs_block_capacity_included(capacity):
    from transformers.models.switch_transformers.modeling_switch_transformers import (
        SwitchTransformersConfig,
        SwitchTransformersSparseMLP,
        router_z_loss_func,
    )

    limit = math.ceil(capacity * 12 / 4)
    config = SwitchTransformersConfig(d_model=8, d_ff=16, num_experts=4, expert_capacity=limit, router_jitter_noise=0.0)
    theirs = SwitchTransformersSparseMLP(config).eval()
    relu = partial(Dense, inner=16, activation="relu")
    ours = mixture(relu, top_k=1, capacity=capacity, balance=partial(Balance, loss=0.0, z_loss=1.0))
    with torch.no_grad():
        theirs.router.classifier.weight.copy_(ours.router.linear.weight)
        for i, expert in enumerate(ours.experts):
            theirs.experts[f"expert_{i}"].wi.weight.copy_(expert.up.weight)
            theirs.experts[f"expert_{i}"].wo.weight.copy_(expert.down.weight)
    x = torch.randn(3, 12, 8)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    _, _, logits = theirs.router(x)
    assert ours.auxiliary.item() == pytest.approx(router_z_loss_func(logits).item(), rel=1e-5)


def test_it_is_deepseeks_block():
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Config, DeepseekV3MoE

    config = DeepseekV3Config(
        hidden_size=8, moe_intermediate_size=16, n_routed_experts=4, num_local_experts=4, num_experts_per_tok=2,
        n_shared_experts=2, n_group=1, topk_group=1, norm_topk_prob=True, routed_scaling_factor=2.5,
    )  # fmt: skip
    theirs = DeepseekV3MoE(config)
    ours = mixture(
        GATED,
        shared=2,
        equal_active=False,
        router=partial(SigmoidRouter, scale=2.5),
        balance=partial(Balance, bias_rate=1),
    ).eval()
    bias = torch.tensor([0.3, -0.2, 0.0, 0.1])
    with torch.no_grad():
        ours.balance.bias.copy_(bias)
        theirs.gate.e_score_correction_bias.copy_(bias)
        theirs.gate.weight.copy_(ours.router.linear.weight)
        for i, expert in enumerate(ours.experts):
            theirs.experts.gate_up_proj[i] = expert.project.weight
            theirs.experts.down_proj[i] = expert.down.weight
        gate, up = ours.shared.project.weight.chunk(2)
        theirs.shared_experts.gate_proj.weight.copy_(gate)
        theirs.shared_experts.up_proj.weight.copy_(up)
        theirs.shared_experts.down_proj.weight.copy_(ours.shared.down.weight)
    x = torch.randn(3, 7, 8)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)


# What is dropped


def test_a_capacity_drops_the_last_of_a_row_second_choices_first():
    # Two rows of four tokens, two experts, room for ceil(0.75 * 4 * 2 / 2) = 3 in each row and expert.
    chosen = torch.tensor([[0, 1], [0, 1], [1, 0], [0, 1], [1, 0], [1, 0], [1, 0], [1, 0]])
    kept = within_capacity(chosen, torch.arange(8) // 4, experts=2, capacity=0.75)
    first = [[True, True], [True, True], [True, False], [True, False]]
    second = [[True, True], [True, True], [True, True], [False, False]]
    assert kept.tolist() == first + second


@given(st.data())
def test_a_capacity_keeps_as_many_as_fit_and_the_earliest(data):
    tokens, experts, top_k = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    top_k, factor = min(top_k, experts), data.draw(st.sampled_from([0.1, 0.5, 1.0, 1.1, 1.25, 2.0]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    chosen = torch.rand(tokens, experts, generator=generator).topk(top_k).indices
    rows = torch.randint(3, (tokens,), generator=generator).sort().values
    kept = within_capacity(chosen, rows, experts, factor)
    taken = {}
    for k in range(top_k):
        for token in range(tokens):
            row, expert = int(rows[token]), int(chosen[token, k])
            size = int((rows == row).sum())
            room = math.ceil(round(factor * size * top_k / experts, 6))
            assert bool(kept[token, k]) == (taken.get((row, expert), 0) < room)
            taken[row, expert] = taken.get((row, expert), 0) + 1


def test_what_is_dropped_gives_nothing_and_learns_nothing_and_only_while_training():
    layer = mixture(top_k=1, capacity=0.5)
    x = torch.randn(1, 16, 8, requires_grad=True)
    out = layer(x)
    chosen = layer.router(x[0]).chosen
    kept = within_capacity(chosen, torch.zeros(16, dtype=torch.int64), 4, 0.5)[:, 0]
    assert 0 < kept.sum() < 16
    assert torch.equal(out[0].abs().sum(dim=1) > 0, kept)
    assert torch.equal(torch.autograd.grad(out.sum(), x)[0][0].abs().sum(dim=1) > 0, kept)
    assert layer.balance.figures()["dropped"] == pytest.approx(1 - kept.float().mean().item())
    whole = layer.eval()(x)
    assert (whole[0].abs().sum(dim=1) > 0).all()
    assert torch.allclose(whole[0, kept], out[0, kept], atol=1e-6)


@given(st.integers(0, 40), st.integers(1, 6), st.integers(1, 3), st.integers(0, 1000), st.booleans())
def test_slots_hold_every_kept_choice_once_sorted_by_expert(tokens, experts, top_k, seed, drop):
    generator = torch.Generator().manual_seed(seed)
    top_k = min(top_k, experts)
    chosen = torch.rand(tokens, experts, generator=generator).topk(top_k).indices
    kept = torch.rand(tokens, top_k, generator=generator) < 0.6 if drop else None
    plan = Dispatch.of(chosen, experts, kept)
    held = torch.ones_like(chosen, dtype=torch.bool) if kept is None else kept
    assert plan.counts == [int((held & (chosen == e)).sum()) for e in range(experts)]
    served = torch.arange(experts).repeat_interleave(torch.tensor(plan.counts, dtype=torch.int64))
    assert torch.equal(chosen.flatten()[plan.choice], served)
    assert torch.equal(plan.choice.sort().values, held.flatten().nonzero()[:, 0])
    assert torch.equal(plan.source, plan.choice // top_k)


# Who depends on whom


@pytest.mark.parametrize("settings", [{}, {"top_k": 1}, {"router": SigmoidRouter, "shared": 1}])
def test_without_a_capacity_each_token_goes_its_own_way(settings):
    layer = mixture(GATED, **settings)
    x = torch.randn(2, 9, 8)
    out = layer(x)
    order = torch.randperm(18)
    moved = layer(x.flatten(0, 1)[order].view_as(x))
    assert torch.allclose(moved.flatten(0, 1), out.flatten(0, 1)[order], atol=1e-6)
    assert torch.allclose(layer(x[:, :4]), out[:, :4], atol=1e-6)


def test_a_capacity_ties_tokens_to_earlier_ones_of_their_row_alone():
    layer = mixture(top_k=1, capacity=0.5)
    x = torch.randn(2, 16, 8)
    assert torch.allclose(layer(x)[1:], layer(x[1:]), atol=1e-6)


@pytest.mark.parametrize("capacity", [None, 1.0])
def test_padding_meets_no_expert_and_is_not_counted(capacity):
    layer = mixture(top_k=1, shared=1, capacity=capacity)
    x = torch.randn(1, 6, 8)
    out = layer(x, Layout.packed([[4]], time=6))
    figures, auxiliary = layer.balance.figures(), layer.auxiliary
    assert torch.equal(out[0, 4:], torch.zeros(2, 8))
    assert torch.allclose(out[:, :4], layer(x[:, :4]), atol=1e-6)
    assert figures == layer.balance.figures()
    assert torch.equal(auxiliary, layer.auxiliary)
    nothing = layer(x, Layout.packed([[]], time=6))
    assert torch.equal(nothing, torch.zeros_like(x))
    assert layer.auxiliary.isfinite()


# Routers


@pytest.mark.parametrize("router", [Router, SigmoidRouter, NoisyRouter, partial(Router, jitter=0.1)])
@pytest.mark.parametrize("top_k", [1, 2])
def test_the_router_learns_from_the_output_alone_also_with_one_expert(router, top_k):
    layer = mixture(top_k=top_k, router=router, balance=partial(Balance, loss=0.0))
    layer(torch.randn(2, 9, 8)).square().sum().backward()
    assert layer.auxiliary is None
    for name, parameter in layer.router.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("router", [NoisyRouter, partial(Router, jitter=0.3)])
def test_noise_is_drawn_under_the_seed_and_only_while_training(router):
    layer = mixture(router=router)
    x = torch.randn(2, 9, 8)

    def drawn(seed):
        torch.manual_seed(seed)
        return layer(x)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    layer.eval()
    assert torch.equal(drawn(1), drawn(2))
    assert torch.allclose(layer(x), slow_mixture(layer, x), atol=1e-6)


def test_noise_is_as_large_as_the_second_map_says():
    router = NoisyRouter(dim=1, experts=2, top_k=1)
    with torch.no_grad():
        router.linear.weight.fill_(1.0)
        router.noise.weight.copy_(torch.tensor([[2.0], [-2.0]]))
    deviations = router(torch.ones(20_000, 1)).logits.std(dim=0)
    expected = torch.log1p(torch.exp(torch.tensor([2.0, -2.0])))
    assert torch.allclose(deviations, expected, rtol=0.05)


def test_the_router_is_precise_under_mixed_precision():
    layer = mixture(GATED)
    x = torch.randn(2, 9, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
        routing = layer.router(x.flatten(0, 1))
    assert out.dtype == torch.bfloat16
    assert torch.equal(routing.weights, layer.router(x.flatten(0, 1)).weights)
    assert torch.allclose(out.float(), layer(x), atol=0.02)
    out.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("router", [Router, SigmoidRouter, NoisyRouter])
def test_the_router_is_precise_with_weights_in_half_precision(router):
    layer = router(8, 4, 2).to(torch.bfloat16)
    x = torch.randn(9, 8).bfloat16()
    precise = router(8, 4, 2)
    precise.load_state_dict(layer.float().state_dict())
    torch.manual_seed(0)
    found = layer.to(torch.bfloat16)(x)
    torch.manual_seed(0)
    assert found.logits.dtype == torch.float32
    assert torch.equal(found.logits, precise(x.float()).logits)


# Balance


def test_the_balance_loss_is_one_when_balanced_and_the_number_of_experts_when_all_go_to_one():
    layer = mixture(partial(Dense, inner=4), dim=4, top_k=1, balance=partial(Balance, loss=1.0))
    with torch.no_grad():
        layer.router.linear.weight.copy_(torch.eye(4) * 100)
    layer(torch.eye(4).repeat(8, 1)[None])
    assert layer.auxiliary.item() == pytest.approx(1.0, abs=1e-5)
    assert layer.balance.figures() == pytest.approx(
        {f"expert{i}": 0.25 for i in range(4)} | {"entropy": 0, "dropped": 0}
    )
    layer(torch.eye(4)[:1].repeat(8, 1)[None])
    assert layer.auxiliary.item() == pytest.approx(4.0, abs=1e-5)
    assert layer.balance.load.tolist() == [1, 0, 0, 0]
    layer.eval()
    layer(torch.eye(4)[None])
    assert layer.auxiliary is None
    assert layer.balance.load.tolist() == [1, 0, 0, 0]


def test_the_entropy_of_an_undecided_router_is_that_of_the_uniform_distribution():
    layer = mixture()
    torch.nn.init.zeros_(layer.router.linear.weight)
    layer(torch.randn(1, 5, 8))
    assert layer.balance.figures()["entropy"] == pytest.approx(math.log(4))


def test_parts_of_a_step_are_counted_together():
    whole, parts = mixture(), mixture()
    parts.balance.parts = 2
    x = torch.randn(4, 6, 8)
    whole(x)
    parts(x[:3])
    parts(x[3:])
    assert parts.balance.figures() == pytest.approx(whole.balance.figures())
    routing = parts.router(x[3:].flatten(0, 1))
    expected = 0.01 * 4 * (whole.balance.load * routing.shares.mean(dim=0)).sum()
    assert parts.auxiliary.item() == pytest.approx(expected.item(), rel=1e-5)
    parts(x[:3])  # the next step
    assert parts.balance.tally[:4].sum() == 3 * 6 * 2


def test_the_bias_moves_once_a_step_against_the_load():
    layer = mixture(top_k=1, router=SigmoidRouter, balance=partial(Balance, loss=0.0, bias_rate=0.5))
    layer.balance.parts = 2
    x = torch.randn(2, 6, 8)
    layer(x[:1])
    assert layer.balance.bias.tolist() == [0, 0, 0, 0]
    layer(x[1:])
    assert layer.balance.bias.tolist() == [0.5 * np.sign(0.25 - load) for load in layer.balance.load.tolist()]
    before = layer.balance.bias.clone()
    layer.eval()(x)
    with torch.no_grad():
        layer.train()(x)
    assert torch.equal(before, layer.balance.bias)
    assert "balance.bias" in layer.state_dict()


def test_the_bias_balances_a_skewed_router_without_touching_the_weights():
    layer = mixture(
        partial(Dense, inner=2), experts=8, router=SigmoidRouter, balance=partial(Balance, loss=0.0, bias_rate=0.005)
    )
    with torch.no_grad():
        layer.router.linear.weight[:, 0] = torch.linspace(-1, 1, 8)
    x = torch.randn(4, 64, 8)
    x[..., 0] = 2.0
    layer(x)
    assert layer.balance.load.max() > 0.3
    for _ in range(300):
        layer(x)
    assert layer.balance.load.max() < 0.16
    assert layer.balance.load.min() > 0.09
    routing = layer.router(x.flatten(0, 1), layer.balance.bias)
    scores = routing.logits.sigmoid().gather(1, routing.chosen)
    assert torch.allclose(routing.weights, scores / scores.sum(dim=1, keepdim=True))


# Costs


@pytest.mark.parametrize("option", OPTIONS)
def test_flops_and_active_parameters_are_those_of_the_real_modules(option):
    model = lab.build(lab.compose(f"ffn={option}", "model.dim=32"), vocab_size=50)
    for layer in model.expert_layers:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            layer.capacity = None
            layer(torch.randn(2, 7, 32))
        assert counter.get_total_flops() == layer.flops(np.array([7, 7])).sum()
        unused = sum(count(expert) for expert in layer.experts[layer.top_k :])
        assert layer.active_parameters == count(layer) - unused
    assert model.expert_layers


@pytest.mark.parametrize(("top_k", "shared"), [(1, 0), (2, 0), (3, 1)])
def test_with_equal_active_width_a_token_costs_what_one_layer_costs(top_k, shared):
    expert = partial(Dense, inner=96)
    layer = MixtureOfExperts(16, expert, experts=8, top_k=top_k, shared=shared)
    assert layer.active_parameters == count(layer.router) + count(expert(dim=16))


def test_every_expert_is_a_matrix_of_its_own():
    names = {name for name, _, _ in named_matrices(mixture(GATED))}
    assert {f"experts.{i}.{piece}.weight" for i in range(4) for piece in ("project.gate", "project.up", "down")} < names


# What is refused


@pytest.mark.parametrize(
    ("word", "said"),
    {
        "ffn.top_k=9": r"ffn.top_k: 9; choose from 1 to ffn.experts 8",
        "ffn.top_k=0": r"ffn.top_k: 0; choose from 1 to ffn.experts 8",
        "ffn.experts=0": r"ffn.experts: 0; there is at least 1 expert",
        "ffn.shared=-1": r"ffn.shared: -1; a whole number, 0 or more",
        "ffn.capacity=0": r"ffn.capacity: 0; a factor over 0, or null for no limit",
        "ffn.capacity=high": r"ffn.capacity: high; a factor over 0, or null for no limit",
        "ffn.router.jitter=1": r"ffn.router.jitter: 1.0; choose from 0 to under 1",
        "ffn.router.scale=0": r"ffn.router.scale: 0.0; a factor over 0",
        "ffn.balance.loss=-1": r"ffn.balance.loss: -1.0; a number, 0 or more",
        "ffn.balance.z_loss=-1": r"ffn.balance.z_loss: -1.0; a number, 0 or more",
        "ffn.balance.bias_rate=-1": r"ffn.balance.bias_rate: -1.0; a number, 0 or more",
        "ffn.activation=tanh": r"ffn.activation",
        "expert.activation=tanh": r"ffn.activation: tanh; choose from relu, relu_squared",
    }.items(),
)
def test_values_out_of_range_are_refused_with_their_key(word, said):
    with pytest.raises(lab.errors.RequestError, match=said):
        lab.compose("ffn=moe", word)
