"""The arithmetic of benchmarks/growth.py: what ten times as much in store made of a query."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def growth_report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmarks are scripts beside one another, and no package."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import growth_report

    return growth_report


def cost(module: ModuleType, samples: dict[int, list[float]], items: dict[int, int] | None = None) -> object:
    return module.Cost(samples, items or dict.fromkeys(samples, 50))


def test_a_factor_is_the_median_of_the_rounds_ratios(growth_report: ModuleType) -> None:
    """The second round was disturbed at both sizes: its ratio counts, its times do not."""
    held = cost(growth_report, {100: [1.0, 10.0, 1.0], 1_000: [1.2, 12.0, 9.0]})
    assert held.factors() == {1_000: pytest.approx(1.2)}


def test_the_worst_of_all_neighbouring_sizes_counts(growth_report: ModuleType) -> None:
    held = cost(growth_report, {10: [1.0], 100: [2.0], 1_000: [2.2]})
    assert held.worst() == pytest.approx(2.0)


def test_a_longer_answer_may_cost_more(growth_report: ModuleType) -> None:
    held = cost(growth_report, {100: [1.0], 1_000: [9.0], 10_000: [9.9]}, {100: 100, 1_000: 1_000, 10_000: 1_000})
    assert held.factors() == {10_000: pytest.approx(1.1)}


def test_nothing_comparable_is_no_factor(growth_report: ModuleType) -> None:
    held = cost(growth_report, {100: [1.0], 1_000: [9.0]}, {100: 100, 1_000: 1_000})
    assert held.worst() is None
    assert growth_report.Grown(growth_report.Question("list", "list"), {"SQLite": held}).met is None


@pytest.mark.parametrize(
    ("sqlite", "postgresql", "met"),
    [
        ([4.0, 5.0], [6.0, 8.0], True),
        ([4.0, 6.5], [6.0, 8.0], False),  # 1.6 times on SQLite
        ([9.0, 11.0], [6.0, 8.0], False),  # beyond the bound at 1,000
    ],
)
def test_every_aim_is_to_be_met_on_every_database(
    growth_report: ModuleType, sqlite: list[float], postgresql: list[float], met: bool
) -> None:
    costs = {
        name: cost(growth_report, {100: [small], 1_000: [large]})
        for name, (small, large) in {"SQLite": sqlite, "PostgreSQL": postgresql}.items()
    }
    grown = growth_report.Grown(growth_report.Question("page", "a page", at_most=10, at=1_000), costs)
    assert grown.met is met


def test_a_table_has_the_sizes_and_the_factor_of_each_database(growth_report: ModuleType) -> None:
    costs = {"SQLite": cost(growth_report, {100: [4.0], 1_000: [5.0]})}
    grown = growth_report.Grown(growth_report.Question("page", "a page", at_most=10, at=1_000), costs)
    sheet = growth_report.Growth("runs", (100, 1_000), [grown]).sheet(["SQLite", "PostgreSQL"])
    assert sheet.headings == [
        "runs", "SQLite, 100", "SQLite, 1,000", "10×", "PostgreSQL, 100", "PostgreSQL, 1,000", "10×",
    ]  # fmt: skip
    [line] = sheet.lines
    assert line.cells == ["a page, ms", "4.00", "5.00", "1.25×", "–", "–", ""]
    assert (line.aim, line.met) == ("≤ 1.5×, ≤ 10 ms at 1,000", True)
