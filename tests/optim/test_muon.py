"""Muon beside torch's own, which knows one plain matrix at a time, and AdamW beside torch's."""

import io

import pytest
import torch
from torch import nn

import lab
from lab.optim.groups import make_optimizer, parameter_groups
from lab.optim.muon import SCALES, Muon, orthogonalise
from lab.parts.linear import Merged

TORCHS = {"adamw": "match_rms_adamw", "spectral": "original"}


@pytest.fixture
def exact(monkeypatch):
    """Torch's Muon computes in half precision; here in single, as ours on the CPU."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)


def follow(parameters, optimizer, steps=4, seed=0):
    """Steps along gradients that are random, the same for the same seed, and merged as the parameters are."""
    generator = torch.Generator().manual_seed(seed)
    rows = sum(p.shape[0] for p in parameters)
    for _ in range(steps):
        gradient = torch.randn(rows, parameters[0].shape[1], generator=generator)
        for parameter, part in zip(parameters, gradient.split([p.shape[0] for p in parameters]), strict=True):
            parameter.grad = part.clone()
        optimizer.step()
    return torch.cat([p.detach() for p in parameters])


def start(*shape):
    return nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("shape", [(12, 12), (20, 8), (8, 20)], ids=str)
def test_a_matrix_goes_where_torchs_muon_takes_it(exact, shape, nesterov, scale):
    settings = {"lr": 0.03, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.2}
    ours, theirs = start(*shape), start(*shape)
    made = follow([ours], Muon([ours], scale=scale, **settings))
    expected = follow([theirs], torch.optim.Muon([theirs], adjust_lr_fn=TORCHS[scale], **settings))
    assert torch.allclose(made, expected, atol=1e-4)
    assert not torch.allclose(made, start(*shape), atol=1e-2)


def test_singular_vectors_stay_and_singular_values_come_to_one():
    torch.manual_seed(0)
    u, s, v = torch.linalg.svd(torch.randn(3, 10, 30), full_matrices=False)
    after = u.mT @ orthogonalise(u * s.unsqueeze(-2) @ v, steps=5) @ v.mT
    values = torch.diagonal(after, dim1=-2, dim2=-1)
    assert values.min() > 0.65
    assert values.max() < 1.25
    assert torch.allclose(after, torch.diag_embed(values), atol=1e-3)


def test_a_batch_is_what_its_matrices_are_alone():
    matrices = torch.randn(5, 6, 9, generator=torch.Generator().manual_seed(0))
    together = orthogonalise(matrices, 5)
    for matrix, alone in zip(matrices, together, strict=True):
        assert torch.allclose(orthogonalise(matrix[None], 5)[0], alone, atol=1e-4)


def merged_group(layer):
    return [group for group in parameter_groups(layer) if group["role"] == "hidden"]


def test_merged_queries_keys_and_values_are_matrices_of_their_own(exact):
    torch.manual_seed(0)
    layer = Merged(16, {"query": 16, "key": 8, "value": 8})
    apart = [nn.Parameter(rows.detach().clone()) for _, rows in layer.pieces()]
    torchs = [nn.Parameter(rows.detach().clone()) for _, rows in layer.pieces()]
    whole = nn.Parameter(layer.weight.detach().clone())
    settings = {"lr": 0.02, "weight_decay": 0.1}
    merged = follow([layer.weight], Muon(merged_group(layer), **settings))
    assert torch.allclose(merged, follow(apart, Muon(apart, **settings)), atol=1e-5)
    expected = follow(torchs, torch.optim.Muon(torchs, adjust_lr_fn="match_rms_adamw", **settings))
    assert torch.allclose(merged, expected, atol=1e-4)

    as_one = follow([whole], Muon([whole], **settings))
    assert not torch.allclose(merged, as_one, atol=1e-3)


def test_matrices_stacked_in_one_weight_are_each_their_own(exact):
    """A layout that experts may have: `[experts, rows, columns]`."""
    stack = start(4, 6, 10)
    apart = [nn.Parameter(matrix.detach().clone()) for matrix in stack]
    for optimizer, parameters in (
        (Muon([stack]), [stack]),
        (torch.optim.Muon(apart, lr=0.01, adjust_lr_fn="match_rms_adamw"), apart),
    ):
        for step in range(3):
            gradient = torch.randn(4, 6, 10, generator=torch.Generator().manual_seed(step))
            for parameter, part in zip(parameters, [gradient] if parameters == [stack] else gradient, strict=True):
                parameter.grad = part.clone()
            optimizer.step()
    assert torch.allclose(stack, torch.stack(apart), atol=1e-5)


def test_a_gradient_laid_out_otherwise_changes_nothing():
    layers = [Merged(6, {"gate": 4, "up": 4}) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    gradient = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    layers[0].weight.grad, layers[1].weight.grad = gradient, gradient.T.contiguous().T
    for layer in layers:
        Muon(merged_group(layer)).step()
    assert torch.equal(layers[0].weight, layers[1].weight)


def model_and_batch():
    words = ("preset=tiny", "model.dim=32", "embedding=untied", "ffn=moe", "norm=layernorm", "model.bias=true")
    tokens = torch.randint(40, (4, 24), generator=torch.Generator().manual_seed(0))
    return lab.build(lab.compose(*words), vocab_size=40), tokens


def test_embeddings_head_norms_and_biases_go_by_adamw():
    (ours, tokens), (theirs, _) = model_and_batch(), model_and_batch()
    muon = make_optimizer(parameter_groups(ours), lambda p: Muon(p, lr=0.01, rest=0.3, weight_decay=0.1))
    others = [group for group in parameter_groups(theirs) if group["role"] != "hidden"]
    adamw = torch.optim.AdamW(others, lr=0.003, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    hidden = {id(p) for group in muon.param_groups if group["role"] == "hidden" for p in group["params"]}
    for _ in range(3):
        muon.zero_grad()
        ours.loss(tokens, tokens.roll(-1, 1)).backward()
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.grad = mine.grad.clone()
        muon.step()
        adamw.step()
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other) != (id(mine) in hidden), name


def test_a_step_is_as_large_as_adamws():
    """Liu et al. 2025, section 2.2: the root mean square of an entry is 0.2 of the rate, for any shape."""
    for shape in ((64, 64), (64, 16), (16, 64)):
        parameter = start(*shape)
        before = parameter.detach().clone()
        follow([parameter], Muon([parameter], lr=0.01, weight_decay=0.0), steps=1)
        size = (parameter - before).square().mean().sqrt().item()
        assert size / 0.01 == pytest.approx(0.2, rel=0.2)


def test_a_vector_among_matrices_is_refused():
    with pytest.raises(ValueError, match="got a vector"):
        Muon([nn.Parameter(torch.zeros(3))])


def test_what_has_no_gradient_stays():
    one, other = start(4, 4), start(4, 4)
    optimizer = Muon([one, other])
    one.grad = torch.ones(4, 4)
    optimizer.step()
    assert torch.equal(other, start(4, 4))
    assert not torch.equal(one, start(4, 4))
    assert len(optimizer.state) == 1


def test_a_saved_state_is_read_as_plain_values():
    model, tokens = model_and_batch()
    optimizer = make_optimizer(parameter_groups(model), Muon)
    model.loss(tokens, tokens).backward()
    optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True)["param_groups"] == optimizer.state_dict()["param_groups"]
