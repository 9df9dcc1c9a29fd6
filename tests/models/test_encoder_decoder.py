"""An encoder-decoder of any composition: causal on the target, blind to padding, generates what it computes, costs that are
right. Options are found by walking conf/; every two options of two groups meet in some decoder.
"""

import numpy as np
import pytest
import torch

import lab
from lab.errors import RequestError
from lab.layout import Layout
from lab.parts.visibility import Full
from tests.compositions import composed
from tests.models.flops import counted
from tests.models.test_decoder import COMBINATIONS, limited, name, same

SMALL = ("preset=tiny", "model=encoder_decoder", "objective=seq2seq", "data=reverse", "model.dim=16", "model.inner=24",
         "model.window=3", "model.stride=4", "model.context=16")  # fmt: skip
SOURCE, TARGET = 7, 9


def build(choice, *more):
    options = {group: option for group, option in choice.items() if group != "setting"}
    values = [*choice.get("setting", "seed=0").split(), *more]
    # What a rotation for long documents turned in a short one holds no longer in a long one: see its own test.
    values += ["position.trained=2"] if choice.get("position") == "rope_long" else []
    return lab.build(composed(SMALL, options, values), vocab_size=50)


def drawn(rows=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(50, (rows, SOURCE), generator=generator), torch.randint(
        50, (rows, TARGET), generator=generator
    )


@pytest.mark.parametrize("choice", COMBINATIONS[::4], ids=name)
def test_every_composition_holds_together(choice):
    model = build(choice, *limited(choice)).double().eval()
    source, target = drawn()
    with torch.no_grad():
        whole = model(source, target)
        is_causal_on_the_target(model, source, target, whole)
        does_not_see_padding(model, source, target, whole)
        generates_what_it_computes(model, source, target, whole)
    learns(model, source, target)


def is_causal_on_the_target(model, source, target, whole):
    changed = target.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 50
    after = model(source, changed)
    assert same(after[:, :5], whole[:, :5])
    assert not same(after[:, 5:], whole[:, 5:])
    for place in (0, SOURCE - 1):  # all of the source is seen from the first token of the target on
        other = source.clone()
        other[:, place] = (other[:, place] + 1) % 50
        assert (model(other, target)[:, 0] - whole[:, 0]).abs().max() > 0


def does_not_see_padding(model, source, target, whole):
    layouts = Layout.packed([[5], [SOURCE]]), Layout.packed([[6], [TARGET]])
    padded = model(source, target, *layouts)
    assert same(padded[1], whole[1])
    assert same(padded[0, :6], model(source[:1, :5], target[:1, :6])[0])


def generates_what_it_computes(model, source, target, whole):
    """Token by token, from a source with padding too; the rows change places on the way."""
    padded = Layout.packed([[5], [SOURCE]])
    state = model.begin(source, padded, TARGET)
    found = [model.step(target[:, :3], state)]
    state.reorder(torch.tensor([1, 0]))
    found += [model.step(target[:, i : i + 1].flip(0), state).flip(0) for i in range(3, TARGET)]
    assert state.cache.bytes == 2 * model.cache_bytes(TARGET, SOURCE)
    together = model.embedding.logits(torch.cat(found, dim=1))
    assert same(together[1], whole[1])
    assert same(together[0], model(source[:1, :5], target[:1])[0])


def learns(model, source, target):
    model.train()
    layouts = Layout.packed([[5], [SOURCE]]), Layout.packed([[6], [TARGET]])
    model.embedding.loss(model.hidden(source, target, *layouts), target, 0.1).backward()
    for name_, parameter in model.named_parameters():
        assert parameter.grad is not None, name_
        assert parameter.grad.isfinite().all(), name_


@pytest.mark.parametrize("choice", COMBINATIONS[1::14], ids=name)
def test_flops_are_those_that_torch_counts(choice):
    """Torch counts all pairs of the explicit computation, so attention is made explicit and two-sided for it."""
    model = build(choice, "model.decoder_layers=1").train(choice["ffn"] == "moe_noisy")
    for block in [*model.encoder.blocks, *model.decoder.blocks]:
        block.attention.visibility = Full(causal=False)
    source, target = drawn()
    assert counted(lambda: model(source, target)) == model.pair_flops([TARGET] * 2, [SOURCE] * 2).sum()


def test_layers_of_the_decoder_are_those_of_the_encoder_unless_told():
    assert len(build({}, "model.layers=3").decoder.blocks) == 3
    model = build({}, "model.layers=3", "model.decoder_layers=1")
    assert (len(model.encoder.blocks), len(model.decoder.blocks)) == (3, 1)
    assert all(parameter.split(".")[0] in ("embedding", "encoder", "decoder") for parameter in model.state_dict())


def test_flops_and_cache_grow_with_both_lengths():
    model = build({})
    cross = 4 * 16 * 2  # of a pair of tokens in two layers
    more = model.pair_flops([TARGET], [SOURCE + 1]) - model.pair_flops([TARGET], [SOURCE])
    again = model.pair_flops([TARGET + 1], [SOURCE + 1]) - model.pair_flops([TARGET + 1], [SOURCE])
    assert again - more == cross
    assert model.flops(np.array([5])) == model.pair_flops([5], [5])
    assert model.cache_bytes(5) == model.cache_bytes(5, 5) == model.cache_bytes(5, 0) + 5 * 4 * 2 * 2 * 16


def test_experts_are_told_apart_across_the_stacks():
    model = build({"ffn": "moe"})
    assert [layer.layer for layer in model.expert_layers] == [0, 1, 2, 3]


def test_dropout_on_what_leaves_a_stack_is_of_both_and_while_training_alone():
    model = build({}, "model.output_dropout=0.5").train()
    source, target = drawn(rows=8)
    outputs = [model.read(source).states, model.hidden(source, target)]
    assert all(0.4 < (output == 0).float().mean() < 0.6 for output in outputs)
    model.eval()
    assert not any((output == 0).any() for output in (model.read(source).states, model.hidden(source, target)))
    with pytest.raises(RequestError, match=r"model\.output_dropout: 1"):
        build({}, "model.output_dropout=1")
