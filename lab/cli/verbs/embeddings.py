"""`lab embeddings`: vectors of words, sentences and documents, looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.cli.parser import Parser, print_json, writable
from lab.errors import RequestError

HELP = {"embeddings RUN --near WORD ...": "neighbours, a plane of words, a word's senses, files"}
ASKS = ("near", "analogy", "plane", "word", "tensorboard", "parquet")


def main(arguments: list[str]) -> int:
    """Run the verb; returns the exit code."""
    options = _parser().parse_args(arguments)
    if all(getattr(options, ask) is None for ask in ASKS):
        raise RequestError(f"what to show: one of {', '.join(f'--{ask}' for ask in ASKS)}")
    if (options.word is None) != (not options.texts):
        raise RequestError("--word, --in: go together: a word, and each text that it stands in")
    looked_at = ("near", "analogy", "plane", "word")
    if options.html and all(getattr(options, ask) is None for ask in looked_at):
        raise RequestError(f"--html: a page of what is shown: {', '.join(f'--{ask}' for ask in looked_at)}")
    if options.method is not None and options.plane is None:
        raise RequestError("--method: of a --plane")
    taken = options.plane == [] or any(getattr(options, ask) is not None for ask in ("near", "tensorboard", "parquet"))
    if options.among is not None and not taken:
        raise RequestError("--among: texts for --near, for a --plane without words, or for --tensorboard and --parquet")
    if options.plane == [] and options.among is None:
        raise RequestError("--plane: the words to lay on a plane, or --among FILE for texts")
    from lab.runs.subject import subject
    from lab.views import embeddings as views

    run = subject(options.run)
    among = None if options.among is None else views.texts_of(options.among)
    near = None if options.near is None else views.near(run, options.near, options.k, among)
    if options.analogy is not None:
        from lab.views.words import analogy

        a, b, c = options.analogy
        near = (near or {}) | {f"{b} - {a} + {c}": analogy(run, a, b, c, options.k)}
    senses = None if options.word is None else views.senses(run, options.word, options.texts)
    plane = None
    if options.plane is not None:
        named = views.words_or_texts(run, options.plane) if options.plane else views.read(run, among or [])
        plane = views.plane(named, options.method or "pca")
    written = _write(run, among, options)
    if options.html:
        from lab.views.embeddings_page import to_html
        from lab.views.web import write_page

        write_page(options.html, to_html(f"Vectors of {run.folder}", near, senses, plane))
    if options.json:
        found: dict[str, Any] = {
            "near": near and {query: [{"text": t, "cosine": c} for t, c in some] for query, some in near.items()},
            "senses": senses and senses.to_json(),
            "plane": plane and plane.to_json(),
            "written": written,
        }
        print_json({key: value for key, value in found.items() if value})
        return 0
    from lab.views import embeddings_text as text

    if near:
        text.show_near(near)
    if senses:
        text.show_senses(senses)
    if plane:
        text.show_plane(plane)
    for path in written:
        print(f"wrote {path}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        "embeddings",
        description="Vectors of words (rows of the model's table) and of texts (as the model reads them), by cosine.",
    )
    parser.add_run()
    parser.add_argument("--near", nargs="+", metavar="TEXT", help="its neighbours: among words, or with --among texts")
    parser.add_argument("--analogy", nargs=3, metavar=("A", "B", "C"), help="the words that are to C as B is to A")
    parser.add_argument("--among", type=Path, metavar="FILE", help="texts, one a line, in place of the vocabulary")
    parser.add_argument("-k", type=int, default=10, metavar="N", help="neighbours of each (default: %(default)s)")
    parser.add_argument("--plane", nargs="*", metavar="WORD", help="words, or --among's texts, laid on a plane")
    parser.add_argument("--method", choices=("pca", "tsne", "umap"), help="of the plane (default: pca)")
    parser.add_argument("--word", metavar="WORD", help="how alike it is in each text given with --in")
    parser.add_argument("--in", dest="texts", action="append", default=[], metavar="TEXT", help="a text with the word")
    parser.add_argument(
        "--tensorboard", type=Path, metavar="FOLDER", help="vectors.tsv, metadata.tsv for the projector"
    )
    parser.add_argument("--parquet", type=writable("--parquet"), metavar="FILE", help="the vectors as a table")
    parser.add_html("a page, with the plane to move about in")
    parser.add_json()
    return parser


def _write(run: Any, among: list[str] | None, options: Any) -> list[str]:
    """The files for other tools: of the vocabulary, or of the texts."""
    if options.tensorboard is None and options.parquet is None:
        return []
    from lab.views import embeddings as views

    named = views.vocabulary(run) if among is None else views.read(run, among)
    written: list[str] = []
    if options.tensorboard is not None:
        written += map(str, views.to_projector(named, options.tensorboard))
    if options.parquet is not None:
        views.to_parquet(named, options.parquet)
        written.append(str(options.parquet))
    return written
