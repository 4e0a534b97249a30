"""The service as a whole: one error shape, complete OpenAPI, keys and scopes, migrations that match the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlmodel import SQLModel
from starlette.testclient import TestClient

from service.app import create_app
from service.auth import create_key
from service.settings import Settings
from service.store import tables  # noqa: F401  (registers every table)
from service.store.database import Database, DatabaseBusy
from service.store.migrate import REVISIONS, DatabaseTooNew, upgrade
from tests.conftest import wait_until


def openapi() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, verb, body) for path, verbs in openapi()["paths"].items() for verb, body in verbs.items()]


def test_every_route_says_what_it_does() -> None:
    silent = [f"{verb.upper()} {path}" for path, verb, body in operations() if not body.get("description")]
    assert silent == []


def test_the_api_is_there() -> None:
    assert len(operations()) > 40


def test_every_setting_has_a_sentence() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "code"),
    [
        ("GET", "/nowhere", None, 404, "no_such_route"),
        ("DELETE", "/api/v1/projects", None, 405, "method_not_allowed"),
        ("POST", "/api/v1/runs", {}, 400, "invalid_request"),
        ("POST", "/api/v1/runs", {"project": "p", "colour": 1}, 400, "invalid_request"),
        ("GET", "/api/v1/runs/none", None, 404, "run_not_found"),
        ("GET", "/api/v1/runs?limit=0", None, 400, "invalid_request"),
        ("GET", "/api/v1/model-versions/none", None, 404, "model_not_found"),
        ("GET", "/api/v1/suites/none", None, 404, "suite_not_found"),
        ("GET", "/api/v1/evaluations/none", None, 404, "evaluation_not_found"),
        ("GET", "/api/v1/audits/none", None, 404, "audit_not_found"),
        ("GET", "/api/v1/experiments/none", None, 404, "experiment_not_found"),
    ],
)
def test_errors_have_one_shape(
    client: TestClient, verb: str, path: str, body: dict[str, Any] | None, status: int, code: str
) -> None:
    answer = client.request(verb, path, json=body)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"code", "message", "details"}
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["message"].endswith(".")


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("GET", "/api/v1/runs?project=%00", None),
        ("GET", "/api/v1/evaluations?suite=%00", None),
        ("POST", "/api/v1/runs", {"project": "p", "notes": "\x00"}),
        ("PATCH", "/api/v1/runs/mine", {"points_sent": 10**30}),
    ],
)
def test_values_no_database_can_hold_are_no_crash(
    client: TestClient, verb: str, path: str, body: dict[str, Any] | None
) -> None:
    client.post("/api/v1/runs", json={"project": "p", "id": "mine"})
    assert client.request(verb, path, json=body).status_code in {200, 201, 400}


def test_the_migrations_make_exactly_the_tables(database_url: str, tmp_path: Path) -> None:
    """A new database gets the tables at once, an older one by migrations: they must not differ."""
    postgres = database_url.startswith("postgresql")
    engine = create_engine(database_url if postgres else f"sqlite:///{tmp_path / 'empty.db'}")
    with engine.begin() as connection:
        if postgres:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        upgrade(connection)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []
    engine.dispose()


def test_a_new_database_is_at_the_newest_schema(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == REVISIONS[-1]
        assert compare_metadata(context, SQLModel.metadata) == []


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    Database(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(DatabaseTooNew, match="newer than this Tunescope"):
        Database(url)


def test_a_second_service_on_one_sqlite_file_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'one.db'}"
    first = Database(url)
    with pytest.raises(DatabaseBusy, match="Another Tunescope service"):
        Database(url)
    first.close()
    Database(url).close()


def test_keys_and_scopes(settings: Settings, database: Database) -> None:
    with database.write() as session:
        reader = create_key(session, "reader", ["read"])
        writer = create_key(session, "writer", ["write"])
        expired = create_key(session, "old", ["admin"], days=-1)
    guarded = settings.model_copy(update={"auth": True})
    with TestClient(create_app(guarded, database)) as client:
        run = {"project": "p"}
        assert client.get("/api/v1/runs").status_code == 401
        assert client.get("/healthz").status_code == 200
        assert client.get("/api/v1/runs", headers={"X-API-Key": reader}).status_code == 200
        refused = client.post("/api/v1/runs", json=run, headers={"Authorization": f"Bearer {reader}"})
        assert refused.status_code == 403
        assert refused.json()["error"]["code"] == "scope_missing"
        assert client.post("/api/v1/runs", json=run, headers={"Authorization": f"Bearer {writer}"}).status_code == 201
        assert client.get("/api/v1/runs", headers={"X-API-Key": expired}).status_code == 401
        assert client.get("/api/v1/runs", headers={"X-API-Key": "ts_guess"}).status_code == 401


def test_keys_are_not_stored_readable(database: Database) -> None:
    with database.write() as session:
        key = create_key(session, "writer", ["write"])
    with database.engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM api_key")).all()
    assert len(rows) == 1
    assert key not in str(rows)


def test_off_loopback_keys_are_asked_for() -> None:
    assert Settings(host="0.0.0.0").auth_required
    assert not Settings(host="0.0.0.0", auth=False).auth_required
    assert not Settings().auth_required


def test_an_older_database_is_upgraded_with_what_is_in_it(database_url: str, tmp_path: Path) -> None:
    """A database of the first schema, with a run and its project in the bin, opens, and the bin is purged."""
    engine = create_engine(database_url)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        else:
            for kind, name in connection.execute(text("SELECT type, name FROM sqlite_master ORDER BY type DESC")).all():
                if kind in ("view", "table") and not name.startswith("sqlite_"):
                    connection.execute(text(f'DROP {kind} "{name}"'))
        upgrade(connection, "0001")
        connection.execute(text("INSERT INTO project (id, name, created_at, updated_at) VALUES (1, 'old', 0, 0)"))
        columns = "id, project_id, name, status, created_at, heartbeat_at, deleted_at"
        connection.execute(text(f"INSERT INTO run ({columns}) VALUES ('r', 1, 'n', 'finished', 0, 0, 1.0)"))
        connection.execute(text("INSERT INTO param VALUES ('r', 'lr', '0.1', 0.1)"))
    engine.dispose()
    settings = Settings(data_dir=tmp_path / "data")
    opened = Database(database_url)
    with TestClient(create_app(settings, opened)) as client:

        def left() -> int:
            with opened.read() as session:
                return int(session.connection().execute(text("SELECT count(*) FROM run")).scalar_one())

        wait_until(lambda: left() == 0)  # it has been there for longer than its days
        assert client.get("/api/v1/bin").json()["n_runs"] == 0
    opened.close()
