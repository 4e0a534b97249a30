"""Statements prepared once, run on the driver itself: for the paths where metrics come in.

SQLAlchemy builds and compiles them (so both databases get their SQL from one place, and values are always bound), but
an execution costs what the driver costs: some 5 µs on SQLite, where a Core execution costs 60 and the ORM 300.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import orjson
import sqlalchemy as sql
from sqlalchemy import ColumnElement, Connection, Dialect, Executable, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlmodel import Session

from service.store.upserts import upserting


@cache
def _dialect(name: str) -> Dialect:
    found: Dialect = (
        import_module("sqlalchemy.dialects.sqlite").dialect(paramstyle="named")
        if name == "sqlite"
        else import_module("sqlalchemy.dialects.postgresql.psycopg").dialect()
    )
    return found


class Statement:
    """One statement, compiled for each database when it is first run there. Parameters go by name."""

    def __init__(self, statement: Executable | Callable[[str], Executable]) -> None:
        """One for both databases, or what makes one for the dialect of that name."""
        self._statement = statement
        self._compiled: dict[str, tuple[str, dict[str, Any]]] = {}

    @classmethod
    def upsert(cls, table: Table, columns: Sequence[str], add: Sequence[str] = ()) -> Statement:
        """Insert a row of `columns`; where the primary key is there already, the others are replaced, or added to."""
        keys = [column.name for column in table.primary_key]
        replaced = [name for name in columns if name not in keys and name not in add]
        values: dict[str, Any] = {name: sql.bindparam(name) for name in columns}
        return cls(lambda dialect: upserting(table, dialect, replace=replaced, add=add).inline().values(values))

    @classmethod
    def insert(cls, table: Table, columns: Sequence[str]) -> Statement:
        return cls(sql.insert(table).inline().values({name: sql.bindparam(name) for name in columns}))

    def compiled(self, dialect: str) -> tuple[str, dict[str, Any]]:
        """The text, and the values of what it holds besides its parameters."""
        found = self._compiled.get(dialect)
        if found is None:
            made: Any = self._statement if isinstance(self._statement, Executable) else self._statement(dialect)
            spoken = _dialect(dialect)
            compiled = made.compile(dialect=spoken)
            constants = {
                name: _sent(compiled.binds.get(name), value, spoken)
                for name, value in compiled.params.items()
                if value is not None
            }
            found = self._compiled[dialect] = str(compiled), constants
        return found


def _sent(parameter: Any, value: Any, dialect: Dialect) -> Any:
    """A constant as the driver takes it: a step into a document, say, is a path there."""
    process = parameter is not None and parameter.type.dialect_impl(dialect).bind_processor(dialect)
    return process(value) if process else value


class among(ColumnElement[bool]):  # noqa: N801  (reads as an operator)
    """`column` is one of the texts of the parameter `name`: one statement for any number of them.

    The parameter's value is made by `Cursor.texts`.
    """

    inherit_cache = False

    def __init__(self, column: Any, name: str) -> None:
        self.column = column
        self.texts: Any = sql.bindparam(name)


@compiles(among, "sqlite")
def _among_json(element: among, compiler: Any, **options: Any) -> str:
    column, texts = compiler.process(element.column, **options), compiler.process(element.texts, **options)
    return f"{column} IN (SELECT value FROM json_each({texts}))"  # noqa: S608  (compiled parts, values bound)


@compiles(among, "postgresql")
def _among_array(element: among, compiler: Any, **options: Any) -> str:
    column, texts = compiler.process(element.column, **options), compiler.process(element.texts, **options)
    return f"{column} = ANY({texts})"


class Cursor:
    """The driver's cursor of a transaction that someone else begins and ends."""

    def __init__(self, connection: Connection) -> None:
        self.dialect = connection.dialect.name
        self._driver_error = connection.dialect.loaded_dbapi.Error
        self._cursor: Any = connection.connection.cursor()

    @staticmethod
    def of(session: Session) -> Cursor:
        """On the transaction of `session`; what the session holds back is written first."""
        session.flush()
        return Cursor(session.connection())

    def texts(self, values: Iterable[str]) -> Any:
        """A value for `among`."""
        return list(values) if self.dialect == "postgresql" else orjson.dumps(list(values)).decode()

    def rows(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Any]:
        self.run(statement, parameters)
        found: list[Any] = self._cursor.fetchall()
        return found

    def run(self, statement: Statement, parameters: Mapping[str, Any]) -> None:
        text, constants = statement.compiled(self.dialect)
        try:
            self._cursor.execute(text, {**constants, **parameters} if constants else parameters)
        except self._driver_error as error:
            raise self._wrapped(text, error) from error

    def many(self, statement: Statement, parameters: Sequence[Mapping[str, Any]]) -> None:
        """The statement for each of `parameters` (it holds nothing besides)."""
        if not parameters:
            return
        text = statement.compiled(self.dialect)[0]
        try:
            self._cursor.executemany(text, parameters)
        except self._driver_error as error:
            raise self._wrapped(text, error) from error

    def _wrapped(self, text: str, error: Exception) -> Exception:
        """As SQLAlchemy would raise it: callers know one family of errors."""
        return DBAPIError.instance(text, None, error, self._driver_error, dialect=_dialect(self.dialect))
