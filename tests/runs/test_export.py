"""The table as files, what explains a search, and the front of quality against cost."""

import csv
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.runs.comparison.collect import read_runs
from lab.runs.comparison.compare import compare
from lab.runs.comparison.importance import explained, fanova, importance
from lab.runs.comparison.pareto import front
from lab.runs.report import report
from tests.runs.synthetic import write_ladder, write_run, write_search


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "ladder"
    write_ladder(folder, seeds=4)
    return report(folder, "ladder_0_2017", margin=0.02)


def test_parquet_and_csv_hold_the_same_numbers(made, tmp_path):
    made.write_table(tmp_path / "table.parquet")
    made.write_table(tmp_path / "table.csv")
    rows = pq.read_table(tmp_path / "table.parquet").to_pylist()
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        texts = list(csv.DictReader(file))
    assert len(rows) == len(texts) == 7
    for row, text in zip(rows, texts, strict=True):
        assert list(row) == list(text)
        for key, value in row.items():
            if value is None:
                assert text[key] == ""
            elif isinstance(value, float):
                assert float(text[key]) == value
            else:
                assert text[key] == str(value)
    comparison = made.results.comparisons[0]
    row = next(row for row in rows if row["configuration"] == comparison.configuration.label)
    assert row["effect"] == comparison.effect
    assert (row["pairs"], row["verdict"], row["p_equivalent"]) == (4, "better", comparison.corrected.equivalent)


@pytest.mark.parametrize(
    ("settings", "heading", "names"),
    [
        (
            (("attention=mha", "model.dim=64"), ("attention=gqa", "model.dim=128")),
            "attention, dim",
            {"mha, 64", "gqa, 128"},
        ),
        ((("a.x=1", "b.x=2"), ("a.x=2", "b.x=1")), "a.x, b.x", {"1, 2", "2, 1"}),
        ((("attention=mha",), ("attention=gqa",)), "attention", {"mha", "gqa"}),
        ((("attention=gqa",), ("model.dim=128",)), "configuration", {"attention=gqa", "model.dim=128"}),
    ],
)
def test_keys_that_all_set_are_the_heading(tmp_path, settings, heading, names):
    for place, overrides in enumerate(settings):
        for seed in range(2):
            write_run(tmp_path / f"{place}-{seed}", overrides, 2.0 + place + seed / 100, seed)
    report(tmp_path).write_table(tmp_path / "table.md")
    table = [line for line in (tmp_path / "table.md").read_text("utf-8").splitlines() if line.startswith("|")]
    assert cells(table[0])[0].strip() == heading
    assert {cells(line)[0].strip() for line in table[2:]} == names


def test_a_value_with_spaces_is_no_row_of_words(tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path / name, [f"data.path=/my x=1/{name}.csv"], 2.0)
    report(tmp_path).write_table(tmp_path / "table.md")
    table = [line for line in (tmp_path / "table.md").read_text("utf-8").splitlines() if line.startswith("|")]
    assert cells(table[0])[0].strip() == "configuration"
    assert {cells(line)[0].strip() for line in table[2:]} == {"data.path=/my x=1/a.csv", "data.path=/my x=1/b.csv"}


def cells(line):
    return re.split(r"(?<!\\)\|", line)[1:-1]


def test_markdown_has_a_cell_for_each_column_whatever_the_names(tmp_path):
    for name, value in (("a|b", 2.0), ("c*d_e`<f>", 2.2)):
        for seed in range(3):
            write_run(tmp_path / f"{len(name)}-{seed}", [f"+note={name}"], value + seed / (50 + value), seed)
    report(tmp_path).write_table(tmp_path / "table.md")
    lines = (tmp_path / "table.md").read_text("utf-8").splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 4
    assert len({len(cells(line)) for line in table}) == 1
    assert r"a\|b" in table[2]
    assert r"c\*d\_e\`\<f>" in table[3]


def test_latex_escapes_what_has_a_meaning_there(tmp_path):
    for name in ("a_b&c", "50%$#{}~^\\", "[2, 4]"):
        write_run(tmp_path / name.replace("\\", "x"), [f"+note={name}"], 2.0)
    made = report(tmp_path)
    made.write_table(tmp_path / "table.tex")
    text = (tmp_path / "table.tex").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1
    assert r"a\_b\&c" in text
    assert r"50\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}" in text
    assert not re.search(r"[−±]", text)
    assert "{[}2, 4]" in text  # at a line's beginning it would be an argument of the end before it
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1]
    assert len(columns) == rows[0].count("&") + 1


def test_importance_is_the_variance_that_each_explains():
    # On a full grid the shares of an additive function are known: 9 : 1 : 0.
    first, second, third = (axis.ravel() for axis in np.meshgrid(range(8), range(8), ["x", "y"]))
    reached = (3.0 * first + second).tolist()
    values = {"a": first.tolist(), "b": second.tolist(), "c": third.tolist()}
    shares = fanova(values, reached)
    assert shares == pytest.approx({"a": 0.9, "b": 0.1, "c": 0.0}, abs=0.06)
    assert list(shares) == ["a", "b", "c"]
    assert explained(values, reached) > 0.95
    assert explained(values, np.random.default_rng(0).normal(size=len(reached)).tolist()) < 0.1


def test_importance_of_a_search_and_none_of_a_ladder(made, tmp_path):
    found = importance(compare(read_runs([write_search(tmp_path / "search", 30)])).tables[0])
    assert next(iter(found.shares)) == "optimizer.lr"
    assert found.directions.keys() == {"optimizer.lr", "model.dim"}
    assert found.directions["model.dim"] < -0.2
    assert found.explained > 0.4
    assert importance(made.results.tables[0]) is None


costs = st.one_of(st.none(), st.integers(0, 6).map(float))


@given(st.lists(st.tuples(costs, st.integers(0, 6).map(float)), max_size=12))
def test_the_front_is_what_nothing_dominates(points):
    def dominated(place):
        cost, loss = points[place]
        return any(
            other is not None and other <= cost and reached <= loss and (other, reached) != (cost, loss)
            for other, reached in points
        )

    expected = [place for place, (cost, _) in enumerate(points) if cost is not None and not dominated(place)]
    assert sorted(front(points)) == expected
