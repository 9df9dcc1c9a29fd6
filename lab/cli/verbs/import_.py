"""`lab import`: make a run folder of a published model."""

from __future__ import annotations

from pathlib import Path

from lab.cli.parser import Parser, document, print_json

HELP = {"import FOLDER": "a published model, in Hugging Face's format, as a run"}


def main(arguments: list[str]) -> int:
    """Run the verb; returns the exit code."""
    parser = Parser(
        "import",
        description="Make a run of a folder in Hugging Face's format: config.json, safetensors, tokenizer.json.",
    )
    parser.add_argument("source", metavar="FOLDER", help="what transformers' save_pretrained wrote")
    parser.add_argument("--into", type=Path, metavar="RUN", help="the run's folder (default: a new one under runs/)")
    parser.add_json()
    options = parser.parse_args(arguments)
    from lab.huggingface.incoming import take_in

    run = take_in(options.source, options.into)
    if options.json:
        print_json(document(run))
    else:
        print(f"{run.result['parameters']:,} parameters, composed by\n  {' '.join(run.config.overrides)}\n{run.folder}")
    return 0
