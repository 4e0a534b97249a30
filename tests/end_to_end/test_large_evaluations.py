"""Evaluations of any size in a live service: bounded memory, ingest beside them, and uploads that are cut off."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest

from tests.conftest import LiveService, wait_until
from tests.end_to_end.test_storage_faults import batch, full, running_service, small_disk
from tunescope import ApiError, Client, ConnectionFailed, TunescopeError

__all__ = ["small_disk"]

MB = 1_000_000
LABELS = ["refund", "login", "delivery", "invoice", "other"]
WORDS = "my parcel did not arrive and nobody answers please help with the refund of order number".split()
Json = dict[str, Any]


def item(place: int) -> Json:
    """About 200 characters."""
    text = " ".join(WORDS[(place * 7 + word * word) % len(WORDS)] for word in range(36))
    return {"id": f"item-{place:07d}", "input": text, "label": LABELS[place % 5], "group": f"g{place % 9}"}


def answer(place: int) -> Json:
    output = f"{WORDS[place % 15]} " * 33 + LABELS[(place + (place % 7 == 0)) % 5]
    return {"id": f"item-{place:07d}", "output": output, "parsed": LABELS[(place + (place % 7 == 0)) % 5]}


def shuffled(n: int) -> Iterator[int]:
    """Every number below n once, far from in order."""
    step = 514_229  # a prime that divides no n used here
    return (place * step % n for place in range(n))


DEFINITION: Json = {"name": "large", "task_type": "classification", "metrics": ["accuracy", "f1_macro"]}


def family(service: LiveService) -> list[psutil.Process]:
    assert service.process is not None
    own = psutil.Process(service.process.pid)
    return [own, *own.children(recursive=True)]


def memory(service: LiveService) -> int:
    """Proportional set size of service, keeper and worker."""
    total = 0
    for process in family(service):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total


class Meanwhile:
    """Watches memory, and sends batches of metrics, while something else is on."""

    def __init__(self, service: LiveService) -> None:
        self._service = service
        self.peak = 0
        self.seconds: list[float] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._watch, self._ingest)]

    def __enter__(self) -> Meanwhile:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self.peak = max(self.peak, memory(self._service))

    def _ingest(self) -> None:
        with Client(self._service.url) as client:
            client.create_run(project="p", id="meanwhile")
            while not self._over.wait(0.02):
                start = time.perf_counter()
                client.send_batch("meanwhile", batch(len(self.seconds) + 1, points=100))
                self.seconds.append(time.perf_counter() - start)


def score_in_bounded_memory(service: LiveService, n: int, most: int) -> None:
    with Client(service.url, timeout=3600) as client:
        idle = memory(service)
        with Meanwhile(service) as meanwhile:
            suite = client.create_suite(items=map(item, range(n)), **DEFINITION)
            one = client.create_evaluation(suite_id=suite["id"], predictions=map(answer, shuffled(n)))
            two = client.create_evaluation(suite_id=suite["id"], predictions=map(answer, range(n - 3)))
            card = client.compare(one["id"], two["id"], metric="f1_macro")
            wrong = client.evaluation_items(one["id"], correct=False, limit=3)["items"]
            slices = client.slices(one["id"], by="group")["items"]
            confusion = client.confusion(one["id"])
        stored = client.get_run("meanwhile")["points_stored"]
    assert (suite["n_items"], one["n"], one["n_missing"], two["n_missing"]) == (n, n, 0, 3)
    right = n - len(range(0, n, 7))
    assert one["scores"][0]["value"] == pytest.approx(right / n)
    assert (card["n"], card["lost"], card["gained"]) == (n, 3 - sum(p % 7 == 0 for p in range(n - 3, n)), 0)
    assert [found["id"] for found in wrong] == ["item-0000000", "item-0000007", "item-0000014"]
    assert sum(found["n"] for found in slices) == n
    assert np.sum(confusion["counts"]) == n
    assert len(meanwhile.seconds) > 20
    assert stored == 100 * len(meanwhile.seconds)
    p50, p99 = (1000 * np.quantile(meanwhile.seconds, q) for q in (0.5, 0.99))
    above = (meanwhile.peak - idle) / MB
    print(f"{n:,} items: {above:.0f} MB above {idle / MB:.0f}; {len(meanwhile.seconds):,} batches, p50 {p50:.1f} ms, "
          f"p99 {p99:.1f} ms")  # fmt: skip
    assert above < most


def test_tens_of_thousands_of_items_take_little_more_than_the_libraries(live: LiveService) -> None:
    """Measured: 120 MB are Arrow, SciPy and NumPy in the worker, 250 bytes an item come on top."""
    score_in_bounded_memory(live, 30_000, most=220)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_million_items_take_less_than_500_mb(live: LiveService) -> None:
    score_in_bounded_memory(live, 1_000_000, most=500)


def lines(make: Callable[[int], Json], n: int) -> bytes:
    return b"".join(json.dumps(make(place)).encode() + b"\n" for place in range(n))


QUERY = "/api/v1/suites/file?name=large&task_type=classification&metrics=accuracy&metrics=f1_macro"
HEAD = f"POST {QUERY} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"


def files(service: LiveService) -> list[Path]:
    """What lies in the data folder beside the database."""
    found = (path for path in service.data_dir.rglob("*") if path.is_file())
    return [path for path in found if not path.name.startswith("tunescope.db") and path.suffix != ".lock"]


def spooling(service: LiveService) -> bool:
    """Is an upload on its way in? Its file has no name, but someone has it open."""
    for process in family(service):
        with suppress(psutil.Error, OSError):
            for link in Path(f"/proc/{process.pid}/fd").iterdir():
                with suppress(OSError):
                    target = str(link.readlink())
                    if target.startswith(str(service.data_dir)) and target.endswith("(deleted)"):
                        return True
    return False


def upload_again(service: LiveService) -> None:
    with Client(service.url) as client:
        assert client.list_suites()["items"] == []
        assert files(service) == []
        suite = client.create_suite(items=map(item, range(6000)), **DEFINITION)
        assert (suite["version"], suite["n_items"]) == (1, 6000)


@pytest.mark.parametrize("way", ["sized", "chunked"])
def test_a_connection_cut_in_the_middle_leaves_nothing(live: LiveService, way: str) -> None:
    body = lines(item, 3000)
    with socket.create_connection(("127.0.0.1", live.port)) as connection:
        if way == "sized":
            connection.sendall(f"{HEAD}Content-Length: {2 * len(body)}\r\n\r\n".encode() + body)
        else:
            connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode() + body + b"\r\n")
        wait_until(lambda: spooling(live))
    wait_until(lambda: not spooling(live))
    upload_again(live)


@contextmanager
def half_an_upload(service: LiveService) -> Iterator[None]:
    """An upload that is on its way in, and waits."""
    go_on = threading.Event()
    answered: list[object] = []

    def body() -> Iterator[bytes]:
        yield lines(item, 3000)
        go_on.wait(60)
        yield lines(item, 10)

    def send() -> None:
        try:
            content = {"content": body(), "headers": {"content-type": "application/x-ndjson"}}
            answered.append(httpx2.post(f"{service.url}{QUERY}", timeout=60, **content).status_code)
        except httpx2.HTTPError as error:
            answered.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    wait_until(lambda: spooling(service))
    yield
    go_on.set()
    sender.join()
    assert answered[0] != 201


def test_a_service_killed_in_the_middle_has_nothing_half_stored(live: LiveService) -> None:
    with half_an_upload(live):
        members = family(live)
        live.kill()
        psutil.wait_procs(members, timeout=30)
    live.start()
    upload_again(live)


def test_a_worker_killed_in_the_middle_has_nothing_half_stored(live: LiveService) -> None:
    with half_an_upload(live):
        family(live)[-1].kill()
        wait_until(lambda: not spooling(live))
    upload_again(live)


def test_a_full_disk_refuses_and_takes_it_again_when_there_is_room(small_disk: Path, tmp_path: Path) -> None:
    with running_service(small_disk / "data") as service, Client(service.url) as client:
        with full(small_disk):
            for n in (6000, 40):
                with pytest.raises(ApiError) as refused:
                    client.create_suite(items=map(item, range(n)), **DEFINITION)
                assert (refused.value.status, refused.value.code) == (503, "storage_unavailable")
        upload_again(service)
        suite = client.list_suites()["items"][0]
        with full(small_disk), pytest.raises(ApiError) as refused:
            client.create_evaluation(suite_id=suite["id"], predictions=map(answer, range(6000)))
        assert (refused.value.status, refused.value.code) == (503, "storage_unavailable")
        assert client.list_evaluations()["items"] == []
        assert client.create_evaluation(suite_id=suite["id"], predictions=map(answer, range(6000)))["n"] == 6000


def test_an_answer_that_was_lost_can_be_asked_for_again(live: LiveService) -> None:
    """The caller's own id makes a repeated upload the same evaluation."""
    with Client(live.url) as client, Client(live.url, timeout=0.05) as hasty:
        suite = client.create_suite(items=map(item, range(300)), **DEFINITION)
        given: Json = {"suite_id": suite["id"], "id": "c0" * 16, "predictions": [answer(p) for p in range(300)]}
        with suppress(ConnectionFailed, TunescopeError):
            hasty.create_evaluation(**given)
        wait_until(lambda: client.create_evaluation(**given)["id"] == "c0" * 16)
        assert len(client.list_evaluations()["items"]) == 1
