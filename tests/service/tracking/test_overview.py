"""What long series look like from their overviews, beside what their points say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update
from sqlmodel import col, select
from starlette.testclient import TestClient

from service.measure import curves as measure
from service.measure.curves import Line
from service.store import history, overview, series
from service.store.database import Database
from service.store.overview import GROUP
from service.store.points import CHUNK_POINTS, FORMER_CHUNK_POINTS, Points
from service.store.tables import Chunk

from .test_compare_curves import ask, bulk
from .test_metrics import make_run, send
from .test_series import new_run

PIXELS = 100


def walk(n: int, seed: int = 0, odd: bool = True) -> Points:
    """A noisy metric with a spike each way and, if `odd`, values that are no numbers."""
    noise = np.random.default_rng(seed)
    values = np.exp(-np.arange(n) / n * 3) + noise.normal(0, 0.05, n)
    values[n // 3], values[n // 2] = 50.0, -20.0
    if odd:
        values[5], values[n // 4 : n // 4 + 3 * GROUP] = np.inf, np.nan
    return Points(np.arange(n) * 3, 1.7e9 + np.arange(n) * 0.25 + noise.normal(0, 0.01, n), values)


def held(database: Database, run_id: str) -> overview.Entries:
    with database.read() as session:
        ((_, entries),) = overview.read(session, series.summaries(session, [run_id]))
        return entries


def grouped(points: Points) -> np.ndarray:
    """The entries of whole chunks, said plainly."""
    rows = []
    for start in range(0, len(points), GROUP):
        some = points[start : start + GROUP]
        kept = some.values[np.isfinite(some.values)]
        ends = (kept.mean(), kept.min(), kept.max()) if len(kept) else (np.nan,) * 3
        rows.append((some.steps.mean(), some.times.mean(), *ends, len(kept)))
    return np.array(rows).T


def columns(entries: overview.Entries) -> np.ndarray:
    names = ("steps", "times", "mean", "low", "high", "n")
    return np.stack([getattr(entries, name) for name in names])


def test_entries_are_those_of_the_points(database: Database) -> None:
    run_id = new_run(database)
    points = walk(2 * CHUNK_POINTS + 100)
    with database.write() as session:
        series.append(session, run_id, {"m": points})
    found, full = columns(held(database, run_id)), 2 * CHUNK_POINTS
    np.testing.assert_allclose(found[:, : full // GROUP], grouped(points[slice(0, full)]), rtol=1e-12)
    # What is not in a full chunk yet comes point by point.
    np.testing.assert_array_equal(found[2, full // GROUP :], points.values[full:])
    assert found[5].sum() == np.isfinite(points.values).sum()


def test_chunks_joined_later_have_an_overview_too(database: Database) -> None:
    run_id = new_run(database)
    points = walk(CHUNK_POINTS + 500)
    with database.write() as session:
        for start in range(0, len(points), 100):
            series.append(session, run_id, {"m": points[start : start + 100]})
    more = True
    while more:
        with database.write() as session:
            (row,) = series.summaries(session, [run_id])
            more = series.merge(session, row.id or 0)
    found = columns(held(database, run_id))
    assert found.shape[1] == CHUNK_POINTS // GROUP + 500
    np.testing.assert_allclose(found[:, : CHUNK_POINTS // GROUP], grouped(points[slice(0, CHUNK_POINTS)]), rtol=1e-12)


def test_chunks_from_before_overviews_are_grouped_when_read(database: Database) -> None:
    run_id = new_run(database)
    with database.write() as session:
        series.append(session, run_id, {"m": walk(2 * CHUNK_POINTS + 100)})
    now = columns(held(database, run_id))
    with database.write() as session:
        session.connection().execute(update(Chunk).values(overview=None))
    np.testing.assert_array_equal(columns(held(database, run_id)), now)


def test_full_chunks_of_older_databases_stay_as_they_are(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were shorter: a run that goes on in one is read, drawn and joined right."""
    run_id, n = new_run(database), 2 * FORMER_CHUNK_POINTS
    points = walk(n + CHUNK_POINTS + 100)
    with monkeypatch.context() as older:
        older.setattr(series, "CHUNK_POINTS", FORMER_CHUNK_POINTS)
        with database.write() as session:
            series.append(session, run_id, {"m": points[slice(0, n + 50)]})
    for start in range(n + 50, len(points), 50):
        with database.write() as session:
            series.append(session, run_id, {"m": points[start : start + 50]})
    joined = True
    while joined:
        with database.write() as session:
            (row,) = series.summaries(session, [run_id])
            joined = series.merge(session, row.id or 0)
    with database.read() as session:
        counts = session.exec(select(Chunk.count).order_by(col(Chunk.id))).all()
        (row,) = series.summaries(session, [run_id])
        kept = history.read(session, row)[0]
    assert counts == [FORMER_CHUNK_POINTS, FORMER_CHUNK_POINTS, CHUNK_POINTS, 100]
    assert row.open_chunks == 1
    np.testing.assert_array_equal(kept.values, points.values)
    full = n + CHUNK_POINTS
    np.testing.assert_allclose(
        columns(held(database, run_id))[:, : full // GROUP], grouped(points[slice(0, full)]), rtol=1e-12
    )


def test_points_that_are_a_set_have_none(database: Database) -> None:
    """As MLflow's clients send them: a group of neighbours in time of arrival may lie anywhere."""
    run_id = new_run(database)
    points = walk(CHUNK_POINTS, odd=False)[::-1]
    with database.write() as session:
        series.append(session, run_id, {"m": points}, ordered=False)
        assert session.exec(select(Chunk.overview)).all() == [None]
    assert len(held(database, run_id)) == CHUNK_POINTS


def test_values_at_the_ends_of_the_numbers(database: Database) -> None:
    values = np.full(CHUNK_POINTS, 1.7e308)
    values[:GROUP] = -1.7e308
    values[GROUP : 2 * GROUP] = np.nan
    run_id = new_run(database)
    steps = np.arange(CHUNK_POINTS) + 2**62
    with database.write() as session:
        series.append(session, run_id, {"m": Points(steps, np.zeros(CHUNK_POINTS), values)})
    found = held(database, run_id)
    assert found.mean[0] == -1.7e308
    assert np.isnan(found.mean[1])
    assert (found.mean[2:] == 1.7e308).all()


def curve(client: TestClient, run_id: str, **body: Any) -> dict[str, Any]:
    (one,) = ask(client, [run_id], "m", max_points=PIXELS, **body)["curves"]
    assert isinstance(one, dict)
    return one


def test_a_chart_from_overviews_is_that_of_the_points(client: TestClient, monkeypatch: Any) -> None:
    run_id = make_run(client)
    points = walk(10 * CHUNK_POINTS + 77)
    column = bulk("m", len(points), points.values) | {
        "step": points.steps.tobytes(),
        "time": points.times.tobytes(),
    }
    send(client, run_id, 1, column)
    for x in ("step", "time"):
        drawn = curve(client, run_id, x=x)
        with monkeypatch.context() as patch:
            patch.setattr(overview, "is_long", lambda *_: False)
            exact = curve(client, run_id, x=x)
        assert drawn["sampled"]
        assert drawn["not_finite"] == exact["not_finite"] == 3 * GROUP + 1
        assert len(drawn["x"]) == len(exact["x"]) == PIXELS
        assert max(v for v in drawn["max"] if v is not None) == 50.0
        assert min(v for v in drawn["min"] if v is not None) == -20.0
        # An entry of 32 points falls into one pixel of 410 as a whole: means move by what 32 points can.
        spread = [(a, b) for a, b in zip(drawn["value"], exact["value"], strict=True) if a is not None]
        assert np.median([abs(a - b) for a, b in spread]) < 0.005


@given(data=st.data(), pixels=st.integers(2, 40), size=st.sampled_from([1, 2, 4, 8]))
def test_condensing_entries_keeps_what_reducing_points_keeps(data: st.DataObject, pixels: int, size: int) -> None:
    """Where no entry lies across the border of two pixels, the two agree to rounding."""
    n = size * pixels * data.draw(st.integers(2, 5))
    value = st.floats(-1e6, 1e6) | st.just(float("nan"))
    values = np.array(data.draw(st.lists(value, min_size=n, max_size=n)))
    x = np.arange(n, dtype=np.float64)
    finite = np.isfinite(values).reshape(-1, size)
    table = values.reshape(-1, size)
    count = finite.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(finite, table, 0).sum(axis=1) / count
    low = np.where(count > 0, np.where(finite, table, np.inf).min(axis=1), np.nan)
    high = np.where(count > 0, np.where(finite, table, -np.inf).max(axis=1), np.nan)
    line = measure.entries(x.reshape(-1, size).mean(axis=1), mean, low, high, count.astype(np.float64))
    # Borders between two entries: parts of [-0.5, n - 0.5].
    condensed: Line = measure.condense(line, pixels, -0.5, n - 0.5)
    reduced: Line = measure.reduce(x, values, pixels, -0.5, n - 0.5)
    assert len(condensed) == len(reduced)
    np.testing.assert_array_equal(condensed.n, reduced.n)
    np.testing.assert_array_equal(condensed.low, reduced.low)
    np.testing.assert_array_equal(condensed.high, reduced.high)
    np.testing.assert_allclose(condensed.x, reduced.x)
    np.testing.assert_allclose(condensed.value, reduced.value, rtol=1e-9, atol=1e-6)
