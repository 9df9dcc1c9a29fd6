"""Words of the English Bible that belong together, for asking vectors about: a list of our own, not a published one."""

from __future__ import annotations

import numpy as np

RELATED = """
king queen, brother sister, brothers sisters, son daughter, sons daughters, father mother, fathers mothers, husband wife,
man woman, men women, boy girl, servant master, priest Levites, Moses Aaron, Abraham Isaac, Isaac Jacob, David Jonathan,
David Saul, Peter John, Paul Barnabas, Mary Martha, Israel Judah, Egypt Pharaoh, Jerusalem Zion, Babylon Nebuchadnezzar,
bread wine, eat drink, ate drank, gold silver, iron brass, bronze silver, sheep goats, ox donkey, oxen donkeys, bull ram,
lion bear, horse rider, horses chariots, camels donkeys, sword spear, bow arrows, shield spear, heaven earth, sun moon,
moon stars, day night, morning evening, summer winter, sea river, rivers streams, mountain valley, mountains hills,
rain snow, wind storm, fire smoke, light darkness, eyes ears, hand arm, hands feet, head hair, mouth tongue, lips tongue,
blood flesh, bones flesh, heart soul, righteous wicked, righteousness justice, wisdom understanding, wise foolish,
truth lies, love hate, joy gladness, peace war, life death, born died, sick healed, blind lame, poor needy, rich poor,
foreigner widow, sin iniquity, sins transgressions, curse bless, blessing curse, holy unclean, clean unclean,
altar incense, offering sacrifice, offerings sacrifices, temple court, gate doors, gates walls, wall tower, house tent,
city villages, cities towns, field vineyard, vine fig, olive vineyard, wheat barley, grain wine, seed fruit,
tree branches, cedar cypress, oil flour, milk honey, garment linen, purple scarlet, north south, east west,
hundred thousand, two three, four five, six seven, first second, month year, prophet prophets, apostles disciples,
Pharisees Sadducees, scribes Pharisees, synagogue Jews, cross crucified, demons spirits, shepherd flock, fish nets,
judge judges, army soldiers, elders rulers, nations peoples, kingdom throne, crown throne
"""

ANALOGIES = """
brother sister son daughter, brothers sisters sons daughters, father mother son daughter, king queen man woman,
man woman husband wife, man woman father mother, sons daughters men women, fathers mothers sons daughters,
fathers mothers brothers sisters, say said do did, eat ate drink drank, go went come came, see saw hear heard,
take took give gave, king kings prophet prophets, son sons daughter daughters, brother brothers sister sisters,
day days month months, city cities house houses, hand hands foot feet, eye eyes ear ears, priest priests king kings,
servant servants master masters, one two three four, first second third fourth
"""


def read(lines: str) -> list[tuple[str, ...]]:
    """The words of each entry."""
    return [tuple(entry.split()) for entry in lines.split(",")]


def pair_auc(vectors: np.ndarray, index: dict[str, int]) -> float:
    """How often a word is closer, by cosine, to the word that it belongs to than to the second word of another pair.

    Args:
        vectors: `[vocab, dim]`.
        index: which row is a word's; pairs with a word that has none are left out.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    known = [pair for pair in read(RELATED) if all(word in index for word in pair)]
    firsts, seconds = (unit[[index[pair[side]] for pair in known]] for side in (0, 1))
    cosines = firsts @ seconds.T
    others = ~np.eye(len(known), dtype=bool)
    return float(((cosines < np.diag(cosines)[:, None]) & others).sum() / others.sum())


def analogy_rank(vectors: np.ndarray, index: dict[str, int]) -> float:
    """The mean of 1 / rank of d among all words by closeness to b - a + c, for the analogies a b c d. Arguments as above."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    known = [words for words in read(ANALOGIES) if all(word in index for word in words)]
    found = []
    for words in known:
        *three, fourth = (index[word] for word in words)
        first, second, third = unit[three]
        cosines = unit @ (second - first + third)
        cosines[three] = -np.inf
        found.append(1 / (1 + (cosines > cosines[fourth]).sum()))
    return float(np.mean(found))
