"""Which parameters decay, and which are matrices of their own."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

import lab
from lab.config import construct
from lab.objectives.classify import Classify
from lab.objectives.masked import MaskedNextSentence
from lab.objectives.tag import Tag
from lab.optim.groups import make_optimizer, parameter_groups
from lab.parts.classifier import Classifier
from lab.parts.linear import named_matrices
from lab.parts.sparse import SparseClassifier

MODELS = [
    ("embedding=tied", "ffn=gated"),
    ("embedding=untied", "ffn=moe", "norm=layernorm", "model.bias=true"),
    ("attention=mla", "position=learned", "ffn=dense", "init=mup"),
]


def build(*words):
    return lab.build(lab.compose("preset=tiny", "model.dim=32", *words), vocab_size=40)


def test_what_scores_the_words_of_a_bag_decays():
    weight, bias = make_optimizer(parameter_groups(SparseClassifier(40, 3)), torch.optim.AdamW).param_groups
    assert (weight["role"], bias["role"]) == ("head", "vector")
    assert weight["weight_decay"] > bias["weight_decay"] == 0


@pytest.mark.parametrize("words", MODELS, ids=" ".join)
def test_norms_biases_and_embeddings_do_not_decay_and_all_else_does(words):
    model = build(*words)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = make_optimizer(parameter_groups(model), torch.optim.AdamW).param_groups
    found = {names[id(p)]: group for group in groups for p in group["params"]}
    assert sorted(found) == sorted(names.values())
    for name, group in found.items():
        kept = "norm" in name or name.endswith(("bias", "table.weight"))
        assert (group["weight_decay"] == 0) == kept, name
        assert (group["role"] == "head") == (name == "embedding.head.weight")
        assert (group["role"] == "hidden") == (not kept and name != "embedding.head.weight")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("objective", [Classify, Tag, MaskedNextSentence])
def test_a_head_that_scores_labels_is_an_output_head(objective, optimizer):
    """Muon leaves it to AdamW, and its rate under muP is that of other heads."""
    config = lab.compose("preset=bert_tiny", "model.dim=32", "init=mup", "init.base_dim=8", f"optimizer={optimizer}")
    model = lab.build(config, vocab_size=40)
    made = objective(model=model, optimizer=None, prepared=SimpleNamespace(labels=("a", "b", "c")))
    (group,) = (g for g in made.groups if any(p is made.head.weight for p in g["params"]))
    assert (group["role"], group["width"]) == ("head", 4)
    found = make_optimizer(made.groups, construct(config, "optimizer")).param_groups
    (group,) = (g for g in found if any(p is made.head.weight for p in g["params"]))
    assert group["lr"] == config.optimizer.lr
    construct(config, "init")(made.head, seed=0, layers=2)
    assert made.head.logit_scale == 1 / 4
    x = torch.randn(50, 32)
    with torch.no_grad():
        scores = made.head.eval()(x)
    assert torch.allclose(scores, x @ made.head.weight.T / 4, atol=1e-5)
    assert float(made.head.weight.detach().std()) == pytest.approx(8**-0.5, rel=0.25)


@pytest.mark.parametrize("words", MODELS, ids=" ".join)
def test_every_matrix_is_found_in_the_weight_that_it_is_merged_in(words):
    model = build(*words)
    hidden = [group for group in parameter_groups(model) if group["role"] == "hidden"]
    lying = [
        parameter.as_strided(*place)
        for group in hidden
        for parameter, places in zip(group["params"], group["matrices"], strict=True)
        for place in places
    ]
    expected = [m for name, m, _ in named_matrices(model) if "table" not in name and "head" not in name]
    assert len(lying) == len(expected)
    key = lambda m: (m.data_ptr(), m.shape)  # noqa: E731
    assert sorted(map(key, lying)) == sorted(map(key, expected))


def test_one_rate_for_all_but_under_mup_and_the_first_group_has_it():
    plain = make_optimizer(parameter_groups(build("init=fan_in")), lambda p: torch.optim.AdamW(p, lr=0.5))
    assert {group["lr"] for group in plain.param_groups} == {0.5}
    wide = build("init=mup", "init.base_dim=8", "embedding=untied", "ffn=dense")  # inputs of 32 and 256
    optimizer = make_optimizer(parameter_groups(wide), lambda p: torch.optim.AdamW(p, lr=0.5, weight_decay=0.1))
    rates = {(g["role"], g["width"]): g["lr"] for g in optimizer.param_groups}
    assert rates == {
        ("head", 4): 0.5,
        ("table", 4): 0.5,
        ("vector", 4): 0.5,
        ("hidden", 4): 0.125,
        ("hidden", 32): 1 / 64,
    }
    assert optimizer.param_groups[0]["lr"] == 0.5
    decays = {g["lr"] * g["weight_decay"] for g in optimizer.param_groups if g["role"] in ("hidden", "head")}
    assert decays == {0.05}


def test_under_mup_a_number_for_each_label_learns_at_the_rate_that_was_asked_for():
    model = build("init=mup", "model.dim=128")
    model.classes = Classifier(128, 2)
    groups = make_optimizer(
        parameter_groups(model), partial(construct(lab.compose("optimizer=sgd"), "optimizer").func, lr=1.0)
    )
    rates = {id(p): group["lr"] for group in groups.param_groups for p in group["params"]}
    assert rates[id(model.classes.bias)] == 1.0
    assert rates[id(model.norm.weight)] == rates[id(model.classes.weight)] == 2.0
