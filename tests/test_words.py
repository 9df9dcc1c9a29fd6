"""Words of a command line in every form of W&B's agent's, as overrides."""

import json

import pytest
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import RequestError
from lab.words import FLAGS, overrides


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a=1", "+b.c=2", "~d", "x"], ["a=1", "+b.c=2", "~d", "x"]),
        (["--a=1", "--b.c=x=y"], ["a=1", "b.c=x=y"]),
        (["--a", "1", "--b.c", "two words", "d=3"], ["a=1", "b.c=two words", "d=3"]),
        (["--a", "-1e-05", "--b", "", "--c", "['x=y', 2]"], ["a=-1e-05", "b=", "c=['x=y', 2]"]),
        (["--a", "--b", "c=1", "--d"], ["a=true", "b=true", "c=1", "d=true"]),
        (["--a", "+b=1", "--c", "++d=1", "--e", "g@p=x"], ["a=true", "+b=1", "c=true", "++d=1", "e=true", "g@p=x"]),
        (["--data.path", "verses.json", "data.path=verses.json"], ["data.path=verses.json"] * 2),
        (["-m", "--cfg", "job", "--info", "--a", "-m", "--config-name=x"], None),
        (['{"a": 1, "b": {"c": true, "d": null}, "e": {}}', "f=1"], ["a=1", "b.c=true", "b.d=null", "e={}", "f=1"]),
        (['{"+a": "mha", "b": "3", "c": [1e-05, "x", "TRUE"]}'], ["+a=mha", "b='3'", "c=[1e-05,x,'TRUE']"]),
        (["{}"], []),
    ],
)
def test_each_form_says_overrides(words, said):
    expected = ["-m", "--cfg", "job", "--info", "a=true", "-m", "--config-name=x"] if said is None else said
    assert overrides(words) == expected


def test_flags_are_hydras_and_one_of_ours():
    names = {name for action in get_args_parser()._actions for name in action.option_strings}
    assert names | {"--json"} == FLAGS


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.sampled_from("abz019._-/:+*@%|? ,=~'\"\\$[]{}()é#;!\n\t"), max_size=8) | st.sampled_from(
    ["null", "True", "1e-3", "NaN", "-inf", "1_000", "0x10", "infinity", "\\'", "\\", "None"]
)
values = scalars | texts | st.lists(scalars | texts | st.lists(texts, max_size=2), max_size=3)


@settings(max_examples=500, deadline=None)
@given(values)
def test_a_value_of_json_reaches_hydra_as_it_is(value):
    (word,) = overrides([json.dumps({"a.b": value})])
    override = OverridesParser.create().parse_override(word)
    assert override.key_or_group == "a.b"
    if "${" not in str(value):  # which means another key, in quotes too
        assert repr(override.value()) == repr(value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"a": 1', "is not JSON"),
        ("{'a': 1}", "is not JSON"),
        ('{"a":' * 100_000, "is not JSON"),
        ('{"a": 1, "a": 2}', "a is given twice"),
        ('{"a b": 1}', "'a b' can't be a key"),
        ('{"--a": 1}', "'--a' can't be a key"),
        ('{"a": [{"b": 1}]}', "a: holds a mapping in a list"),
    ],
)
def test_wrong_json_is_refused_in_one_line_that_names_it(tmp_path, text, named):
    path = tmp_path / "given.json"
    path.write_text(text)
    for word, place in ((text, text[:60]), (str(path), str(path))):
        with pytest.raises(RequestError) as refused:
            overrides(["b=1", word])
        assert str(refused.value).startswith(f"{place}: ")
        assert named in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "no such file"),
        (b"[1]", "holds no keys; accepted: one JSON object"),
        (b"3", "holds no keys"),
        (b"", "is not JSON"),
        (b'{"a": "\xff"}', "is not UTF-8 at byte 8"),
    ],
)
def test_a_file_that_holds_no_overrides_is_named(lab, tmp_path, content, named):
    if content is not None:
        (tmp_path / "given.json").write_bytes(content)
    ended = lab("train", "given.json")
    assert ended.code == 2
    assert ended.err.strip().splitlines() == [ended.err.strip()]
    assert ended.err.startswith("lab train: given.json: ")
    assert named in ended.err


def test_a_folder_is_no_file_of_overrides(tmp_path):
    (tmp_path / "given.json").mkdir()
    with pytest.raises(RequestError, match=r"given\.json: cannot be read"):
        overrides([f"{tmp_path}/given.json"])
