"""Who writes next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from service.store import turns as module
from service.store.database import Database
from service.store.pace import AIM, LEAST, Pace, Steps
from service.store.turns import Turns
from tests.conftest import wait_until


class Writers:
    """Threads that want a turn, started one after the other."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.order: list[str] = []
        self._threads: list[threading.Thread] = []

    def start(self, name: str, *, patient: bool = False) -> None:
        before = self._waiting()

        def write() -> None:
            self._turns.take(patient=patient)
            self.order.append(name)
            self._turns.give()

        self._threads.append(threading.Thread(target=write))
        self._threads[-1].start()
        wait_until(lambda: self._waiting() > before)

    def _waiting(self) -> int:
        return len(self._turns._waiting) + len(self._turns._patient)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)


def test_turns_are_taken_in_order_and_what_can_wait_comes_last() -> None:
    turns = Turns()
    writers = Writers(turns)
    turns.take()
    writers.start("can wait", patient=True)
    writers.start("can wait too", patient=True)
    for name in ("first", "second", "third"):
        writers.start(name)
    turns.give()
    writers.join()
    assert writers.order == ["first", "second", "third", "can wait", "can wait too"]
    turns.take(patient=True)  # nobody waits
    turns.give()


def test_what_can_wait_is_not_put_off_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    turns = Turns()
    writers = Writers(turns)
    turns.take()
    writers.start("can wait", patient=True)
    wait_until(lambda: len(turns._waiting) == 1)
    writers.start("later")
    turns.give()
    writers.join()
    assert writers.order == ["can wait", "later"]


def test_many_threads_never_have_a_turn_at_once() -> None:
    turns, inside, most = Turns(), [0], [0]

    def write(number: int) -> None:
        for _ in range(300):
            turns.take(patient=number % 2 == 0)
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            inside[0] -= 1
            turns.give()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1]
    turns.take()


def test_the_pace_follows_how_long_steps_take() -> None:
    pace = Pace(100)
    for _ in range(10):
        pace.took(AIM / 10)
    assert pace.amount == 100
    pace.took(2 * AIM)
    assert pace.amount == 50
    pace.took(AIM * 0.8)
    assert pace.amount == 50
    for _ in range(10):
        pace.took(10 * AIM)
    assert pace.amount == LEAST
    assert Pace(1).amount == 1


def test_steps_say_how_long_they_kept_writers_waiting() -> None:
    steps = Steps()
    assert steps.held() is None
    for number in range(1, 101):
        steps.add(number / 1000, number / 2000)
    held = steps.held()
    assert held is not None
    assert (held.steps, held.p50_ms, held.longest_ms, held.cpu_longest_ms) == (100, 50.5, 100.0, 50.0)
    assert 99 <= held.p99_ms < 100


def test_steps_take_as_much_as_they_can_and_all_of_it(database: Database) -> None:
    sizes: list[int] = []

    def job(_: object, some: list[int]) -> list[int]:
        sizes.append(len(some))
        return some

    assert [one for some in database.in_steps(range(1000), job, 64) for one in some] == list(range(1000))
    assert max(sizes) == 64


def test_a_step_that_fails_leaves_nothing_and_gives_its_turn_back(database: Database) -> None:
    def job(session: object) -> None:
        session.connection().exec_driver_sql("INSERT INTO project (name, created_at, updated_at) VALUES ('x', 1, 1)")  # type: ignore[attr-defined]
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        database.step(job)
    with database.write() as session:
        assert session.connection().exec_driver_sql("SELECT count(*) FROM project WHERE name = 'x'").scalar() == 0
    assert database.steps.held() is None


def test_a_writer_overtakes_what_can_wait(tmp_path: Path) -> None:
    """A thousand steps in a row, and a writer that comes is next."""
    with closing(Database(f"sqlite:///{tmp_path / 'x.db'}")) as database:
        done: list[int] = []
        first = threading.Event()

        def step(session: object, some: list[int]) -> None:
            session.connection()  # type: ignore[attr-defined]
            done.extend(some)
            first.set()
            if some[0] == 0:
                wait_until(lambda: len(turns._waiting) == 1)  # in the middle of a step, a writer comes

        turns = database._turns
        assert turns is not None
        work: Callable[[], object] = lambda: list(database.in_steps(range(100), step, 1))  # noqa: E731
        thread = threading.Thread(target=work)
        thread.start()
        first.wait(30)
        with database.write() as session:
            session.connection()
            seen = len(done)
        thread.join(30)
        assert (seen, len(done)) == (1, 100)
