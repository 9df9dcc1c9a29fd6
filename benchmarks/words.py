"""Word vectors beside gensim's word2vec: the same words, settings and epochs; words a second, and what the vectors know.

The text is the English verses of `WORDS_TEXT`, by default the file that developers of the lab share; without it, the
embedded documentation, of which the list of pairs knows too little to ask about quality.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from gensim.models import Word2Vec

import lab
from benchmarks.measure import Finding, finding, main
from benchmarks.word_pairs import analogy_rank, pair_auc
from lab.runs import machine
from lab.runs.train import data_module

TEXT = Path(os.environ.get("WORDS_TEXT", "../shared/data/verses.jsonl.gz"))
EPOCHS, SEEDS = 5, 4
PRESETS = {"skip_gram": "word2vec", "cbow": "word2vec_cbow"}


def composed(objective: str, seed: int, tokens: int = 1) -> Any:
    """The preset, on the verses if they are there."""
    verses = ["data=files", f"data.path={TEXT.absolute()}", "data.field=en"] if TEXT.is_file() else []
    run = [f"seed={seed}", f"budget.tokens={tokens}", "trainer.validations=1", "logger=none"]
    return lab.compose(f"preset={PRESETS[objective]}", *verses, *run)


def ours(objective: str, seed: int, tokens: int) -> tuple[np.ndarray, float]:
    """The vectors, `[vocab, dim]`, and words a second."""
    with tempfile.TemporaryDirectory() as folder:
        run = lab.train(composed(objective, seed, tokens), Path(folder) / "run")
        assert run.status == "finished", run.result["error"]
        return run.model.embedding.table.weight.detach().numpy(), run.result["tokens_per_second"]


def gensims(config: Any, sentences: list[list[str]], size: int, tokens: int) -> tuple[np.ndarray, float]:
    """The same of gensim. Its time is that of training, the vocabulary built before."""
    settings = config.objective
    model = Word2Vec(
        vector_size=config.model.dim, window=settings.window, min_count=1, sg=int(config.choices.objective == "skip_gram"),
        negative=settings.negatives, sample=settings.sample, alpha=config.optimizer.lr,
        min_alpha=config.optimizer.lr * config.schedule.final, workers=machine.cores(), seed=1 + config.seed,
    )  # fmt: skip
    model.build_vocab(sentences)
    began = time.perf_counter()
    model.train(sentences, total_examples=len(sentences), epochs=EPOCHS)
    seconds = time.perf_counter() - began
    vectors = np.zeros((size, config.model.dim), np.float32)
    vectors[[int(word) for word in model.wv.index_to_key]] = model.wv.vectors
    return vectors, tokens / seconds


def compare(objective: str) -> list[Finding]:
    """One objective against gensim's, both in turn for each seed."""
    prepared = data_module(composed(objective, 0)).prepared
    text, special = prepared.train, set(prepared.tokenizer.specials.values())
    documents = np.split(text.ids, text.offsets[1:-1])
    sentences = [[str(token) for token in document if token not in special] for document in documents]
    tokens = EPOCHS * len(text.ids)
    index = prepared.tokenizer.inner.get_vocab()
    speeds: list[tuple[float, float]] = []
    quality: list[list[float]] = []
    for seed in range(SEEDS):
        work = [
            lambda seed=seed: ours(objective, seed, tokens),
            lambda seed=seed: gensims(composed(objective, seed), sentences, prepared.tokenizer.vocab_size, tokens),
        ]
        done = [each() for each in work] if seed % 2 else [each() for each in reversed(work)][::-1]
        speeds.append((done[0][1], done[1][1]))
        quality.append([figure(vectors, index) for figure in (pair_auc, analogy_rank) for vectors, _ in done])
    mine, theirs = np.median(speeds, axis=0)
    detail = f"ours {mine:,.0f}, gensim {theirs:,.0f} words/s"
    found = [finding("words", f"{objective} / gensim", [a / b for a, b in speeds], at_least=0.25, detail=detail)]
    if TEXT.is_file():
        auc, their_auc, rank, their_rank = np.mean(quality, axis=0)
        auc_gaps, rank_gaps = ([row[i] - row[i + 1] for row in quality] for i in (0, 2))
        detail = f"ours {auc:.3f}, gensim {their_auc:.3f}; {SEEDS} seeds"
        found.append(finding("words", f"{objective} - gensim, AUC of pairs", auc_gaps, at_least=-0.01, detail=detail))
        detail = f"ours {rank:.2f}, gensim {their_rank:.2f}; 25 analogies"
        found.append(finding("words", f"{objective} - gensim, analogies", rank_gaps, detail=detail))
    return found


def run() -> list[Finding]:
    """Both objectives."""
    return [found for objective in PRESETS for found in compare(objective)]


if __name__ == "__main__":
    main(run)
