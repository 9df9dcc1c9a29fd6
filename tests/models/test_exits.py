"""Early exits, against the models themselves with the layers behind taken out."""

import pytest
import torch

import lab
from lab.options import groups

SMALL = ("preset=tiny", "model.dim=32", "model.inner=48", "model.layers=3", "model.context=24")
TEXTS = {
    "decoder": (),
    "post-norm decoder": ("block=post_norm", "embedding=tied_scaled", "position=sinusoidal"),
    "encoder": ("model=encoder", "objective=masked", "embedding=bert"),
    "recurrent": ("model=recurrent",),
}
PAIRS = {
    "encoder_decoder": ("model=encoder_decoder", "position=t5_bias"),
    **{name: ("model=recurrent_translator", f"alignment={name}") for name in groups()["alignment"]},
}
TOKENS, TARGET = (torch.randint(1, 50, (1, time), generator=torch.Generator().manual_seed(0)) for time in (9, 7))


def build(*words):
    return lab.build(lab.compose(*SMALL, *words), vocab_size=50).eval()


def layers(model):
    """The stack that is left early, and the name of its layers."""
    body = getattr(model, "decoder", getattr(model, "recurrence", model))
    return body, "layers" if isinstance(getattr(body, "layers", None), torch.nn.ModuleList) else "blocks"


@pytest.mark.parametrize("family", [*TEXTS, *PAIRS])
def test_an_exit_is_what_the_model_would_give_without_the_layers_behind(family):
    pair = family in PAIRS
    words = (*PAIRS[family], "objective=seq2seq", "data=reverse") if pair else TEXTS[family]
    model, read = build(*words), (TOKENS, TARGET) if pair else (TOKENS,)
    with torch.no_grad():
        exits = model.exits(*read)
        assert len(exits) == 4
        torch.testing.assert_close(exits[-1], model.hidden(*read))
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        if "bahdanau" in family or "luong" in family:  # the last layer decides where they look
            return
        body, name = layers(model)
        for count in (2, 1):
            setattr(body, name, getattr(body, name)[:count])
            torch.testing.assert_close(exits[count], model.hidden(*read))


@pytest.mark.parametrize("alignment", groups()["alignment"])
def test_what_is_kept_of_a_source_is_as_large_as_said(alignment):
    model = build("model=recurrent_translator", f"alignment={alignment}", "objective=seq2seq", "data=reverse")
    state = model.begin(TOKENS)
    with torch.no_grad():
        model.step(TARGET, state)
    held = [
        *(part for states in state.states for part in states),
        *state.source.values(),
        *filter(torch.is_tensor, [state.fed]),
    ]
    assert sum(tensor.numel() * tensor.element_size() for tensor in held) == model.cache_bytes(100, 9)
