"""Metric points out: as JSON for people and scripts, as Arrow for dashboards."""

from __future__ import annotations

import base64
import binascii
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import orjson
from sqlmodel import Session

from service.errors import Invalid
from service.store import history as reader
from service.store import series as store
from service.store.database import Database
from service.store.points import Int64s, Points, thin
from service.store.tables import Series

MAX_SERIES = 2000
FIRST_THINNED = 8  # times the pixels are kept of each piece of a long series
BATCH_POINTS = 65_536  # of an Arrow batch, at least
SENT_AT_ONCE = 1 << 20  # bytes
# Where the session comes from that reads on: the same one each time, or a new one after a while.
Source = Callable[[], Session]


class TooManySeries(Invalid):
    code = "too_many_series"


class BadHistoryCursor(Invalid):
    code = "bad_cursor"


@dataclass(frozen=True)
class Asked:
    """What a reader wants: these series, beyond the points it has `seen` of each, thinned to so many pixels."""

    series: list[Series]
    seen: dict[int, int]
    max_points: int | None
    whole: bool

    @property
    def points(self) -> int:
        """How many points have to be read, about."""
        return sum(max(row.count - self.seen.get(row.id or 0, 0), 0) for row in self.series)

    @property
    def cursor(self) -> str:
        """Where this reader goes on from next time."""
        held = self.seen | {row.id or 0: row.count for row in self.series}
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(held)).decode()

    def pieces(self, session: Source, row: Series) -> Iterator[tuple[Points, Int64s]]:
        """The points of a series with the segment of each, some at a time; those of a chart all at once."""
        if self.max_points is not None:
            return iter([self.chart(session, row, self.max_points)[:2]])
        return self.reader(row).pieces(session)

    def reader(self, row: Series) -> reader.Reader:
        return reader.Reader(row, after=self.seen.get(row.id or 0, 0), whole=self.whole)

    def chart(self, session: Source, row: Series, pixels: int) -> tuple[Points, Int64s, bool]:
        """What a chart needs of a series, and whether that is less than all."""
        return _thinned(self.reader(row).pieces(session), pixels, row.segment)


def ask(
    session: Session,
    run_ids: Sequence[str],
    keys: Sequence[str] | None,
    max_points: int | None,
    after: str | None,
    whole: bool = False,
    rank: int | None = 0,
) -> Asked:
    """The series of these runs and keys (absent: all keys), each to be thinned to `max_points` pixels.

    With `after`, only points that arrived since that cursor was given. With `whole`, also the points that a resumed
    run replaced. Of every rank if `rank` is None.
    """
    found = store.summaries(session, run_ids, keys, rank)
    if len(found) > MAX_SERIES:
        raise TooManySeries(
            f"{len(found):,} series are asked for, at most {MAX_SERIES:,} a call: name fewer runs or keys."
        )
    return Asked(found, _seen(after) if after else {}, max_points, whole)


def _thinned(pieces: Iterator[tuple[Points, Int64s]], pixels: int, segment: int) -> tuple[Points, Int64s, bool]:
    """What a chart needs of the pieces, and whether that is less than all.

    A long series is thinned piece by piece first, and no extreme is lost.
    """
    parts, segments, n = [], [np.empty(0, np.int64)], 0
    for points, own in pieces:
        n += len(points)
        parts.append(thin(points, FIRST_THINNED * pixels))
        segments = [*segments, own] if n <= 2 * pixels else []
    points = thin(Points.concatenate(parts), pixels)
    if len(points) < n:
        return points, np.full(len(points), segment), True
    return points, np.concatenate(segments), False


def _seen(cursor: str) -> dict[int, int]:
    try:
        return msgspec.msgpack.decode(base64.urlsafe_b64decode(cursor), type=dict[int, int])
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        raise BadHistoryCursor("The cursor is not one this service gave. Read again without `after`.") from None


def as_json(session: Source, asked: Asked) -> Iterator[bytes]:
    """In the shape of `History`."""
    before = b'{"series":['
    for row in asked.series:
        about = {"run_id": row.run_id, "key": row.key, "rank": row.rank, "count": row.count}
        own = asked.reader(row)
        if asked.max_points is None:
            held, sampled = list(itertools.islice(own.pieces(session), 2)), False
        else:
            thinned, segments, sampled = asked.chart(session, row, asked.max_points)
            held = [(thinned, segments)]
        yield before + orjson.dumps(about | {"sampled": sampled})[:-1]
        for name in ("steps", "times", "values"):
            yield b',"%s":[' % name.encode()
            # A column at a time: a series of more pieces is read once for each.
            pieces = iter(held) if len(held) < 2 else own.pieces(session)
            separator = b""
            for points, _ in pieces:
                if len(points):
                    yield separator + _numbers(getattr(points, name))
                    separator = b","
            yield b"]"
        before = b"},"
    yield (b"}" if asked.series else before) + b'],"cursor":"%s"}' % asked.cursor.encode()


def _numbers(column: np.ndarray) -> bytes:
    """The column as JSON, without its brackets."""
    odd = np.flatnonzero(~np.isfinite(column))
    if not len(odd):
        return orjson.dumps(np.ascontiguousarray(column), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
    plain: list[float | str] = column.tolist()
    for index in odd:
        plain[index] = store.special_name(float(column[index]))
    return orjson.dumps(plain)[1:-1]


def as_arrow(session: Source, asked: Asked) -> Iterator[bytes]:
    """One Arrow IPC stream with columns run_id, key (dictionaries), rank, segment, step, time, value."""
    import pyarrow as pa  # kept out of the service's start: only this answer needs it

    run_ids = {name: place for place, name in enumerate(dict.fromkeys(row.run_id for row in asked.series))}
    keys = {name: place for place, name in enumerate(dict.fromkeys(row.key for row in asked.series))}
    names = pa.dictionary(pa.int32(), pa.string())
    columns = {"run_id": names, "key": names, "rank": pa.int32(), "segment": pa.int64(), "step": pa.int64(),
               "time": pa.float64(), "value": pa.float64()}  # fmt: skip
    schema = pa.schema(list(columns.items()), metadata={"cursor": asked.cursor})

    def batch(held: Sequence[tuple[Series, Points, Int64s]]) -> Any:
        lengths = [len(points) for _, points, _ in held]
        points = Points.concatenate([points for _, points, _ in held])

        def repeated(values: Sequence[int]) -> np.ndarray:
            return np.repeat(np.array(values, dtype=np.int32), lengths)

        def named(values: Sequence[int], among: dict[str, int]) -> Any:
            return pa.DictionaryArray.from_arrays(repeated(values), pa.array(list(among), pa.string()))

        arrays = [
            named([run_ids[row.run_id] for row, _, _ in held], run_ids),
            named([keys[row.key] for row, _, _ in held], keys),
            repeated([row.rank for row, _, _ in held]),
            np.concatenate([segments for _, _, segments in held]),
            points.steps,
            points.times,
            points.values,
        ]
        return pa.record_batch([pa.array(array) for array in arrays], schema=schema)

    sink = io.BytesIO()

    def written() -> bytes:
        data = sink.getvalue()
        sink.seek(0)
        sink.truncate()
        return data

    with pa.ipc.new_stream(sink, schema) as writer:
        held: list[tuple[Series, Points, Int64s]] = []
        for row in asked.series:
            for points, segments in asked.pieces(session, row):
                held.append((row, points, segments))
                if sum(len(points) for _, points, _ in held) >= BATCH_POINTS:
                    writer.write_batch(batch(held))
                    held.clear()
                    yield written()
        if held:
            writer.write_batch(batch(held))
    yield written()


def streamed(database: Database, answer: Callable[[Source], Iterator[bytes]]) -> Iterator[bytes]:
    """A long answer, read while it is sent.

    No transaction is open while it waits for its reader: SQLite's journal would grow, and PostgreSQL keep dead rows,
    for as long as that takes.
    """
    with Reading(database) as reading:
        buffer = bytearray()
        for part in answer(reading.session):
            if not buffer and len(part) >= SENT_AT_ONCE:
                reading.pause()
                yield part
                continue
            buffer += part
            if len(buffer) >= SENT_AT_ONCE:
                reading.pause()
                yield bytes(buffer)
                buffer.clear()
        reading.pause()
        yield bytes(buffer)


class Reading:
    """A session that is there when it is asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open = ExitStack()
        self._session: Session | None = None

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def session(self) -> Session:
        if self._session is None:
            self._session = self._open.enter_context(self._database.read())
        return self._session

    def pause(self) -> None:
        """End its transaction."""
        self._session = None
        self._open.close()
