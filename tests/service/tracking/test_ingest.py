"""The one writer: what one caller gets wrong costs no other caller anything, and never ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlmodel import Session, col, select

from service.errors import Invalid
from service.store import runs, series
from service.store.database import Database
from service.store.tables import Project
from service.tracking.ingest import Ingest

from .test_series import new_run, points


@pytest.fixture
def ingest(database: Database) -> Iterator[Ingest]:
    running = Ingest(database)
    running.start()
    yield running
    running.stop()


def make(name: str) -> object:
    return lambda session: runs.project_id(session, name)


def faulty(session: Session) -> None:
    runs.project_id(session, "half done")
    raise ZeroDivisionError


def refused(session: Session) -> None:
    raise Invalid("not like this")


def stored(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.exec(select(Project.name).where(col(Project.id) != 0)).all())


def test_a_fault_is_its_callers_alone(ingest: Ingest, database: Database) -> None:
    async def together() -> list[object]:
        jobs = [make("a"), faulty, make("b"), refused, make("c")]
        return await asyncio.gather(*(ingest.write(job) for job in jobs), return_exceptions=True)  # type: ignore[arg-type]

    answers = asyncio.run(together())
    assert [type(answer) for answer in answers] == [int, ZeroDivisionError, int, Invalid, int]
    assert stored(database) == {"a", "b", "c"}
    assert isinstance(asyncio.run(ingest.write(make("later"))), int)  # type: ignore[arg-type]
    assert stored(database) == {"a", "b", "c", "later"}


def test_points_beside_a_fault_are_stored_once_and_told(database: Database) -> None:
    run_id = new_run(database)
    told: list[tuple[str, set[str]]] = []
    writer = Ingest(database, lambda run, keys: told.append((run, set(keys))))
    writer.start()

    async def both() -> None:
        good = writer.write(lambda session: writer.append(session, run_id, {"x": points([1, 2])}))
        await asyncio.gather(good, writer.write(faulty), return_exceptions=True)

    asyncio.run(both())
    writer.stop()
    assert told == [(run_id, {"x"})]
    with database.read() as session:
        (one,) = series.summaries(session, [run_id])
    assert one.count == 2
