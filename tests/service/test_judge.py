"""The process that scores and compares: apart from the service, there when needed, gone with it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

import tunescope
from service.judge import Handover
from tests.conftest import LiveService, running_service, wait_until

ITEMS = [{"id": str(i), "input": f"ticket {i}", "label": "abcd"[i % 4]} for i in range(400)]
SUITE: dict[str, Any] = {"task_type": "classification", "items": ITEMS, "metrics": ["accuracy", "f1_macro"]}
TEXTS: dict[str, Any] = {
    "task_type": "generation",
    "items": [{"id": str(i), "input": "?", "references": [f"the cat sat on the mat {i}"]} for i in range(100)],
    "metrics": ["bleu", "chrf", "rougeLsum"],
}
HEAVY = ("/pyarrow/", "/scipy/", "/pandas/", "/torch/")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[LiveService]:
    with running_service(tmp_path / "data", environment={"TUNESCOPE_JUDGE_IDLE_SECONDS": "1"}) as running:
        yield running


@pytest.fixture
def api(service: LiveService) -> Iterator[tunescope.Client]:
    with tunescope.Client(service.url) as client:
        yield client


def process(service: LiveService) -> psutil.Process:
    assert service.process is not None
    return psutil.Process(service.process.pid)


def workers(service: LiveService) -> list[psutil.Process]:
    (keeper,) = process(service).children()
    return keeper.children()


def loaded(process: psutil.Process) -> set[str]:
    return {part for part in HEAVY for mapped in process.memory_maps() if part in Path(mapped.path).as_posix()}


def answers(every: int) -> list[dict[str, str]]:
    return [{"id": str(i), "output": "abcd"[(i + (i % every == 0)) % 4]} for i in range(400)]


def test_a_service_at_work_stays_small(live: LiveService) -> None:
    """Points, suites, evaluations, a comparison, Arrow, OpenAPI, many callers at once: under 200 MB."""
    with tunescope.Client(live.url) as client:
        run = client.create_run(project="p")["id"]
        suite = client.create_suite(name="s", **SUITE)["id"]
        first, second = (client.create_evaluation(suite_id=suite, predictions=answers(k))["id"] for k in (5, 9))
        assert client.compare(first, second, metric="f1_macro")["verdict"] == "better"
        texts = client.create_suite(name="t", **TEXTS)["id"]
        outputs = [{"id": str(i), "output": "the cat sat on a mat"} for i in range(100)]
        assert client.create_evaluation(suite_id=texts, predictions=outputs)["n"] == 100
        rows = client.create_dataset("d", ITEMS)["id"]
        assert client.leakage(rows, suite)["n_exact"] == 400
        assert client.suite_quality(suite)["n_items"] == client.get_dataset(rows)["n_items"]
        assert loaded(process(live)) == set()
        assert client.history_arrow([run], ["loss"])
        readers = [threading.Thread(target=client.list_runs, kwargs={"project": "p"}) for _ in range(32)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    (worker,) = workers(live)
    assert {"/pyarrow/", "/scipy/"} == loaded(worker)
    assert process(live).memory_info().rss < 200e6


def test_an_idle_worker_gives_its_memory_back(service: LiveService, api: tunescope.Client) -> None:
    assert workers(service) == []
    suite = api.create_suite(name="s", **SUITE)["id"]
    assert len(workers(service)) == 1
    wait_until(lambda: workers(service) == [])
    assert api.create_evaluation(suite_id=suite, predictions=answers(5))["n"] == 400


def test_a_worker_that_dies_is_replaced_and_nothing_is_half_stored(service: LiveService, api: tunescope.Client) -> None:
    suite = api.create_suite(name="s", **SUITE)["id"]
    (worker,) = workers(service)
    worker.suspend()
    refused: list[tunescope.ApiError] = []

    def evaluate() -> None:
        try:
            api.create_evaluation(suite_id=suite, predictions=answers(5))
        except tunescope.ApiError as error:
            refused.append(error)

    caller = threading.Thread(target=evaluate)
    caller.start()
    wait_until(lambda: api.health()["status"] == "ok")  # the service itself goes on meanwhile
    worker.kill()
    caller.join()
    # Either it had not been taken in yet and a new worker answered it, or the caller was told to send it again.
    assert [error.code for error in refused] in ([], ["judge_unavailable"])
    stored = len(api.list_evaluations()["items"])
    assert stored == 1 - len(refused)
    assert api.create_evaluation(suite_id=suite, predictions=answers(9))["n"] == 400
    assert len(api.list_evaluations()["items"]) == stored + 1


def test_it_ends_with_the_service_even_when_that_is_killed(live: LiveService) -> None:
    with tunescope.Client(live.url) as client:
        client.create_suite(name="s", **SUITE)
    family = process(live).children(recursive=True)
    assert len(family) == 2
    live.kill()
    wait_until(lambda: not any(member.is_running() for member in family))


def test_refusals_come_through_as_they_are(service: LiveService, api: tunescope.Client) -> None:
    with pytest.raises(tunescope.ApiError, match="no suite") as refused:
        api.create_evaluation(suite_id="missing", predictions=answers(5))
    assert (refused.value.status, refused.value.code) == (404, "suite_not_found")
    with pytest.raises(tunescope.ApiError) as malformed:
        api.compare("a", None)  # type: ignore[arg-type]
    assert (malformed.value.status, malformed.value.code) == (400, "invalid_request")


def test_a_question_that_comes_as_the_worker_ends_is_asked_again(tmp_path: Path) -> None:
    """The first worker takes the connection and is gone; only a question may be asked of the next."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen()

    def work() -> None:
        for said in (b"", answer, b""):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(said)

    worker = threading.Thread(target=work)
    worker.start()
    app = FastAPI()
    app.state.error_shapes = {}
    app.add_middleware(Handover, socket_path=str(tmp_path / "socket"))
    with TestClient(app) as client:
        assert client.get("/api/v1/comparisons").status_code == 200
        refused = client.post("/api/v1/suites", json={})
    worker.join()
    listener.close()
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "judge_unavailable")
