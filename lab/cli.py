"""The `lab` command: one verb, one function. Heavy imports wait until a verb needs them.

Exit codes: 0 the runs ended as results (finished, diverged, pruned); 1 a run failed; 2 the request was wrong;
130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lab.errors import RequestError

if TYPE_CHECKING:
    from lab.runs.folder import Run

HELP = """\
lab: what does this architecture choice do?

  lab train [GROUP=OPTION ...] [KEY=VALUE ...]   train one run; `lab train --help` lists groups and options
  lab train -m attention=mha,gqa seed=0,1        one run for each combination
  lab train resume=FOLDER                        continue a run that was stopped
  lab sweep FILE [KEY=VALUE ...]                 run a sweep file of W&B's format here, resumable
  lab report FOLDER ...                          compare runs: a table and a page
  lab show [GROUP=OPTION ...] [KEY=VALUE ...]    a composition: parts, costs, who sees whom
  lab tokens TEXT [--with TOKENIZER ...]         how tokenizers cut a text
  lab generate RUN PROMPT ...                    what a model writes, as it writes it
  lab attention RUN TEXT                         where each head looks
  lab parts [GROUP ...]                          what can be chosen, and what it is
  lab import FOLDER                              a published model, in Hugging Face's format, as a run
  lab export RUN FOLDER                          a run in Hugging Face's format

  --json with any verb: one JSON document on standard output
  eval "$(lab --shell-completion install=bash)"  completion of verbs, groups and options (also zsh, fish)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    if arguments is None:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(130))  # until a run takes it as a wish to stop
        arguments = sys.argv[1:]
    given = list(arguments)
    if given[:1] and given[0] in ("-sc", "--shell-completion"):
        return complete(given)
    if not given or given[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0 if given else 2
    if given[0] in ("-V", "--version"):
        import lab

        print(lab.__version__)
        return 0
    try:
        verb = VERBS.get(given[0])
        if verb is None:
            raise RequestError(f"{given[0]}: no such verb; there are {', '.join(VERBS)} (lab --help)")
        return verb(given[1:])
    except RequestError as error:
        from lab.console import say

        say(f"lab {given[0]}: {error}")
        return 2
    except SystemExit as end:  # after --help
        return int(end.code or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone (`lab report ... | head`); Python must not complain about it again while it closes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def train(arguments: list[str]) -> int:
    """Train one run, or with `-m` several."""
    if {"--shell-completion", "-sc"} & set(arguments):
        return complete(arguments)
    as_json = "--json" in arguments
    arguments = [_override(text) for text in arguments if text not in ("--json", "--run", "-r")]
    folders = [text.removeprefix("resume=") for text in arguments if text.startswith("resume=")]
    if folders and len(arguments) > 1:
        raise RequestError("resume: a run continues with its own configuration; nothing else can be given with it")
    if any(text.startswith("-") for text in arguments):
        return _hydra_application(arguments, as_json)

    from lab.config import compose
    from lab.runs.ranks import first_rank
    from lab.runs.train import continue_run
    from lab.runs.train import train as run

    with _bar() as bar:
        done = continue_run(folders[0], [bar]) if folders else run(compose(*arguments), observers=[bar])
    if as_json and first_rank():
        print(json.dumps(_document(done), indent=2))
    elif first_rank():
        _print([done])
    return exit_code([done.status])


def _override(text: str) -> str:
    """`--key=value`, as W&B's agent writes it by default, is `key=value`; Hydra's own flags stay."""
    hydra = ("--config-", "--package=", "--info=", "--cfg=", "--experimental")
    return text[2:] if text.startswith("--") and "=" in text and not text.startswith(hydra) else text


def _bar() -> Any:
    from lab.runs.bar import Bar

    return Bar()


def _print(runs: Sequence[Run]) -> None:
    from lab.runs.bar import summary

    for run in runs:
        print(summary(run))


def _document(run: Run) -> dict[str, Any]:
    return {"folder": str(run.folder), **run.result}


def exit_code(statuses: Sequence[str]) -> int:
    """Of runs that ended with these statuses."""
    if "stopped" in statuses:
        return 130
    return 1 if "failed" in statuses else 0


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line, as of any other wrong request."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments."""
        raise RequestError(f"{message}; `{self.prog} --help` says what there is")


def _hydra_application(arguments: list[str], as_json: bool) -> int:
    """What a Hydra application does with its flags: multirun, printing, help."""
    import hydra
    from hydra._internal.utils import get_args_parser

    from lab.config import compose
    from lab.options import conf_folder
    from lab.runs.folder import RESULT, create, load

    parser = Parser(prog="lab train", add_help=False, parents=[get_args_parser()], allow_abbrev=False)
    options = parser.parse_intermixed_args(arguments)
    for flag in ("config_path", "config_name", "config_dir", "experimental_rerun"):
        if getattr(options, flag):
            raise RequestError(
                f"--{flag.replace('_', '-')}: the lab's configuration is in conf/; a new option is a file there"
            )
    if options.cfg == "job":
        _print_configuration(options, as_json)
        return 0
    if not (options.multirun or options.cfg or options.info or options.help or options.hydra_help):
        raise RequestError("--resolve, --package: go with --cfg job, which prints the configuration")
    given = [text for text in arguments if text not in options.overrides] + options.overrides
    folder = None
    if options.multirun:
        folder = _check_multirun(options.overrides)
        create(folder)
        given = [text for text in given if not text.startswith("hydra.sweep.dir=")] + [f"hydra.sweep.dir={folder}"]
    elif tasks := [text for text in options.overrides if not text.startswith("hydra")]:
        compose(*tasks)
    sys.argv = ["lab", *given]
    application = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(hydra_job)
    try:
        application()
    except SystemExit as end:
        if end.code:
            return int(end.code) if isinstance(end.code, int) else 1
    if folder is None:
        return 0
    runs = [load(path.parent) for path in sorted(folder.glob(f"*/{RESULT}"), key=_number)]
    if as_json:
        print(json.dumps([_document(run) for run in runs], indent=2))
    else:
        _print(runs)
        print(f"compare them: lab report {folder}")
    return exit_code([run.status for run in runs])


def _print_configuration(options: argparse.Namespace, as_json: bool) -> None:
    """What a run would be trained with, or a part of it: not what Hydra composed, but what the lab made of that."""
    from omegaconf import Container, OmegaConf

    from lab.config import compose

    config = compose(*options.overrides)
    shown = OmegaConf.select(config, options.package) if options.package else config
    if as_json:
        print(
            json.dumps(
                OmegaConf.to_container(shown, resolve=options.resolve) if isinstance(shown, Container) else shown,
                indent=2,
            )
        )
    else:
        print(OmegaConf.to_yaml(shown, resolve=options.resolve).rstrip() if isinstance(shown, Container) else shown)


def _number(path: Path) -> tuple[int, str]:
    name = path.parent.name
    return (int(name) if name.isdigit() else 0, name)


def _check_multirun(overrides: list[str]) -> Path:
    """Compose every combination before the first one runs; the folder where they go."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    from lab.config import compose, hydra_settings
    from lab.overrides import parse

    tasks = [text for text in overrides if not text.startswith("hydra")]
    if any(text.startswith("folder=") for text in tasks):
        raise RequestError("folder: several runs cannot share one; hydra.sweep.dir=PATH names the folder above theirs")
    for batch in BasicSweeper.split_arguments([parse(text) for text in tasks], None):
        for combination in batch:
            compose(*combination)
    return Path(hydra_settings([text for text in overrides if text.startswith("hydra")]).sweep.dir)


def hydra_job(config: Any) -> str:
    """One job of a multirun, here or wherever a launcher of Hydra's starts it."""
    from hydra.core.hydra_config import HydraConfig

    from lab.config import compose
    from lab.console import say
    from lab.runs.train import train as run

    settings = HydraConfig.get()
    say(f"[{settings.job.num}] {settings.job.override_dirname}")
    try:
        with _bar() as bar:
            done = run(compose(*settings.overrides.task), settings.runtime.output_dir, observers=[bar])
    except RequestError as error:
        say(f"lab train: {error}")
        sys.exit(2)
    if done.status == "stopped":
        raise KeyboardInterrupt
    return done.status


def sweep(arguments: list[str]) -> int:
    """Run a sweep file here."""
    parser = Parser(
        prog="lab sweep",
        usage="%(prog)s FILE [KEY=VALUE ...] [options]",
        description="Run a sweep file of W&B's own format, without a server. KEY=VALUE holds for every trial.",
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", help="a YAML file: method, parameters, command")
    parser.add_argument("--status", action="store_true", help="how far it is; FILE may be a sweep's folder")
    parser.add_argument("--folder", type=Path, help="where runs and report go (default: runs/ and the file's name)")
    parser.add_argument("--baseline", help="what the report compares with: a configuration, `first` or `previous`")
    parser.add_argument("--plan", action="store_true", help="show what would run, and stop")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="run so many trials at once, each on its share of the cores"
    )
    parser.add_argument(
        "--prune", metavar="HOW", help="give up what falls behind: `median` within runs, `wilcoxon` over seeds"
    )
    parser.add_argument(
        "--storage", metavar="URL", help="a database that workers on several machines share the sweep by"
    )
    parser.add_argument("--retry-failed", action="store_true", help="run trials again that failed")
    parser.add_argument(
        "--online", action="store_true", help="let W&B's server choose, and run its agent in this process"
    )
    parser.add_argument("--join", metavar="ID", help="the same for a sweep that is on W&B's server already")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options, others = parser.parse_known_args(arguments)
    if options.status:
        return _sweep_status(options, others)
    from lab.runs.sweep import sweep as run

    outcome = run(
        options.file,
        [_override(text) for text in others],
        options.folder,
        options.baseline,
        options.plan,
        options.retry_failed,
        options.storage,
        options.jobs,
        options.prune,
        options.online,
        options.join,
    )
    if options.json:
        print(json.dumps(outcome.to_json(), indent=2))
    else:
        outcome.print()
    return outcome.exit_code


def _sweep_status(options: argparse.Namespace, others: list[str]) -> int:
    """How far a sweep is."""
    if others:
        raise RequestError(f"{others[0]}: nothing to set; --status only looks")
    from lab.runs.sweep.status import status

    found = status(options.folder or options.file, options.storage)
    if options.json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        found.print()
    return 0


def report(arguments: list[str]) -> int:
    """Compare runs."""
    parser = Parser(
        prog="lab report", allow_abbrev=False, description="Compare the runs of folders, over paired seeds."
    )
    parser.add_argument("folders", nargs="+", type=Path, help="runs, sweeps or multiruns")
    parser.add_argument("--baseline", help="a configuration, `first` or `previous`")
    parser.add_argument("--html", type=Path, help="the page (default: report.html in the first folder)")
    parser.add_argument("--margin", type=float, help="the largest difference that makes none, in the measure's unit")
    parser.add_argument("--scale", action="append", default=[], metavar="KEY", help="compare within each size of KEY")
    parser.add_argument("--most-seeds", type=int, metavar="N", help="seeds were added until it was decided, at most N")
    parser.add_argument(
        "--table", action="append", default=[], type=Path, metavar="FILE", help="as .csv, .parquet, .tex or .md"
    )
    parser.add_argument("--csv", type=Path, help="the table as a file")
    parser.add_argument("--wandb", action="store_true", help="a report in W&B too; offline its definition is kept")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args(arguments)
    from lab.runs.report import report as compare

    made = compare(options.folders, options.baseline, options.margin, options.scale, options.most_seeds)
    page = options.html or options.folders[0] / "report.html"
    made.write_html(page)
    if options.csv:
        made.write_csv(options.csv)
    for path in options.table:
        made.write_table(path)
    if options.wandb:
        made.publish()
    if options.json:
        print(json.dumps(made.to_json(), indent=2))
    else:
        made.print()
    return 0


def show(arguments: list[str]) -> int:
    """Describe a composition."""
    parser = Parser(
        prog="lab show",
        usage="%(prog)s [GROUP=OPTION ...] [KEY=VALUE ...] [options]",
        description="The parts of a composition with what they cost, and who sees whom in each layer.",
        allow_abbrev=False,
    )
    parser.add_argument("--tokens", type=int, default=32, help="of the drawn grids (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options, others = parser.parse_known_args(arguments)
    if options.tokens < 1:
        raise RequestError(f"--tokens: {options.tokens}; at least 1")
    from lab.config import compose
    from lab.views.show import show as describe

    shown = describe(compose(*[_override(text) for text in others]), options.tokens)
    if options.json:
        print(json.dumps(shown.to_json(), indent=2, ensure_ascii=False))
    else:
        shown.print()
    return 0


def tokens(arguments: list[str]) -> int:
    """Cut a text into tokens."""
    parser = Parser(
        prog="lab tokens",
        usage="%(prog)s TEXT [GROUP=OPTION ...] [KEY=VALUE ...] [options]",
        description="How tokenizers cut a text. KEY=VALUE is of the composition that a tokenizer is made for.",
        allow_abbrev=False,
    )
    parser.add_argument("text", metavar="TEXT", help="or - for standard input")
    parser.add_argument(
        "--with",
        dest="tokenizers",
        action="append",
        default=[],
        metavar="TOKENIZER",
        help="a run folder, a tokenizer.json, or an option such as wordpiece; several are shown under each other "
        "(default: the composition's)",
    )
    parser.add_argument("--merges", action="store_true", help="what the pieces of byte-pair encodings were merged from")
    parser.add_argument("--html", type=Path, metavar="FILE", help="a page")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options, others = parser.parse_known_args(arguments)
    from lab.runs.folder import write_atomically
    from lab.views import tokens as views

    overrides = [_override(text) for text in others]
    text = _text(options.text)
    if options.tokenizers:
        cuts = [views.cut(views.named(name, overrides), text, name) for name in options.tokenizers]
    else:
        cuts = [views.cut(views.composed(overrides), text, "as composed")]
    if options.html:
        write_atomically(options.html, views.to_html(cuts))
    if options.json:
        print(json.dumps([cut.to_json() for cut in cuts], indent=2, ensure_ascii=False))
    else:
        views.show(cuts, options.merges)
    return 0


def generate(arguments: list[str]) -> int:
    """Continue prompts."""
    parser = Parser(
        prog="lab generate",
        allow_abbrev=False,
        description="What a trained model writes after a prompt, as it writes it; after several, when all are written. An "
        "encoder-decoder reads the prompt as its source.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a run")
    parser.add_argument("prompts", metavar="PROMPT", nargs="+", help="or - for standard input")
    parser.add_argument("--tokens", type=int, metavar="N", help="at most (default: 100; of an encoder-decoder its own)")
    parser.add_argument(
        "--temperature", type=float, help="0 takes the best token (default: 0, or 1 with a --top or --min)"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="draw among the K best tokens")
    parser.add_argument("--top-p", type=float, metavar="P", help="among the best with a probability of P together")
    parser.add_argument("--min-p", type=float, metavar="P", help="among those P times as probable as the best, or more")
    parser.add_argument(
        "--repetition", type=float, metavar="X", help="make tokens that were there less likely, if over 1"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: %(default)s)")
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="ends an answer before it; repeatable"
    )
    parser.add_argument(
        "--slide", action="store_true", help="at the end of the context forget its older half and go on"
    )
    parser.add_argument(
        "--no-cache", action="store_true", help="compute all tokens anew for each; the same text, slower"
    )
    parser.add_argument("--beam", type=int, metavar="N", help="hypotheses that an encoder-decoder follows")
    parser.add_argument("--steps", action="store_true", help="one token, step by step: shapes, candidates, the choice")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args(arguments)
    from lab.console import say
    from lab.models.sampling import Sampling
    from lab.runs.folder import load
    from lab.runs.generate import write

    chosen = {name: getattr(options, name) for name in ("temperature", "top_k", "top_p", "min_p", "repetition")}
    if options.temperature is None:
        chosen["temperature"] = float(any(chosen[name] is not None for name in ("top_k", "top_p", "min_p")))
    try:
        sampling = Sampling(**chosen, seed=options.seed)
    except ValueError as error:
        key, _, said = str(error).partition(":")
        raise RequestError(f"--{key.replace('_', '-')}:{said}") from None
    if options.steps:
        return _steps(options, sampling)
    streams = len(options.prompts) == 1 and not options.json
    written = write(
        load(options.run),
        [_text(prompt) for prompt in options.prompts],
        options.tokens,
        sampling,
        options.stop,
        not options.no_cache,
        options.slide,
        options.beam,
        heard=(lambda _, text: print(text, end="", flush=True)) if streams else None,
    )
    if options.json:
        print(json.dumps(written.to_json(), indent=2, ensure_ascii=False))
    elif streams:
        print()
    else:
        print("\n\n".join(f"> {answer.prompt}\n{answer.text}" for answer in written.answers))
    say(written.note())
    return 0


def _text(given: str) -> str:
    return sys.stdin.read().removesuffix("\n") if given == "-" else given


def _steps(options: argparse.Namespace, sampling: Any) -> int:
    """One token after one prompt."""
    from lab.runs.folder import load
    from lab.views import step as views

    if len(options.prompts) > 1:
        raise RequestError(f"--steps: of one prompt, and there are {len(options.prompts)}")
    one = views.step(load(options.run), _text(options.prompts[0]), sampling)
    if options.json:
        print(json.dumps(one.to_json(), indent=2, ensure_ascii=False))
    else:
        views.show(one)
    return 0


def attention(arguments: list[str]) -> int:
    """Show where a model looks."""
    parser = Parser(
        prog="lab attention",
        allow_abbrev=False,
        description="Where each head of a trained model looks in a text: figures for all heads; with --layer and --head a "
        "map, with --token too what one token looks at.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a run")
    parser.add_argument("text", metavar="TEXT", help="or - for standard input")
    for name in ("layer", "head", "token"):
        parser.add_argument(f"--{name}", type=int, metavar="N", help="counted from 1")
    parser.add_argument("--html", type=Path, metavar="FILE", help="a page with the map of every head")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args(arguments)
    if options.token is not None and None in (options.layer, options.head):
        raise RequestError("--token: goes with --layer and --head, whose map it is a row of")
    from lab.runs.folder import load, write_atomically
    from lab.views import attention as views

    maps = views.attention(load(options.run), _text(options.text))
    for one in maps:
        one.check(options.layer or 1, options.head or 1)
    if options.html:
        write_atomically(options.html, views.to_html(maps, f"Attention of {options.run}"))
    if options.json:
        print(json.dumps([one.to_json() for one in maps], ensure_ascii=False))
    else:
        for one in maps:
            views.show(one, options.layer, options.head, options.token)
    return 0


def parts(arguments: list[str]) -> int:
    """List what can be chosen."""
    parser = Parser(
        prog="lab parts",
        description="What can be chosen: the options of every group, or of those named, and what they are.",
        allow_abbrev=False,
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="such as position or attention; all by default")
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="put the table into a Markdown file, between its marks"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args(arguments)
    from lab.views import parts as views

    found = views.parts(options.groups)
    if options.into:
        views.into_file(options.into, found)
    if options.json:
        print(json.dumps(views.to_json(found), indent=2, ensure_ascii=False))
    elif not options.into:
        views.show(found)
    return 0


def import_(arguments: list[str]) -> int:
    """Make a run folder of a published model."""
    parser = Parser(
        prog="lab import",
        allow_abbrev=False,
        description="Make a run of a folder in Hugging Face's format: config.json, safetensors, tokenizer.json.",
    )
    parser.add_argument("source", metavar="FOLDER", help="what transformers' save_pretrained wrote")
    parser.add_argument("--into", type=Path, metavar="RUN", help="the run's folder (default: a new one under runs/)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args(arguments)
    from lab.huggingface.incoming import take_in

    run = take_in(options.source, options.into)
    if options.json:
        print(json.dumps(_document(run), indent=2))
    else:
        print(f"{run.result['parameters']:,} parameters, composed by\n  {' '.join(run.config.overrides)}\n{run.folder}")
    return 0


def export(arguments: list[str]) -> int:
    """Write a run as a published model."""
    parser = Parser(
        prog="lab export",
        allow_abbrev=False,
        description="Write the model and the tokenizer of a run as transformers' AutoModel and AutoTokenizer read them.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where it goes; new or empty")
    parser.add_argument("--family", metavar="NAME", help="the model_type to write (default: the first that fits)")
    parser.add_argument(
        "--shard", type=float, metavar="GB", default=5.0, help="of a file, at most (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args(arguments)
    if not options.shard > 0:
        raise RequestError(f"--shard: {options.shard}; gigabytes, over 0")
    from lab.huggingface.outgoing import give_out
    from lab.runs.folder import load

    made = give_out(load(options.run), options.folder, options.family, int(options.shard * 1e9) or 1)
    if options.json:
        print(json.dumps({"folder": str(made.folder), "model_type": made.model_type, "weights": made.files}, indent=2))
    else:
        print(f"{made.model_type}, {', '.join(made.files)}\n{made.folder}")
    return 0


def complete(arguments: list[str]) -> int:
    """Shell completion: verbs by us, what follows `train` by Hydra."""
    words = os.environ.get("COMP_LINE", "").split(" ")
    if "query=" in " ".join(arguments):
        if len(words) <= 2:
            print(" ".join(verb for verb in VERBS if verb.startswith(words[-1])))
            return 0
        before = {"train": 2, "show": 2, "sweep": 3}.get(words[1])  # words before the first override
        if before is None or len(words) <= before:
            return 0
        os.environ["COMP_LINE"] = " ".join([words[0], *words[before:]])
    import hydra

    from lab.options import conf_folder

    sys.argv = ["lab", *arguments]
    hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(hydra_job)()
    return 0


VERBS: dict[str, Callable[[list[str]], int]] = {
    "train": train,
    "sweep": sweep,
    "report": report,
    "show": show,
    "tokens": tokens,
    "generate": generate,
    "attention": attention,
    "parts": parts,
    "import": import_,
    "export": export,
}
