"""Suites and predictions as files of rows."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from starlette.testclient import TestClient

from .wire import Json

JSON_LINES = "application/x-ndjson"
PARQUET = "application/vnd.apache.parquet"


def json_lines(rows: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def parquet(rows: Sequence[Json]) -> bytes:
    buffer = io.BytesIO()
    names = dict.fromkeys(name for row in rows for name in row)
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), buffer)
    return buffer.getvalue()


ENCODE = {JSON_LINES: json_lines, PARQUET: parquet}


def send(client: TestClient, what: str, content: bytes, kind: str = JSON_LINES, **params: Any) -> Any:
    """The answer to a file; `what` is suites or evaluations."""
    return client.post(f"/api/v1/{what}/file", params=params, content=content, headers={"content-type": kind})
