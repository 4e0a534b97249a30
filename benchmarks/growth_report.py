"""What a query costs as more is stored: a column a size, and the most that ten times as much made of it. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from report import Line, Report, Sheet, number

TENFOLD = 1.5


@dataclass(frozen=True)
class Question:
    """A row: what is asked at every size. Less is better. `at_most` bounds it at the size `at`, in its own unit."""

    key: str
    title: str
    unit: str = "ms"
    at_most: float | None = None
    at: int = 0

    @property
    def aim(self) -> str:
        bound = "" if self.at_most is None else f", ≤ {self.at_most:g} {self.unit} at {self.at:,}"
        return f"≤ {TENFOLD:g}×{bound}"


@dataclass
class Cost:
    """The samples of one question on one database by size, one a round; and how many items its answer has there."""

    samples: dict[int, list[float]] = field(default_factory=dict)
    items: dict[int, int] = field(default_factory=dict)

    def add(self, size: int, value: float) -> None:
        self.samples.setdefault(size, []).append(value)

    def median(self, size: int) -> float | None:
        values = self.samples.get(size)
        return statistics.median(values) if values else None

    def factors(self) -> dict[int, float]:
        """Size → how many times a tenth of it the query costs there: the median over rounds, so that noise that hits
        both sizes of a round cancels. Only where both answers are as long: cost may grow with what is asked."""
        found = {}
        for small, large in pairwise(sorted(self.samples)):
            if self.items.get(small) == self.items.get(large):
                rounds = zip(self.samples[small], self.samples[large], strict=True)
                found[large] = statistics.median(after / before for before, after in rounds)
        return found

    def worst(self) -> float | None:
        return max(self.factors().values(), default=None)


@dataclass
class Grown:
    """One question and what it cost, by database."""

    question: Question
    costs: dict[str, Cost] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether every aim is met on every database; None: nothing was comparable."""
        question = self.question
        held = [worst <= TENFOLD for cost in self.costs.values() if (worst := cost.worst()) is not None]
        if question.at_most is not None:
            bounded = [cost.median(question.at) for cost in self.costs.values()]
            held += [value <= question.at_most for value in bounded if value is not None]
        return all(held) if held else None


@dataclass(frozen=True)
class Growth:
    """A table: the questions that were asked at the same sizes. `what` names what there are so many of."""

    what: str
    sizes: Sequence[int]
    grown: Sequence[Grown]

    def sheet(self, databases: Sequence[str]) -> Sheet:
        columns = [heading for name in databases for heading in (*(f"{name}, {n:,}" for n in self.sizes), "10×")]
        return Sheet([self.what, *columns], [self._line(grown, databases) for grown in self.grown])

    def _line(self, grown: Grown, databases: Sequence[str]) -> Line:
        cells = [f"{grown.question.title}, {grown.question.unit}"]
        for name in databases:
            cost = grown.costs.get(name, Cost())
            cells += [number(cost.median(size)) for size in self.sizes]
            worst = cost.worst()
            cells.append("" if worst is None else f"{worst:.2f}×")
        return Line(cells, grown.question.aim, grown.met)


@dataclass(frozen=True)
class GrowthReport(Report):
    """`systems` are the databases; there are no other `figures`."""

    growths: Sequence[Growth] = ()

    def sheets(self) -> list[Sheet]:
        return [growth.sheet(self.systems) for growth in self.growths]

    def rows(self) -> list[dict[str, Any]]:
        return [
            asdict(grown.question)
            | {"per": growth.what, "aim": grown.question.aim, "met": grown.met}
            | {name: self._cost(cost) for name, cost in grown.costs.items()}
            for growth in self.growths
            for grown in growth.grown
        ]

    @staticmethod
    def _cost(cost: Cost) -> dict[str, Any]:
        medians = {size: cost.median(size) for size in cost.samples}
        return {"median": medians, "tenfold": cost.factors(), "items": cost.items, "samples": cost.samples}
