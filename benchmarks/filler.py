"""Runs straight into the database, a hundred times faster than through the API, and the very rows that it would write.

That they are the same is not believed but looked at: `check_rows` writes a run both ways and compares every table.
"""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import psycopg
import sqlalchemy as sql
from sqlmodel import SQLModel
from systems import Call, Tunescope, Wire
from workload import Points, RunContent, run_content

from service.store import tables
from service.store.database import Database, dump_json
from service.store.tables.columns import for_postgresql
from service.tracking.flatten import flatten

PROJECT = "growth"
SMALL, SMALL_RUNS = "small", range(1_000_000, 1_001_000)
"""A project besides, of runs with the same params, metrics and tags."""
BEGAN = 1_700_000_000.0
EVERY = 60.0  # seconds between two runs
LASTED = 30.0
OWNERS = ("ada", "ben", "cem", "dee")
AT_ONCE = 2_000  # runs a transaction
ALERT_EVERY = 10  # runs
MODELS = (tables.Run, tables.Param, tables.Tag, tables.Series, tables.Chunk, tables.Writer, tables.Alert)
CLOCKS = {"run": ("heartbeat_at",), "project": ("created_at", "updated_at")}
"""Columns that say when the service wrote a row."""


Rows = list[tuple[Any, ...]]
Put = Callable[[sql.Table, Rows], None]


class RowsDiffer(RuntimeError):
    """The filler writes something else than the API: nothing measured on its rows would count."""


def content(number: int) -> RunContent:
    """A run of the project: 20 params, 20 metrics, 3 tags. A run whose method is lora is never ada's, nor tuning."""
    held = run_content(number)
    owner = OWNERS[(number + 3) % len(OWNERS)]
    return replace(held, tags=held.tags | {"owner": owner, "stage": "trial" if number % 4 == 0 else "tuning"})


def run_id(number: int) -> str:
    """As the service makes them, sorted by time; the same for the same number."""
    return f"{int(began(number) * 1000):012x}7000800{number:013x}"


def began(number: int) -> float:
    return BEGAN + EVERY * number


def fill(url: str, n_runs: int, small: bool = False) -> None:
    """Make the database and put the runs 0 … n − 1 of the project into it, finished, with an alert on every tenth; with
    `small`, those of the small project too."""
    Database(url).close()
    projects = [(PROJECT, range(n_runs)), *([(SMALL, SMALL_RUNS)] if small else [])]
    with writing(url, MODELS, numbered=("project", "series", "chunk")) as put:
        for own, (name, runs) in enumerate(projects, 1):
            put(table_of(tables.Project), [(own, name, None, BEGAN, BEGAN, None)])
            numbers = iter(runs)
            while some := list(islice(numbers, AT_ONCE)):
                rows: dict[str, Rows] = {table_of(model).name: [] for model in MODELS}
                for number in some:
                    _add(rows, own, number)
                for model in MODELS:
                    put(table_of(model), rows[table_of(model).name])


def _add(rows: dict[str, Rows], project: int, number: int) -> None:
    """The rows of one run, columns in the order of the tables."""
    own, at, held = run_id(number), began(number), content(number)
    ended = at + LASTED
    about = (held.name, "finished", None, None, None, dump_json(held.params), "{}", None)
    points = len(held.metrics)
    rows["run"].append((own, project, *about, at, ended, 0.0, ended, None, None, points, points, None))
    rows["param"] += [(own, key, text, figure) for key, (text, figure) in flatten(dict(held.params)).items()]
    rows["tag"] += [(own, key, value) for key, value in held.tags.items()]
    rows["writer"].append((own, "benchmark", 1))
    first = number * len(held.metrics) + 1
    for series, (key, value) in enumerate(held.metrics.items(), first):
        # Everything of a series of one point is that point.
        ends = (1, 1, 0, 0, at, at, value, value, value, value, 0, 0, None, 0, 1, 0)
        rows["series"].append((series, own, 0, key, *ends))
        rows["chunk"].append((series, series, 0, 1, 0, 0, None, b"\0" + struct.pack("<qdd", 0, at, value)))
    if number % ALERT_EVERY == 0:
        told = ("overfitting", "eval/loss", "warning", "eval/loss rises while train/loss falls.", "{}", 0)
        rows["alert"].append((own, project, own, *told, at, ended))


def table_of(model: type[SQLModel]) -> sql.Table:
    found: sql.Table = model.__table__  # type: ignore[attr-defined]
    return found


def writing(url: str, models: Sequence[type[SQLModel]], numbered: Sequence[str] = ()) -> AbstractContextManager[Put]:
    """How rows are put into these tables. `numbered`: those that number their rows themselves."""
    return _sqlite(url) if url.startswith("sqlite") else _postgres(url, models, numbered)


@contextmanager
def _sqlite(url: str) -> Iterator[Put]:
    def put(table: sql.Table, rows: Rows) -> None:
        marks = ", ".join("?" for _ in table.columns)
        connection.executemany(f"INSERT INTO {table.name} VALUES ({marks})", rows)
        connection.commit()

    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        for pragma in ("synchronous=OFF", "foreign_keys=OFF", "cache_size=-1000000"):
            connection.execute(f"PRAGMA {pragma}")
        yield put


@contextmanager
def _postgres(url: str, models: Sequence[type[SQLModel]], numbered: Sequence[str]) -> Iterator[Put]:
    def put(table: sql.Table, rows: Rows) -> None:
        columns = ", ".join(f'"{column.name}"' for column in table.columns)
        with connection.cursor() as cursor, cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        connection.commit()

    engine = sql.create_engine(url)
    # Built at the end: a third of the time, and like those that grew they have room in their pages.
    indexes = [index for model in models for index in table_of(model).indexes]
    for_postgresql(SQLModel.metadata)
    for index in indexes:
        index.drop(engine)
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("SET session_replication_role = replica")  # a foreign key is a query a row
        yield put
        for index in indexes:
            index.create(engine)
        engine.dispose()
        for table in numbered:
            connection.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE")  # what its autovacuum would have done while so many runs came in


def written(wire: Wire, number: int) -> None:
    """The same run through the API."""
    held, own, system = content(number), run_id(number), Tunescope("", wire)
    given = {"id": own, "project": PROJECT, "name": held.name, "config": held.params, "tags": held.tags}
    wire.send(call("POST", "/runs", given | {"created_at": began(number)}))
    wire.send(system.log(own, [Points(key, [0], [began(number)], [value]) for key, value in held.metrics.items()]))
    wire.send(call("PATCH", f"/runs/{own}", {"status": "finished", "finished_at": began(number) + LASTED}))


def call(method: str, path: str, body: dict[str, Any], **headers: str) -> Call:
    return Call(
        method, Tunescope.ROOT + path, json.dumps(body).encode(), {"Content-Type": "application/json"} | headers
    )


def check_rows(by_api: str, by_fill: str) -> None:
    """Compare every row of every table: one database where `written` made run 0, and one that `fill` gave one run.

    When the service wrote a row is left out, and so are alerts: a run as short as these raises none.
    """
    found, filled = _rows(by_api), _rows(by_fill)
    for name, rows in found.items():
        if rows != filled[name]:
            raise RowsDiffer(f"{name}: the API writes {rows}, the filler {filled[name]}")


def _rows(url: str) -> dict[str, Rows]:
    engine = sql.create_engine(url)
    found: dict[str, Rows] = {}
    with engine.connect() as connection:
        for table in SQLModel.metadata.sorted_tables:
            clocks = CLOCKS.get(table.name, ())
            columns = [column for column in table.columns if column.name not in clocks]
            query = sql.select(*columns)
            if table.name == "project":
                query = query.where(table.c.id != 0)  # MLflow's "Default", which every service makes when it starts
            if table.name != "alert":
                found[table.name] = sorted((tuple(row) for row in connection.execute(query)), key=repr)
    engine.dispose()
    return found
