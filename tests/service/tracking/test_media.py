"""Media over HTTP: what is stored and refused, how pages are cut, that nothing of a user's runs in a browser."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from service.store.database import Database
from service.store.migrate import MIGRATIONS
from service.store.tables import OrphanBlob

PNG = b"\x89PNG\r\n\x1a\n"
RUN = "/api/v1/runs/mine"


@pytest.fixture(autouse=True)
def run(client: TestClient) -> None:
    assert client.post("/api/v1/runs", json={"project": "p", "id": "mine"}).status_code == 201


def put(client: TestClient, content: bytes = PNG, type: str = "image/png", **about: Any) -> Any:
    params = {"key": "samples", "step": 1, "kind": "image", **about}
    return client.put(f"{RUN}/media", params=params, content=content, headers={"Content-Type": type})


def listed(client: TestClient, **params: Any) -> list[dict[str, Any]]:
    answer = client.get(f"{RUN}/media", params=params)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def test_a_medium_is_stored_with_all_that_was_said_of_it(client: TestClient) -> None:
    details = {"width": 4, "height": 2}
    made = put(client, caption="a <b>cat</b>", details=json.dumps(details), time=12.5, rank=3, position=1, of=2)
    assert made.status_code == 201, made.text
    (one,) = listed(client)
    assert one == made.json()
    assert (one["key"], one["step"], one["rank"], one["position"], one["time"]) == ("samples", 1, 3, 1, 12.5)
    assert (one["caption"], one["details"], one["size"]) == ("a <b>cat</b>", details, len(PNG))
    content = client.get(f"/api/v1/media/{one['id']}/content")
    assert (content.content, content.headers["content-type"]) == (PNG, "image/png")


def test_the_same_again_changes_nothing_and_what_is_newer_replaces(client: TestClient) -> None:
    put(client, b"first", "text/plain", kind="text", time=10.0)
    put(client, b"first", "text/plain", kind="text", time=10.0)
    assert [one["content"] for one in listed(client, inline=True)] == ["first"]
    before = listed(client)[0]["id"]
    put(client, b"second", "text/plain", kind="text", time=11.0)
    put(client, b"late", "text/plain", kind="text", time=9.0)
    (one,) = listed(client, inline=True)
    assert one["content"] == "second"
    assert one["id"] != before
    assert client.get(f"/api/v1/media/{before}/content").json()["error"]["code"] == "media_not_found"


def test_a_smaller_gallery_takes_the_place_of_a_larger_one(client: TestClient) -> None:
    for position in range(4):
        put(client, position=position, of=4, time=1.0)
    put(client, position=0, of=4, time=1.0, step=2)
    for position in range(2):
        put(client, position=position, of=2, time=2.0)
    assert [(one["step"], one["position"]) for one in listed(client)] == [(2, 0), (1, 0), (1, 1)]


def test_pages_go_from_the_newest_step_down_and_miss_nothing(client: TestClient) -> None:
    for step in (-1, 0, 2**62):
        for key in ("a", "b"):
            for position in range(2):
                put(client, key=key, step=step, position=position, of=2)
    seen, cursor = [], None
    while True:
        page = client.get(f"{RUN}/media", params={"limit": 5, **({"cursor": cursor} if cursor else {})}).json()
        seen += [(one["step"], one["key"], one["position"]) for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [(step, key, place) for step in (2**62, 0, -1) for key in "ab" for place in range(2)]
    assert {one["step"] for one in listed(client, first_step=0, last_step=5)} == {0}
    assert {(one["step"], one["key"]) for one in listed(client, step=[-1, 0], key="b")} == {(-1, "b"), (0, "b")}
    assert client.get(f"{RUN}/media", params={"cursor": "x"}).json()["error"]["code"] == "bad_cursor"


def test_keys_and_steps(client: TestClient) -> None:
    for step in range(0, 30, 10):
        put(client, key="a/x", step=step)
    put(client, b"{}", "application/json", key="a/x", kind="plot", step=40)
    put(client, key="b")
    keys = client.get(f"{RUN}/media/keys").json()["items"]
    assert keys == [
        {"key": "a/x", "kinds": ["image", "plot"], "n": 4, "first_step": 0, "last_step": 40},
        {"key": "b", "kinds": ["image"], "n": 1, "first_step": 1, "last_step": 1},
    ]
    assert client.get(f"{RUN}/media/steps", params={"key": "a/x"}).json() == {"n": 4, "steps": [0, 10, 20, 40]}
    assert client.get("/api/v1/runs/none/media/keys").json()["error"]["code"] == "run_not_found"


def test_small_contents_come_along_when_asked_for(client: TestClient) -> None:
    counts = {"edges": [0.0, 1.0], "counts": [3]}
    put(client, json.dumps(counts).encode(), "application/json", kind="histogram", key="h")
    put(client, b"not json", "application/json", kind="table", key="t")
    put(client, b"x" * 300_000, "text/plain", kind="text", key="x")
    put(client, key="z")
    assert [one["content"] for one in listed(client, inline=True)] == [counts, None, None, None]
    assert [one["content"] for one in listed(client)] == [None] * 4


@pytest.mark.parametrize(
    ("about", "type", "status", "code"),
    [
        ({}, "text/html", 415, "unsupported_media"),
        ({}, "application/octet-stream", 415, "unsupported_media"),
        ({"kind": "table"}, "image/svg+xml", 415, "unsupported_media"),
        ({"kind": "page"}, "image/png", 400, "invalid_request"),
        ({"position": 256, "of": 256}, "image/png", 400, "invalid_request"),
        ({"of": 257}, "image/png", 400, "invalid_request"),
        ({"position": 2, "of": 2}, "image/png", 400, "bad_media"),
        ({"details": "[1]"}, "image/png", 400, "bad_media"),
        ({"details": "{"}, "image/png", 400, "bad_media"),
        ({"time": "nan"}, "image/png", 400, "invalid_request"),
        ({"step": 2**63}, "image/png", 400, "invalid_request"),
        ({"key": ""}, "image/png", 400, "invalid_request"),
        ({"key": "a\0b"}, "image/png", 400, "invalid_request"),
        ({"caption": "a\0b"}, "image/png", 400, "invalid_request"),
        ({"size": 3}, "image/png", 400, "invalid_request"),
    ],
)
def test_what_is_refused(client: TestClient, about: dict[str, Any], type: str, status: int, code: str) -> None:
    answer = put(client, type=type, **about)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert listed(client) == []


def test_a_run_that_is_not_there(client: TestClient) -> None:
    params = {"key": "k", "step": 1, "kind": "image"}
    answer = client.put("/api/v1/runs/none/media", params=params, content=PNG, headers={"Content-Type": "image/png"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "run_not_found")


def test_what_is_too_large_names_the_setting(settings: Settings, database: Database) -> None:
    small = settings.model_copy(update={"max_media_bytes": 10})
    with TestClient(create_app(small, database)) as client:
        for content in (PNG * 2, iter([PNG, PNG])):  # with a length, and without
            answer = put(client, content)  # type: ignore[arg-type]
            assert answer.status_code == 413
            assert "TUNESCOPE_MAX_MEDIA_BYTES" in answer.json()["error"]["message"]
        assert put(client, PNG).status_code == 201


SCRIPT = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.mark.parametrize(
    ("type", "kind", "content", "shown"),
    [
        ("image/png", "image", PNG, "inline"),
        ("text/plain", "text", b"<script>alert(1)</script>", "inline"),
        ("image/svg+xml", "image", SCRIPT, "attachment"),
        ("image/svg+xml", "plot", SCRIPT, "attachment"),
        ("application/json", "plot", b"{}", "attachment"),
    ],
)
def test_nothing_of_a_users_runs_in_a_browser(
    client: TestClient, type: str, kind: str, content: bytes, shown: str
) -> None:
    made = put(client, content, f"{type}; charset=utf-8", kind=kind, key='a"b\r\nSet-Cookie: x/..\u00fc').json()
    headers = client.get(f"/api/v1/media/{made['id']}/content").headers
    assert headers["content-type"].partition(";")[0] == type
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert headers["content-disposition"].startswith(f'{shown}; filename="---')
    assert headers["content-disposition"].count('"') == 2


def test_equal_content_is_stored_once(client: TestClient, settings: Settings) -> None:
    ones = [put(client, step=step).json() for step in range(3)]
    assert len({one["sha256"] for one in ones}) == 1
    blobs = [file for file in Path(settings.resolved_artifacts_url).rglob("*") if file.is_file()]
    assert [file.name for file in blobs] == [ones[0]["sha256"]]


def test_a_database_of_the_first_schema_is_upgraded_with_what_it_holds(database_url: str, tmp_path: Path) -> None:
    postgres = database_url.startswith("postgresql")
    url = database_url if postgres else f"sqlite:///{tmp_path / 'old.db'}"
    engine = create_engine(url)
    with engine.begin() as connection:
        if postgres:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text("INSERT INTO project (id, name, created_at, updated_at) VALUES (7, 'old', 1, 1)"))
        connection.execute(
            text(
                "INSERT INTO run (id, project_id, name, status, created_at, heartbeat_at, points_stored)"
                " VALUES ('mine', 7, 'r', 'finished', 1, 1, 0)"
            )
        )
    engine.dispose()
    database = Database(url)
    with TestClient(create_app(Settings(data_dir=tmp_path / "data"), database)) as client:
        assert put(client).status_code == 201
        assert [one["key"] for one in listed(client)] == ["samples"]
        assert client.get(RUN).json()["name"] == "r"
    database.close()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put_file(client: TestClient, path: str, content: bytes, **params: Any) -> Any:
    return client.put(f"{RUN}/artifacts/{path}", params=params, content=content)


def test_content_that_is_here_is_named_by_its_hash(client: TestClient) -> None:
    """Without a body, for media and for files alike."""
    missing = put(client, b"", sha256=sha256(PNG))
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "content_missing")
    assert listed(client) == []
    assert put_file(client, "kept.png", PNG).status_code == 201
    named = put(client, b"", sha256=sha256(PNG), step=2)
    assert (named.status_code, named.json()["size"]) == (201, len(PNG))
    assert client.get(f"/api/v1/media/{named.json()['id']}/content").content == PNG
    again = put_file(client, "again/kept.png", b"", sha256=sha256(PNG))
    assert (again.status_code, again.json()["size"]) == (201, len(PNG))
    assert client.get(f"{RUN}/artifacts/again/kept.png").content == PNG


def test_content_that_comes_must_have_its_hash(client: TestClient) -> None:
    differs = put(client, PNG, sha256=sha256(b"other"))
    assert (differs.status_code, differs.json()["error"]["code"]) == (400, "content_differs")
    assert put(client, PNG, sha256="none").status_code == 400
    assert listed(client) == []
    assert put(client, PNG, sha256=sha256(PNG)).status_code == 201
    empty = put_file(client, "empty", b"", sha256=sha256(b""))
    assert (empty.status_code, empty.json()["size"]) == (201, 0)


def test_content_that_may_be_removed_any_moment_is_sent_again(client: TestClient, database: Database) -> None:
    assert put_file(client, "kept.png", PNG).status_code == 201
    with database.write() as session:
        session.add(OrphanBlob(sha256=sha256(PNG), since=1.0))
    assert put(client, b"", sha256=sha256(PNG)).json()["error"]["code"] == "content_missing"
    assert put(client, PNG, sha256=sha256(PNG)).status_code == 201
