"""One arm of an experiment as sums: all a comparison needs, whatever the number of units.

Arms of disjoint units add up with `+`, so that roll-ups of shards or days are sums of sums. The unit of analysis is
the unit of assignment: a metric of requests becomes a ratio of per-unit sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from service.measure.validation import EmptySetError, LengthMismatchError, OutOfRangeError


class HasMoments(Protocol):
    """What the tests in `ab` read of an arm: `variance / n` is the squared standard error of `mean`."""

    @property
    def n(self) -> int: ...

    @property
    def mean(self) -> float: ...

    @property
    def variance(self) -> float: ...


@dataclass(frozen=True)
class Arm:
    """A metric with one value a unit: number of units, sum and sum of squares of their values."""

    n: int
    sum: float
    sum_squares: float

    @classmethod
    def from_values(cls, values: npt.ArrayLike) -> Arm:
        """values: one a unit, shape (n,)."""
        array = _finite(values)
        return cls(len(array), float(array.sum()), float((array**2).sum()))

    @classmethod
    def from_successes(cls, n: int, successes: int) -> Arm:
        """A binary metric: each unit 0 or 1."""
        if not 0 <= successes <= n:
            raise OutOfRangeError(f"{successes} successes of {n} units")
        return cls(n, float(successes), float(successes))

    def __add__(self, other: Arm) -> Arm:
        return Arm(self.n + other.n, self.sum + other.sum, self.sum_squares + other.sum_squares)

    @property
    def mean(self) -> float:
        _need(self.n, 1)
        return self.sum / self.n

    @property
    def variance(self) -> float:
        """Sample variance over units (divisor n - 1)."""
        _need(self.n, 2)
        return _centred(self.n, self.sum_squares, self.sum, self.sum)


@dataclass(frozen=True)
class RatioArm:
    """A ratio of two sums over units, such as thumbs up per rated answer: y over x, by the delta method.

    Requests of one unit are not independent; the variance here is over units, so it holds however many each makes.
    """

    n: int
    sum_y: float
    sum_x: float
    sum_yy: float
    sum_xx: float
    sum_xy: float

    @classmethod
    def from_values(cls, y: npt.ArrayLike, x: npt.ArrayLike) -> RatioArm:
        """y, x: numerator and denominator sums of each unit, shape (n,) both."""
        top, bottom = _finite(y), _finite(x)
        if len(top) != len(bottom):
            raise LengthMismatchError(f"{len(top)} numerators but {len(bottom)} denominators")
        return cls(
            len(top),
            float(top.sum()),
            float(bottom.sum()),
            float((top**2).sum()),
            float((bottom**2).sum()),
            float((top * bottom).sum()),
        )

    def __add__(self, other: RatioArm) -> RatioArm:
        return RatioArm(
            self.n + other.n,
            self.sum_y + other.sum_y,
            self.sum_x + other.sum_x,
            self.sum_yy + other.sum_yy,
            self.sum_xx + other.sum_xx,
            self.sum_xy + other.sum_xy,
        )

    @property
    def mean(self) -> float:
        """sum of y over sum of x."""
        if self.sum_x == 0:
            raise EmptySetError("a ratio needs a denominator above 0")
        return self.sum_y / self.sum_x

    @property
    def variance(self) -> float:
        """Per unit, so that variance / n is the delta-method variance of the ratio (Deng et al. 2018, section 3.2)."""
        _need(self.n, 2)
        ratio, mean_x = self.mean, self.sum_x / self.n
        var_y = _centred(self.n, self.sum_yy, self.sum_y, self.sum_y)
        var_x = _centred(self.n, self.sum_xx, self.sum_x, self.sum_x)
        covariance = (self.sum_xy - self.sum_x * self.sum_y / self.n) / (self.n - 1)
        return max(var_y - 2 * ratio * covariance + ratio**2 * var_x, 0.0) / mean_x**2


def _need(n: int, least: int) -> None:
    if n < least:
        raise EmptySetError(f"an arm needs {least} or more units here, it has {n}")


def _centred(n: int, sum_squares: float, sum_a: float, sum_b: float) -> float:
    """Sample variance from sums; never below 0, where rounding could leave it."""
    return max(sum_squares - sum_a * sum_b / n, 0.0) / (n - 1)


def _finite(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise OutOfRangeError(f"the value of unit {bad[0]} is {array[bad[0]]}", int(bad[0]))
    return array
