"""Exactly once: the highest batch applied for each (run, writer)."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import tuple_
from sqlmodel import Session, col, select

from service.store.tables import Writer


def writers(session: Session, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Writer]:
    """The writers of these (run, writer) pairs that have written before."""
    wanted = sorted(set(pairs))
    rows = session.exec(select(Writer).where(tuple_(col(Writer.run_id), col(Writer.writer)).in_(wanted))).all()
    return {(row.run_id, row.writer): row for row in rows}


def new_writer(session: Session, run_id: str, writer: str) -> Writer:
    row = Writer(run_id=run_id, writer=writer, last_batch=0)
    session.add(row)
    return row
