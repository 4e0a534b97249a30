"""Exposures, calls, outcomes and what they add up to: rows in, rows out.

Writers call `take_turn` first; between that and the commit nobody else writes here, so that reading a
row and writing its successor is safe on both databases.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import msgspec
import sqlalchemy
from sqlalchemy import func, insert, text, update
from sqlmodel import Session, col, select

from service.store import event_statements as statements
from service.store.cursor import Cursor
from service.store.tables import (
    ArmSum,
    BeforeSum,
    Exposure,
    GatewayContent,
    GatewayRequest,
    LatencyBin,
    StickyUnit,
    UnitBefore,
)
from service.store.upserts import upsert

_TURN = 0x7475_6E65  # any number, the same in every replica


def take_turn(session: Session) -> None:
    """Wait until no other writer of events has a transaction open (SQLite has one writer anyway)."""
    if session.get_bind().dialect.name == "postgresql":
        session.connection().execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": _TURN})


@dataclass(frozen=True, slots=True)
class Call:
    """What an outcome must know of its request."""

    experiment_id: str
    phase: int
    unit_id: str
    cost_known: bool
    at: float


@dataclass(frozen=True, slots=True)
class Seen:
    """A unit's first exposure."""

    variant: str
    crossed: bool
    at: float


class Sums(msgspec.Struct, frozen=True):
    """What the units of one arm add up to for one metric."""

    n: int = 0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    yy: float = 0.0
    xy: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.n + other.n,
            self.x + other.x,
            self.y + other.y,
            self.xx + other.xx,
            self.yy + other.yy,
            self.xy + other.xy,
        )


@dataclass(frozen=True, slots=True)
class Before:
    """What (u, v), the pair (x, y) of before the exposure, add up to over an arm's units, alone and with (x, y)."""

    u: float = 0.0
    v: float = 0.0
    uu: float = 0.0
    vv: float = 0.0
    uv: float = 0.0
    xu: float = 0.0
    xv: float = 0.0
    yu: float = 0.0
    yv: float = 0.0

    def __add__(self, other: Before) -> Before:
        return Before(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


# --- exposures ----------------------------------------------------------------------------------------


def exposures_of(session: Session, experiment_id: str, phase: int, units: Collection[str]) -> dict[str, Seen]:
    cursor = Cursor.of(session)
    given = {"experiment_id": experiment_id, "phase": phase, "units": cursor.texts(units)}
    rows = cursor.rows(statements.EXPOSURES, given) if units else []
    return {unit: Seen(variant, bool(crossed), at) for unit, variant, crossed, at in rows}


def add_exposures(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    Cursor.of(session).many(statements.ADD_EXPOSURE, rows)


def mark_crossed(session: Session, experiment_id: str, phase: int, units: Collection[str]) -> None:
    statement = update(Exposure).where(
        col(Exposure.experiment_id) == experiment_id, col(Exposure.phase) == phase, col(Exposure.unit_id).in_(units)
    )
    session.connection().execute(statement.values(crossed=True))


def exposed_in(session: Session, experiment_id: str, phase: int, since: float, most: int) -> list[tuple[str, str]]:
    """(unit, arm) of the units that came in by a phase from a moment on, at most so many."""
    query = select(Exposure.unit_id, Exposure.variant).where(
        col(Exposure.experiment_id) == experiment_id, col(Exposure.phase) == phase, col(Exposure.at) >= since
    )
    return [(unit, variant) for unit, variant in session.exec(query.limit(most))]


def phases_of(session: Session, experiment_id: str, units: Collection[str]) -> dict[str, int]:
    """Unit -> the phase it came in by, of an experiment whose units keep their arm."""
    query = select(StickyUnit.unit_id, StickyUnit.phase).where(
        col(StickyUnit.experiment_id) == experiment_id, col(StickyUnit.unit_id).in_(units)
    )
    return dict(session.exec(query).all())


def add_sticky(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        session.connection().execute(insert(StickyUnit), list(rows))


# --- calls and outcomes -------------------------------------------------------------------------------


def stored_requests(session: Session, request_ids: Collection[str]) -> set[str]:
    if not request_ids:
        return set()
    cursor = Cursor.of(session)
    return {request_id for (request_id,) in cursor.rows(statements.STORED, {"ids": cursor.texts(request_ids)})}


def counted_calls(session: Session, request_ids: Collection[str]) -> dict[str, Call]:
    """The calls among these that count in an experiment."""
    query = select(GatewayRequest).where(
        col(GatewayRequest.request_id).in_(request_ids), col(GatewayRequest.counted).is_(True)
    )
    return {
        row.request_id: Call(row.experiment_id, row.phase, row.unit_id, row.cost is not None, row.at)
        for row in session.exec(query)
        if row.experiment_id is not None and row.phase is not None and row.unit_id is not None
    }


def add_requests(session: Session, rows: Sequence[dict[str, Any]], contents: Sequence[dict[str, Any]]) -> None:
    Cursor.of(session).many(statements.ADD_REQUEST, rows)
    if contents:
        session.connection().execute(insert(GatewayContent), list(contents))


def outcomes_of(session: Session, request_ids: Collection[str]) -> dict[tuple[str, str], tuple[float, float]]:
    """(request, metric) -> (value, at)."""
    if not request_ids:
        return {}
    cursor = Cursor.of(session)
    rows = cursor.rows(statements.OUTCOMES, {"ids": cursor.texts(request_ids)})
    return {(request_id, metric): (value, at) for request_id, metric, value, at in rows}


def save_outcomes(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    Cursor.of(session).many(statements.PUT_OUTCOME, rows)


def past_calls(
    session: Session, experiment_id: str, units: Collection[str], since: float, until: float
) -> Sequence[GatewayRequest]:
    """What these units asked of any model between two moments, outside of the experiment."""
    query = select(GatewayRequest).where(
        col(GatewayRequest.unit_id).in_(units),
        col(GatewayRequest.at) >= since,
        col(GatewayRequest.at) < until,
        sqlalchemy.or_(col(GatewayRequest.experiment_id).is_(None), col(GatewayRequest.experiment_id) != experiment_id),
    )
    return session.exec(query).all()


# --- sums ---------------------------------------------------------------------------------------------


def rollups_of(
    session: Session, experiment_id: str, phase: int, metrics: Collection[str], units: Collection[str]
) -> dict[tuple[str, str], tuple[float, float]]:
    """(unit, metric) -> (count, sum)."""
    cursor = Cursor.of(session)
    given = {"experiment_id": experiment_id, "phase": phase}
    rows = cursor.rows(statements.ROLLUPS, given | {"metrics": cursor.texts(metrics), "units": cursor.texts(units)})
    return {(unit, metric): (count, total) for unit, metric, count, total in rows}


def save_rollups(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    Cursor.of(session).many(statements.PUT_ROLLUP, rows)


def add_arm_sums(session: Session, rows: Mapping[tuple[str, int, str, str, int], Sums]) -> None:
    """Keys: experiment, phase, metric, variant, stretch."""
    given = [
        dict(zip(("experiment_id", "phase", "metric", "variant", "bucket"), key, strict=True))
        | {"n": s.n, "sum_x": s.x, "sum_y": s.y, "sum_xx": s.xx, "sum_yy": s.yy, "sum_xy": s.xy}
        for key, s in sorted(rows.items(), key=itemgetter(0))
    ]
    Cursor.of(session).many(statements.ADD_ARM_SUM, given)


def befores_of(
    session: Session, experiment_id: str, phase: int, metrics: Collection[str], units: Collection[str]
) -> dict[tuple[str, str], tuple[float, float]]:
    """(unit, metric) -> (count, sum) of before the exposure; units without a past are left out."""
    query = select(UnitBefore.unit_id, UnitBefore.metric, UnitBefore.count, UnitBefore.sum).where(
        col(UnitBefore.experiment_id) == experiment_id,
        col(UnitBefore.phase) == phase,
        col(UnitBefore.metric).in_(metrics),
        col(UnitBefore.unit_id).in_(units),
    )
    return {(unit, metric): (count, total) for unit, metric, count, total in session.exec(query)}


def add_befores(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        session.connection().execute(insert(UnitBefore), list(rows))


def add_before_sums(session: Session, rows: Mapping[tuple[str, int, str, str], Before]) -> None:
    """Keys: experiment, phase, metric, variant."""
    upsert(
        session,
        BeforeSum,
        [
            dict(zip(("experiment_id", "phase", "metric", "variant"), key, strict=True))
            | {f"sum_{name}": getattr(sums, name) for name in Before.__slots__}
            for key, sums in sorted(rows.items())
        ],
        add=[f"sum_{name}" for name in Before.__slots__],
    )


def add_latency_bins(session: Session, rows: Mapping[tuple[str, int, str, str, int], int]) -> None:
    """Keys: experiment, phase, metric, variant, bin."""
    given = [
        dict(zip(("experiment_id", "phase", "metric", "variant", "bin"), key, strict=True)) | {"count": count}
        for key, count in sorted(rows.items())
    ]
    Cursor.of(session).many(statements.ADD_BIN, given)


# --- what a readout reads -----------------------------------------------------------------------------


def arm_sums(session: Session, experiment_id: str, phase: int) -> dict[tuple[str, str], Sums]:
    """(metric, variant) -> everything so far."""
    columns: list[Any] = [ArmSum.metric, ArmSum.variant, *(func.sum(column) for column in _SUM_COLUMNS)]
    query = sqlalchemy.select(*columns).where(col(ArmSum.experiment_id) == experiment_id, col(ArmSum.phase) == phase)
    query = query.group_by(col(ArmSum.metric), col(ArmSum.variant))
    rows = session.connection().execute(query)
    return {(metric, variant): Sums(int(n), *sums) for metric, variant, n, *sums in rows}


def arm_sums_by_phase(session: Session, experiment_id: str) -> dict[int, dict[tuple[str, str], Sums]]:
    """Phase -> (metric, variant) -> everything so far."""
    columns: list[Any] = [ArmSum.phase, ArmSum.metric, ArmSum.variant, *(func.sum(column) for column in _SUM_COLUMNS)]
    query = sqlalchemy.select(*columns).where(col(ArmSum.experiment_id) == experiment_id)
    query = query.group_by(col(ArmSum.phase), col(ArmSum.metric), col(ArmSum.variant))
    found: dict[int, dict[tuple[str, str], Sums]] = {}
    for phase, metric, variant, n, *sums in session.connection().execute(query):
        found.setdefault(phase, {})[metric, variant] = Sums(int(n), *sums)
    return found


def before_sums(session: Session, experiment_id: str, phase: int) -> dict[tuple[str, str], Before]:
    """(metric, variant) -> what the units' pasts add up to."""
    query = select(BeforeSum).where(col(BeforeSum.experiment_id) == experiment_id, col(BeforeSum.phase) == phase)
    return {
        (row.metric, row.variant): Before(*(getattr(row, f"sum_{name}") for name in Before.__slots__))
        for row in session.exec(query)
    }


def sampled_durations(
    session: Session, experiment_id: str, phase: int, variant: str, most_units: int
) -> list[tuple[int, float | None, float | None]]:
    """(number of the unit, latency, time to first token) of the answered calls of a random sample of an arm's units."""
    units = (
        select(Exposure.unit_id)
        .where(
            col(Exposure.experiment_id) == experiment_id,
            col(Exposure.phase) == phase,
            col(Exposure.variant) == variant,
            col(Exposure.draw).is_not(None),
        )
        .order_by(col(Exposure.draw))
        .limit(most_units)
        .subquery()
    )
    columns: list[Any] = [GatewayRequest.unit_id, GatewayRequest.latency, GatewayRequest.first_token]
    query = (
        sqlalchemy.select(*columns)
        .join(units, col(GatewayRequest.unit_id) == units.c.unit_id)
        .where(
            col(GatewayRequest.experiment_id) == experiment_id,
            col(GatewayRequest.phase) == phase,
            col(GatewayRequest.status) < 400,
            col(GatewayRequest.counted).is_(True),
        )
    )
    numbers: dict[str, int] = {}
    rows = session.connection().execute(query)
    return [(numbers.setdefault(unit, len(numbers)), latency, first_token) for unit, latency, first_token in rows]


def arm_sums_by_time(
    session: Session, experiment_id: str, phase: int, metrics: Iterable[str]
) -> list[tuple[int, str, str, Sums]]:
    """(stretch, metric, variant, increment), in the order of time."""
    query = (
        select(ArmSum)
        .where(
            col(ArmSum.experiment_id) == experiment_id,
            col(ArmSum.phase) == phase,
            col(ArmSum.metric).in_(list(metrics)),
        )
        .order_by(col(ArmSum.bucket))
    )
    return [
        (row.bucket, row.metric, row.variant, Sums(row.n, row.sum_x, row.sum_y, row.sum_xx, row.sum_yy, row.sum_xy))
        for row in session.exec(query)
    ]


def latency_bins(session: Session, experiment_id: str, phase: int) -> dict[tuple[str, str], dict[int, int]]:
    """(metric, variant) -> bin -> how many."""
    query = select(LatencyBin).where(col(LatencyBin.experiment_id) == experiment_id, col(LatencyBin.phase) == phase)
    bins: dict[tuple[str, str], dict[int, int]] = {}
    for row in session.exec(query):
        bins.setdefault((row.metric, row.variant), {})[row.bin] = row.count
    return bins


_SUM_COLUMNS = (
    col(ArmSum.n),
    col(ArmSum.sum_x),
    col(ArmSum.sum_y),
    col(ArmSum.sum_xx),
    col(ArmSum.sum_yy),
    col(ArmSum.sum_xy),
)
