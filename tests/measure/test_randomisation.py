"""Approximate randomisation against sacrebleu's, and against all deals there are."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest

from service.measure import resampling
from service.measure.comparison import compare
from service.measure.metrics import METRICS
from service.measure.randomisation import dealt_differences, randomisation_p
from service.measure.resampling import distinct_rows, swaps

SCORERS: dict[str, Any] = {"bleu": BLEU, "chrf": CHRF, "chrf++": lambda: CHRF(word_order=2), "ter": TER}
WORDS = np.array("the a cat dog sat ran on under mat tree today".split())


def systems(generator: np.random.Generator, n: int, *keep: float) -> tuple[list[str], list[list[str]]]:
    """References, and the outputs of a system for each share of the words that it keeps."""
    references = [" ".join(generator.choice(WORDS, generator.integers(1, 12))) for _ in range(n)]
    return references, [
        [
            " ".join(w if generator.random() < one else generator.choice(WORDS) for w in text.split())
            for text in references
        ]
        for one in keep
    ]


@pytest.mark.parametrize("name", SCORERS)
def test_p_is_sacrebleus_for_its_seed_and_number_of_trials(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACREBLEU_SEED", "12345")
    references, outputs = systems(np.random.default_rng(len(name)), 83, 0.70, 0.72, 0.76, 0.70)
    outputs.append([*outputs[0][:-1], references[-1]])  # in nearly all trials as far apart as seen, or not at all
    named = [(f"system {place}", one) for place, one in enumerate(outputs)]
    _, found = PairedTest(named, {name: SCORERS[name]()}, [references], test_type="ar", n_samples=321)()
    theirs = [result.p_value for key, results in found.items() if key != "System" for result in results[1:]]
    metric = METRICS[name]
    before, *after = (metric.statistics(one, [[text] for text in references]) for one in outputs)
    for cells in (resampling.MAX_BLOCK_CELLS, 1):  # in one block, and in many
        monkeypatch.setattr(resampling, "MAX_BLOCK_CELLS", cells)
        ours = []
        for side in after:
            difference = float(metric.aggregate(side)[0] - metric.aggregate(before)[0])
            ours.append(randomisation_p(dealt_differences(metric, before, side, seed=12345, trials=321), difference))
        assert ours == theirs


def test_a_comparison_tested_by_randomisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """With sacrebleu's own number of trials; the interval stays the bootstrap's."""
    monkeypatch.setenv("SACREBLEU_SEED", "7")
    references, outputs = systems(np.random.default_rng(0), 40, 0.6, 0.72)
    _, found = PairedTest([*zip("ab", outputs, strict=True)], {"bleu": BLEU()}, [references], test_type="ar")()
    metric = METRICS["bleu"]
    sides = [metric.statistics(one, [[text] for text in references]) for one in outputs]
    got = compare(metric, *sides, seed=7, test="randomisation")
    assert (got.test, got.p_value) == ("approximate randomisation (sacrebleu)", found["BLEU"][1].p_value)
    assert got.interval == compare(metric, *sides, seed=7).interval


def test_trials_are_the_deals_there_are() -> None:
    """Macro-F1 of five items: p from all 32 deals, by rows and by kinds of rows."""
    true, one, other = np.array([0, 1, 1, 0, 1]), np.array([0, 1, 0, 0, 0]), np.array([1, 1, 1, 0, 1])
    metric = METRICS["f1_macro"]
    before, after = (metric.statistics(side, true[:, None]) for side in (one, other))
    deals = [np.where(np.array(kept)[:, None], before, after) for kept in product([True, False], repeat=5)]
    rests = [before + after - deal for deal in deals]
    sizes = [abs(metric.aggregate(a)[0] - metric.aggregate(b)[0]) for a, b in zip(deals, rests, strict=True)]
    difference = float(metric.aggregate(after)[0] - metric.aggregate(before)[0])
    exact = np.mean(np.array(sizes) > abs(difference) + 1e-9)
    kinds = distinct_rows(np.hstack([before, after]))
    assert kinds is not None
    for distinct in (None, kinds):
        dealt = dealt_differences(metric, before, after, distinct=distinct)
        assert randomisation_p(dealt, difference) == pytest.approx(exact, abs=0.02)
        assert set(np.round(dealt, 9)) == set(np.round(sizes, 9))


def test_metrics_with_a_test_of_their_own_keep_it_and_groups_are_dealt_whole() -> None:
    generator = np.random.default_rng(1)
    true, sides = generator.integers(0, 3, 60), [generator.integers(0, 3, 60) for _ in range(2)]
    groups = np.repeat(np.arange(20), 3).tolist()
    tests = {}
    for name in ("accuracy", "f1_macro", "roc_auc"):
        metric = METRICS[name]
        outputs: list[Any] = [np.eye(3)[one].tolist() for one in sides] if name == "roc_auc" else sides
        statistics = [metric.statistics(one, true[:, None].tolist(), labels=[0, 1, 2]) for one in outputs]
        tests[name] = [compare(metric, *statistics, groups=one, test="randomisation").test for one in (None, groups)]
    assert tests == {
        "accuracy": ["mcnemar", "sign-flip by group"],
        "f1_macro": ["approximate randomisation", "approximate randomisation by group"],
        "roc_auc": ["approximate randomisation", "approximate randomisation by group"],
    }
    for stay in swaps(60, 0, 50, np.repeat(np.arange(20), 3)):
        assert (stay.reshape(-1, 20, 3).all(axis=2) | ~stay.reshape(-1, 20, 3).any(axis=2)).all()
