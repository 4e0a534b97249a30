"""Aligned curves of many runs, one by one or averaged over groups: what a chart of a comparison needs."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import numpy as np
from sqlmodel import Session

from service.errors import Invalid
from service.measure import curves as measure
from service.measure.curves import Band, Line
from service.measure.metric import FloatArray
from service.store import history, overview
from service.store import runs as run_store
from service.store import series as store
from service.store.tables import Run, Series
from service.tracking.compare import chosen
from service.tracking.compare_schemas import CurvesRequest
from service.tracking.grouping import Group, Member, group
from service.tracking.history import BadHistoryCursor

EPOCHS = ("epoch", "train/epoch", "trainer/epoch", "train_epoch")
"""The names under which a run's epoch is looked for, the first that it has being taken."""
MAX_POINTS = 20_000_000
MAX_ENTRIES = 1_000_000


class TooMuchForACall(Invalid):
    code = "too_much_for_a_call"


class RanksInGroups(Invalid):
    code = "ranks_in_groups"


@dataclass(frozen=True)
class Curve:
    series: Series
    line: Line
    sampled: bool
    not_finite: int


@dataclass(frozen=True)
class GroupCurve:
    group: int
    key: str
    n_runs: int
    band: Band


@dataclass
class Charted:
    """What was asked for. `missing`: (run, key, reason) of curves that cannot be drawn."""

    curves: list[Curve] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    group_curves: list[GroupCurve] = field(default_factory=list)
    missing: list[tuple[str, str, Literal["no_metric", "no_epoch"]]] = field(default_factory=list)
    cursor: str = ""


@dataclass(frozen=True)
class _Axis:
    """Where the points of each run lie. `epochs`: a run's epoch series as (steps, epochs)."""

    name: Literal["step", "time", "epoch"]
    began: dict[str, float]
    epochs: dict[str, tuple[FloatArray, FloatArray]]

    def has(self, run_id: str) -> bool:
        return self.name != "epoch" or run_id in self.epochs

    def end(self, series: Series) -> tuple[float, float]:
        """About where the series begins and ends, without reading it."""
        if self.name == "step":
            return float(series.first_step), float(series.last_step)
        if self.name == "time":
            began = self.began[series.run_id]
            return series.first_time - began, series.last_time - began
        epochs = self.epochs[series.run_id][1]
        return float(epochs.min()), float(epochs.max())

    def of(self, series: Series, steps: FloatArray, times: FloatArray) -> FloatArray:
        if self.name == "step":
            return steps
        if self.name == "time":
            return times - self.began[series.run_id]
        # Never beyond the first and last epoch that was logged.
        return np.interp(steps, *self.epochs[series.run_id], left=np.nan, right=np.nan)


def read(session: Session, asked: CurvesRequest) -> Charted:
    """The curves of these runs and keys.

    Raises:
        RunNotFound, TooManyGroups, BadGrouping, RanksInGroups
        TooMuchForACall: more points or entries than one call may cost.
    """
    if asked.group_by and asked.rank == "all":
        raise RanksInGroups("Groups are averaged over runs, of one rank each: name a rank, or leave out group_by.")
    runs = chosen(session, asked.run_ids)
    ids = [run.id for run in runs]
    found = _found(session, ids, asked)
    _affordable([row for rows in found.values() for row in rows], asked.max_points)
    axis = _axis(session, runs, asked.x)
    answer = Charted(groups=_groups(session, runs, asked.group_by))
    question = _question(asked, answer.groups)
    seen = _seen(asked.after, question)
    answer.cursor = _cursor(question, {row.id or 0: row.count for rows in found.values() for row in rows})
    for key in dict.fromkeys(asked.keys):
        rows = [row for run_id in ids for row in found.get((run_id, key), [])]
        answer.missing += [(run_id, key, "no_metric") for run_id in ids if (run_id, key) not in found]
        answer.missing += [(row.run_id, key, "no_epoch") for row in rows if not axis.has(row.run_id)]
        rows = [row for row in rows if axis.has(row.run_id)]
        grown = {row.id for row in rows if seen.get(row.id or 0) != row.count}
        if not grown:
            continue
        low, high = _reach(axis, rows)
        if answer.groups:
            answer.group_curves += _bands(session, answer.groups, rows, grown, axis, asked, (low, high))
        else:
            new = [row for row in rows if row.id in grown]
            answer.curves += _curves(session, new, axis, asked, (low, high))
    return answer


def _found(session: Session, ids: Sequence[str], asked: CurvesRequest) -> dict[tuple[str, str], list[Series]]:
    """By run and key: one series, or one for each rank."""
    rank = None if asked.rank == "all" else asked.rank
    found: dict[tuple[str, str], list[Series]] = {}
    for row in store.summaries(session, ids, list(dict.fromkeys(asked.keys)), rank):
        found.setdefault((row.run_id, row.key), []).append(row)
    return found


def _affordable(rows: Sequence[Series], pixels: int) -> None:
    points = sum(row.count // overview.GROUP if overview.is_long(row, pixels) else row.count for row in rows)
    entries = sum(min(row.count, pixels) for row in rows)
    if points > MAX_POINTS:
        raise TooMuchForACall(
            f"{points:,} points of these {len(rows):,} series would be read, at most {MAX_POINTS:,} are in one call: "
            "name fewer runs or keys."
        )
    if entries > MAX_ENTRIES:
        raise TooMuchForACall(
            f"{len(rows):,} curves of {pixels:,} points each are asked for, at most {MAX_ENTRIES:,} points in all "
            "are given in one call: name fewer runs or keys, or lower max_points."
        )


def _axis(session: Session, runs: Sequence[Run], name: Literal["step", "time", "epoch"]) -> _Axis:
    epochs: dict[str, tuple[FloatArray, FloatArray]] = {}
    if name == "epoch":
        rows = store.summaries(session, [run.id for run in runs], EPOCHS)
        for row in sorted(rows, key=lambda row: EPOCHS.index(row.key)):
            if row.run_id not in epochs:
                points, _ = history.read(session, row)
                steps, values = measure.ordered(points.steps.astype(np.float64), points.values)
                finite = np.isfinite(values)
                if finite.any():
                    epochs[row.run_id] = steps[finite], values[finite]
    began = store.beginnings(session, [run.id for run in runs]) if name == "time" else {}
    return _Axis(name, {run.id: began.get(run.id, run.created_at) for run in runs}, epochs)


def _reach(axis: _Axis, rows: Sequence[Series]) -> tuple[float, float]:
    ends = [axis.end(row) for row in rows]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _curves(
    session: Session, rows: Sequence[Series], axis: _Axis, asked: CurvesRequest, reach: tuple[float, float]
) -> list[Curve]:
    """A curve each, in the order of `rows`: long series from their overviews, the others from their points."""
    made: dict[int | None, Curve] = {}
    for row, held in overview.read(session, [row for row in rows if overview.is_long(row, asked.max_points)]):
        whole = measure.entries(axis.of(row, held.steps, held.times), held.mean, held.low, held.high, held.n)
        line = measure.condense(whole, asked.max_points, *_pixels(whole.x, reach))
        made[row.id] = Curve(row, _smooth(line, asked, reach), True, row.count - row.finite_count)
    for row in rows:
        if row.id not in made:
            points, _ = history.read(session, row)
            x, values = measure.ordered(axis.of(row, points.steps.astype(np.float64), points.times), points.values)
            line = measure.reduce(x, values, asked.max_points, *_pixels(x, reach))
            made[row.id] = Curve(row, _smooth(line, asked, reach), len(line) < len(x), len(x) - int(line.n.sum()))
    return [made[row.id] for row in rows]


def _pixels(x: FloatArray, reach: tuple[float, float]) -> tuple[float, float]:
    """Where the first pixel begins and the last one ends."""
    # Clocks that disagree: by its points the run ended before it began. It gets pixels of its own.
    return (float(x[0]), float(x[-1])) if reach[0] >= reach[1] and len(x) else reach


def _smooth(line: Line, asked: CurvesRequest, reach: tuple[float, float]) -> Line:
    low, high = _pixels(line.x, reach)
    return measure.smooth(line, asked.smoothing, high - low)


def _bands(
    session: Session,
    groups: Sequence[Group],
    rows: Sequence[Series],
    grown: set[int | None],
    axis: _Axis,
    asked: CurvesRequest,
    reach: tuple[float, float],
) -> Iterator[GroupCurve]:
    """One band a group, all on one grid."""
    lines = {curve.series.run_id: curve.line for curve in _curves(session, rows, axis, asked, reach)}
    at = measure.grid(list(lines.values()), asked.max_points, *reach)
    for place, held in enumerate(groups):
        own = [run_id for run_id in held.run_ids if run_id in lines]
        if not grown.isdisjoint(row.id for row in rows if row.run_id in own):
            yield GroupCurve(place, rows[0].key, len(own), measure.band([lines[run_id] for run_id in own], at))


def _groups(session: Session, runs: Sequence[Run], fields: Sequence[str]) -> list[Group]:
    if not fields:
        return []
    tags = run_store.tags(session, [run.id for run in runs])
    return group([Member(run.id, run.group_name, run.config, tags[run.id]) for run in runs], fields)


# --- the cursor: how many points of each series were there, for one question ---


def _question(asked: CurvesRequest, groups: Sequence[Group]) -> int:
    """What the answer depends on besides the points. A cursor of another question says nothing about this one."""
    settings = asked.model_dump(include={"x", "max_points", "smoothing", "group_by", "rank"})
    return zlib.crc32(msgspec.json.encode([settings, [held.run_ids for held in groups]]))


def _cursor(question: int, counts: dict[int, int]) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode([question, counts])).decode()


def _seen(cursor: str | None, question: int) -> dict[int, int]:
    if cursor is None:
        return {}
    try:
        held, counts = msgspec.msgpack.decode(base64.urlsafe_b64decode(cursor), type=tuple[int, dict[int, int]])
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        raise BadHistoryCursor("The cursor is not one this service gave. Read again without `after`.") from None
    return counts if held == question else {}


# --- on the wire ---


def as_json(answer: Charted) -> dict[str, Any]:
    """In the shape of `Curves`, arrays as they are: the writer makes lists of them, and null of NaN."""
    return {
        "curves": [
            {**_about(one), "x": one.line.x, "value": one.line.value, "min": one.line.low, "max": one.line.high}
            for one in answer.curves
        ],
        "groups": [
            {"label": held.label, "settings": held.settings, "run_ids": list(held.run_ids)} for held in answer.groups
        ],
        "group_curves": [
            {**_about_group(one), "x": one.band.x, "mean": one.band.mean, "sd": one.band.sd, "n": one.band.n,
             "min": one.band.low, "max": one.band.high}
            for one in answer.group_curves
        ],
        "missing": [{"run_id": run_id, "key": key, "reason": reason} for run_id, key, reason in answer.missing],
        "cursor": answer.cursor,
    }  # fmt: skip


def _about(curve: Curve) -> dict[str, Any]:
    row = curve.series
    return {"run_id": row.run_id, "key": row.key, "rank": row.rank, "count": row.count, "sampled": curve.sampled,
            "not_finite": curve.not_finite}  # fmt: skip


def _about_group(curve: GroupCurve) -> dict[str, Any]:
    return {"group": curve.group, "key": curve.key, "n_runs": curve.n_runs}


def as_arrow(answer: Charted) -> bytes:
    """One Arrow IPC stream, null for a gap. Curves: run_id, key, rank, x, value, min, max. Groups: group, key, x,
    mean, sd, n, min, max. The rest of the JSON answer is in the schema's metadata as `about`."""
    import pyarrow as pa  # kept out of the service's start: only this answer needs it

    def column(arrays: Sequence[np.ndarray], dtype: type = np.float64) -> Any:
        return pa.array(np.concatenate([*arrays, np.empty(0, dtype)]), from_pandas=True)

    def named(values: Sequence[Any], lengths: Sequence[int]) -> Any:
        names = {value: place for place, value in enumerate(dict.fromkeys(values))}
        places = np.repeat(np.array([names[value] for value in values], dtype=np.int32), lengths)
        return pa.DictionaryArray.from_arrays(places, pa.array(list(names), pa.string()))

    about = as_json(Charted(groups=answer.groups, missing=answer.missing, cursor=answer.cursor))
    if answer.groups:
        bands = [curve.band for curve in answer.group_curves]
        lengths = [len(band.x) for band in bands]
        columns = {
            "group": pa.array(np.repeat(np.array([curve.group for curve in answer.group_curves], np.int32), lengths)),
            "key": named([curve.key for curve in answer.group_curves], lengths),
            "x": column([band.x for band in bands]),
            "mean": column([band.mean for band in bands]),
            "sd": column([band.sd for band in bands]),
            "n": column([band.n for band in bands], np.int64),
            "min": column([band.low for band in bands]),
            "max": column([band.high for band in bands]),
        }
        about["group_curves"] = [_about_group(curve) for curve in answer.group_curves]
    else:
        lines = [curve.line for curve in answer.curves]
        lengths = [len(line) for line in lines]
        columns = {
            "run_id": named([curve.series.run_id for curve in answer.curves], lengths),
            "key": named([curve.series.key for curve in answer.curves], lengths),
            "rank": pa.array(np.repeat(np.array([curve.series.rank for curve in answer.curves], np.int32), lengths)),
            "x": column([line.x for line in lines]),
            "value": column([line.value for line in lines]),
            "min": column([line.low for line in lines]),
            "max": column([line.high for line in lines]),
        }
        about["curves"] = [_about(curve) for curve in answer.curves]
    table = pa.table(columns).replace_schema_metadata({"about": msgspec.json.encode(about)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
