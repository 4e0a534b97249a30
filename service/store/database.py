"""The engine, and the two ways to use it: `read()` and `write()`.

SQLite (the embedded default) has one writer: a process lock queues writers in order, and a lock file
refuses a second service on the same file. PostgreSQL takes any number of replicas.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeVar

import orjson
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import SessionTransaction
from sqlalchemy.pool import StaticPool
from sqlmodel import Session

from service.store import views
from service.store.checkpoints import Checkpointer
from service.store.migrate import prepare
from service.store.pace import LEAST, Pace, Steps
from service.store.turns import Turns

# orjson writes NaN as null: JSON has none, and PostgreSQL would refuse the row.
_JSON_OPTIONS = orjson.OPT_NON_STR_KEYS
JOURNAL_BYTES = 64 * 2**20  # what stays of SQLite's journal after it has grown
# Of the file, that readers map: they jump about in it, and what they keep is void after each write.
MAPPED_BYTES = 64 * 2**20
STEP_WAITS = [20, 20, 20, 40, 80, 160, 320, 640, 1280]  # milliseconds that a step waits for a row, time after time
_HELD_ELSEWHERE = {"55P03", "40P01"}  # lock not available, deadlock detected
UNCERTAIN_SECONDS = 30.0  # a server that does not come back in that time has taken the answer with it


def dump_json(value: Any) -> str:
    """A value as a JSON column holds it.

    Raises:
        OverflowError: an integer has more than 64 bits.
    """
    try:
        return orjson.dumps(value, option=_JSON_OPTIONS).decode()
    except TypeError as error:
        raise OverflowError(str(error)) from None


T = TypeVar("T")
Item = TypeVar("Item")
_JSON: dict[str, Any] = {
    "json_serializer": dump_json,
    "json_deserializer": orjson.loads,
}


class DatabaseBusy(RuntimeError):
    """Another service already holds this SQLite file."""


class WriteSession(Session):
    """A session that queues behind the other writers of a SQLite file when its transaction begins.

    That is at its first statement, in the thread that runs it: a request that only waits for its turn must not keep
    the one whose turn it is from getting a thread.
    """


@event.listens_for(WriteSession, "after_begin")
def _take_turn(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    if transaction.nested:  # a savepoint of a transaction that has its turn
        return
    turns: Turns | None = session.info["turns"]
    if turns is not None and not session.info.get("first", False):
        turns.take(patient=session.info["patient"])
        session.info["first"] = True
    session.info.setdefault("began", _clocks())
    if turns is not None:
        # The lock at once: a transaction that reads first and writes later could be refused.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _clocks() -> tuple[float, float]:
    """Seconds that pass, and seconds that this thread computes."""
    return time.monotonic(), time.thread_time()


class Database:
    """One database, opened and migrated. Sessions from here are the only way to its rows."""

    def __init__(self, url: str, *, attached: bool = False) -> None:
        """`attached`: a process of the service that has it open already; its lock and its schema hold."""
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._turns = Turns() if self.is_sqlite else None
        self.steps = Steps()
        self._file_lock: IO[bytes] | None = None
        if self.is_sqlite and not attached:
            self._file_lock = _lock_file(Path(self.url.database or "tunescope.db"))
        if self.is_sqlite:
            self.engine = _sqlite_engine(url, pool_size=20, mapped=MAPPED_BYTES)
            # One connection for all writers, who come one after another: what it has read of the file stays valid.
            self._writer = _sqlite_engine(url, poolclass=StaticPool)
        else:
            self.engine = self._writer = create_engine(url, pool_size=10, pool_pre_ping=True, **_JSON)
        self._writing = self._writer.execution_options(write=True)
        # A process that has it open besides leaves the log to the one whose lock it is.
        self._checkpoints: Checkpointer | None = None
        if self._file_lock is not None and self._turns is not None:
            self._checkpoints = Checkpointer(self.engine, Path(self.url.database or "tunescope.db"), self._turns)
        # A reader sees one state from its first statement on, as it does on SQLite: chunks may be joined meanwhile.
        self._reading = (
            self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="REPEATABLE READ")
        )
        if attached:
            return
        try:
            prepare(self.engine)
            views.install(self.engine)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Session]:
        with Session(self._reading) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        with self._transaction(WriteSession(self._writing, info={"turns": self._turns, "patient": False})) as session:
            yield session

    def step(self, job: Callable[[Session], T]) -> tuple[T, float]:
        """Do a part of what can wait, in a transaction of its own, when nobody else waits to write.

        Answers with what the job did and for how many seconds it kept writers waiting, its commit included. On
        PostgreSQL it does not wait long for rows that others hold, for others wait for its own: it lets go, and does
        the job again.
        """
        for wait in STEP_WAITS:
            session = WriteSession(self._writing, info={"turns": self._turns, "patient": True})
            try:
                with self._transaction(session):
                    if not self.is_sqlite:
                        session.connection().exec_driver_sql(f"SET LOCAL lock_timeout = '{wait}ms'")
                    result = job(session)
                break
            except OperationalError as error:
                if wait == STEP_WAITS[-1] or getattr(error.orig, "sqlstate", None) not in _HELD_ELSEWHERE:
                    raise
            time.sleep(wait / 1000)
        if (held := session.info.get("held")) is None:
            return result, 0.0  # it never came to the database
        self.steps.add(*held)
        return result, held[0]

    def in_steps(
        self, items: Iterable[Item], job: Callable[[Session, list[Item]], T], most: int, least: int = LEAST
    ) -> Iterator[T]:
        """Do the job to all items, some at a time, each time in a step; what each of them answers."""
        pace, rest = Pace(most, least), iter(items)
        while some := list(islice(rest, pace.amount)):
            result, seconds = self.step(lambda session, some=some: job(session, some))  # type: ignore[misc]
            pace.took(seconds)
            yield result

    @contextmanager
    def _transaction(self, session: Session) -> Iterator[Session]:
        try:
            yield session
            self._commit(session)
        finally:
            session.close()
            if (began := session.info.pop("began", None)) is not None:
                session.info["held"] = [now - then for now, then in zip(_clocks(), began, strict=True)]
            if session.info.pop("first", False) and self._turns is not None:
                self._turns.give()
            if self._checkpoints is not None:
                self._checkpoints.wake()

    def _commit(self, session: Session) -> None:
        """Commit. A connection that is lost just then says nothing: PostgreSQL is asked whether it has committed."""
        if self.is_sqlite or not session.in_transaction():
            session.commit()
            return
        session.flush()
        transaction = session.connection().exec_driver_sql("SELECT pg_current_xact_id_if_assigned()::text").scalar()
        try:
            session.commit()
        except DBAPIError as error:
            if transaction is None or not error.connection_invalidated or not self._has_committed(transaction):
                raise

    def _has_committed(self, transaction: str) -> bool:
        """Did this transaction of a lost connection commit? Waits for a server that is starting again."""
        deadline = time.monotonic() + UNCERTAIN_SECONDS
        while time.monotonic() < deadline:
            try:
                with self.engine.connect() as connection:
                    asked = text("SELECT pg_xact_status(CAST(:transaction AS xid8))")
                    status = connection.execute(asked, {"transaction": transaction}).scalar()
            except OperationalError:
                status = "away"
            if status not in ("away", "in progress"):
                return status == "committed"
            time.sleep(0.05)
        return False

    def ready(self) -> bool:
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except OperationalError:
            return False
        return True

    def close(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.stop()
        self._writer.dispose()
        self.engine.dispose()
        if self._checkpoints is not None:
            self._checkpoints.close()
        if self._file_lock is not None:
            self._file_lock.close()
            self._file_lock = None


def _sqlite_engine(url: str, *, mapped: int = 0, **pool: Any) -> Engine:
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 30}, **pool, **_JSON)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        # Transactions are ours to begin: the driver's implicit BEGIN would take its lock too late.
        connection.isolation_level = None
        for pragma in (
            # A new file can shrink when runs are purged. It counts only before anything is written.
            "auto_vacuum=INCREMENTAL",
            "journal_mode=WAL",
            "wal_autocheckpoint=0",
            f"journal_size_limit={JOURNAL_BYTES}",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            "busy_timeout=30000",
            "case_sensitive_like=ON",
            f"mmap_size={mapped}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if not connection.get_execution_options().get("write", False):
            connection.exec_driver_sql("BEGIN")

    return engine


def _lock_file(database: Path) -> IO[bytes]:
    database.parent.mkdir(parents=True, exist_ok=True)
    handle = Path(f"{database}.lock").open("ab")  # noqa: SIM115  (held, and with it the lock, until close)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise DatabaseBusy(
            f"Another Tunescope service is using {database}. Stop it, point this one at another --data-dir, "
            "or use PostgreSQL for several services."
        ) from None
    return handle
