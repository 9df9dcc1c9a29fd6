"""The command of a W&B sweep, expanded as `wandb agent` expands it, and what `lab train` gets from it.

The agent turns every value into text with Python's `str`, or all of them into JSON, and starts the command without a
shell. These are those very strings, so that a trial run without a server is the trial that an agent would run.
"""

import json
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from lab.errors import RequestError
from lab.words import overrides

DEFAULT_COMMAND = ["${env}", "${interpreter}", "${program}", "${args}"]
WANTED = 'command: ["${env}", lab, train, "${args_no_hyphens}"]'
JSON = ("${args_json}", "${args_json_file}")
ARGUMENTS: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "${args}": lambda given: [f"--{key}={value}" for key, value in given.items()],
    "${args_no_hyphens}": lambda given: [f"{key}={value}" for key, value in given.items()],
    "${args_append_hydra}": lambda given: [f"+{key}={value}" for key, value in given.items()],
    "${args_override_hydra}": lambda given: [f"++{key}={value}" for key, value in given.items()],
    "${args_no_equals}": lambda given: [word for key, value in given.items() for word in (f"--{key}", str(value))],
    "${args_no_boolean_flags}": lambda given: [
        f"--{key}" if value is True else f"--{key}={value}" for key, value in given.items() if value is not False
    ],
    **dict.fromkeys(JSON, lambda given: [json.dumps(dict(given))]),
}
"""The words that stand for parameters. Of `${args_json_file}` it is the text, which the agent puts in a file for its path."""

MACROS = ("${env}", "${interpreter}", "${program}", *ARGUMENTS)
KEYS_ALONE = "${args_dict}"

_MACRO = re.compile(r"\$\{[^}]*\}")
_ENVIRONMENT_VARIABLE = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")
_PYTHON = re.compile(r"python(3(\.\d+)?)?(\.exe)?")


def read_command(command: Any, program: str | None) -> list[str]:
    """The command's words with their macros, known to lead to `lab train`; W&B's default if there are none.

    Raises RequestError naming the key, with the command to write instead.
    """
    if command is None:
        command = DEFAULT_COMMAND
    if not isinstance(command, list) or not all(isinstance(word, (str, int, float)) for word in command):
        raise RequestError(f"command: {command!r} is not a list of words; write {WANTED}")
    words = [str(word) for word in command]
    for word in words:
        if word == KEYS_ALONE:
            raise RequestError(
                f"command: {word} can't reach lab train, since W&B's agent puts in the keys without their values; "
                f"write {WANTED}"
            )
        if _MACRO.fullmatch(word) and word not in MACROS and not _ENVIRONMENT_VARIABLE.fullmatch(word):
            accepted = ", ".join([*MACROS, "${envvar:NAME}"])
            raise RequestError(f"command: {word} is no way to hand values to lab train; accepted: {accepted}")
    if sum(word in ARGUMENTS for word in words) != 1:
        raise RequestError(f"command: {words!r} must have one of {', '.join(ARGUMENTS)} once; write {WANTED}")
    if "${program}" in words and not program:
        raise RequestError(f"program: is missing, and the command uses ${{program}}; write program: lab and {WANTED}")
    before = words[words.index(arguments(words)) - 1]
    if before.startswith("--") and "=" not in before:
        raise RequestError(f"command: {before} would take what follows for its value; write {before}=true")
    for word in train_overrides(expand(words, program, {})):
        override_key(word, "command")
    return words


def arguments(command: Sequence[str]) -> str:
    """The macro of a command that stands for the parameters."""
    return next(word for word in command if word in ARGUMENTS)


def expand(command: Sequence[str], program: str | None, parameters: Mapping[str, Any]) -> list[str]:
    """The argument list that `wandb agent` would start for these parameters on this machine."""
    macros = {
        "${env}": [] if platform.system() == "Windows" else ["/usr/bin/env"],
        "${interpreter}": ["python"],
        "${program}": [str(program)],
        **{macro: write(parameters) for macro, write in ARGUMENTS.items()},
    }
    argv: list[str] = []
    for word in command:
        # An unset variable leaves its name, as the agent does.
        word = _ENVIRONMENT_VARIABLE.sub(lambda match: os.environ.get(match[1], match[1]), word)
        argv += macros.get(word, [word])
    return argv


def train_overrides(argv: Sequence[str]) -> list[str]:
    """The Hydra overrides in an expanded command, as `lab train` reads them."""
    return overrides(_after_lab_train(argv))


def _after_lab_train(argv: Sequence[str]) -> list[str]:
    """What follows `lab train`, `python -m lab train` or `python .../lab/__main__.py train`."""
    words = list(argv)
    if words and PurePath(words[0]).name == "env":
        words = words[1:]
    match words:
        case [lab, "train", *rest] if PurePath(lab).name == "lab":
            return rest
        case [python, "-m", "lab", "train", *rest] if _is_python(python):
            return rest
        case [python, script, "train", *rest] if _is_python(python) and _is_lab_script(script):
            return rest
    raise RequestError(f"command: {' '.join(argv)!r} does not lead to `lab train`; write {WANTED}")


def _is_python(word: str) -> bool:
    return _PYTHON.fullmatch(PurePath(word).name) is not None


def _is_lab_script(word: str) -> bool:
    return PurePath(word).parts[-2:] in (("lab", "__main__.py"), ("lab", "cli.py"))


def override_key(word: str, place: str) -> str:
    """The key that an override sets. Raises RequestError, naming `place`, if it isn't one key, one value."""
    from lab.overrides import parse

    refusal = RequestError(f"{place}: {word!r} is not an override; accepted: key=value")
    if "=" not in word:
        raise refusal
    try:
        override = parse(word.removeprefix("--"))
    except RequestError:
        raise refusal from None
    if override.is_sweep_override():
        raise RequestError(
            f"{place}: {word!r} holds several values; accepted: one value here, several under parameters "
            f"in the sweep file ({override.key_or_group}: values: [...])"
        )
    return override.key_or_group


def check_survives(name: str, value: Any, macro: str = "${args_no_hyphens}") -> None:
    """Raise RequestError unless the agent's words for a parameter reach Hydra as this very value.

    `macro` is the one that stands for the parameters in the command.
    """
    from lab.overrides import parse

    def refuse(reason: str) -> RequestError:
        return RequestError(f"parameters.{name}: {value!r} {reason}")

    if value is None and macro not in JSON:
        raise refuse("(null) would reach lab train as the word None; accepted: a number, text, true or false, a list")
    if isinstance(value, dict):
        raise refuse(f"is a mapping, which Hydra can't read from text; accepted: dotted names ({name}.KEY)")
    if "${" in str(value) or value == "???":
        raise refuse("would be read as a reference to another value; accepted: the value itself")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise refuse(
            "has no place in JSON, by which W&B sends values; accepted: finite numbers, text, lists"
        ) from error
    words = overrides(ARGUMENTS[macro]({name: value}))
    if not words:
        raise refuse(f"would be left out by {macro}; write {WANTED}")
    text, *others = words
    try:
        override = parse(text, exactly=True)
    except RequestError as error:
        raise refuse(f"can't be read by Hydra as {text!r}; accepted: plain words, numbers, lists of them") from error
    if others or override.is_sweep_override():
        raise refuse("would be read by Hydra as several values; accepted: one value each, several under values")
    arrived = override.value()
    if arrived != value:
        hint = ""
        if isinstance(value, str) and isinstance(arrived, float):
            hint = " (YAML takes a number like 1e-3 for text: write 1.0e-3)"
        raise refuse(f"would reach lab train as {arrived!r}{hint}; accepted: values that Hydra reads back unchanged")
