"""`lab export`: write a run as a published model."""

from __future__ import annotations

import math
from pathlib import Path

from lab.cli.parser import Parser, print_json
from lab.errors import RequestError

HELP = {"export RUN FOLDER": "a run in Hugging Face's format"}


def main(arguments: list[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = Parser(
        "export",
        description="Write the model and the tokenizer of a run as transformers' AutoModel and AutoTokenizer read them.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where it goes; new or empty")
    parser.add_argument("--family", metavar="NAME", help="the model_type to write (default: the first that fits)")
    parser.add_argument(
        "--shard", type=float, metavar="GB", default=5.0, help="of a file, at most (default: %(default)s)"
    )
    parser.add_json()
    options = parser.parse_args(arguments)
    if not 0 < options.shard < math.inf:
        raise RequestError(f"--shard: {options.shard}; gigabytes, over 0")
    from lab.huggingface.outgoing import give_out
    from lab.runs.folder import load

    made = give_out(load(options.run), options.folder, options.family, int(options.shard * 1e9) or 1)
    if options.json:
        print_json({"folder": str(made.folder), "model_type": made.model_type, "weights": made.files})
    else:
        print(f"{made.model_type}, {', '.join(made.files)}\n{made.folder}")
    return 0
