"""An encoder of any composition: sees both sides, sealed between documents and from padding, with costs that are right.

Options are found by walking conf/, one of each class. Every two of two groups meet in some composition.
"""

import numpy as np
import pytest
import torch
import yaml

import lab
from lab.errors import RequestError
from lab.layout import Layout
from lab.models.pooling import pooled
from lab.options import conf_folder, groups
from lab.parts.cache import left_padded
from lab.parts.visibility import Full
from tests.compositions import composed, pairwise
from tests.models.flops import counted
from tests.models.test_decoder import same

SMALL = (
    *("model=encoder", "objective=masked", "model.dim=16", "model.inner=24", "model.layers=2", "model.heads=2"),
    *("model.kv_heads=1", "model.window=3", "model.stride=4", "model.context=16"),
)


def kinds(group):
    """The first option of each class: others of it set values that test_decoder.py goes through."""
    options = {
        yaml.safe_load((conf_folder() / group / f"{o}.yaml").read_text())["_target_"]: o for o in groups()[group][::-1]
    }
    return list(options.values())


PARTS = {group: kinds(group) for group in ("position", "attention", "pattern", "ffn", "norm", "block", "embedding")} | {
    "setting": ["seed=0", "model.segments=0", "model.pooler=true", "model.bias=true"]
}
TIME = 12
COMBINATIONS = list(pairwise(PARTS))


def build(*values, setting="seed=0", **options):
    base = [*SMALL, "objective=masked_nsp"] if setting == "model.pooler=true" else SMALL
    return lab.build(composed(base, options, [setting, *values]), vocab_size=40)


@pytest.mark.parametrize("choice", COMBINATIONS, ids=lambda choice: "-".join(choice.values()))
def test_every_composition_holds_together(choice):
    model = build(**choice).double().eval()
    tokens = torch.randint(40, (2, TIME), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        alone = [model.vectors(tokens[:1, :5]), model.vectors(tokens[:1, 5:])]
        packed = model.vectors(tokens, Layout.packed([[5, 7], [TIME]]))
        assert same(packed[:1, :5], alone[0])
        assert same(packed[:1, 5:], alone[1])
        padded = model.vectors(tokens, Layout.packed([[5], [TIME]], time=TIME))
        assert same(padded[0, :5], alone[0][0])
        looks_both_ways(model, tokens[1:], packed[1:])
    learns(model, tokens)


def looks_both_ways(model, tokens, before):
    """A token next to another changes it, whichever comes first; by a sum over all, since some may not be seen."""
    changed = tokens.clone()
    changed[:, 6] = (changed[:, 6] + 1) % 40
    after = model.vectors(changed)
    assert not same(after[:, :6], before[:, :6])
    assert not same(after[:, 7:], before[:, 7:])


def learns(model, tokens):
    """Scores of the vocabulary are the loss's, and every parameter learns; the pooler by what it gives."""
    layout = Layout.packed([[5, 7], [TIME]])
    model.train()
    torch.manual_seed(0)
    vectors = model.vectors(tokens, layout)
    loss = model.embedding.loss(vectors, tokens)
    expected = torch.nn.functional.cross_entropy(model.embedding.logits(vectors).flatten(0, 1), tokens.flatten())
    assert loss.item() / tokens.numel() == pytest.approx(expected.item(), rel=1e-5)
    (loss + model.pooled(vectors).sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("choice", COMBINATIONS[::8], ids=lambda choice: "-".join(choice.values()))
def test_flops_are_those_that_torch_counts(choice):
    """Torch counts all pairs of the explicit computation, so attention is made explicit and unlimited for it."""
    model = build(**choice).train(choice["ffn"] == "moe_noisy")  # which adds its noise while training
    for block in model.blocks:
        block.attention.visibility = Full(causal=False)
    tokens = torch.randint(40, (2, 16))
    assert counted(lambda: model(tokens)) == model.flops(np.array([16, 16])).sum()


def test_a_text_beyond_the_known_segments_counts_as_the_last():
    model = build(setting="model.segments=1").eval()
    tokens = torch.randint(40, (1, 6))
    pair = torch.tensor([[0, 0, 0, 1, 1, 1]])
    assert same(model.vectors(tokens, segments=pair), model.vectors(tokens))
    with pytest.raises(RequestError, match=r"^model\.segments: -1; a whole number, at least 0"):
        build(setting="model.segments=-1")


def test_dropout_is_on_what_enters():
    model = build("model.dropout=0.5", embedding="bert").train()
    entered = model.embedding.enter(torch.randn(1, 8, 16))
    assert 0.2 < (entered == 0).float().mean() < 0.8


@pytest.mark.parametrize(("pool", "expected"), [("first", [2.0, 4.0]), ("last", [3.0, 7.0]), ("mean", [2.5, 5.5])])
def test_pooling_skips_padding_on_either_side(pool, expected):
    vectors = torch.arange(8.0).view(2, 4, 1)
    assert pooled(vectors, left_padded([2, 4]), pool).flatten().tolist() == expected
    right = torch.tensor([[2.0, 3.0, 0.0, 1.0], [4.0, 5.0, 6.0, 7.0]]).unsqueeze(-1)
    assert pooled(right, Layout.packed([[2], [4]], 4), pool).flatten().tolist() == expected
