"""The traffic of an experiment, straight into the tables, and the very rows that `service.experiments.ledger` writes.

That they are the same is looked at: `check_rows` stores the same traffic both ways and compares every table. Sums are
floating-point numbers added in another order, so they may differ in their last bits; so may the stretches of time that
the arms' sums are kept by, since the ledger goes by its clock.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sql
from filler import RowsDiffer, table_of, writing

from service.experiments.events import Event, OutcomeGiven, Requested
from service.experiments.rollup import (
    COST,
    COST_PER_SUCCESS,
    ERROR_RATE,
    FALLBACK_RATE,
    FIRST_TOKEN,
    LATENCY,
    RATING_RATE,
    SATISFACTION,
    UNITS,
    aged,
    draw_of,
    stretch_of,
)
from service.measure.quantiles import bin_of
from service.store import tables

REQUESTS = 10  # of a unit
RATED = 5  # one request in so many
DAYS = 14
PRICE = 0.001
ARMS = ("base", "tuned")
CHUNK = 20_000  # units that come at the same moment
MODELS = (
    tables.GatewayRequest, tables.Outcome, tables.Exposure, tables.UnitRollup, tables.ArmSum, tables.LatencyBin
)  # fmt: skip

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Piece:
    """The requests of one turn of some units, at one moment."""

    turn: int
    units: range
    at: float
    came: float  # when these units' first requests were
    latency: Floats
    first_token: Floats
    rated: npt.NDArray[np.intp]  # places within the piece
    ratings: Floats

    def request_ids(self) -> list[str]:
        return [f"{unit:07d}-{self.turn}" for unit in self.units]

    def events(self, experiment_id: str) -> Iterator[Event]:
        given = dict(zip(self.rated.tolist(), self.ratings.tolist(), strict=True))
        values = zip(self.request_ids(), self.units, self.latency.tolist(), self.first_token.tolist(), strict=True)
        for place, (number, unit, latency, first_token) in enumerate(values):
            yield Requested(
                number, self.at, 200, experiment_id, 1, name_of(unit), ARMS[unit % 2], True,
                latency=latency, first_token=first_token, cost=PRICE,
            )  # fmt: skip
            if place in given:
                yield OutcomeGiven(number, SATISFACTION, given[place], self.at)


def name_of(unit: int) -> str:
    return f"user-{unit:07d}"


def traffic(n_units: int, now: float) -> Iterator[Piece]:
    """Requests of all units over two weeks, in the order of time, with some of their ratings."""
    rng = np.random.default_rng(n_units)
    for turn in range(REQUESTS):
        for first in range(0, n_units, CHUNK):
            units = range(first, min(first + CHUNK, n_units))
            rated = np.flatnonzero((np.arange(first, units.stop) + turn) % RATED == 0)
            at, came = (now - DAYS * 86_400 * (1 - (when + first / n_units) / REQUESTS) for when in (turn, 0))
            yield Piece(
                turn, units, at, came, rng.lognormal(0, 0.5, len(units)), rng.lognormal(-2, 0.4, len(units)),
                rated, (rng.random(len(rated)) < 0.6).astype(float),
            )  # fmt: skip


@dataclass
class Rollup:
    """One metric's (count, sum) of every unit, so far."""

    count: Floats
    sum: Floats
    met: npt.NDArray[np.bool_]


@dataclass
class Added:
    """What the traffic adds up to."""

    n_units: int
    started: float
    rollups: dict[str, Rollup] = field(default_factory=dict)
    sums: dict[tuple[str, str, int], Floats] = field(default_factory=lambda: defaultdict(lambda: np.zeros(6)))
    bins: Counter[tuple[str, str, int]] = field(default_factory=Counter)

    def add(self, metric: str, piece: Piece, places: npt.NDArray[np.intp], count: Any, total: Any) -> None:
        """To these units of the piece; `features` of all metrics here are the pair (count, sum) itself."""
        if metric not in self.rollups:
            self.rollups[metric] = Rollup(*(np.zeros(self.n_units, kind) for kind in (float, float, bool)))
        own, units = self.rollups[metric], places + piece.units.start
        x0, y0, new = own.count[units], own.sum[units], ~own.met[units]
        x, y = x0 + count, y0 + total
        own.count[units], own.sum[units], own.met[units] = x, y, True
        changes = (new, x - x0, y - y0, x * x - x0 * x0, y * y - y0 * y0, x * y - x0 * y0)
        for arm, variant in enumerate(ARMS):
            these = units % 2 == arm
            if these.any():
                place = metric, variant, stretch_of(piece.at, self.started)
                self.sums[place] += [change[these].sum() for change in changes]

    def take(self, piece: Piece) -> None:
        everybody = np.arange(len(piece.units))
        rated = np.zeros(len(piece.units))
        rated[piece.rated] = 1
        for metric, count, total in (
            (RATING_RATE, 1, rated), (ERROR_RATE, 1, 0), (FALLBACK_RATE, 1, 0), (LATENCY, 1, piece.latency),
            (FIRST_TOKEN, 1, piece.first_token), (COST, 1, PRICE), (COST_PER_SUCCESS, 0, PRICE),
        ):  # fmt: skip
            self.add(metric, piece, everybody, count, total)
        for metric in (SATISFACTION, aged(SATISFACTION, piece.at, piece.came)):
            self.add(metric, piece, piece.rated, 1, piece.ratings)
        for metric, seconds in ((LATENCY, piece.latency), (FIRST_TOKEN, piece.first_token)):
            for arm, variant in enumerate(ARMS):
                own = seconds[(np.asarray(piece.units) % 2) == arm].tolist()
                self.bins.update((metric, variant, one) for one in map(bin_of, own))
        if piece.turn == 0:
            for arm, variant in enumerate(ARMS):
                n = sum(unit % 2 == arm for unit in piece.units)
                self.sums[UNITS, variant, stretch_of(piece.at, self.started)] += n


def fill(url: str, experiment_id: str, n_units: int, now: float, kept_back: int) -> None:
    """Put the traffic into a database whose experiment has been started `DAYS` before `now`, but for the last requests
    of the first `kept_back` units."""
    added = Added(n_units, now - DAYS * 86_400)
    own = experiment_id, 1
    with writing(url, MODELS) as put:
        for piece in traffic(n_units, now):
            if is_kept_back(piece, kept_back):
                continue
            added.take(piece)
            numbers, names = piece.request_ids(), [name_of(unit) for unit in piece.units]
            arms = [ARMS[unit % 2] for unit in piece.units]
            answered = (True, None, piece.at, 200, None, False, False)
            durations = zip(piece.latency.tolist(), piece.first_token.tolist(), strict=True)
            put(
                table_of(tables.GatewayRequest),
                [
                    (number, *own, name, arm, *answered, *seconds, None, None, PRICE, None)
                    for number, name, arm, seconds in zip(numbers, names, arms, durations, strict=True)
                ],
            )
            ratings = zip(piece.rated.tolist(), piece.ratings.tolist(), strict=True)
            given = [(numbers[place], SATISFACTION, rating, piece.at) for place, rating in ratings]
            put(table_of(tables.Outcome), given)
            if piece.turn == 0:
                met = zip(names, arms, strict=True)
                put(table_of(tables.Exposure), [(*own, name, arm, piece.at, False, draw_of(name)) for name, arm in met])
        for first in range(0, n_units, CHUNK):
            for metric, rollup in added.rollups.items():
                put(table_of(tables.UnitRollup), _rollup_rows(own, metric, rollup, first))
        sums = added.sums.items()
        put(table_of(tables.ArmSum), [(*own, *place, int(s[0]), *s[1:].tolist()) for place, s in sums])
        put(table_of(tables.LatencyBin), [(*own, *place, count) for place, count in added.bins.items()])


def is_kept_back(piece: Piece, kept_back: int) -> bool:
    return piece.turn == REQUESTS - 1 and piece.units.start < kept_back


def _rollup_rows(own: tuple[str, int], metric: str, rollup: Rollup, first: int) -> list[tuple[Any, ...]]:
    units = (np.flatnonzero(rollup.met[first : first + CHUNK]) + first).tolist()
    counts, totals = rollup.count[units].tolist(), rollup.sum[units].tolist()
    return [
        (*own, metric, name_of(unit), ARMS[unit % 2], count, total)
        for unit, count, total in zip(units, counts, totals, strict=True)
    ]


def check_rows(by_ledger: str, by_fill: str) -> None:
    """Compare all rows of all tables of traffic in two databases that hold the same traffic."""
    found, filled = _rows(by_ledger), _rows(by_fill)
    for name, rows in found.items():
        if rows.keys() != filled[name].keys():
            raise RowsDiffer(f"{name}: only one of the two has {sorted(rows.keys() ^ filled[name].keys())[:5]}")
        for key, row in rows.items():
            same = map(_alike, row, filled[name][key])
            if not all(same):
                raise RowsDiffer(f"{name}, {key}: the ledger writes {row}, the filler {filled[name][key]}")


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return bool(one == other)


def _rows(url: str) -> dict[str, dict[tuple[Any, ...], list[Any]]]:
    """By table and key. Ids of experiments, made anew each time, are left out; stretches are added up."""
    engine = sql.create_engine(url)
    found: dict[str, dict[tuple[Any, ...], list[Any]]] = {}
    with engine.connect() as connection:
        for model in (*MODELS, tables.UnitBefore, tables.BeforeSum, tables.StickyUnit, tables.GatewayContent):
            table = table_of(model)
            keys = [column for column in table.primary_key if column.name not in ("experiment_id", "bucket")]
            rest = [column for column in table.columns if column.name not in {"experiment_id", "bucket"}]
            rest = [column for column in rest if column not in keys]
            rows: dict[tuple[Any, ...], list[Any]] = {}
            for row in connection.execute(sql.select(*keys, *rest)):
                key, values = tuple(row[: len(keys)]), list(row[len(keys) :])
                if model is tables.ArmSum and key in rows:
                    values = [a + b for a, b in zip(rows[key], values, strict=True)]
                rows[key] = values
            found[table.name] = rows
    engine.dispose()
    return found
