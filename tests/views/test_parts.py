"""The table of options says of each what it is, and the README holds that of today."""

from pathlib import Path

from lab.options import groups
from lab.views import parts as module
from lab.views.parts import parts, to_markdown

README = Path(__file__).parents[2] / "README.md"


def test_every_option_says_what_it_is_in_a_sentence():
    found = parts([])
    assert [(o.group, o.option) for o in found] == [(g, o) for g, options in groups().items() for o in options]
    unclear = [o for o in found if len(o.what) < 10 or not o.what.endswith((".", ")"))]
    assert not unclear


def test_the_readme_holds_the_table_of_today():
    assert to_markdown(parts([])) in README.read_text(encoding="utf-8"), "lab parts --into README.md"


def test_the_terminal_the_document_and_the_file_hold_the_same(lab, tmp_path):
    document = lab("parts", "norm", "--json").json
    assert [o["option"] for o in document] == groups()["norm"]
    assert "norm=rmsnorm" in lab("parts", "norm").out
    file = tmp_path / "table.md"
    file.write_text("before\n<!-- parts -->\nold\n<!-- end of parts -->\nafter\n")
    assert lab("parts", "norm", "--into", "table.md").out == ""
    assert file.read_text() == f"before\n<!-- parts -->\n{to_markdown(parts(['norm']))}<!-- end of parts -->\nafter\n"


def test_what_is_not_there_is_refused(lab, tmp_path):
    ended = lab("parts", "norms")
    assert ended.code == 2
    assert ended.err.startswith("lab parts: norms: no such group; there are alignment, attention, block,")
    (tmp_path / "table.md").write_text("no marks")
    ended = lab("parts", "--into", "table.md")
    assert ended.code == 2
    assert "has no place for the table" in ended.err
    assert lab("parts", "--into", "nothing.md").code == 2


def test_an_option_that_cannot_be_used_leaves_the_others(tmp_path, monkeypatch):
    files = {"good": "rms.RMSNorm", "outer": "other.Outer", "tab": "lab.parts.norm.RMSNorm\n\t_partial_: true"}
    (tmp_path / "norm").mkdir()
    for name, text in files.items():
        (tmp_path / f"norm/{name}.yaml").write_text(f"_target_: {text}\n".replace("rms.", "lab.parts.norm."))
    monkeypatch.setattr(module, "conf_folder", lambda: tmp_path)
    monkeypatch.setattr(module, "groups", lambda: {"norm": sorted(files)})
    good, outer, tab = (option.what for option in parts(["norm"]))
    assert "root mean square" in good.lower()
    assert outer.startswith(
        "cannot be used: conf/norm/outer.yaml: norm._target_: other.Outer; only classes defined in lab"
    )
    assert tab.startswith("cannot be used: conf/norm/tab.yaml: ")
    assert "line 2" in tab
