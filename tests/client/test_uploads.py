"""The same bytes travel once: media, artifacts, imports."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

import tunescope
from tunescope import Client

PICTURE = np.random.default_rng(3).random((8, 8, 3))


class Counting(Client):
    """Counts the bytes of the bodies that it sends."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sent = 0
        send = self._transport.send

        def counted(method: str, path: str, **options: object) -> object:
            content = options.get("content")
            if method == "PUT" and content is not None:
                whole = content if isinstance(content, bytes) else b"".join(content)  # type: ignore[call-overload]
                self.sent += len(whole)
                options["content"] = whole
            return send(method, path, **options)

        self._transport.send = counted


@pytest.fixture
def client(live_service: str) -> Iterator[Counting]:
    client = Counting(live_service)
    yield client
    client._transport.close()  # a test may have put its own in the place of `close`


def test_a_file_is_sent_once(client: Counting, live_service: str, tmp_path: Path) -> None:
    run = client.create_run(project="uploads")["id"]
    content = os.urandom(300_000)
    (tmp_path / "checkpoint").write_bytes(content)
    for place, data in (("one", content), ("two", tmp_path / "checkpoint"), ("three", content)):
        stored = client.upload_artifact(run, place, data)
        assert (stored["sha256"], stored["size"]) == (hashlib.sha256(content).hexdigest(), len(content))
        assert client.download_artifact(run, place) == content
    assert client.sent == len(content)
    with Counting(live_service) as another:  # who has never sent it asks, since it is large
        another.upload_artifact(another.create_run(project="uploads")["id"], "here too", content)
        assert another.sent == 0


def test_a_small_one_is_asked_for_only_by_who_has_sent_it(client: Counting, live_service: str) -> None:
    run = client.create_run(project="uploads")["id"]
    content = os.urandom(100)
    for place in ("one", "two"):
        client.upload_artifact(run, place, content)
    assert client.sent == 100
    with Counting(live_service) as another:
        another.upload_artifact(run, "three", content)
        assert another.sent == 100
    client.upload_artifact(run, "empty", b"")
    client.upload_artifact(run, "empty too", b"")
    assert client.download_artifact(run, "empty too") == b""


def test_media_and_checkpoints_of_a_run(
    live_service: str, client: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a training logs again, from its journal."""
    monkeypatch.setattr("tunescope._writer.Client", lambda url, key: client)
    monkeypatch.setattr(client, "close", lambda: None)
    checkpoint = os.urandom(200_000)
    run = tunescope.init(project="uploads", url=live_service, system_interval=None, git_diff=False, quiet=True)
    for step in range(5):
        run.log({"samples": tunescope.Image(PICTURE), "loss": step}, step=step)
        run.log_artifact(checkpoint, f"checkpoint-{step}")
    assert run.finish().left == 0
    media = client.list_media(run.id)["items"]
    assert [one["step"] for one in media] == [4, 3, 2, 1, 0]
    assert len({one["sha256"] for one in media}) == 1
    assert client.sent == len(checkpoint) + media[0]["size"]


class OlderService(BaseHTTPRequestHandler):
    """Takes every body for what is to be stored, and refuses media with a parameter that it does not know."""

    stored: list[int]

    def do_PUT(self) -> None:
        size = int(self.headers["Content-Length"])
        body = self.rfile.read(size)
        if "/media" in self.path and "sha256" in self.path:
            return self.answer(400, b'{"error": {"code": "invalid", "message": "query.sha256: Extra inputs"}}')
        self.stored.append(size)
        return self.answer(201, b'{"sha256": "%s"}' % hashlib.sha256(body).hexdigest().encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def older() -> Iterator[tuple[str, list[int]]]:
    stored: list[int] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (OlderService,), {"stored": stored}))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", stored
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("what", ["artifacts", "media"])
def test_an_older_service_gets_the_bytes(older: tuple[str, list[int]], what: str) -> None:
    url, stored = older
    content = os.urandom(100_000)
    about = {"key": "k", "step": 1, "kind": "image", "content_type": "image/png"}
    with Client(url) as client:
        uploads: dict[str, Callable[[], object]] = {
            "artifacts": lambda: client.upload_artifact("run", "path", content),
            "media": lambda: client.upload_media("run", content, **about),  # type: ignore[arg-type]
        }
        uploads[what]()
        uploads[what]()
    # A file is first taken for an empty one, and replaced at once.
    assert stored == ([0, 100_000, 100_000] if what == "artifacts" else [100_000, 100_000])
