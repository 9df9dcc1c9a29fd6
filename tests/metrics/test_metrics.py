"""Each metric is its reference library's, on examples small enough to read and on random ones."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.metrics.classification import accuracy, band, by_distance, macro_f1, name
from lab.metrics.entities import ALL, entities, entity_f1, entity_scores
from lab.metrics.likelihood import one_by_one, perplexity
from lab.metrics.retrieval import mean_reciprocal_rank, ranks, recall_at, spearman
from lab.metrics.translation import bleu, chrf, exact_match

HYPOTHESES = ["the cat sat on the mat .", "there is a dog in the garden", "he went home"]
REFERENCES = ["the cat sat on a mat .", "a dog is in the garden", "he went home "]


def test_translation_is_scored_as_sacrebleu_does():
    from sacrebleu.metrics import BLEU, CHRF

    assert bleu(HYPOTHESES, REFERENCES) == pytest.approx(BLEU().corpus_score(HYPOTHESES, [REFERENCES]).score)
    assert chrf(HYPOTHESES, REFERENCES) == pytest.approx(CHRF().corpus_score(HYPOTHESES, [REFERENCES]).score)
    assert bleu(REFERENCES, REFERENCES) == pytest.approx(100)
    assert chrf(["", "", ""], REFERENCES) == 0
    assert exact_match(HYPOTHESES, REFERENCES) == pytest.approx(1 / 3)


def test_chrf_is_the_f_score_of_character_n_grams():
    """Popović's definition in a few lines, for one sentence: white space aside, n up to 6, recall counting twice."""
    one, other = "abcabcd", "abcdabb"

    def grams(text: str, n: int) -> list[str]:
        return [text[i : i + n] for i in range(len(text) - n + 1)]

    precisions, recalls = [], []
    for n in range(1, 7):
        found, wanted = grams(one, n), grams(other, n)
        shared = sum(min(found.count(g), wanted.count(g)) for g in set(found))
        precisions.append(shared / len(found))
        recalls.append(shared / len(wanted))
    p, r = np.mean(precisions), np.mean(recalls)
    assert chrf([one], [other]) == pytest.approx(100 * 5 * p * r / (4 * p + r), abs=1e-6)


labels = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30)


@given(labels)
def test_labels_are_scored_as_scikit_learn_does(pairs):
    from sklearn.metrics import accuracy_score, f1_score

    predicted, true = map(np.array, zip(*pairs, strict=True))
    assert accuracy(predicted, true) == pytest.approx(accuracy_score(true, predicted))
    assert macro_f1(predicted, true) == pytest.approx(f1_score(true, predicted, average="macro", zero_division=0))
    words = np.array(list("abcde"))
    assert macro_f1(words[predicted], words[true]) == pytest.approx(macro_f1(predicted, true))


def test_accuracy_by_distance_in_bands_that_double():
    assert by_distance([1, 0, 1, 1, 0], [1, 2, 3, 4, 9]) == {"1": 1.0, "2-3": 0.5, "4-7": 1.0, "8-15": 0.0}
    for distance in (*range(1, 70), 2**40 - 1, 2**40):
        first, _, last = name(int(band(distance))).partition("-")
        assert int(first) <= distance <= int(last or first)


tag = st.sampled_from(["O", "B-PER", "I-PER", "E-PER", "S-PER", "B-LOC", "I-LOC", "E-LOC", "S-LOC"])
sentences = st.lists(st.lists(st.tuples(tag, tag), min_size=1, max_size=9), min_size=1, max_size=4)


@given(sentences)
def test_entities_are_those_of_seqeval(pairs):
    from seqeval.metrics import classification_report, f1_score
    from seqeval.metrics.sequence_labeling import get_entities

    predicted, true = ([[pair[side] for pair in row] for row in pairs] for side in (0, 1))
    for tags in (*predicted, *true):
        assert entities(tags) == [tuple(entity) for entity in get_entities(tags)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert entity_f1(predicted, true) == pytest.approx(f1_score(true, predicted, zero_division=0))
        report = classification_report(true, predicted, output_dict=True, zero_division=0)
    for kind, scores in entity_scores(predicted, true).items():
        expected = report["micro avg" if kind == ALL else kind]
        assert (scores.precision, scores.recall, scores.f1, scores.support) == pytest.approx(
            (expected["precision"], expected["recall"], expected["f1-score"], expected["support"])
        )


def test_an_entity_is_found_only_whole():
    true = [["B-PER", "I-PER", "O", "B-LOC"]]
    scores = entity_scores([["B-PER", "O", "O", "B-LOC"]], true)
    assert (scores[ALL].f1, scores["PER"].f1, scores["LOC"].f1) == (0.5, 0.0, 1.0)


def test_spearman_is_the_correlation_of_ranks():
    """With ties, as scikit-learn's and scipy's users know it; here against Pearson's formula on mean ranks."""
    one, other = [3.0, 1, 4, 1, 5], [2.0, 7, 1, 8, 2]
    mean_ranks = [[sum(y < x for y in side) + (side.count(x) + 1) / 2 for x in side] for side in (one, other)]
    assert spearman(one, other) == pytest.approx(np.corrcoef(mean_ranks)[0, 1])
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))


@given(st.integers(2, 8), st.integers(1, 6), st.integers(0, 2**31))
def test_recall_is_the_share_of_answers_found(candidates, queries, seed):
    from sklearn.metrics import top_k_accuracy_score

    random = np.random.default_rng(seed)
    scores = random.normal(size=(queries, candidates))
    answers = random.integers(candidates, size=queries)
    places = ranks(scores, answers)
    if candidates > 2:
        for k in range(1, candidates):
            expected = top_k_accuracy_score(answers, scores, k=k, labels=range(candidates))
            assert recall_at(places, k)[k] == pytest.approx(expected)
    order = np.argsort(-scores, axis=1)
    assert places.tolist() == [row.tolist().index(answer) + 1 for row, answer in zip(order, answers, strict=True)]
    assert mean_reciprocal_rank(places) == pytest.approx(np.mean([1 / place for place in places]))


def test_a_model_that_scores_all_the_same_finds_nothing():
    assert recall_at(ranks(np.zeros((3, 20)), [0, 5, 19]), [1, 10, 20]) == {1: 0.0, 10: 0.0, 20: 1.0}


def test_pseudo_perplexity_masks_each_token_once():
    tokens = np.array([1, 7, 8, 9, 2])
    batches = list(one_by_one(tokens, mask=0, kept=frozenset({1, 2}), most=2))
    assert [places.tolist() for _, places in batches] == [[1, 2], [3]]
    copies = np.concatenate([copies for copies, _ in batches])
    assert copies.tolist() == [[1, 0, 8, 9, 2], [1, 7, 0, 9, 2], [1, 7, 8, 0, 2]]
    assert perplexity(3 * math.log(5), 3) == pytest.approx(5)
    assert perplexity(1e6, 1) == math.inf


@pytest.mark.parametrize(
    "call",
    [
        lambda: bleu([], []),
        lambda: chrf(["a"], ["a", "b"]),
        lambda: accuracy([], []),
        lambda: macro_f1([1], [1, 2]),
        lambda: by_distance([True], [0]),
        lambda: entity_f1([["O"]], [["O", "O"]]),
        lambda: spearman([1], [1]),
        lambda: ranks([[1.0, 2.0]], [2]),
        lambda: ranks([[1.0, math.nan]], [0]),
        lambda: perplexity(1.0, 0),
    ],
)
def test_what_cannot_be_scored_is_refused(call):
    with pytest.raises(ValueError, match=r"\w"):
        call()


def test_a_prediction_that_is_no_label_is_wrong_and_no_label():
    from sklearn.metrics import f1_score

    predicted, true = ["ot"] * 50 + ["nt"] * 49 + [""], ["ot"] * 50 + ["nt"] * 50
    expected = f1_score(true, predicted, labels=["ot", "nt"], average="macro")
    assert macro_f1(predicted, true, none="") == pytest.approx(expected) == pytest.approx(0.995, abs=1e-3)


def test_a_type_of_any_name_is_one_of_all():
    scores = entity_scores([["B-all", "O", "B-PER"]], [["B-all", "O", "O"]])
    assert scores[ALL].f1 == pytest.approx(2 / 3) == entity_f1([["B-all", "O", "B-PER"]], [["B-all", "O", "O"]])
    assert scores["all"].f1 == 1.0


@given(st.integers(5, 59))
def test_equal_candidates_are_equal_wherever_they_stand(count):
    vectors = np.random.default_rng(count).normal(size=(count, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[-1] = vectors[0]
    assert ranks(vectors[-1:] @ vectors.T, [count - 1]).tolist() == [2]
