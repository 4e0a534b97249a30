"""Metric points out: as JSON for people and scripts, as Arrow for dashboards."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from sqlmodel import Session

from service.errors import Invalid
from service.store import series as store
from service.store.points import Points
from service.store.tables import Series
from service.tracking.schemas import History, SeriesOut, SpecialFloat

MAX_SERIES = 2000


class TooManySeries(Invalid):
    code = "too_many_series"


class BadHistoryCursor(Invalid):
    code = "bad_cursor"


@dataclass(frozen=True)
class Curve:
    series: Series
    points: Points
    segments: np.ndarray
    sampled: bool


def read(
    session: Session,
    run_ids: Sequence[str],
    keys: Sequence[str] | None,
    max_points: int | None,
    after: str | None,
    whole: bool = False,
    rank: int | None = 0,
) -> tuple[list[Curve], str]:
    """The curves of these runs and keys (absent: all keys), thinned to `max_points` pixels each, and a cursor.

    With `after`, only points that arrived since that cursor was given. With `whole`, also the points that a resumed
    run replaced. Of every rank if `rank` is None.
    """
    found = store.summaries(session, run_ids, keys, rank)
    if len(found) > MAX_SERIES:
        raise TooManySeries(
            f"{len(found):,} series are asked for, at most {MAX_SERIES:,} a call: name fewer runs or keys."
        )
    seen = _seen(after) if after else {}
    curves = []
    for row in found:
        points, segments = store.read(session, row, after=seen.get(row.id or 0, 0), whole=whole)
        shown = store.chart(points, max_points)
        sampled = len(shown) < len(points)
        segments = np.full(len(shown), row.segment) if sampled else segments
        curves.append(Curve(row, shown, segments, sampled))
    cursor = {row.id or 0: row.count for row in found}
    return curves, base64.urlsafe_b64encode(msgspec.msgpack.encode({**seen, **cursor})).decode()


def _seen(cursor: str) -> dict[int, int]:
    try:
        return msgspec.msgpack.decode(base64.urlsafe_b64decode(cursor), type=dict[int, int])
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        raise BadHistoryCursor("The cursor is not one this service gave. Read again without `after`.") from None


def as_json(curves: Sequence[Curve], cursor: str) -> History:
    return History(
        series=[
            SeriesOut.model_construct(
                run_id=curve.series.run_id,
                key=curve.series.key,
                rank=curve.series.rank,
                count=curve.series.count,
                sampled=curve.sampled,
                steps=curve.points.steps.tolist(),
                times=curve.points.times.tolist(),
                values=_named(curve.points.values),
            )
            for curve in curves
        ],
        cursor=cursor,
    )


def _named(values: np.ndarray) -> list[float | SpecialFloat]:
    plain: list[float | SpecialFloat] = values.tolist()
    for index in np.flatnonzero(~np.isfinite(values)):
        plain[index] = store.special_name(float(values[index]))  # type: ignore[call-overload]
    return plain


def as_arrow(curves: Sequence[Curve], cursor: str) -> bytes:
    """One Arrow IPC stream with columns run_id, key (dictionaries), rank, segment, step, time, value."""
    import pyarrow as pa  # kept out of the service's start: only this answer needs it

    lengths = [len(curve.points) for curve in curves]
    points = Points.concatenate([curve.points for curve in curves])

    def named(values: Sequence[str]) -> Any:
        """A dictionary column: each curve's name, repeated for its points."""
        names = {name: position for position, name in enumerate(dict.fromkeys(values))}
        positions = np.array([names[value] for value in values], dtype=np.int32)
        return pa.DictionaryArray.from_arrays(np.repeat(positions, lengths), pa.array(list(names), pa.string()))

    table = pa.table(
        {
            "run_id": named([curve.series.run_id for curve in curves]),
            "key": named([curve.series.key for curve in curves]),
            "rank": np.repeat(np.array([curve.series.rank for curve in curves], dtype=np.int32), lengths),
            "segment": np.concatenate([curve.segments for curve in curves] or [np.empty(0, np.int64)]),
            "step": points.steps,
            "time": points.times,
            "value": points.values,
        }
    ).replace_schema_metadata({"cursor": cursor})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
