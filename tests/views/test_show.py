"""What is shown of a composition, against the built model."""

import pytest

import lab as api
from lab.views.show import show


@pytest.mark.parametrize("preset", ["mixtral_like", "lstm_lm", "translate_attention", "translate_rnn"])
def test_parts_add_up_to_the_model(preset):
    config = api.compose(f"preset={preset}")
    shown, model = show(config), api.build(config)
    assert (
        sum(part.layers * part.parameters for part in shown.parts) == shown.total.parameters == model.parameters_total
    )
    assert sum(part.layers * part.active for part in shown.parts) == shown.total.active == model.parameters_active
    kept = sum(part.layers * (part.cache_bytes or 0) for part in shown.parts)
    assert kept == shown.total.cache_bytes == model.cache_bytes(model.context) / model.context
    assert abs(sum(part.layers * part.flops for part in shown.parts) - shown.total.flops) < 1


def test_each_kind_of_layer_has_its_grid():
    shown = show(api.compose("pattern=alternating", "model.window=2", "model.layers=3"), tokens=4)
    assert [(layers, kind) for layers, kind, _ in shown.grids] == [([1, 3], "full"), ([2], "sliding (window 2)")]
    assert shown.grids[1][2] == ["■···", "■■··", "·■■·", "··■■"]


def test_the_terminal_and_the_document_say_the_same(lab):
    document = lab("show", "preset=llm_2024", "--json").json
    printed = lab("show", "preset=llm_2024").out
    assert document["total"]["parameters"] == 4843776
    assert "4.84 M" in printed
    assert lab("show", "--tokens", "0").err == "lab show: --tokens: 0; at least 1\n"
