"""The artifacts of runs: named files, the bytes stored once."""

from __future__ import annotations

import time

from sqlmodel import Session, select

from service.store.blobs import BlobStore
from service.store.tables import Artifact, OrphanBlob


def add_artifact(session: Session, *, run_id: str, path: str, kind: str, sha256: str, size: int) -> Artifact:
    """Record an artifact; the same path again replaces what it names."""
    row = session.exec(select(Artifact).where(Artifact.run_id == run_id, Artifact.path == path)).first()
    if row is None:
        row = Artifact(run_id=run_id, path=path, kind=kind, sha256=sha256, size=size, created_at=time.time())
        session.add(row)
    else:
        row.kind, row.sha256, row.size, row.created_at = kind, sha256, size, time.time()
    session.flush()
    return row


def artifacts(session: Session, run_id: str) -> list[Artifact]:
    return list(session.exec(select(Artifact).where(Artifact.run_id == run_id).order_by(Artifact.path)).all())


def get_artifact(session: Session, run_id: str, path: str) -> Artifact | None:
    return session.exec(select(Artifact).where(Artifact.run_id == run_id, Artifact.path == path)).first()


def stored_size(session: Session, blobs: BlobStore, sha256: str) -> int | None:
    """Bytes of a file that is stored, and stays while a row that names it is on its way; None: there is none.

    A file is removed an hour after it was noted as an orphan, at the earliest: one that is noted may go any moment.
    """
    return None if session.get(OrphanBlob, sha256) is not None else blobs.size(sha256)
