"""Balance, lengths, repeated texts, differences of two sets, and labels that models disagree with."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from service.measure import quality
from service.measure.label_noise import (
    CannotJudgeLabels,
    doubtful_sets,
    fit,
    fit_sets,
    indicators,
    label_noise,
    outvoted_sets,
    set_noise,
    tfidf,
)
from service.measure.ngrams import normalise

BANKING = Path("/work/shared/data/banking77/train.csv")


def balance(labels: Sequence[str | None]) -> quality.Balance:
    return quality.balance([None if label is None else [label] for label in labels])


def test_balance_of_items_with_several_labels() -> None:
    found = quality.balance([["a", "b"], ["a"], [], None, ["a"]])
    assert found.labels == [("a", 3), ("b", 1)]
    assert (found.unlabelled, found.without, found.per_item, found.ratio) == (1, 1, 1.0, 3.0)
    assert found.evenness == pytest.approx(stats.entropy([3, 1]) / math.log(2))
    assert (quality.balance([[], []]).reason, quality.balance([None]).per_item) == ("no_labels", None)


def test_balance() -> None:
    found = balance(["b", "a", "a", None, "c", "a"])
    assert found.labels == [("a", 3), ("b", 1), ("c", 1)]
    assert (found.unlabelled, found.ratio, found.reason) == (1, 3.0, None)
    shares = np.array([3, 1, 1]) / 5
    assert found.evenness == pytest.approx(stats.entropy(shares) / math.log(3))
    assert balance(["a", "b"] * 4).evenness == pytest.approx(1.0)
    assert balance(["a", "a"]).reason == "one_label"
    assert balance([None]).reason == "no_labels"
    assert balance([]).evenness is None


def test_lengths() -> None:
    found = quality.lengths(["", "a", "bb", "bb", "x" * 99])
    assert found is not None
    assert (found.n, found.mean) == (5, 104 / 5)
    assert found.quantiles == {"min": 0, "p5": 1, "median": 2, "p95": 99, "p99": 99, "max": 99}
    assert found.edges[:2] == [0, 4]
    assert found.counts[0] == 4
    assert (sum(found.counts), len(found.edges)) == (5, len(found.counts) + 1)
    assert found.edges[-1] > 99
    assert quality.lengths([]) is None
    same = quality.lengths(["abc"] * 4)
    assert same is not None
    assert (same.edges, same.counts) == ([3, 4], [4])


def test_repeated_and_coverage() -> None:
    assert quality.repeated(["x", "y", "x", "z", "y", "x"]) == [[0, 2, 5], [1, 4]]
    assert quality.coverage([["a", "b"], ["a", "a"], []]) == [("a", 2), ("b", 1)]
    assert quality.groups_of(["u", None, "u", None]).tolist() == [0, 1, 0, 2]


def test_the_chi_square_test_is_scipys() -> None:
    one, other = ["a"] * 60 + ["b"] * 40, ["a"] * 30 + ["b"] * 70
    expected = stats.chi2_contingency([[60, 40], [30, 70]], correction=False)
    found = quality.label_difference(one, other)
    assert (found.statistic, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.effect == pytest.approx(stats.contingency.association([[60, 40], [30, 70]], method="cramer"))
    same = quality.label_difference(one, one)
    assert (same.statistic, same.p_value, same.effect) == (0.0, 1.0, 0.0)


def test_rare_labels_are_counted_as_one() -> None:
    rare = [f"rare {place}" for place in range(12)]
    found = quality.label_difference(["a"] * 50 + ["b"] * 50 + rare, ["a"] * 50 + ["b"] * 50)
    expected = stats.chi2_contingency([[50, 50, 12], [50, 50, 0]], correction=False)
    assert found.p_value == pytest.approx(expected.pvalue)
    few = quality.label_difference(["a", "b"], ["a", "b"])
    assert (few.p_value, few.reason) == (None, "too_few_items")
    assert quality.label_difference(["a"], ["a"]).reason == "one_label"
    assert quality.label_difference([None], ["a"]).reason == "no_labels"


def test_the_length_test_is_scipys() -> None:
    draw = np.random.default_rng(0)
    one, other = (["x" * int(n) for n in draw.poisson(mean, 400)] for mean in (30, 33))
    expected = stats.ks_2samp([len(text) for text in one], [len(text) for text in other], method="asymp")
    found = quality.length_difference(one, other)
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p_value == pytest.approx(expected.pvalue, rel=0.2)
    assert quality.length_difference([], other).reason == "no_items"


@pytest.mark.parametrize("n", [1, 10, 100, 2000])
def test_half_width_is_wilsons(n: int) -> None:
    interval = stats.binomtest(n // 2, n).proportion_ci(0.95, method="wilson")
    tolerance = 1e-9 if n % 2 == 0 else 0.2
    assert quality.half_width(n) == pytest.approx((interval.high - interval.low) / 2, abs=tolerance)


def disagreements(label: str | None, *answers: tuple[str | None, float | None]) -> list[tuple[str, int, float | None]]:
    given, sure = [[answer] for answer, _ in answers], [[probability] for _, probability in answers]
    found = quality.disagreements([label], given, sure)
    return [(one.suggested, one.models, one.probability) for one in found]


def test_what_models_must_say_for_a_label_to_be_doubtful() -> None:
    assert disagreements("a", ("b", 0.95), ("b", 0.97)) == [("b", 2, pytest.approx(0.96))]
    assert disagreements("a", ("b", None), ("b", None), ("a", None)) == [("b", 2, None)]
    assert disagreements("a", ("b", 0.95)) == [("b", 1, 0.95)]
    assert disagreements("a", ("b", None)) == []  # one model that does not say how sure it is
    assert disagreements("a", ("b", 0.5), ("b", 0.6)) == []  # unsure
    assert disagreements("a", ("b", 0.95), ("a", 0.95)) == []  # half is not more than half
    assert disagreements("a", ("b", 0.95), ("c", 0.95), ("d", 0.95)) == []  # they do not agree
    assert disagreements("a", (None, None), (None, None)) == []
    assert disagreements(None, ("b", 0.95), ("b", 0.95)) == []
    assert quality.disagreements(["a"], [], []) == []


def test_the_most_agreed_on_come_first() -> None:
    answers = [["b", "b", "b"], ["b", "b", "b"], ["b", "b", "a"]]
    sure = [[0.91, 0.99, 0.99], [0.91, 0.99, 0.99], [0.91, 0.99, 0.99]]
    assert [one.item for one in quality.disagreements(["a"] * 3, answers, sure)] == [1, 0, 2]


# --- labels judged by a model of the set ---


def topics(n: int) -> tuple[list[str], list[str | None]]:
    draw = np.random.default_rng(5)
    words = {"card": ["card", "plastic", "chip", "swipe"], "loan": ["loan", "credit", "borrow", "rate"]}
    words["pin"] = ["pin", "code", "secret", "digits"]
    labels = [("card", "loan", "pin")[place % 3] for place in range(n)]
    filler = ["please", "help", "today", "account", "question", "urgent", "thanks"]
    return [" ".join([*draw.choice(words[one], 2), *draw.choice(filler, 3)]) for one in labels], list(labels)


def test_swapped_labels_are_found() -> None:
    texts, labels = topics(300)
    swapped = [10, 77, 150, 222]
    for place in swapped:
        labels[place] = "loan" if labels[place] != "loan" else "pin"
    found = label_noise(texts, labels, np.arange(300) % 5)
    assert sorted(one.item for one in found.candidates[:4]) == swapped
    assert found.accuracy == pytest.approx(296 / 300, abs=0.01)
    first = found.candidates[0]
    assert first.label == labels[first.item]
    assert first.probability > 0.5 > first.label_probability


def test_items_without_a_label_or_of_one_that_occurs_once_are_left_out() -> None:
    texts, labels = topics(90)
    labels[3], labels[4] = None, "only here"
    assert label_noise(texts, labels, np.arange(90) % 5).judged == 88


def test_labels_that_cannot_be_judged() -> None:
    texts, _ = topics(30)
    for labels in ([None] * 30, ["a"] * 30, ["a"] * 29 + ["b"]):
        with pytest.raises(CannotJudgeLabels):
            label_noise(texts, labels, np.arange(30) % 5)


def test_the_model_is_scikit_learns_logistic_regression() -> None:
    texts, labels = topics(240)
    features = tfidf(texts)
    names = sorted({label for label in labels if label})
    codes = np.array([names.index(str(label)) for label in labels])
    weights = fit(features, codes, len(names), iterations=500)
    oracle = LogisticRegression(C=30, fit_intercept=False, tol=1e-8, max_iter=2000).fit(features, codes)
    centred = weights.T - weights.T.mean(axis=0)  # the same added to every label's weights changes nothing
    expected = oracle.coef_ - oracle.coef_.mean(axis=0)
    assert np.abs(centred - expected).max() < 0.05


def several_topics(n: int) -> tuple[list[str], list[list[str] | None]]:
    """A third of the items of each topic, and a third of two."""
    texts, labels = topics(n)
    pairs = [(place, (place + 7) % n) for place in range(n)]
    joined = [f"{texts[one]} {texts[other]}" if one % 3 == 0 else texts[one] for one, other in pairs]
    return joined, [
        sorted({str(labels[one]), str(labels[other])}) if one % 3 == 0 else [str(labels[one])] for one, other in pairs
    ]


def test_wrong_and_absent_labels_of_items_with_several_are_found() -> None:
    texts, sets = several_topics(300)
    sets[0], sets[90], sets[31], sets[50] = ["card"], [], ["card", "loan"], None
    found = set_noise(texts, sets, np.arange(300) % 5)
    assert found.judged == 299
    assert found.accuracy == pytest.approx(296 / 299, abs=0.02)
    first = {one.item: (one.doubts[0].label, one.doubts[0].given) for one in found.candidates[:3]}
    assert first == {0: ("loan", False), 31: ("card", True), 90: ("loan", False)}
    for texts_of, labels in ((texts, [None] * 300), (texts, [[]] * 300), (texts, [["a"], *[[]] * 299])):
        with pytest.raises(CannotJudgeLabels):
            set_noise(texts_of, labels, np.arange(300) % 5)


def test_the_model_of_several_labels_is_scikit_learns_of_each() -> None:
    texts, sets = several_topics(240)
    features = tfidf(texts)
    names = ["card", "loan", "pin"]
    own = indicators(sets, names)
    weights = fit_sets(features, own, iterations=500)
    for code in range(3):
        oracle = LogisticRegression(C=30, fit_intercept=False, tol=1e-8, max_iter=2000).fit(features, own[:, code])
        assert np.abs(weights[:, code] - oracle.coef_[0]).max() < 0.05


def test_each_label_is_doubted_by_the_definition() -> None:
    """Confident learning of each label against the rest, written out; unjudged cells and items stay out of it."""
    draw = np.random.default_rng(2)
    names = ["a", "b", "c"]
    own = draw.integers(0, 2, (80, 3))
    probability = own * 0.8 + draw.random((80, 3)) * 0.2
    swapped = draw.random((80, 3)) < 0.1
    probability[swapped] = 1 - probability[swapped]
    own[3], probability[4], probability[5, 1] = -1, np.nan, np.nan
    found = doubtful_sets(probability, own, names)
    expected = {}
    for code, label in enumerate(names):
        rows = [row for row in range(80) if own[row, code] >= 0 and not np.isnan(probability[row, code])]
        for state in (0, 1):
            of_state = {row: probability[row, code] if state else 1 - probability[row, code] for row in rows}
            enough = np.mean([of_state[row] for row in rows if own[row, code] == state])
            for row in rows:
                if own[row, code] != state and of_state[row] >= enough and of_state[row] > 0.5:
                    expected[row, label] = (state == 0, probability[row, code])
    assert expected
    assert {
        (one.item, doubt.label): (doubt.given, doubt.probability) for one in found.candidates for doubt in one.doubts
    } == expected
    assert found.judged == 78
    margins = [max(abs(2 * float(doubt.probability or 0) - 1) for doubt in one.doubts) for one in found.candidates]
    assert margins == sorted(margins, reverse=True)
    with pytest.raises(CannotJudgeLabels):
        doubtful_sets(np.full((2, 3), np.nan), own[:2], names)


def test_two_models_and_more_than_half_outvote_a_label() -> None:
    names = ["a", "b"]
    own = indicators([["a"], ["a"], [], None, ["a"]], names)
    said: list[list[list[str] | None]] = [[["b"], [], [], ["a"], None], [["b"], ["a"], ["b"], ["a"], []]]
    told = [indicators(one, names) for one in said]
    [both] = outvoted_sets(told, own, names)
    assert (both.item, [(one.label, one.given, one.models) for one in both.doubts]) == (
        0, [("a", True, 2), ("b", False, 2)]
    )  # fmt: skip
    assert outvoted_sets(told[:1], own, names) == []
    three = outvoted_sets([*told, indicators([["a"], ["a", "b"], ["b"], None, []], names)], own, names)
    assert {one.item for one in three} == {0, 2, 4}


@pytest.mark.slow
@pytest.mark.skipif(not BANKING.exists(), reason="BANKING77 is not here")
def test_banking77_with_known_wrong_labels() -> None:
    """Of 300 labels drawn anew, most are found, among the first few hundred candidates."""
    with BANKING.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    texts, labels = [normalise(row["text"]) for row in rows], [row["category"] for row in rows]
    draw = np.random.default_rng(1)
    names = sorted(set(labels))
    wrong = {int(place) for place in draw.choice(len(labels), 300, replace=False)}
    given: list[str | None] = [
        str(draw.choice([name for name in names if name != label])) if place in wrong else label
        for place, label in enumerate(labels)
    ]
    found = label_noise(texts, given, draw.permutation(len(texts)) % 5)
    assert found.accuracy > 0.85
    assert len(wrong & {one.item for one in found.candidates}) > 210
    assert len(wrong & {one.item for one in found.candidates[:300]}) > 190
