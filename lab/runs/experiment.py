"""An experiment: a question, the claim as people state it, the sweep that tests it, the rule of its verdict, and the result.

experiments/NAME/experiment.yaml    all but the result, written before there is one
experiments/NAME/result.yaml        what came out, when, on which machine; written by `lab experiment NAME`
experiments/NAME/README.md          what it means and how far it reaches, in a person's words
runs/experiments/NAME/              the runs, and the page
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab.errors import RequestError
from lab.options import conf_folder
from lab.runs.claim import VERDICTS, Statement
from lab.runs.decoding import Decoding
from lab.runs.terms import Terms

FILE, RESULT = "experiment.yaml", "result.yaml"
TEXTS = ("question", "claim")
TERMS = ("baseline", "margin", "match", "match_size", "tune", "until_decided")
KEYS = (*TEXTS, "source", "sweep", *TERMS, "again", "decode", "rule")
NOT_RUN = "not run"
COMPARE = "compare"
"""The folder of the sweep, beside those of its stages."""


@dataclass(frozen=True)
class Experiment:
    """What an experiment's file says.

    Attributes:
        folder: where it stands.
        question, claim, source: in words; the source may be empty.
        sweep: the sweep file.
        terms: of the comparison.
        again: stages in which every finished run is judged again, by name the overrides that make them other.
        decoding: what is measured of every finished run; None for nothing.
        rule: of the verdict.
        apart: a folder where its result stands, for runs that are not those of record; None for beside the file.
    """

    folder: Path
    question: str
    claim: str
    source: str
    sweep: Path
    terms: Terms
    rule: tuple[Statement, ...]
    again: Mapping[str, Sequence[str]] = field(default_factory=dict)
    decoding: Decoding | None = None
    apart: Path | None = None

    @property
    def record(self) -> Path:
        """Where its result is kept."""
        return (self.apart or self.folder) / RESULT

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def result(self) -> dict[str, Any]:
        """What came out last, empty before it was run.

        Raises:
            RequestError: the file is damaged.
        """
        path = self.record
        if not path.is_file():
            return {}
        found = _load(path)
        if found.get("verdict") not in VERDICTS:
            raise RequestError(f"{path}: damaged, it holds no verdict; run the experiment again")
        return found

    @property
    def verdict(self) -> str:
        """Confirmed, refuted, undecided or not run."""
        return self.result.get("verdict", NOT_RUN)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "question": self.question,
            "claim": self.claim,
            "source": self.source,
            "rule": [str(each) for each in self.rule],
            "verdict": self.verdict,
            "result": self.result,
        }


def home() -> Path:
    """The folder of experiments: here, or of the checkout."""
    here = Path("experiments")
    return here if here.is_dir() else conf_folder().parent / "experiments"


def experiments() -> list[Experiment]:
    """All that there are.

    Raises:
        RequestError: a file is wrong.
    """
    return [read(path.parent) for path in sorted(home().glob(f"*/{FILE}"))]


def find(name: str) -> Experiment:
    """The one of this name, or in this folder.

    Raises:
        RequestError: there is none; it names the nearest.
    """
    if (Path(name) / FILE).is_file():
        return read(Path(name))
    if (home() / name / FILE).is_file():
        return read(home() / name)
    names = [path.parent.name for path in sorted(home().glob(f"*/{FILE}"))]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    raise RequestError(
        f"{name}: no such experiment; "
        + (f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names) or 'none'}")
    )


def read(folder: Path) -> Experiment:
    """Read and check an experiment's file; its sweep is read when it runs.

    Raises:
        RequestError: it names the file, the key and what is accepted.
    """
    path = folder / FILE
    try:
        return _read(folder, _load(path))
    except RequestError as error:
        raise RequestError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RequestError(f"{path}: can't be read ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(content, dict):
        raise RequestError(f"{path}: holds no mapping")
    return content


def _read(folder: Path, content: dict[str, Any]) -> Experiment:
    for key in content:
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, n=1, cutoff=0.5)
            raise RequestError(
                f"{key}: no such key; " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(KEYS)}")
            )
    for key in (*TEXTS, "sweep", "rule"):
        if not content.get(key):
            raise RequestError(f"{key}: is missing")
    for key in ("question", "claim", "source", "sweep", "baseline", "match", "match_size", "tune"):
        if not isinstance(content.get(key, ""), str):
            raise RequestError(f"{key}: {content[key]!r} is no text")
    margin, most = content.get("margin"), content.get("until_decided")
    if margin is not None and (not isinstance(margin, int | float) or isinstance(margin, bool)):
        raise RequestError(f"margin: {margin!r}; a number above 0, in the unit of the measure")
    if most is not None and type(most) is not int:
        raise RequestError(f"until_decided: {most!r}; a whole number of seeds")
    if not isinstance(content["rule"], list):
        raise RequestError("rule: is no list of statements")
    rule = tuple(map(Statement.read, content["rule"]))
    for statement in rule:
        if statement.form == "equivalent" and (margin is None or statement.measure):
            raise RequestError(f"rule: {statement}: equivalent takes a margin, which is of the headline measure")
    wanted = content.get("decode")
    if wanted is not None and not (isinstance(wanted, dict) and wanted.keys() <= {"rows", "tokens", "times"}):
        raise RequestError(f"decode: {wanted!r}; a mapping with rows, tokens and times")
    return Experiment(
        folder,
        content["question"].strip(),
        content["claim"].strip(),
        content.get("source", "").strip(),
        folder / content["sweep"],
        Terms(
            baseline=content.get("baseline"),
            margin=margin,
            most_seeds=most,
            match=content.get("match"),
            size=content.get("match_size"),
            tune=content.get("tune"),
            claim=list(map(str, rule)),
        ),
        rule,
        _stages(content.get("again") or {}),
        None if wanted is None else Decoding(**wanted),
    )


def _stages(written: Any) -> dict[str, list[str]]:
    good = isinstance(written, dict) and all(
        isinstance(words, list) and words and all(isinstance(word, str) for word in words) for words in written.values()
    )
    named = good and all(re.fullmatch(r"[\w-]+", str(name)) and name != COMPARE for name in written)
    if not named:
        raise RequestError(
            f"again: {written!r}; stages, each a name of letters, digits, - and _ other than {COMPARE} with a list of overrides"
        )
    return {str(name): words for name, words in written.items()}
