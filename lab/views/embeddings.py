"""Vectors of words, sentences and documents looked at: neighbours, a plane, a word's senses, files for other tools."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.atomic import write_atomically
from lab.console import say
from lab.data import readers
from lab.errors import RequestError
from lab.runs.folder import Run
from lab.vectors import Vectors, embed, similarities, word_in
from lab.views.words import Near, Words

METHODS = {"pca": "principal components", "tsne": "t-SNE", "umap": "UMAP"}
"""Ways to lay vectors on a plane: Pearson 1901; van der Maaten and Hinton 2008; McInnes et al. 2018."""

LEAST = 3
"""Points of a plane."""


@dataclass(frozen=True, eq=False)
class Named:
    """Vectors with what each stands for.

    Attributes:
        names: words or texts.
        vectors: `[names, dim]`.
        kind: `tokens` of the vocabulary, from the model's table, or `texts` that the model has read.
    """

    names: list[str]
    vectors: Vectors
    kind: str

    @property
    def dense(self) -> np.ndarray:
        """`[names, dim]` float32."""
        rows = self.vectors if isinstance(self.vectors, np.ndarray) else self.vectors.toarray()
        return rows.astype(np.float32)


def texts_of(path: Path) -> list[str]:
    """The texts of a file, one a line.

    Raises:
        RequestError: it cannot be read, or holds none.
    """
    try:
        texts = [line.strip() for line in readers.lines(path) if line.strip()]
    except RequestError as error:
        raise RequestError(f"--among: {error}") from None
    if not texts:
        raise RequestError(f"--among: {path} holds no text; one a line is read")
    return texts


def vocabulary(run: Run) -> Named:
    """The rows of the model's table of embeddings, without special tokens and the one of what is unknown.

    Raises:
        RequestError: the model has no table.
    """
    words = Words(run)
    special = {*run.tokenizer.specials.values(), run.tokenizer.unknown_id}
    kept = [token for token in range(len(words.table)) if token not in special]
    return Named([run.tokenizer.spelt(token) for token in kept], words.table[kept].numpy(), "tokens")


def read(run: Run, texts: Sequence[str]) -> Named:
    """Texts as the model reads them. Errors as `lab.embed`."""
    return Named(list(texts), embed(run, texts), "texts")


def words_or_texts(run: Run, names: Sequence[str]) -> Named:
    """Words by the model's table if each is one token of it, else texts as the model reads them.

    Raises:
        RequestError: as `read`, a name that is given twice, or one for which there is no token.
    """
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RequestError(f"--plane: {twice!r} twice; each once")
    try:
        words = Words(run)
        tokens = [words.token(name) for name in names]
    except RequestError:
        for name in names:
            check_known(run, name, "--plane")
        return read(run, names)
    return Named(list(names), words.table[tokens].numpy(), "tokens")


def near(run: Run, queries: Sequence[str], count: int, among: Sequence[str] | None = None) -> dict[str, Near]:
    """What is nearest to each query by cosine: among the words of the vocabulary, or among texts.

    Raises:
        RequestError: a word that is not in the vocabulary, a text for which there is no token, a count under 1, a family
            without vectors.
    """
    if count < 1:
        raise RequestError(f"-k: {count}; how many neighbours, 1 or more")
    if among is None:
        words = Words(run)
        tokens = [words.token(query) for query in queries]
        return {
            query: words.nearest(words.unit[token], count, {token})
            for query, token in zip(queries, tokens, strict=True)
        }
    for query in queries:
        check_known(run, query, "--near")
    cosines = similarities(embed(run, queries), embed(run, among))
    found = {}
    for query, row in zip(queries, cosines, strict=True):
        order = [int(i) for i in np.argsort(-row, kind="stable") if among[int(i)] != query][:count]
        found[query] = [(among[i], float(row[i])) for i in order]
    return found


def check_known(run: Run, text: str, name: str) -> None:
    """Say which parts of a text no token stands for.

    Raises:
        RequestError: it has no other parts.
    """
    unknown = run.tokenizer.unknown(text)
    if not unknown:
        return
    told = f"{name}: the run's tokenizer has no token for {', '.join(map(repr, unknown))}"
    if set(run.tokenizer.encode([text])[0].tolist()) <= {run.tokenizer.unknown_id}:
        raise RequestError(told)
    say(f"{told}, which count as the unknown token")


@dataclass(frozen=True, eq=False)
class Senses:
    """One word in several texts.

    Attributes:
        word: which.
        texts: where it stands.
        cosines: `[texts, texts]`, of its vectors there.
    """

    word: str
    texts: list[str]
    cosines: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"word": self.word, "texts": self.texts, "cosines": self.cosines.round(6).tolist()}


def senses(run: Run, word: str, texts: Sequence[str]) -> Senses:
    """How alike a word's vectors are in texts.

    Raises:
        RequestError: as `lab.word_in`, a word for which there is no token, or under two texts.
    """
    check_known(run, word, "--word")
    if len(texts) < 2:
        raise RequestError(f"--in: {len(texts)} text{'s' * (len(texts) != 1)} with {word!r}; 2 or more are compared")
    try:
        vectors = [word_in(run, text, word) for text in texts]
    except RequestError as error:
        raise RequestError(f"--{error}" if str(error).startswith("word: ") else str(error)) from None
    return Senses(word, list(texts), similarities(np.stack(vectors)))


@dataclass(frozen=True, eq=False)
class Plane:
    """Vectors on a plane.

    Attributes:
        names: of the points.
        points: `[names, 2]`.
        method: one of `METHODS`.
        kept: the share of the variance that the plane shows; none but for principal components.
        neighbours: of each point the nearest others by cosine in the full space, their numbers and cosines.
    """

    names: list[str]
    points: np.ndarray
    method: str
    kept: float | None
    neighbours: list[list[tuple[int, float]]]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        points = [
            {"name": name, "x": float(x), "y": float(y)} for name, (x, y) in zip(self.names, self.points, strict=True)
        ]
        return {"method": self.method, "variance_kept": self.kept, "points": points}


def plane(named: Named, method: str = "pca", most: int = 6) -> Plane:
    """Lay vectors on a plane; always the same for the same vectors.

    Args:
        named: the vectors.
        method: one of `METHODS`.
        most: neighbours of each that are named.

    Raises:
        RequestError: too few points, or a method whose library is not installed.
    """
    count = len(named.names)
    if count < LEAST:
        raise RequestError(f"--plane: {count} point{'s' * (count != 1)}; a plane takes {LEAST} or more")
    rows = named.dense
    points, kept = _LAYERS[method](rows)
    cosines = similarities(rows)
    np.fill_diagonal(cosines, -math.inf)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, : min(most, count - 1)]
    neighbours = [[(int(j), float(cosines[i, j])) for j in row] for i, row in enumerate(order)]
    return Plane(named.names, np.asarray(points, float), method, kept, neighbours)


def _pca(rows: np.ndarray) -> tuple[np.ndarray, float]:
    from sklearn.decomposition import PCA

    made = PCA(2, svd_solver="full")
    return made.fit_transform(rows), float(np.nan_to_num(made.explained_variance_ratio_.sum()))


def _tsne(rows: np.ndarray) -> tuple[np.ndarray, None]:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(rows) - 1) / 3)
    start = _pca(rows)[0]
    start = start / (start[:, 0].std() or 1.0) * 1e-4  # as the library does it by itself
    return TSNE(2, perplexity=perplexity, init=start.astype(np.float32), metric="cosine", random_state=0).fit_transform(
        rows
    ), None


def _umap(rows: np.ndarray) -> tuple[np.ndarray, None]:
    try:
        from umap import UMAP
    except ImportError:
        raise RequestError(
            "--method: umap; needs umap-learn, which is not installed (pip install umap-learn); pca and tsne need no more"
        ) from None
    near = min(15, len(rows) - 1)
    start = "random" if len(rows) < 8 else "spectral"  # whose eigenvectors take more points
    return UMAP(n_components=2, n_neighbors=near, metric="cosine", init=start, random_state=0, n_jobs=1).fit_transform(
        rows
    ), None


_LAYERS: dict[str, Any] = {"pca": _pca, "tsne": _tsne, "umap": _umap}


def to_projector(named: Named, folder: Path) -> list[Path]:
    """Write `vectors.tsv` and `metadata.tsv`, which TensorBoard's projector loads.

    Raises:
        RequestError: the folder cannot be written.
    """
    rows = "".join("\t".join(f"{value:.7g}" for value in row) + "\n" for row in named.dense.tolist())
    names = "".join(_on_a_line(name) + "\n" for name in named.names)  # one column has no heading there
    files = {folder / "vectors.tsv": rows, folder / "metadata.tsv": names}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            write_atomically(path, content)
    except OSError as error:
        raise RequestError(f"--tensorboard: {folder} cannot be written ({error.strerror or error})") from None
    return list(files)


def to_parquet(named: Named, path: Path) -> None:
    """Write a table of `text` and `vector`, a list of float32.

    Raises:
        RequestError: the file cannot be written.
    """
    import io

    import pyarrow
    from pyarrow import parquet

    rows = named.dense
    values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.ravel()), rows.shape[1])
    sink = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": named.names, "vector": values}), sink)
    try:
        write_atomically(path, sink.getvalue())
    except OSError as error:
        raise RequestError(f"--parquet: {path} cannot be written ({error.strerror or error})") from None


def _on_a_line(name: str) -> str:
    """A name that is neither empty nor breaks the table."""
    shown = "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in name)
    return shown if shown.strip() else f"'{shown}'"
