"""Reports about items are made once: items never change, so what was found out about them is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from pydantic import BaseModel

from service.evaluation.quality import REVISION
from service.store import row_sets
from service.store.blobs import BlobNotFound, BlobStore
from service.store.database import Database


def kept(database: Database, blobs: BlobStore, make: Callable[[], BaseModel], *about: object) -> bytes:
    """The report as JSON: the one kept under `about`, else what `make` answers. No session is open meanwhile."""
    key = hashlib.sha256("\n".join(map(str, (REVISION, *about))).encode()).hexdigest()
    with database.read() as session:
        sha256 = row_sets.report(session, key)
    if sha256 is not None:
        try:
            return blobs.get(sha256)
        except BlobNotFound:
            pass  # it can be made again
    report = make().model_dump_json().encode()
    sha256 = blobs.put(report)
    with database.write() as session:
        row_sets.keep_report(session, key, sha256)
    return report
