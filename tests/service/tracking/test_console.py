"""What a run prints is kept once, in order, and read from its end or on from a cursor."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.testclient import TestClient

from service.store.console import LINES_A_CHUNK, MAX_LINE
from tests.service.tracking.test_metrics import make_run
from tests.service.tracking.test_ranks import send


def lines(first: int, n: int, stream: str = "stdout") -> list[tuple[float, str, str]]:
    return [(float(i), stream, f"line {i}") for i in range(first, first + n)]


def read(client: TestClient, run: str, **params: Any) -> dict[str, Any]:
    answer = client.get(f"/api/v1/runs/{run}/console", params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def texts(page: dict[str, Any]) -> list[str]:
    return [line["text"] for line in page["items"]]


def test_lines_are_kept_once_and_in_order(client: TestClient) -> None:
    run = make_run(client)
    assert read(client, run) == {"items": [], "cursor": 0, "more": False}
    for _ in range(2):  # a batch that is sent again is dropped
        send(client, run, 0, console=[(1.0, "stdout", "größe 😀"), (2.0, "stderr", "")])
    send(client, run, 1, console=[(3.0, "stdout", "from rank 1")])
    page = read(client, run)
    assert page["items"] == [
        {"time": 1.0, "stream": "stdout", "rank": 0, "text": "größe 😀"},
        {"time": 2.0, "stream": "stderr", "rank": 0, "text": ""},
        {"time": 3.0, "stream": "stdout", "rank": 1, "text": "from rank 1"},
    ]
    assert texts(read(client, run, rank=1)) == ["from rank 1"]
    assert texts(read(client, run, rank=0, after=0)) == ["größe 😀", ""]


def test_the_end_then_what_follows(client: TestClient) -> None:
    run = make_run(client)
    for batch in range(1, 11):
        send(client, run, 0, batch=batch, console=lines(10 * batch, 10))
    end = read(client, run, limit=15)
    assert texts(end) == [f"line {i}" for i in range(95, 110)]
    assert read(client, run, after=end["cursor"]) == {"items": [], "cursor": end["cursor"], "more": False}
    send(client, run, 0, batch=11, console=lines(110, 3, "stderr"))
    assert texts(read(client, run, after=end["cursor"])) == ["line 110", "line 111", "line 112"]


def test_everything_page_by_page(client: TestClient) -> None:
    run = make_run(client)
    send(client, run, 0, console=lines(0, LINES_A_CHUNK + 500))
    send(client, run, 0, batch=2, console=lines(LINES_A_CHUNK + 500, 10))
    seen: list[str] = []
    cursor, pages, more = 0, 0, True
    while more:
        page = read(client, run, after=cursor, limit=100)
        seen += texts(page)
        cursor, more, pages = page["cursor"], page["more"], pages + 1
    assert (seen, pages) == ([f"line {i}" for i in range(LINES_A_CHUNK + 510)], 3)


def test_what_is_no_line_is_refused(client: TestClient) -> None:
    run = make_run(client)
    for bad in [(1.0, "stdin", "x")], [(1.0, "stdout", "x" * (MAX_LINE + 1))], ["x"]:
        answer = send(client, run, 0, console=bad)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "batch_unreadable")
    assert client.get("/api/v1/runs/none/console").status_code == 404
    assert msgspec.json.decode(client.get(f"/api/v1/runs/{run}/console").content)["items"] == []
