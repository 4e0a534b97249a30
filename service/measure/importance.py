"""How much of a metric's variation over runs each setting explains, by itself.

The share of setting j is the cross-validated form of the first-order index Var(E[y | x_j]) / Var(y): what functional
ANOVA calls the setting's main effect (Hutter, Hoos & Leyton-Brown 2014, 'An Efficient Approach for Assessing
Hyperparameter Importance', ICML; Saltelli et al. 2008, 'Global Sensitivity Analysis', ch. 4). Here

- y and numeric settings enter as ranks (Conover & Iman 1981): one diverged run then does not decide everything, and a
  learning rate means the same on a linear and on a log scale;
- E[y | x_j] is a quadratic in the rank (so that an optimum in the middle counts) for numbers, and level means shrunken
  towards the overall mean for everything else; a missing value is a level of its own;
- the share is 1 - PRESS / PRESS of the mean (Allen 1974): every run is predicted from the other runs. A setting that
  has nothing to say scores 0 or less however many values it has, where an in-sample R² would grow with their number.

The interval is a percentile bootstrap over runs; a drawn run's copies are left out together, so that none predicts
itself. A forest would also see interactions, and needs hundreds of runs and a heavy library to do so; these shares say
nothing about interactions and do not add up to 1. Settings that moved together each get the credit: settings that
split the runs in the very same way cannot be told apart and are reported as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from service.measure.metric import FloatArray, IntArray, divide
from service.measure.resampling import item_draws

MIN_RUNS = 10
"""Below this, noise alone often reaches a share of a half: nothing is told."""
RESAMPLES = 400
CONFIDENCE = 0.95
_RIDGE = 1.0  # one run's worth of 'no effect'

Kind = Literal["numeric", "boolean", "categorical"]


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting's value in each run: as text (None: not set), and as a number where it is one."""

    texts: Sequence[str | None]
    numbers: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Share:
    """What one setting explains: `share` in [0, 1] with its interval, and for ordered values Spearman's ρ with its own.

    `twins` are settings that split the runs in the same way.
    """

    key: str
    kind: Kind
    levels: int
    missing: int
    share: float
    interval: tuple[float, float]
    correlation: float | None
    correlation_interval: tuple[float, float] | None
    twins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """`reason` says why nothing can be told: too_few_runs or no_variation. `unclear` settings have a value of their
    own in nearly every run; `constant` ones the same in all."""

    n: int
    shares: list[Share] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)
    left_out: int = 0
    reason: Literal["too_few_runs", "no_variation"] | None = None


@dataclass(frozen=True, slots=True)
class _Column:
    """A setting made ready: `features` (n, d) with an intercept for ordered values, `codes` (n,) for levels."""

    key: str
    kind: Kind
    codes: IntArray
    order: FloatArray | None
    missing: int

    @property
    def levels(self) -> int:
        return int(self.codes.max()) + 1


def explain(y: FloatArray, settings: Mapping[str, Setting], *, top: int = 20, seed: int = 0) -> Explanation:
    """Shares of the `top` settings, the greatest first.

    Args:
        y: the metric of each run, finite, shape (n,).
        settings: each with n values.
        top: how many settings get an interval and are given; the rest is counted in `left_out`.
    """
    n = len(y)
    if n < MIN_RUNS:
        return Explanation(n, reason="too_few_runs")
    rank = midranks(y)
    if not rank.any():
        return Explanation(n, reason="no_variation")
    columns = [_column(key, setting) for key, setting in settings.items()]
    constant = [column.key for column in columns if column.levels == 1]
    varied = [column for column in columns if column.levels > 1]
    unclear = [column.key for column in varied if column.order is None and column.levels > n / 2]
    groups = _alike([column for column in varied if column.key not in unclear])
    once = np.ones((1, n))
    ranked = sorted(groups, key=lambda group: (-float(_press_share(group[0], rank, once)[0]), group[0].key))
    draws = np.concatenate(list(item_draws(n, seed, RESAMPLES)))
    shares = [_share(group, rank, draws) for group in ranked[:top]]
    return Explanation(n, shares, unclear, constant, max(0, len(ranked) - top))


def midranks(values: FloatArray) -> FloatArray:
    """Ranks from -1 to 1, ties at their middle; all zero when every value is the same."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts + 1) / 2)[place]
    return np.asarray(rank / ((len(values) - 1) / 2) - 1) if len(values) > 1 else np.zeros(len(values))


def _column(key: str, setting: Setting) -> _Column:
    present = np.array([text is not None for text in setting.texts])
    texts = {text for text in setting.texts if text is not None}
    kind: Kind = "categorical"
    if texts and texts <= {"true", "false"}:
        kind = "boolean"
    elif texts and all(number is not None for number, held in zip(setting.numbers, present, strict=True) if held):
        kind = "numeric"
    if kind == "categorical":
        labels = np.array(["" if text is None else f"={text}" for text in setting.texts])
        return _Column(key, kind, np.unique(labels, return_inverse=True)[1], None, int((~present).sum()))
    values = np.array(
        [float(text == "true") if kind == "boolean" else (number or 0.0)
         for text, number in zip(setting.texts, setting.numbers, strict=True)]
    )  # fmt: skip
    values[~present] = np.nan
    order = np.full(len(values), np.nan)
    order[present] = midranks(values[present])
    codes = np.unique(np.where(present, values, np.inf), return_inverse=True)[1]
    return _Column(key, kind, codes, order, int((~present).sum()))


def _alike(columns: Sequence[_Column]) -> list[list[_Column]]:
    """Columns that no data could tell apart, together: the same split of the runs, or the same order of all of them."""
    groups: dict[bytes, list[_Column]] = {}
    for column in columns:
        if column.order is None or column.levels <= len(column.codes) / 2:
            first = np.unique(column.codes, return_index=True)[1]
            signature = np.argsort(np.argsort(first))[column.codes].astype(np.int32).tobytes()
        else:
            # The reverse order is the same order; adding 0 makes one zero of -0 and 0.
            up, down = (np.nan_to_num(np.round(sign * column.order, 9), nan=9.0) + 0.0 for sign in (1, -1))
            signature = b"order" + max(up.tobytes(), down.tobytes())
        groups.setdefault(signature, []).append(column)
    return list(groups.values())


def _share(group: Sequence[_Column], rank: FloatArray, draws: FloatArray) -> Share:
    column, once = group[0], np.ones((1, len(rank)))
    point = float(np.clip(_press_share(column, rank, once)[0], 0.0, 1.0))
    spread = np.clip(_press_share(column, rank, draws), 0.0, 1.0)
    correlation = correlation_interval = None
    if column.order is not None:
        correlation = float(_correlation(column.order, rank, once)[0])
        correlation_interval = _interval(_correlation(column.order, rank, draws))
    return Share(
        column.key, column.kind, column.levels - (column.missing > 0), column.missing, point, _interval(spread),
        correlation, correlation_interval, tuple(twin.key for twin in group[1:]),
    )  # fmt: skip


def _interval(values: FloatArray) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _press_share(column: _Column, rank: FloatArray, weights: FloatArray) -> FloatArray:
    """1 - PRESS / PRESS of the mean for each row of `weights` (r, n): shape (r,)."""
    total, weighted = weights.sum(axis=1, keepdims=True), weights * rank
    rest = (weighted.sum(axis=1, keepdims=True) - weighted) / np.maximum(total - weights, 1.0)
    errors = (
        _level_errors(column, rank, weights, rest) if column.order is None else _order_errors(column, rank, weights)
    )
    base = (weights * (rank - rest) ** 2).sum(axis=1)
    return np.asarray(1 - (weights * errors**2).sum(axis=1) / np.maximum(base, np.finfo(float).tiny))


def _level_errors(column: _Column, rank: FloatArray, weights: FloatArray, rest: FloatArray) -> FloatArray:
    """Each run's rank less the mean of the other runs of its level, shrunken towards the mean of all others."""
    member = np.eye(column.levels)[column.codes]
    others = (weights @ member)[:, column.codes] - weights
    sums = ((weights * rank) @ member)[:, column.codes] - weights * rank
    return rank - (sums + _RIDGE * rest) / (others + _RIDGE)


def _order_errors(column: _Column, rank: FloatArray, weights: FloatArray) -> FloatArray:
    """Each run's rank less what a ridge on (1, r, r²) of the other runs predicts, by the leverage identity."""
    features = _features(column)
    normal = np.einsum("rn,nd,ne->rde", weights, features, features, optimize=True)
    normal += np.diag([1e-9, *[_RIDGE / 3] * (features.shape[1] - 1)])
    inverse = np.linalg.inv(normal)
    fit = np.einsum("rde,rn,ne->rd", inverse, weights * rank, features, optimize=True)
    leverage = np.einsum("nd,rde,ne->rn", features, inverse, features, optimize=True)
    return np.asarray((rank - fit @ features.T) / np.maximum(1 - weights * leverage, 1e-9))


def _features(column: _Column) -> FloatArray:
    assert column.order is not None
    missing = np.isnan(column.order)
    order = np.where(missing, 0.0, column.order)
    columns = [np.ones(len(order)), order]
    if column.levels - (column.missing > 0) > 2:
        square = order**2
        columns.append(np.where(missing, 0.0, square - square[~missing].mean()))
    if column.missing:
        columns.append(missing.astype(np.float64))
    return np.stack(columns, axis=1)


def _correlation(order: FloatArray, rank: FloatArray, weights: FloatArray) -> FloatArray:
    """Spearman's ρ over the runs that have the value, for each row of weights."""
    present = ~np.isnan(order)
    x, y, w = order[present], rank[present], weights[:, present]
    total = np.maximum(w.sum(axis=1, keepdims=True), 1.0)
    x_centred, y_centred = x - (w @ x)[:, None] / total, y - (w @ y)[:, None] / total
    scale = np.sqrt((w * x_centred**2).sum(axis=1) * (w * y_centred**2).sum(axis=1))
    product = (w * x_centred * y_centred).sum(axis=1)
    return divide(product, scale)
