"""What is shown of a composition, against the built model."""

import html.parser
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import lab as api
from lab.config import meta_model
from lab.views.against import Against
from lab.views.flow import Step, steps
from lab.views.show import show
from lab.views.tree import numbers


@pytest.mark.parametrize(
    "preset", ["mixtral_like", "lstm_lm", "translate_attention", "translate_rnn", "switch", "bert_tiny"]
)
def test_parts_add_up_to_the_model(preset):
    config = api.compose(f"preset={preset}")
    shown, model = show(config), meta_model(config)
    root = shown.tree
    assert root.parameters == shown.total["parameters"] == model.parameters_total
    assert shown.total["active"] == model.parameters_active
    kept = model.cache_bytes(model.context) / model.context if model.generates else 0
    assert (root.cache_bytes or 0) == sum(part.cache_bytes or 0 for part in root.parts) == pytest.approx(kept)
    assert root.flops == pytest.approx(float(model.flops(np.array([model.context])).sum()) / model.context)
    assert sum(part.flops for part in root.parts) == pytest.approx(root.flops)
    for path, node in root.walk():
        own = sum(torch.Size(shape).numel() for _, shape in node.shapes) * node.count
        inside = sum(part.parameters for part in node.parts)
        assert inside <= node.parameters
        if not own:
            assert node.parameters == inside, path
            assert node.active == pytest.approx(sum(part.active for part in node.parts)), path


def test_every_weight_stands_in_the_tree_with_its_shape():
    model = api.build(api.compose("preset=llm_2024", "model.layers=3"))
    shapes = {}
    for path, node in show(api.compose("preset=llm_2024", "model.layers=3")).tree.walk():
        shapes |= {f"{path}.{name}": (shape, node) for name, shape in node.shapes}
    expected = {re.sub(r"blocks\.\d+", "blocks", name): tuple(p.shape) for name, p in model.named_parameters()}
    assert {name: shape for name, (shape, _) in shapes.items()} == expected
    assert shapes["blocks.ffn.down.weight"][1].parameters == 3 * model.blocks[0].ffn.down.weight.numel()


def test_each_kind_of_layer_has_its_grid():
    shown = show(api.compose("pattern=alternating", "model.window=2", "model.layers=3"), tokens=4)
    assert [(grid.layers, grid.pattern) for grid in shown.grids] == [([1, 3], "full"), ([2], "sliding (window 2)")]
    assert shown.grids[1].rows == ["■···", "■■··", "·■■·", "··■■"]
    names = [part.name for part in shown.tree.parts]
    assert "blocks[1, 3]" in names
    assert "blocks[2]" in names


def test_grids_say_which_stack_they_are_of():
    titles = [grid.title for grid in show(api.compose("preset=t5_1_1"), tokens=3).grids]
    assert titles == [
        "Encoder layers 1, 2: full, both sides",
        "Decoder layers 1, 2: full",
        "Decoder cross layers 1, 2: full, both sides",
    ]


def test_a_grid_too_small_for_its_pattern_says_so():
    (grid,) = show(api.compose("pattern=sliding", "model.window=8"), tokens=8).grids
    assert grid.pattern == "sliding (window 8), beyond this grid"
    assert show(api.compose("pattern=sliding", "model.window=8"), tokens=9).grids[0].pattern == "sliding (window 8)"


def test_nothing_slow_is_imported_to_show_a_model_of_billions():
    code = (
        "import sys; from lab.cli import main; main(['show', 'preset=llama31_405b', '--json']); "
        "print([m for m in ('pytorch_lightning', 'torch._dynamo', 'datasets') if m in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout)["total"]["parameters"] == 405_853_388_800
    assert ended.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("layers", "said"),
    [([1], "1"), ([1, 2, 3], "1-3"), ([1, 2], "1, 2"), ([1, 3, 5, 7, 9], "1, 3, …, 9"), ([1, 2, 4, 9], "1, 2, 4, 9")],
)
def test_layers_are_named_in_few_signs(layers, said):
    assert numbers(layers) == said


def test_costs_are_of_the_length_that_is_asked_for():
    config = api.compose("preset=llm_2024")
    short, long = show(config, context=16), show(config, context=4096)
    assert long.total["cache_bytes"] == 256 * short.total["cache_bytes"]
    assert long.total["flops_per_token"] > short.total["flops_per_token"]
    model = api.build(config)
    assert long.total["flops"] == pytest.approx(float(model.flops([4096]).sum()))


@pytest.mark.parametrize("block", ["pre_norm", "post_norm", "deep_norm", "sandwich", "parallel"])
def test_the_steps_of_a_block_give_what_the_block_gives(block):
    """Computing by the steps, as they are drawn, is computing the block."""
    model = api.build(api.compose(f"block={block}", "model.layers=2")).eval()
    one, layout = model.blocks[0], api.Layout.full(2, 8)
    x = torch.randn(2, 8, model.dim)
    position = model.position.at(0)

    def layer(name, y):
        module = getattr(one, name)
        return module(y, layout, position) if name == "attention" else module(y, layout) if name == "ffn" else module(y)

    stream = x
    for step in steps(one):
        if step.on:
            stream = layer(step.on, stream)
            continue
        added = 0
        for branch in step.branches:
            y = stream
            for name in branch:
                y = layer(name, y)
            added = added + y
        stream = step.factor * stream + added
    torch.testing.assert_close(stream, one(x, layout, position))


def test_a_block_of_somebody_else_is_drawn_as_it_computes():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.ffn, self.more = nn.Identity(), nn.Identity(), nn.Identity()

        def forward(self, x, layout, position):
            x = 0.5 * x + self.ffn(self.norm(x))
            return self.more(x)

    assert steps(Twice()) == [Step(branches=(("norm", "ffn"),), factor=0.5), Step(on="more")]

    class Odd(Twice):
        def forward(self, x, layout, position):
            return self.ffn(x) - x

    with pytest.raises(ValueError, match="Odd: computes otherwise"):
        steps(Odd())


def test_two_compositions_show_what_differs_and_nothing_else():
    pair = Against(show(api.compose("preset=llm_2024")), show(api.compose("preset=llm_2024", "attention=mha")))
    assert pair.choices == [("attention", "gqa", "mha")]
    assert {path for path, _, _ in pair.parts} == {"blocks.attention", "blocks.attention.project"}
    assert not pair.grids
    same = Against(pair.first, pair.first)
    assert same.same
    assert (same.choices, same.totals, same.parts, same.grids) == ([], [], [], [])


def test_the_terminal_and_the_document_say_the_same(lab, small, monkeypatch):
    document = lab("show", "preset=llm_2024", "--json").json
    assert document["total"]["parameters"] == 4843776
    assert document["tree"]["parameters"] == 4843776
    for columns in ("60", "80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        printed = lab("show", "preset=llm_2024").out
        assert "4.84 M" in printed
        assert "…" not in printed
        assert max(map(len, printed.splitlines())) <= int(columns)
        assert "\x1b" not in printed
    differs = lab("show", "preset=llm_2024 position=none", "--against", "preset=llm_2024", "--json").json["differs"]
    assert differs["choices"] == {"position": ["none", "rope"]}
    assert "RoPE" in lab("show", "preset=llm_2024", "position=none", "--against", "preset=llm_2024").out
    lab("train", small, "folder=run")
    assert (
        lab("show", "run", "--json").json["total"]["parameters"]
        == lab("show", small, "--json").json["total"]["parameters"]
    )
    for words in (["run", "seed=1"], ["seed=1", "run"]):
        refused = lab("show", *words)
        assert (refused.code, refused.out) == (2, "")
        assert refused.err == "lab show: seed=1: run is a run, which has its configuration; it stands alone\n"


def test_a_head_that_an_objective_added_is_said(lab, corpus, tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        "\n".join(json.dumps({"t": f"word {n}", "l": f"l{n % 3}"}) for n in range(400))
    )
    words = ["preset=bag_of_words", "data=labelled", "data.path=rows.jsonl", "data.text=t", "data.label=l"]
    lab("train", words, "tokenizer.vocab_size=40", "budget.steps=2", "logger=none", "folder=bag")
    trained = json.loads((tmp_path / "bag" / "result.json").read_text())["parameters"]
    assert lab("show", "bag", "--json").json["objective_head"] == trained > 0
    assert f"objective=classify added a head of {trained:,} parameters" in lab("show", "bag").out


@pytest.mark.parametrize(("width", "fitting"), [("60", ""), ("24", "24 of 32 tokens fit; a wider terminal or --html")])
def test_a_grid_is_narrower_before_it_is_cut(lab, monkeypatch, width, fitting):
    monkeypatch.setenv("COLUMNS", width)
    shown = lab("show", "preset=tiny", "model.context=32").out
    last = [line for line in shown.splitlines() if "■" in line][-1].strip()
    assert last == "■" * min(int(width), 32)
    assert fitting in " ".join(shown.split())
    assert ("tokens fit" in " ".join(shown.split())) == bool(fitting)


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.texts, self.marked = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.marked += "marked" in dict(attrs).get("class", "")

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize(
    "preset",
    ["llm_2024", "translate_transformer", "switch", "translate_attention", "bag_of_words", "word2vec", "lstm_lm"],
)
def test_a_page_holds_everything_and_draws_the_block(lab, tmp_path, preset):
    assert lab("show", f"preset={preset}", "--html", "page.html").code == 0
    text = (tmp_path / "page.html").read_text()
    assert not re.search(r"(src|href)=", text)
    page = Tags()
    page.feed(text)
    assert page.marked == 0
    assert ("Grouped query attention" in page.texts) == (preset == "llm_2024")


def test_of_two_models_the_page_marks_the_boxes_that_differ(lab, tmp_path):
    lab("show", "norm=rmsnorm", "--against", "norm=rmsnorm block=post_norm", "--html", "page.html")
    page = Tags()
    page.feed((tmp_path / "page.html").read_text())
    assert "norm=rmsnorm against norm=rmsnorm block=post_norm" in page.texts
    assert page.marked == 2 + 1 + 2  # both norms of a block, which stand elsewhere, and the last one


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--tokens", "0"], "--tokens: 0; at least 1"),
        (["--context", "0"], "--context: 0; at least 1"),
        (["nowhere"], "nowhere: no run there; a run's folder has a config.yaml"),
        (["attention=nothing"], "attention"),
        (["--html", "nowhere/page.html"], "--html: nowhere/page.html cannot be written (No such file or directory)"),
        (["--against"], "argument --against: expected at least one argument"),
    ],
)
def test_wrong_words_are_refused_in_one_line(lab, words, complaint):
    ended = lab("show", *words)
    assert ended.code == 2
    assert ended.err.startswith(f"lab show: {complaint}")
    assert ended.err.count("\n") == 1 or complaint == "attention"
