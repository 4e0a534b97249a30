"""Files of runs and of logged models, as MLflow's artifact proxy reads and writes them."""

from __future__ import annotations

import time
from typing import Any, Literal, NamedTuple

import sqlalchemy as sql
from sqlmodel import Session, col

from service.store import artifacts
from service.store.tables import Artifact, LoggedModelFile
from service.store.upserts import upsert


class Owner(NamedTuple):
    kind: Literal["run", "model"]
    id: str


class File(NamedTuple):
    path: str
    sha256: str
    size: int


def add(session: Session, owner: Owner, file: File) -> None:
    """Record a file whose bytes are stored; the same path again replaces what it names."""
    if owner.kind == "run":
        artifacts.add_artifact(
            session, run_id=owner.id, path=file.path, kind="file", sha256=file.sha256, size=file.size
        )
        return
    row = {"logged_model_id": owner.id, **file._asdict(), "created_at": time.time()}
    upsert(session, LoggedModelFile, [row], replace=["sha256", "size", "created_at"])


def find(session: Session, owner: Owner, path: str) -> File | None:
    table, mine = _of(owner)
    query = sql.select(table.path, table.sha256, table.size).where(mine, table.path == path)
    row = session.connection().execute(query).first()
    return None if row is None else File(*row)


def below(session: Session, owner: Owner, folder: str) -> list[tuple[str, int]]:
    """Paths and sizes of all files in a folder ("" is the root), at any depth."""
    table, mine = _of(owner)
    query = sql.select(table.path, table.size).where(mine, _inside(table, folder)).order_by(table.path)
    return [(path, size) for path, size in session.connection().execute(query)]


def files(session: Session, owner: Owner) -> list[File]:
    """All files, by path."""
    table, mine = _of(owner)
    query = sql.select(table.path, table.sha256, table.size).where(mine).order_by(table.path)
    return [File(*row) for row in session.connection().execute(query)]


def remove(session: Session, owner: Owner, path: str) -> int:
    """Forget a file, or all files of a folder; return how many there were. Their bytes may have other owners."""
    table, mine = _of(owner)
    gone = sql.delete(table).where(mine, sql.or_(table.path == path, _inside(table, path)))
    return session.connection().execute(gone).rowcount


def _of(owner: Owner) -> tuple[Any, Any]:
    if owner.kind == "run":
        return Artifact, col(Artifact.run_id) == owner.id
    return LoggedModelFile, col(LoggedModelFile.logged_model_id) == owner.id


def _inside(table: Any, folder: str) -> Any:
    return table.path.startswith(f"{folder}/", autoescape=True) if folder else sql.true()
