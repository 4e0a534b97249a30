"""Bootstrap draws, random swaps and jackknife deletions, as blocks of weights over items.

A resample is a row of weights: how often each item occurs in it. Blocks hold a bounded number of cells, so
memory does not grow with the number of resamples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.measure.metric import FloatArray, IntArray, Metric

PAIRED_RESAMPLES = 1_000  # sacrebleu's number, so that its p comes out
RANDOMISATION_TRIALS = 10_000  # sacrebleu's number too
JACKKNIFE_GROUPS = 250
MAX_BLOCK_CELLS = 4_000_000
MAX_DISTINCT_ROWS = 2_000
MAX_CODES = 1 << 40


@dataclass(frozen=True)
class Distinct:
    """Rows that occur, and how often: `rows` (u, k), `counts` (u,). Sums over items are sums over these."""

    rows: FloatArray
    counts: IntArray


def distinct_rows(statistics: FloatArray) -> Distinct | None:
    """The distinct rows of statistics made of small integers (label codes); None when there are too many.

    Drawing n items with replacement and summing is drawing their counts from a multinomial, so a resample
    of a million label pairs costs as much as one of a few hundred.
    """
    codes, cells = np.zeros(len(statistics), dtype=np.int64), 1
    for column in statistics.T.astype(np.int64):
        lowest = int(column.min(initial=0))
        span = int(column.max(initial=0)) - lowest + 1
        if cells * span > MAX_CODES:
            ranks = np.unique(codes, return_inverse=True)[1]
            codes, cells = ranks, int(ranks.max(initial=0)) + 1
        codes = codes * span + column - lowest
        cells *= span
    if cells > 4 * len(codes):
        _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    else:
        # Counting takes a tenth of the time of sorting. Any row of a code will do, for they are equal.
        counts = np.bincount(codes, minlength=cells)
        example = np.empty(cells, dtype=np.int64)
        example[codes] = np.arange(len(codes))
        first, counts = example[counts > 0], counts[counts > 0]
    return Distinct(statistics[first], counts) if len(first) <= MAX_DISTINCT_ROWS else None


def resampling_size(metric: Metric, statistics: FloatArray) -> int:
    """How many items it is worth to resample these statistics (n, k): n, and where each class is ranked n for each."""
    n, width = statistics.shape
    return int(n * max(1, width - 1)) if metric.reads == "scores" else int(n)


def item_draws(n: int, seed: int, resamples: int = PAIRED_RESAMPLES) -> Iterator[FloatArray]:
    """Weights of n items drawn with replacement: blocks (r, n).

    The draws are those of sacrebleu's paired bootstrap for the same seed.
    """
    generator = np.random.default_rng(seed)
    for rows in _blocks(resamples, n):
        picked = generator.choice(n, size=(rows, n), replace=True)
        picked += np.arange(rows)[:, None] * n
        yield np.bincount(picked.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def group_draws(groups: IntArray, seed: int, resamples: int = PAIRED_RESAMPLES) -> Iterator[FloatArray]:
    """Weights of items when whole groups are drawn with replacement: blocks (r, n).

    groups: the group number of each item, shape (n,), counted from 0 without gaps.
    """
    n_groups = int(groups.max()) + 1
    generator = np.random.default_rng(seed)
    for rows in _blocks(resamples, len(groups)):
        picked = generator.choice(n_groups, size=(rows, n_groups), replace=True)
        picked += np.arange(rows)[:, None] * n_groups
        drawn = np.bincount(picked.ravel(), minlength=rows * n_groups).reshape(rows, n_groups)
        yield drawn[:, groups].astype(np.float64)


def count_draws(counts: IntArray, seed: int, resamples: int = PAIRED_RESAMPLES) -> Iterator[FloatArray]:
    """Weights of distinct rows when the items behind them are drawn with replacement: blocks (r, u)."""
    n = int(counts.sum())
    generator = np.random.default_rng(seed)
    for rows in _blocks(resamples, len(counts)):
        yield generator.multinomial(n, counts / n, size=rows).astype(np.float64)


def swaps(n: int, seed: int, trials: int, clusters: IntArray | None = None) -> Iterator[NDArray[np.bool_]]:
    """Which of two systems' answers stay with their system in each trial, each as likely as not: blocks (r, n).

    The draws are those of sacrebleu's approximate randomisation for the same seed. clusters: the cluster of each item,
    counted from 0 without gaps; clusters stay or go as wholes then.
    """
    units = n if clusters is None else int(clusters.max()) + 1
    generator = np.random.default_rng(seed)
    # NumPy takes 32 of these from one random number, and drops the rest at the end of a call.
    size = max(32, MAX_BLOCK_CELLS // 4 // n // 32 * 32)
    for start in range(0, trials, size):
        stay = generator.integers(2, size=(min(size, trials - start), units), dtype=np.bool_)
        yield stay if clusters is None else stay[:, clusters]


def count_halves(counts: IntArray, seed: int, trials: int) -> Iterator[FloatArray]:
    """How many of the items behind distinct rows stay when each does as likely as not: blocks (r, u)."""
    generator = np.random.default_rng(seed)
    for rows in _blocks(trials, len(counts)):
        yield generator.binomial(counts, 0.5, size=(rows, len(counts))).astype(np.float64)


def deletions(n: int, seed: int, clusters: IntArray | None = None) -> Iterator[FloatArray]:
    """Weights that leave out one of up to 250 random, equal groups of items: blocks (r, n).

    clusters: the cluster of each item, shape (n,), counted from 0 without gaps; the groups are of whole clusters then.

    With 250 items or fewer this is the delete-one jackknife. The acceleration of BCa and a jackknife
    standard error keep their scale under grouping (Shao & Tu 1995, section 2.3).
    """
    units = n if clusters is None else int(clusters.max()) + 1
    n_groups = min(units, JACKKNIFE_GROUPS)
    group = deletion_groups(units, seed)
    if clusters is not None:
        group = group[clusters]
    start = 0
    for rows in _blocks(n_groups, n):
        yield (group[None, :] != np.arange(start, start + rows)[:, None]).astype(np.float64)
        start += rows


def deletion_groups(n: int, seed: int) -> IntArray:
    """The group of each item that `deletions` leaves out together, shape (n,)."""
    groups: IntArray = np.random.default_rng(seed).permutation(n) % min(n, JACKKNIFE_GROUPS)
    return groups


def _blocks(total: int, width: int) -> Iterator[int]:
    """Sizes of consecutive blocks of rows of `width` cells that add up to `total`."""
    size = max(1, MAX_BLOCK_CELLS // max(width, 1))
    for start in range(0, total, size):
        yield min(size, total - start)
