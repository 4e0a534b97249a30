"""Near-duplicates are exactly those that comparing every text with every other finds."""

from __future__ import annotations

import csv
import random
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.measure import near_duplicates as module
from service.measure import ngrams
from service.measure.near_duplicates import TooManyCharacters, jaccard, near_duplicates, shingles
from service.measure.validation import OutOfRangeError

BANKING = Path("/work/shared/data/banking77")
needs_banking = pytest.mark.skipif(not BANKING.exists(), reason="BANKING77 is not here")

Pairs = dict[tuple[int, int], float]


def found(texts: list[str], threshold: float, sides: list[int] | None = None) -> Pairs:
    answer = near_duplicates(texts, threshold, sides)
    assert answer.complete
    return dict(zip(zip(answer.first.tolist(), answer.second.tolist(), strict=True), answer.similarity, strict=True))


def brute_force(texts: list[str], threshold: float) -> Pairs:
    pairs = {(i, j): jaccard(texts[i], texts[j]) for i, j in combinations(range(len(texts)), 2)}
    return {pair: similarity for pair, similarity in pairs.items() if similarity >= threshold - 1e-12}


@pytest.mark.parametrize(
    ("one", "other", "similarity"),
    [
        ("abcdef", "abcdef", 1.0),
        ("abcdef", "abcdeg", 1 / 3),  # abcde; bcdef; bcdeg
        ("abcdefghij", "abcdefghijk", 6 / 7),
        ("Hello  World", "hello world", 1.0),
        ("ａｂｃｄｅ", "abcde", 1.0),
        ("abc", "abc", 1.0),
        ("abc", "abd", 0.0),
        ("abcd", "abcde", 0.0),
        ("こんにちは世界", "こんにちは世界よ", 3 / 4),
        ("", "", 1.0),
    ],
)
def test_similarity(one: str, other: str, similarity: float) -> None:
    assert jaccard(one, other) == pytest.approx(similarity)


@given(
    texts=st.lists(st.text(alphabet="abcü世 ", min_size=0, max_size=24), max_size=25, unique_by=ngrams.normalise),
    threshold=st.sampled_from([0.5, 0.6, 2 / 3, 0.75, 0.8, 0.9, 1.0]),
)
@settings(max_examples=80, deadline=None)
def test_the_join_is_what_brute_force_finds(texts: list[str], threshold: float) -> None:
    texts = [text for text in map(ngrams.normalise, texts) if text]
    assert found(texts, threshold) == brute_force(texts, threshold)


def edited(chance: random.Random, n: int, alphabet: str) -> list[str]:
    """Texts, many of which are a few edits from another."""
    texts = {"".join(chance.choices(alphabet, k=chance.randint(20, 60))) for _ in range(n)}
    for text in sorted(texts):
        for edits in (1, 3):
            letters = list(text)
            for _ in range(edits):
                letters[chance.randrange(len(letters))] = chance.choice(alphabet)
            texts.add("".join(letters))
    return sorted({ngrams.normalise(text) for text in texts} - {""})


@pytest.mark.parametrize("alphabet", ["abcdefghij ", "".join(map(chr, range(0x4E00, 0x9E00)))], ids=["letters", "han"])
@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_texts_a_few_edits_apart(alphabet: str, threshold: float) -> None:
    """The alphabet of 20,480 characters takes more than 62 bits to pack five of."""
    texts = edited(random.Random(1), 60, alphabet)
    expected = brute_force(texts, threshold)
    assert len(expected) > 10
    assert found(texts, threshold) == expected


def test_pairs_between_two_sets_only() -> None:
    texts = edited(random.Random(2), 60, "abcdefghij ")
    sides = [place % 2 for place in range(len(texts))]
    across = {pair: s for pair, s in brute_force(texts, 0.6).items() if sides[pair[0]] != sides[pair[1]]}
    assert across
    assert found(texts, 0.6, sides) == across


def test_the_most_similar_come_first_and_clusters_follow_chains() -> None:
    texts = ["0123456789", "01234567890", "012345678901", "nothing like it"]
    answer = near_duplicates(texts, 0.8)
    assert answer.similarity.tolist() == sorted(answer.similarity.tolist(), reverse=True)
    clusters = answer.clusters(4).tolist()
    assert len(set(clusters[:3])) == 1
    assert clusters[3] != clusters[0]


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = edited(random.Random(3), 100, "abcdef ")
    whole = found(texts, 0.5)
    monkeypatch.setattr(module, "BLOCK", 64)
    assert found(texts, 0.5) == whole


@pytest.mark.parametrize("bound", ["COMPARISONS", "CANDIDATES"])
def test_a_set_beyond_the_bounds_says_that_it_is_incomplete(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    texts = [f"please tell me what is {number} plus {number + 1}, step by step" for number in range(300)]
    whole = near_duplicates(texts, 0.5)
    monkeypatch.setattr(module, bound, 2_000)
    monkeypatch.setattr(module, "BLOCK", 256)
    some = near_duplicates(texts, 0.5)
    assert whole.complete
    assert not some.complete
    assert 0 < len(some) < len(whole)
    pairs = set(zip(whole.first.tolist(), whole.second.tolist(), strict=True))
    assert set(zip(some.first.tolist(), some.second.tolist(), strict=True)) < pairs


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    for threshold in (0.49, 1.01, float("nan")):
        with pytest.raises(OutOfRangeError, match="threshold"):
            near_duplicates(["a"], threshold)
    monkeypatch.setattr(module, "CHARACTERS", 10)
    with pytest.raises(TooManyCharacters):
        near_duplicates(["abcdef", "ghijkl"], 0.8)


def test_nothing_to_compare() -> None:
    assert len(near_duplicates([], 0.8)) == 0
    assert len(near_duplicates(["only one"], 0.8)) == 0


@given(st.lists(st.text(max_size=12), max_size=8), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_ngrams_are_the_substrings(texts: list[str], size: int) -> None:
    matrix = ngrams.matrix(texts, size).toarray()
    expected = [{text[i : i + size] for i in range(max(1, len(text) - size + 1))} if text else set() for text in texts]
    assert matrix.sum(axis=1).tolist() == [len(one) for one in expected]
    shared = matrix @ matrix.T
    assert shared.tolist() == [[len(one & other) for other in expected] for one in expected]
    assert size != module.SHINGLE or expected == [shingles(text) for text in texts]


def sentences(name: str) -> list[str]:
    with (BANKING / name).open(encoding="utf-8-sig", newline="") as file:
        return [ngrams.normalise(row["text"]) for row in csv.DictReader(file)]


@needs_banking
def test_what_of_banking77_is_in_both_parts() -> None:
    """Its published test set: 7 sentences word for word in the training set, 96 more nearly."""
    train, test = sentences("train.csv"), sentences("test.csv")
    known, seen = list(dict.fromkeys(train)), set(train)
    asked = [text for text in dict.fromkeys(test) if text not in seen]
    answer = near_duplicates([*known, *asked], 0.8, [0] * len(known) + [1] * len(asked))
    assert answer.complete
    assert (len(known), sum(text in seen for text in test)) == (9999, 7)
    assert len(np.unique(answer.second)) == 96
    assert len(near_duplicates(known, 0.8)) == 127


@pytest.mark.slow
@needs_banking
def test_banking77_by_brute_force() -> None:
    texts = sorted(set(sentences("test.csv")))
    sets = [shingles(text) for text in texts]
    expected = {
        (i, j): len(sets[i] & sets[j]) / len(sets[i] | sets[j])
        for i, j in combinations(range(len(texts)), 2)
        if len(sets[i] & sets[j]) >= 0.5 * len(sets[i] | sets[j])
    }
    assert found(texts, 0.5) == expected
