"""Verdicts: each kind of metric, each reason, orientation, groups, and the sizes that come with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from service.measure.comparison import compare, item_changes
from service.measure.metrics import METRICS
from service.measure.paired import mcnemar_exact, tango_interval
from service.measure.validation import EmptySetError, LengthMismatchError, OutOfRangeError

Floats = NDArray[np.float64]


def flips(lost: int, gained: int, both: int, neither: int) -> tuple[Floats, Floats]:
    before = [1] * lost + [0] * gained + [1] * both + [0] * neither
    after = [0] * lost + [1] * gained + [1] * both + [0] * neither
    return np.array(before, dtype=np.float64)[:, None], np.array(after, dtype=np.float64)[:, None]


@pytest.mark.parametrize(
    ("counts", "margin", "verdict", "reason"),
    [
        ((5, 40, 100, 55), 0.0, "better", None),
        ((40, 5, 100, 55), 0.0, "worse", None),
        ((10, 12, 100, 78), 0.0, "inconclusive", "covers_zero"),
        ((10, 12, 100, 78), 0.02, "inconclusive", "wider_than_margin"),
        ((10, 12, 800, 178), 0.02, "equivalent", None),
        ((0, 0, 900, 100), 0.01, "equivalent", None),
        ((0, 0, 50, 50), 0.01, "inconclusive", "wider_than_margin"),
        ((2, 9, 0, 4), 0.0, "inconclusive", "test_disagrees"),
        ((5, 40, 800, 155), 0.06, "equivalent", None),  # a real difference, but one that was said not to matter
        ((0, 1, 0, 0), 0.0, "inconclusive", "too_few_items"),
    ],
)
def test_right_and_wrong_items(counts: tuple[int, int, int, int], margin: float, verdict: str, reason: str) -> None:
    before, after = flips(*counts)
    got = compare(METRICS["accuracy"], before, after, margin=margin)
    assert (got.verdict, got.reason) == (verdict, reason)
    assert (got.lost, got.gained, got.n) == (counts[0], counts[1], sum(counts))
    assert got.difference == pytest.approx((counts[1] - counts[0]) / sum(counts))
    if got.n > 1:
        assert got.test == "mcnemar"
        assert got.p_value == mcnemar_exact(counts[0], counts[1])
        assert got.interval == tango_interval(counts[0], counts[1], sum(counts))


def test_sizes_follow_from_the_discordant_share() -> None:
    before, after = flips(10, 12, 100, 78)
    got = compare(METRICS["accuracy"], before, after, margin=0.02)
    # (1.95996 + 0.84162)^2 = 7.8489; psi = 22 / 200
    assert got.smallest_detectable == pytest.approx(2.80159 * np.sqrt(0.11 / 200), rel=1e-4)
    assert got.n_needed == 8634  # 1 point seen, 1 point of room: 7.8489 * 0.11 / 0.01^2
    decided = compare(METRICS["accuracy"], *flips(5, 40, 100, 55))
    assert decided.n_needed is None


def test_without_a_margin_the_difference_seen_sets_the_size() -> None:
    got = compare(METRICS["accuracy"], *flips(10, 12, 100, 78))
    assert got.n_needed == 8634
    same = compare(METRICS["accuracy"], *flips(10, 10, 100, 80))
    assert same.n_needed is None


def test_nothing_discordant_still_has_a_size() -> None:
    same = compare(METRICS["accuracy"], *flips(0, 0, 40, 10), margin=0.01)
    assert same.smallest_detectable == pytest.approx(2.80159 * np.sqrt(1 / 50 / 50), rel=1e-4)
    assert same.n_needed == 1570  # 7.8489 * (1 / 50) / 0.01^2


@pytest.mark.parametrize(
    ("counts", "margin", "room"),
    [
        ((17, 29, 200, 154), 0.05, 0.03),  # nearer to a difference of 3 points than to equivalence
        ((20, 24, 200, 156), 0.04, 0.03),  # nearer to equivalence: 1 point seen, 3 points of room
        ((17, 29, 200, 154), 0.0, 0.03),
    ],
)
def test_the_nearer_verdict_sets_the_items_needed(
    counts: tuple[int, int, int, int], margin: float, room: float
) -> None:
    got = compare(METRICS["accuracy"], *flips(*counts), margin=margin)
    assert got.verdict == "inconclusive"
    assert got.n_needed is not None
    assert got.n_needed == pytest.approx(7.8489 * (counts[0] + counts[1]) / 400 / room**2, rel=2e-3)
    assert got.n_needed > 2 * got.n


def test_real_scores_use_sign_flips_and_t() -> None:
    generator = np.random.default_rng(0)
    before = generator.random((150, 1))
    better = np.clip(before + generator.normal(0.05, 0.1, (150, 1)), 0, 1)
    got = compare(METRICS["token_f1"], before, better)
    assert (got.verdict, got.test) == ("better", "sign-flip")
    assert got.p_value == pytest.approx(1e-4)
    assert got.interval is not None
    assert got.interval[0] < (better - before).mean() < got.interval[1]
    assert compare(METRICS["token_f1"], better, before).verdict == "worse"


def test_macro_f1_uses_the_paired_bootstrap() -> None:
    generator = np.random.default_rng(1)
    true = generator.integers(0, 4, 500)

    def model(right: float) -> Floats:
        predicted = np.where(generator.random(500) < right, true, generator.integers(0, 4, 500))
        return np.column_stack([true, predicted]).astype(np.float64)

    weak, strong = model(0.4), model(0.8)
    got = compare(METRICS["f1_macro"], weak, strong)
    assert (got.verdict, got.test, got.reason) == ("better", "paired bootstrap", None)
    assert got.p_value == pytest.approx(1 / 1001)
    assert got.gained is not None
    assert got.gained > (got.lost or 0)
    assert got == compare(METRICS["f1_macro"], weak, strong)
    close = compare(METRICS["f1_macro"], weak, model(0.4))
    assert close.verdict == "inconclusive"
    assert close.smallest_detectable is not None
    assert close.interval is not None
    assert close.smallest_detectable == pytest.approx(2.8016 * (close.interval[1] - close.interval[0]) / 3.92, rel=0.1)
    same = compare(METRICS["f1_macro"], weak, weak)
    assert (same.verdict, same.reason, same.interval) == ("inconclusive", "no_variation", None)


def test_an_undefined_value_is_null_with_a_reason() -> None:
    constant = np.zeros((5, 2))
    got = compare(METRICS["cohen_kappa"], constant, constant)
    assert (got.verdict, got.reason) == ("inconclusive", "undefined")
    assert (got.baseline_value, got.difference, got.p_value, got.interval) == (None, None, None, None)


@pytest.mark.parametrize("name", ["accuracy", "token_f1", "chrf"])
def test_copied_items_prove_nothing_once_they_are_grouped(name: str) -> None:
    """Ten copies of each of 12 items: without groups a false certainty, with groups the 12 items again."""
    generator = np.random.default_rng(6)
    metric = METRICS[name]
    if name == "chrf":
        words = ["red green blue", "one two three", "north south east", "spring summer autumn"]
        references = [[words[i % 4]] for i in range(12)]
        before = metric.statistics([words[(i + 1) % 4] for i in range(12)], references)
        after = metric.statistics([words[(i + (i % 3 != 0)) % 4] for i in range(12)], references)
    else:
        before, after = (generator.random((12, 1)) for _ in range(2))
        if name == "accuracy":
            before, after = flips(1, 6, 3, 2)
    copies = np.repeat(np.arange(12), 10)
    groups: Sequence[int] = list(copies)
    naive = compare(metric, before[copies], after[copies])
    grouped = compare(metric, before[copies], after[copies], groups=groups)
    assert naive.interval is not None
    assert grouped.interval is not None
    assert grouped.p_value is not None
    assert naive.p_value is not None
    width, naive_width = (one.interval[1] - one.interval[0] for one in (grouped, naive) if one.interval)
    assert width > 2.5 * naive_width
    assert grouped.p_value >= naive.p_value
    assert grouped.test is not None
    assert grouped.test.endswith("by group")
    alone = compare(metric, before[copies], after[copies], groups=[0] * 120)
    assert (alone.verdict, alone.reason) == ("inconclusive", "one_group")


def test_item_changes_are_right_or_wrong_under_a_label_metric_of_the_set() -> None:
    before = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    after = np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    changes = item_changes(METRICS["f1_macro"], before, after)
    assert changes is not None
    assert changes.tolist() == [-1.0, 1.0, 0.0]


def test_what_cannot_be_compared_is_refused() -> None:
    metric = METRICS["accuracy"]
    with pytest.raises(LengthMismatchError, match="3 baseline items but 2"):
        compare(metric, np.ones((3, 1)), np.ones((2, 1)))
    with pytest.raises(EmptySetError):
        compare(metric, np.empty((0, 1)), np.empty((0, 1)))
    with pytest.raises(OutOfRangeError, match="margin"):
        compare(metric, np.ones((3, 1)), np.ones((3, 1)), margin=-0.1)
    with pytest.raises(LengthMismatchError, match="groups"):
        compare(metric, np.ones((3, 1)), np.zeros((3, 1)), groups=[1, 2])


def test_an_item_gains_when_its_loss_falls() -> None:
    metric = METRICS["log_loss"]
    before, after = np.array([[1.0], [0.5], [0.2], [0.9]]), np.array([[0.1], [0.4], [0.3], [0.2]])
    result = compare(metric, before, after)
    assert (result.gained, result.lost) == (3, 1)
    assert result.difference == pytest.approx(-0.4)
    changes = item_changes(metric, before, after)
    assert changes is not None
    assert changes.tolist() == pytest.approx([0.9, 0.1, -0.1, 0.7])
    much = compare(metric, np.tile(before, (20, 1)), np.tile(after, (20, 1)))
    assert much.verdict == "better"
