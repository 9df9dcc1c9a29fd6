"""One word in two senses: does its vector tell them apart, by what the verses' Spanish translation says?

    python experiments/families/senses.py verses.jsonl.gz runs/search_masked runs/search_word_vectors

A folder is of runs that differ by their seed, from sweeps/search_masked.yaml or its long version, and their like. The figure
is how often two verses with the same sense have more similar vectors of the word than two with different ones; ties count
half.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

import lab
from lab.data.examples import Pairs

SENSES = {
    "well": {"of water": "pozos?", "good": "bien|buen[oa]?"},
    "bear": {"the animal": "os[oa]s?", "a son, a burden": r"llev\w+|par\w+|trae\w+|dar\w+|sufr\w+"},
    "left": {"the side": "izquierd[ao]|siniestr[ao]", "remained": r"dej\w+|qued\w+"},
    "bow": {"the weapon": "arcos?", "to bend": r"inclin\w+|ador\w+|postr\w+|arrodill\w+|encorv\w+"},
    "rest": {"repose": r"repos\w+|descans\w+", "the others": r"rest\w+|demás"},
    "lie": {"to be down": r"acost\w+|ech\w+|dorm\w+|durm\w+|yac\w+", "falsehood": r"mentir\w*|mient\w+"},
    "right": {"the side": "derech[ao]|diestra", "just": r"just\w+|rect\w+|bien"},
}
"""Words, and for each sense the Spanish words that stand for it."""

LONGEST = 200
"""Characters of a verse at most, which the smallest of the encoders reads as a whole."""

MOST = 40
"""Verses of a sense at most, evenly spaced through the text."""


def verses_of(word: str, spanish: Mapping[str, str], pairs: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
    """Short verses with the word, once, and the sense that their translation gives it, where that is one."""
    found: dict[str, list[str]] = {sense: [] for sense in spanish}
    for english, translated in pairs:
        if len(english) <= LONGEST and len(re.findall(rf"\b{word}\b", english)) == 1:
            said = [s for s, words in spanish.items() if re.search(rf"\b({words})\b", translated, re.IGNORECASE)]
            if len(said) == 1:
                found[said[0]].append(english)
    chosen = []
    for sense, texts in found.items():
        places = np.unique(np.linspace(0, len(texts) - 1, min(MOST, len(texts))).round().astype(int))
        chosen += [(texts[place], sense) for place in places]
    return chosen


def told_apart(vectors: np.ndarray, senses: Sequence[str]) -> float:
    """How often two of `[texts, dim]` vectors with the same sense are more similar than two with different ones."""
    one, other = np.triu_indices(len(senses), 1)
    same = np.array(senses)[one] == np.array(senses)[other]
    # The area under the curve of those who tell pairs by their cosine (Mann and Whitney 1947); alike to float32 is alike.
    places = rankdata(lab.similarities(vectors)[one, other].round(5))
    count = same.sum()
    return float((places[same].sum() - count * (count + 1) / 2) / (count * (~same).sum()))


def main(path: str, folders: Sequence[str]) -> None:
    """Print a row for each word: verses of each sense, and for each folder the mean over its runs and their deviation."""
    pairs = [example.texts for example in Pairs(path, "en", "es").examples()]
    runs = [[lab.load(each.parent) for each in sorted(Path(folder).glob("*/result.json"))] for folder in folders]
    print("|", " | ".join(["word", "verses", *folders]), "|")
    for word, spanish in SENSES.items():
        texts, senses = zip(*verses_of(word, spanish, pairs), strict=True)
        cells = [f"*{word}* ({'; '.join(spanish)})", ", ".join(str(senses.count(sense)) for sense in spanish)]
        for seeds in runs:
            found = [told_apart(np.stack([lab.word_in(run, text, word) for text in texts]), senses) for run in seeds]
            cells.append(f"{np.mean(found):.3f} ± {np.std(found, ddof=1):.3f}" if len(found) > 1 else f"{found[0]:.3f}")
        print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
