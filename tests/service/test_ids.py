"""Ids: unique across threads and forks, sorted by time."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

from service.store.tables import new_id


def test_ids_are_version_seven_and_sorted_by_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(len(one) == 32 and one[12] == "7" and one[16] in "89ab" for one in ids)
    assert before <= int(ids[0][:12], 16) <= int(ids[-1][:12], 16) <= time.time_ns() // 1_000_000


def test_threads_make_different_ids() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [one for some in pool.map(lambda _: [new_id() for _ in range(2000)], range(8)) for one in some]
    assert len(set(made)) == 16_000


def test_a_child_makes_other_random_bits_than_its_parent() -> None:
    new_id()  # there is randomness left
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writer, new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 32).decode()
    os.close(reader)
    os.close(writer)
    assert theirs[17:] != new_id()[17:]
